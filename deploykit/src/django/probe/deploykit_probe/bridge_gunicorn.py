"""gunicorn as a bridge: with the site's own settings, but for what would disturb the running one."""

from __future__ import annotations

import os
from typing import Any, Callable

from . import bridge_header
from .bridge_gate import Gate
from .errors import Refused
from .web import Sockets

Hook = Callable[..., None]

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


def run(gate: Gate, sockets: Sockets) -> int:
    """Runs gunicorn, and returns its exit code."""
    from gunicorn.app.wsgiapp import WSGIApplication
    from gunicorn.arbiter import Arbiter
    from gunicorn.config import Config
    from gunicorn.errors import HaltServer

    def before_fork(arbiter: Any, worker: Any) -> None:
        """Tells the gate which processes are workers."""
        gate.before_fork(arbiter.WORKERS)

    def wait(worker: Any) -> None:
        """Waits at the gate."""

        def lives() -> bool:
            """Tells gunicorn that the worker lives."""
            worker.notify()
            return bool(worker.alive)

        fault = None if bridge_header.can_mark(worker) else "the application is not an ASGI 3 application"
        gate.wait(worker.cfg.workers, lives, fault=fault)
        bridge_header.mark(worker, gate.header)

    address = Config.address
    for name, value in SETTINGS.items():
        setattr(Config, name, value)
    Config.pre_fork = with_hook("pre_fork", first=before_fork)
    Config.post_worker_init = with_hook("post_worker_init", last=wait)
    Arbiter.reexec = lambda arbiter: arbiter.log.warning("SIGUSR2 is ignored")
    murder = Arbiter.murder_workers
    # A boot at a low priority may take longer than a worker may be silent.
    Arbiter.murder_workers = lambda arbiter: murder(arbiter) if gate.is_free() else None
    try:
        application = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]")
        check(application.cfg, address.fget(application.cfg), sockets)
        gate.directory = os.getcwd()
        application.run()
    except HaltServer as error:
        # Another worker failed to boot while gunicorn ended for the first one.
        return int(error.exit_status)
    return 0


def check(cfg: Any, address: list[Any], sockets: Sockets) -> None:
    """Refuses settings that a bridge does not know."""
    kind = cfg.worker_class
    if not {"%s.%s" % (one.__module__, one.__qualname__) for one in kind.__mro__} & WORKERS:
        raise Refused("no_bridge", reason="workers of class `%s` are unknown" % cfg.worker_class_str)
    if getattr(cfg, "dirty_apps", None):
        raise Refused("no_bridge", reason="gunicorn runs applications in processes of its own (`dirty_apps`)")
    # As gunicorn counts them.
    sockets.compare(sockets.passed + sum(isinstance(one, int) for one in address) or len(address))


def with_hook(name: str, first: Hook | None = None, last: Hook | None = None) -> property:
    """Returns a setting of gunicorn: the site's own hook, with ours before or after it."""

    def hook(cfg: Any) -> Any:
        """Returns all of them as one."""
        own = cfg.settings[name].get()

        def called(*args: Any) -> None:
            """Calls them."""
            for one in (first, own, last):
                if one:
                    one(*args)

        return called

    return property(hook)
