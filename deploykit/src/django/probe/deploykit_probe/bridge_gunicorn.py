"""gunicorn as a bridge: with the site's own settings, but for what would disturb the running one."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from select import POLLIN, poll
from typing import Any, Callable

from .bridge_header import mark
from .bridge_helper import NICE
from .connections import close_all
from .errors import Refused
from .kinds import Json
from .view import HIDDEN, View

# Settings that the site does not choose here.
SETTINGS = {
    "address": [],
    "control_socket_disable": True,
    "daemon": False,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "pidfile": None,
    "reload": False,
    "reuse_port": False,
}

# Classes of workers, with their subclasses, whose workers do not serve before `post_worker_init` returns.
WORKERS = {
    "gunicorn.workers.gasgi.ASGIWorker",
    "gunicorn.workers.ggevent.GeventWorker",
    "gunicorn.workers.gthread.ThreadWorker",
    "gunicorn.workers.sync.SyncWorker",
    "uvicorn.workers.UvicornWorker",
    "uvicorn_worker._workers.UvicornWorker",
}

# Milliseconds after which a waiting worker shows that it lives.
ALIVE = 1000


def run(spec: Json, view: View, link: socket.socket) -> int:
    """Runs gunicorn, and returns its exit code."""
    sys.argv = [os.path.join(sys.prefix, "bin", "gunicorn"), *spec["argv"]]
    sys.path[0] = os.path.dirname(sys.argv[0])
    try:
        from gunicorn.app.wsgiapp import WSGIApplication
        from gunicorn.arbiter import Arbiter
        from gunicorn.config import Config
    except ImportError as error:
        raise Refused("no_bridge", reason="gunicorn cannot be imported (%s)" % error) from error
    # Bytecode beside a placeholder would be lost.
    own_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    gate = Gate(spec, view, link, own_bytecode)
    for name, value in SETTINGS.items():
        setattr(Config, name, value)
    Config.pre_fork = property(before(gate.before_fork, "pre_fork"))
    Config.post_worker_init = property(after(gate.wait, "post_worker_init"))
    Arbiter.reexec = lambda arbiter: arbiter.log.warning("SIGUSR2 is ignored")
    murder = Arbiter.murder_workers
    # A boot may take longer at a low priority than a worker may be silent.
    Arbiter.murder_workers = lambda arbiter: murder(arbiter) if gate.free() else None
    try:
        application = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]")
        check(application.cfg)
        gate.directory = os.getcwd()
        gate.slow_down()
        application.run()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1 if error.code else 0
    return 0


def check(cfg: Any) -> None:
    """Refuses settings that a bridge does not know."""
    kind = cfg.worker_class
    if not {"%s.%s" % (one.__module__, one.__qualname__) for one in kind.__mro__} & WORKERS:
        raise Refused("no_bridge", reason="workers of class `%s` are unknown" % cfg.worker_class_str)
    if getattr(cfg, "dirty_apps", None):
        raise Refused("no_bridge", reason="gunicorn runs applications in processes of its own (`dirty_apps`)")


def before(work: Callable[..., None], name: str) -> Callable[[Any], Any]:
    """Returns the getter of a hook that first does our work, and then the site's own."""

    def hook(cfg: Any) -> Any:
        """Returns both hooks as one."""
        own = cfg.settings[name].get()

        def both(*args: Any) -> None:
            """Calls them."""
            work(*args)
            own(*args)

        return both

    return hook


def after(work: Callable[..., None], name: str) -> Callable[[Any], Any]:
    """Returns the getter of a hook that first does the site's own work, and then ours."""

    def hook(cfg: Any) -> Any:
        """Returns both hooks as one."""
        own = cfg.settings[name].get()

        def both(*args: Any) -> None:
            """Calls them."""
            own(*args)
            work(*args)

        return both

    return hook


class Gate:
    """Where workers wait."""

    def __init__(self, spec: Json, view: View, link: socket.socket, own_bytecode: bool) -> None:
        """Takes the socket that leads to the helper."""
        self.view, self.link, self.header = view, link, spec["header"]
        self.own_bytecode, self.cores = own_bytecode, os.sched_getaffinity(0)
        self.directory = ""
        self.threads: list[str] = []
        link.setblocking(False)

    def free(self) -> bool:
        """Tells whether the gate is open and the view gone. Fails if neither can happen any more."""
        try:
            # Nobody takes it: it is for all.
            if self.link.recv(16, socket.MSG_PEEK):
                return True
        except BlockingIOError:
            return False
        raise SystemExit("the helper of the bridge has ended")

    def slow_down(self) -> None:
        """Leaves the processor to the running web."""
        if len(self.cores) > 1:
            os.sched_setaffinity(0, {max(self.cores)})
        if os.getuid() == 0:
            os.nice(NICE)

    def before_fork(self, arbiter: Any, worker: Any) -> None:
        """Notes the threads of the master, which a fork does not have; after the gate, comes back to the live tree."""
        if self.free():
            self.come_back()
        else:
            close_all()
            self.threads = threads()

    def come_back(self) -> None:
        """Leaves the view, which is gone, for the live tree at the same path."""
        os.chdir(self.directory)
        sys.dont_write_bytecode = self.own_bytecode
        os.sched_setaffinity(0, self.cores)

    def wait(self, worker: Any) -> None:
        """Waits until the gate is open."""
        if not self.free():
            self.directory = os.getcwd()
            # No connection and no lock is held meanwhile.
            close_all()
            self.say(
                self.found()
                or {"workers": worker.cfg.workers, "threads": threads() + self.threads, "written": self.view.written()}
            )
            self.stay(worker)
        self.come_back()
        close_all()
        mark(worker, self.header)

    def say(self, message: Json) -> None:
        """Tells the helper something."""
        self.link.send(json.dumps(dict(message, pid=os.getpid())).encode("utf-8", "replace"))

    def stay(self, worker: Any) -> None:
        """Stays until the gate is open."""

        def leave(*args: Any) -> None:
            """Ends this worker."""
            raise SystemExit(0)

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        own = [signal.signal(number, leave) for number in numbers]
        waiting = poll()
        waiting.register(self.link, POLLIN)
        while not self.free():
            if not worker.alive or os.getppid() != worker.ppid:
                leave()
            worker.notify()
            waiting.poll(ALIVE)
        for number, handler in zip(numbers, own):
            signal.signal(number, handler)
        signal.siginterrupt(signal.SIGTERM, False)

    def found(self) -> Json:
        """Returns that something holds a path which is gone with the view."""
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        names = [name for name in dir(settings) if name.isupper()] if getattr(settings, "configured", False) else []
        for path in (HIDDEN, self.view.staged):
            for name in names:
                if path in repr(getattr(settings, name)):
                    return {"failed": "the setting `%s` holds a path of the staged tree" % name}
            for name, module in list(sys.modules.items()):
                if path in str(getattr(module, "__file__", None) or ""):
                    return {"failed": "the module `%s` is imported from the staged tree" % name}
        return {}


def threads() -> list[str]:
    """Returns the names of Python's threads but the main one."""
    return [one.name for one in threading.enumerate() if one is not threading.main_thread()]
