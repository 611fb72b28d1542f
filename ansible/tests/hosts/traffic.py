"""Visitors who come through the front, a hundred a second."""

from __future__ import annotations

import collections
import http.client
import json
import threading
import time
from urllib.parse import urlencode

import machines

# Per second.
RATE = 100


class Traffic:
    """Reads, and a write for each three of them."""

    def __init__(self) -> None:
        """Begins."""
        self.over = threading.Event()
        self.failed: collections.Counter[str] = collections.Counter()
        self.served: collections.Counter[str] = collections.Counter()
        self.late = 0.0
        self.lock = threading.Lock()
        self.number = 0
        # More than wait at once.
        self.visitors = [threading.Thread(target=self._visit, daemon=True) for number in range(RATE // 4)]
        self.since = time.monotonic()
        for visitor in self.visitors:
            visitor.start()

    def _visit(self) -> None:
        """Makes the next request when its time has come."""
        while not self.over.is_set():
            with self.lock:
                number, self.number = self.number, self.number + 1
            due = self.since + number / RATE
            if self.over.wait(max(0, due - time.monotonic())):
                return
            self._request(number, due)

    def _request(self, number: int, due: float) -> None:
        """Makes a request, and notes what became of it."""
        method, path, body = "GET", "/version/", None
        if number % 4 == 0:
            method, path, body = "POST", "/entries/", urlencode({"author": "a visitor", "text": str(number)})
        connection = http.client.HTTPConnection(machines.FRONT, timeout=30)
        try:
            headers = {"Host": machines.SITE, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            outcome = "" if answer.status in (200, 201) else f"{method}: {answer.status}"
        except OSError as error:
            text, outcome = "", f"{method}: {type(error).__name__}"
        finally:
            connection.close()
        with self.lock:
            self.late = max(self.late, time.monotonic() - due)
            if outcome:
                self.failed[outcome] += 1
            elif method == "GET":
                self.served[json.loads(text)["release"]] += 1
            else:
                self.served["writes"] += 1

    def end(self) -> str:
        """Ends it, and says what was seen; fails if a request failed."""
        self.over.set()
        for visitor in self.visitors:
            visitor.join()
        assert not self.failed, dict(self.failed)
        return f"{sum(self.served.values())} requests ({dict(self.served)}), 0 failed, {self.late:.1f} s the longest wait"
