"""The gate of a bridge, where its booted workers wait."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
import traceback
import warnings
from select import POLLIN, poll
from typing import Callable, Iterable, Sequence

from . import kernel
from .bridge_helper import INTERVAL, NICE, PATIENCE
from .connections import close_all
from .errors import text_of
from .kinds import Json
from .view import HIDDEN, written

# Milliseconds after which a waiting worker shows that it lives.
ALIVE = 1000

# How much of what was written is said.
MOST = 20


class Gate:
    """The gate, in the main process and in each worker."""

    def __init__(self, shown: Json | None, link: socket.socket, helper: int, header: str, log: str) -> None:
        """Takes what is known of the view, the socket that leads to the helper, its PID, and the name of the log."""
        self.shown, self.link, self.helper, self.header, self.log = shown, link, helper, header, log
        self.master, self.cores, self.directory = os.getpid(), os.sched_getaffinity(0), os.getcwd()
        # What the main process runs beside itself; a fork does not have it.
        self.threads: list[str] = []
        self.processes: list[str] = []
        # The server's own threads.
        self.servers: list[threading.Thread] = []
        link.setblocking(False)
        # Bytecode in a directory of placeholders would be lost.
        self.writes_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True

    def is_free(self) -> bool:
        """Tells whether the gate is open and the view gone; fails if that cannot happen any more."""
        try:
            # It stays there for the others.
            if self.link.recv(16, socket.MSG_PEEK):
                return True
        except BlockingIOError:
            return False
        raise RuntimeError("the helper of the bridge has ended")

    def slow_down(self) -> None:
        """Leaves the processors to the running web."""
        if len(self.cores) > 1:
            os.sched_setaffinity(0, {max(self.cores)})
        if os.getuid() == 0:
            os.nice(NICE)

    def before_fork(self, workers: Iterable[int]) -> None:
        """Notes what the main process runs beside its workers; after the gate, comes back to the live tree."""
        if self.is_free():
            self.come_back()
        else:
            close_all()
            self.threads, self.processes = self.running(), children({*workers, self.helper})

    def running(self) -> list[str]:
        """Returns the names of Python's threads but the main one and the server's."""
        known = [threading.main_thread(), *self.servers]
        return [one.name for one in threading.enumerate() if one not in known]

    def come_back(self) -> None:
        """Leaves the view, which is gone, for the live tree at the same path."""
        os.chdir(self.directory)
        sys.dont_write_bytecode = self.writes_no_bytecode
        os.sched_setaffinity(0, self.cores)

    def wait(self, workers: int, lives: Callable[[], bool], tasks: Sequence[str] = (), fault: str | None = None) -> None:
        """Waits until the gate is open, or ends; then this worker serves. `lives` tells whether the server goes on."""
        if not self.is_free():
            self.directory = os.getcwd()
            load_pages()
            # No connection and no lock is held meanwhile.
            close_all()
            fault = fault or self.fault()
            if fault:
                self.fail(fault)
            else:
                self.say(dict(self.state(), workers=workers, tasks=tasks))
            self.stay(lives)
        self.come_back()

    def fail(self, reason: str) -> None:
        """Says why the bridge cannot serve; it then ends."""
        self.say({"failed": reason})

    def await_end(self) -> None:
        """Waits until the main process ends: it would start another worker, or end before the helper has written the reason."""
        last = time.monotonic() + PATIENCE
        while os.getppid() == self.master and time.monotonic() < last:
            time.sleep(INTERVAL)

    def say(self, message: Json) -> None:
        """Tells the helper something."""
        # The helper ends when the gate opens, which may have happened since this was last looked at.
        with contextlib.suppress(BrokenPipeError):
            self.link.send(json.dumps(dict(message, pid=os.getpid())).encode("ascii"))

    def state(self) -> Json:
        """Returns what deploykit has to know before it opens the gate."""
        return {
            "threads": self.threads + self.running(),
            "processes": self.processes + children({self.helper}),
            "written": written(self.shown["made"])[:MOST] if self.shown else [],
            "files": files()[:MOST],
        }

    def fault(self) -> str | None:
        """Returns why the worker cannot serve when the view is gone."""
        if not self.shown:
            return None
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        names = [name for name in dir(settings) if name.isupper()] if getattr(settings, "configured", False) else []
        # Some settings say that they are deprecated.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            texts = {name: text_of(getattr(settings, name)) for name in names}
        for path in (HIDDEN, self.shown["staged"]):
            for name in names:
                if path in texts[name]:
                    return "the setting `%s` holds a path of the staged tree" % name
            for name, module in list(sys.modules.items()):
                if path in str(getattr(module, "__file__", None)):
                    return "the module `%s` is imported from the staged tree" % name
        return None

    def stay(self, lives: Callable[[], bool]) -> None:
        """Stays until the gate is open; ends when the worker is told to, and with the main process."""

        def leave(*args: object) -> None:
            """Ends this worker."""
            raise SystemExit(0)

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        own = [signal.signal(number, leave) for number in numbers]
        waiting = poll()
        waiting.register(self.link, POLLIN)
        while not self.is_free():
            if not lives() or self.master not in (os.getpid(), os.getppid()):
                leave()
            waiting.poll(ALIVE)
        for number, handler in zip(numbers, own):
            signal.signal(number, handler or signal.SIG_DFL)
        signal.siginterrupt(signal.SIGTERM, False)


def load_pages() -> None:
    """Imports what the first request would import."""
    urls = sys.modules.get("django.urls")
    if urls:
        try:
            _ = urls.get_resolver().url_patterns
        except Exception:
            # The first request may be luckier, on the new schema.
            traceback.print_exc()


def files() -> list[str]:
    """Returns the files that this process has locked, or can change in place; a log is only appended to."""
    with open("/proc/locks", encoding="ascii") as table:
        locked = {line.split()[-3].rsplit(":", 1)[1] for line in table if line.split()[-4] == str(os.getpid())}
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            opened, flags = os.fstat(int(name)), fcntl.fcntl(int(name), fcntl.F_GETFL)
            changes = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND
            # One that has no name any more is this process's own.
            if stat.S_ISREG(opened.st_mode) and opened.st_nlink and (changes or str(opened.st_ino) in locked):
                found.append(os.readlink("/proc/self/fd/" + name))
    return sorted(set(found))


def children(known: set[int]) -> list[str]:
    """Returns the names of this process's children but those that are known."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, fields = kernel.status(int(entry))
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and int(entry) not in known:
            found.append("%s (%s)" % (name, entry))
    return found


def exit_code(error: BaseException) -> int:
    """Returns the exit code that an exception means."""
    code = error.code if isinstance(error, SystemExit) else 1
    return code if isinstance(code, int) else 1 if code else 0
