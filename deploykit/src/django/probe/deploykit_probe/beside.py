"""Runs work in a fork, beside other work."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable, NoReturn

from .answers import ANSWERS
from .errors import Failed, Refused, failure
from .kinds import Json


def is_alone(seconds: float) -> bool:
    """Tells whether this thread is the only one, after waiting so long for others: a fork would lack them."""
    until = time.monotonic() + seconds
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def beside(kind: str, nice: int, work: Callable[..., Json], *args: Any) -> Callable[[], Json]:
    """Begins work in a fork of this process, at least so nice; what is returned waits for its end, and answers as it did."""
    if not is_alone(0):
        # What the site's other threads hold would stay locked in a fork: it is done when it is waited for.
        return lambda: work(*args)
    answers, answer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(answers)
        do_and_end(answer, nice, work, *args)
    os.close(answer)

    def wait() -> Json:
        """Waits for the end of the fork, and returns what its work returned."""
        with os.fdopen(answers, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(process, 0)
        if not said:
            raise Failed(kind, ChildProcessError("its process ended with status %d before it answered" % status))
        told = json.loads(said.decode("utf-8"))
        if "error" in told:
            raise Refused(**told["error"])
        answered: Json = told["ok"]
        return answered

    return wait


def do_and_end(answer: int, nice: int, work: Callable[..., Json], *args: Any) -> NoReturn:
    """What the fork does."""
    try:
        # Nobody but who forked it is answered.
        ANSWERS.close()
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
        told = {"ok": work(*args)}
    except BaseException as error:
        told = failure(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(answer, "wb") as pipe:
            pipe.write(json.dumps(told, default=str).encode("utf-8"))
    finally:
        os._exit(0)
