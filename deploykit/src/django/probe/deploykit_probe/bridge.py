"""A bridge: a second web server on the socket of the running one, of the new version or of the live one. Its workers wait at a
gate, and then serve.

The files of a bridge are in its directory: `master` says which process it is, `ready/PID` that a worker waits, `failed` why
there is no bridge. deploykit opens the gate by making `gate`; when the view is gone, `free` appears, and the workers serve.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from typing import IO, NoReturn

from . import bridge_gunicorn, bridge_helper, bridge_hypercorn, bridge_uvicorn, editable, kernel, web
from .answers import ANSWERS
from .bridge_gate import Gate, exit_code
from .bridge_helper import Directory, above
from .errors import Refused, described
from .kinds import Json
from .sandbox import refusal
from .view import View

SERVERS = {"gunicorn": bridge_gunicorn.run, "hypercorn": bridge_hypercorn.run, "uvicorn": bridge_uvicorn.run}

# What a service manager tells its service: not this process.
FOREIGN = (
    "GUNICORN_FD GUNICORN_PID INVOCATION_ID JOURNAL_STREAM LISTEN_FDNAMES LISTEN_FDS LISTEN_PID MAINPID MANAGERPID"
    " NOTIFY_SOCKET SERVER_SOFTWARE SYSTEMD_EXEC_PID WATCHDOG_PID WATCHDOG_USEC"
).split()

# The capability to mount: only the helper changes the view.
SYS_ADMIN = 1 << 21


def run(spec: Json, requests: IO[bytes]) -> NoReturn:
    """Becomes a bridge, and ends with it."""
    master = os.getpid()
    entered = spec.get("entered")
    # It outlives deploykit.
    if not entered:
        os.setsid()
    directory = Directory(entered["directory"]) if entered else Directory.at(spec["directory"])
    code = 1
    try:
        requests.close()
        ANSWERS.close()
        if not entered:
            enter(spec, directory)
        code = serve(spec, entered)
        failed = "%s exited with code %d (see `%s`)" % (spec["server"], code, log_of(spec)) if code else None
    except Refused as error:
        failed = error.fields["reason"]
    except BaseException as error:
        traceback.print_exc()
        failed = "%(type)s: %(message)s" % described(error)
    # A worker comes here, too.
    if os.getpid() == master and failed and not directory.has("gate"):
        directory.write("failed", {"reason": failed})
    raise SystemExit(code)


def log_of(spec: Json) -> str:
    """Returns the name of the file to which deploykit writes the bridge's output."""
    return os.path.basename(str(spec["directory"])) + ".log"


def enter(spec: Json, directory: Directory) -> NoReturn:
    """Takes the sockets, makes the view, and starts again in it, with the version's own Python."""
    directory.write("master", {"pid": os.getpid(), "started": kernel.started(os.getpid())})
    for name in ("ready", "view"):
        os.mkdir(name, 0o700, dir_fd=directory.number)
    program = again()
    kernel.close_all_but({directory.number, program.fileno()})
    for name in FOREIGN:
        os.environ.pop(name, None)
    web.compare(spec["main"])
    sockets, passed = web.sockets_of(spec["main"]), web.passed_to(spec["main"])
    view = view_of(spec)
    os.umask(spec["umask"])
    limit(*spec["nofile"])
    web.pass_on(sockets)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper = bridge_helper.start(spec, directory, view, theirs, ours)
    shown = {"live": view.live, "staged": view.staged, "made": view.made} if view else None
    try:
        if view:
            kernel.drop_capabilities(0 if os.getuid() else int(web.status(os.getpid(), "CapPrm")[0], 16) & ~SYS_ADMIN)
        entered = {
            "directory": directory.number,
            "helper": helper,
            "link": ours.fileno(),
            "passed": passed,
            "shown": shown,
            "sockets": len(sockets),
        }
        program.write(json.dumps({"bridge": dict(spec, entered=entered)}).encode("ascii") + b"\n")
        program.seek(0)
        os.dup2(program.fileno(), 0)
        for number in (directory.number, ours.fileno()):
            os.set_inheritable(number, True)
        sys.stdout.flush()
        os.execv(spec["python"], [spec["python"], *arguments()])
    finally:
        bridge_helper.stop(helper)


def again() -> IO[bytes]:
    """Returns a file with the program, which is the first line of the standard input."""
    os.lseek(0, 0, os.SEEK_SET)
    # There may be no `/tmp`.
    file = open(above(os.memfd_create("deploykit-input")), "w+b")
    with open(os.dup(0), "rb") as given:
        file.write(given.readline())
    return file


def arguments() -> list[str]:
    """Returns the arguments that this Python was started with."""
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[1:-1]]


def serve(spec: Json, entered: Json) -> int:
    """Runs the server in the view, and returns its exit code."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    link = socket.socket(fileno=entered["link"])
    for number in (entered["directory"], entered["link"]):
        os.set_inheritable(number, False)
    shown = entered["shown"]
    if shown:
        editable.lead_python_to(shown["live"], shown["staged"])
    os.chdir(spec["cwd"])
    master = os.getpid()
    try:
        gate = Gate(shown, link, entered["helper"], spec["header"], log_of(spec))
        gate.slow_down()
        return become(spec, gate, web.Sockets(entered["sockets"], entered["passed"]))
    finally:
        if os.getpid() == master:
            bridge_helper.stop(entered["helper"])


def become(spec: Json, gate: Gate, sockets: web.Sockets) -> int:
    """Becomes the server, and returns its exit code."""
    name = spec["server"]
    sys.argv = [os.path.join(sys.prefix, "bin", name), *spec["argv"]]
    if sys.path[0] == "":
        # As for a script, or for `python -m`.
        sys.path[0] = spec["cwd"] if spec["is_module"] else os.path.dirname(sys.argv[0])
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise Refused("no_bridge", reason="%s cannot be imported (%s)" % (name, error)) from error

    def end(*args: object) -> NoReturn:
        """Ends the server before or after it handles signals itself: uvicorn sends itself the signal once more when it ends."""
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        return SERVERS[name](gate, sockets)
    except Refused:
        raise
    except SystemExit as error:
        return exit_code(error)
    except Exception:
        traceback.print_exc()
        return 1


def view_of(spec: Json) -> View | None:
    """Makes the namespaces with the view; `None`: the live version needs none."""
    try:
        if web.is_in_another(spec["main"], "mnt"):
            kernel.enter("/proc/%d/ns/mnt" % spec["main"])
        if not spec["tree"]:
            return None
        kernel.unshare(kernel.NEWNS)
        return View(spec, spec["directory"] + "/view")
    except ImportError as error:
        raise Refused("no_bridge", reason="this Python lacks `ctypes` (%s)" % error) from error
    except OSError as error:
        raise refusal(error) from error


def limit(soft: int | None, hard: int | None) -> None:
    """Sets how many files may be open; `None`: any number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.getuid() and most != resource.RLIM_INFINITY:
        if soft is None or soft > most:
            raise Refused("no_bridge", reason="the web may open %s files, this user only %d" % (soft or "any number of", most))
        hard = most if hard is None else min(hard, most)
    limits = [resource.RLIM_INFINITY if one is None else one for one in (soft, hard)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0], limits[1]))
