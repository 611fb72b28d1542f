"""A bridge: the new version's gunicorn, on the socket of the running one, whose workers wait at a gate and then serve.

The files of a bridge are in its directory: `master` says which process it is, `ready/PID` that a worker waits, `failed` why
there is no bridge. deploykit opens the gate by making `gate`; when the view is gone, `free` appears, and the workers serve.
"""

from __future__ import annotations

import os
import resource
import socket
import traceback
from typing import IO, NoReturn

from . import bridge_gunicorn, bridge_helper, editable, kernel, web
from .answers import ANSWERS
from .bridge_gate import Gate
from .bridge_helper import Directory
from .errors import Refused, described
from .kinds import Json
from .sandbox import refusal
from .view import View

# What a service manager tells its service: not this process.
FOREIGN = (
    "GUNICORN_FD GUNICORN_PID INVOCATION_ID JOURNAL_STREAM LISTEN_FDNAMES LISTEN_FDS LISTEN_PID MAINPID MANAGERPID"
    " NOTIFY_SOCKET SERVER_SOFTWARE SYSTEMD_EXEC_PID WATCHDOG_PID WATCHDOG_USEC"
).split()

# The capability to mount: only the helper changes the view.
SYS_ADMIN = 1 << 21


def run(spec: Json, requests: IO[bytes]) -> NoReturn:
    """Becomes a bridge, and ends with it."""
    # It outlives deploykit.
    os.setsid()
    master = os.getpid()
    directory = Directory(spec["directory"])
    try:
        directory.write("master", {"pid": master, "started": kernel.started(master)})
        for name in ("ready", "view"):
            os.mkdir(name, 0o700, dir_fd=directory.number)
        requests.close()
        ANSWERS.close()
        code = boot(spec, directory)
        failed = "gunicorn exited with code %d (see `bridge.log`)" % code if code else None
    except Refused as error:
        code, failed = 1, error.fields["reason"]
    except BaseException as error:
        traceback.print_exc()
        code, failed = 1, "%(type)s: %(message)s" % described(error)
    # A worker comes here, too.
    if os.getpid() == master and failed and not directory.has("gate"):
        directory.write("failed", {"reason": failed})
    raise SystemExit(code)


def boot(spec: Json, directory: Directory) -> int:
    """Makes a bridge, and returns its exit code."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    kernel.close_all_but({directory.number})
    for name in FOREIGN:
        os.environ.pop(name, None)
    web.compare(spec["main"])
    sockets, passed = web.sockets_of(spec["main"]), web.passed_to(spec["main"])
    view = enter(spec)
    editable.lead_python_to(view.live, view.staged)
    os.umask(spec["umask"])
    limit(*spec["nofile"])
    os.chdir(spec["cwd"])
    web.pass_on(sockets)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper = bridge_helper.start(spec, directory, view, theirs, ours)
    kernel.drop_capabilities(0 if os.getuid() else int(web.status(os.getpid(), "CapPrm")[0], 16) & ~SYS_ADMIN)
    master = os.getpid()
    try:
        return bridge_gunicorn.run(spec, Gate(view, ours, helper, spec["header"]), len(sockets), passed)
    finally:
        if os.getpid() == master:
            bridge_helper.stop(helper)


def enter(spec: Json) -> View:
    """Makes the namespaces with the view."""
    uid, gid = os.getuid(), os.getgid()
    if web.is_in_another(spec["main"], "mnt"):
        kernel.enter("/proc/%d/ns/mnt" % spec["main"])
    try:
        kernel.unshare(kernel.NEWNS | (kernel.NEWUSER if uid else 0))
        if uid:
            kernel.keep_identity(uid, gid)
        view = View(spec["directory"] + "/view", spec["live"], spec["staged"], spec["show"])
    except ImportError as error:
        raise Refused("no_bridge", reason="this Python lacks `ctypes` (%s)" % error) from error
    except OSError as error:
        raise refusal(error) from error
    return view


def limit(soft: int | None, hard: int | None) -> None:
    """Sets how many files may be open; `None`: any number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.getuid() and most != resource.RLIM_INFINITY:
        if soft is None or soft > most:
            raise Refused("no_bridge", reason="the web may open %s files, this user only %d" % (soft or "any number of", most))
        hard = most if hard is None else min(hard, most)
    limits = [resource.RLIM_INFINITY if one is None else one for one in (soft, hard)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0], limits[1]))
