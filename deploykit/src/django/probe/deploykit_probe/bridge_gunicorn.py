"""gunicorn as a bridge: with the site's own settings, but for what would disturb the running one."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

from .bridge_gate import Gate
from .errors import Refused
from .kinds import Json

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


def run(spec: Json, gate: Gate, sockets: int, passed: int) -> int:
    """Runs gunicorn, and returns its exit code."""
    sys.argv = [os.path.join(sys.prefix, "bin", "gunicorn"), *spec["argv"]]
    if sys.path[0] == "":
        # As for a script.
        sys.path[0] = os.path.dirname(sys.argv[0])
    try:
        from gunicorn.app.wsgiapp import WSGIApplication
        from gunicorn.arbiter import Arbiter
        from gunicorn.config import Config
        from gunicorn.errors import HaltServer
    except ImportError as error:
        raise Refused("no_bridge", reason="gunicorn cannot be imported (%s)" % error) from error
    address = Config.address
    for name, value in SETTINGS.items():
        setattr(Config, name, value)
    Config.pre_fork = with_hook("pre_fork", first=gate.before_fork)
    Config.post_worker_init = with_hook("post_worker_init", last=gate.wait)
    Arbiter.reexec = lambda arbiter: arbiter.log.warning("SIGUSR2 is ignored")
    murder = Arbiter.murder_workers
    # A boot at a low priority may take longer than a worker may be silent.
    Arbiter.murder_workers = lambda arbiter: murder(arbiter) if gate.is_free() else None
    try:
        application = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]")
        check(application.cfg, address.fget(application.cfg), passed, sockets)
        gate.directory = os.getcwd()
        gate.slow_down()
        application.run()
    except HaltServer as error:
        # Another worker failed to boot while gunicorn ended for the first one.
        return int(error.exit_status)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1 if error.code else 0
    return 0


def check(cfg: Any, address: list[Any], passed: int, sockets: int) -> None:
    """Refuses settings that a bridge does not know."""
    kind = cfg.worker_class
    if not {"%s.%s" % (one.__module__, one.__qualname__) for one in kind.__mro__} & WORKERS:
        raise Refused("no_bridge", reason="workers of class `%s` are unknown" % cfg.worker_class_str)
    if getattr(cfg, "dirty_apps", None):
        raise Refused("no_bridge", reason="gunicorn runs applications in processes of its own (`dirty_apps`)")
    # As gunicorn counts them.
    count = passed + sum(isinstance(one, int) for one in address) or len(address)
    if count != sockets:
        reason = "the web's main process listens on %d sockets, and its settings name %d" % (sockets, count)
        raise Refused("no_bridge", reason=reason)


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
