"""A sandbox: Linux namespaces in which this process sees the live machine copy-on-write and without its network."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

from . import editable, kernel
from .errors import Refused, readable
from .http_server import bind
from .kinds import Json
from .layers import Layers, open_up
from .proxy import Proxy, target_of
from .proxy_mariadb import MariaDbProxy
from .proxy_postgresql import PostgreSqlProxy
from .registry import answers

# How long a server may take until it answers, in seconds.
READY = 30.0

# Kernel settings that keep ordinary users from creating namespaces, each with the value that allows it.
SETTINGS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "0"),
    ("kernel/unprivileged_userns_clone", "1"),
    ("user/max_user_namespaces", "10000"),
)


def refusal(error: OSError) -> Refused:
    """Returns the error that the namespaces cannot be made, with what would allow them, if that is known."""
    said = readable(error.strerror or str(error))
    if error.filename:
        said += " (`%s`)" % readable(str(error.filename))
    return Refused("no_sandbox", reason=forbidden(error.errno or 0, os.getuid() != 0) or said)


def forbidden(number: int, user: bool) -> str | None:
    """Returns what forbids the namespaces, if that is known."""
    if number == errno.ENODEV:
        return "the kernel has no overlayfs (`modprobe overlay` loads it)"
    if number not in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL):
        return None
    if not user:
        held_back = number in (errno.EPERM, errno.EACCES)
        return "root may not mount here (a container, or a service that systemd restricts)" if held_back else None
    for name, wanted in SETTINGS:
        try:
            with open("/proc/sys/" + name, encoding="ascii") as file:
                found = file.read().strip()
        except OSError:
            continue
        if (found == "0") != (wanted == "0"):
            setting = "%s=%s" % (name.replace("/", "."), wanted)
            return "the kernel does not let ordinary users create namespaces (`sysctl %s` allows it)" % setting
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if release < (5, 11):
        return "Linux %d.%d does not let ordinary users mount overlayfs (5.11 does)" % release
    if number in (errno.EPERM, errno.EACCES):
        return "this user may not mount here (a container, or a service that systemd restricts)"
    return None


# The proxies for scratch databases, by what Django calls their vendor.
PROXIES: dict[str, type[Proxy]] = {"postgresql": PostgreSqlProxy, "mysql": MariaDbProxy}

# The servers of this sandbox, each with the signal that shuts it down cleanly.
STARTED: list[tuple[int, int]] = []


def enter(spec: Json, kept: set[int]) -> None:
    """Makes the namespaces, and returns in a new process inside. The calling process waits for its end, and ends likewise."""
    try:
        ours, theirs = socket.socketpair()
        is_user, here = os.getuid() != 0, os.getcwd()
        sockets = sorted(set(kernel.sockets()))
        for proxy in spec.get("proxies", []):
            start_proxy(proxy, spec["scratch_url"])
        kernel.unshare(kernel.NEWNS | kernel.NEWNET | kernel.NEWIPC | kernel.NEWPID)
    except ImportError as error:
        raise Refused("no_sandbox", reason="this Python lacks `ctypes` (%s)" % error) from error
    except OSError as error:
        raise refusal(error) from error
    first = os.fork()
    if first:
        theirs.close()
        # Only the process inside answers requests.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        told = ours.recv(16)
        _, status = os.waitpid(first, 0)
        end(int(told) if told else status)
    ours.close()
    try:
        kernel.die_with_parent()
        if select.select([theirs], [], [], 0)[0]:
            # The parent has died meanwhile.
            os._exit(1)
        # The terminal belongs to the live machine.
        os.setsid()
        make(spec, sockets, is_user)
        kernel.close_all_but(kept | {theirs.fileno()})
        kernel.drop_capabilities(0 if is_user else kernel.CAPABILITIES)
        log = log_of_the_machine()
        started = [(server, start(server)) for server in spec.get("servers", [])]
        for server, program in started:
            wait_for(server, program)
            STARTED.append((program.pid, server["stop"]))
    except OSError as error:
        raise refusal(error) from error
    process = os.fork()
    if process:
        reap(process, theirs, log)
    theirs.close()
    log.close()
    if os.path.isdir(here):
        os.chdir(here)
    os.environ.update(spec.get("variables", {}))


def addresses(spec: Json) -> list[str]:
    """Returns the addresses of other machines that servers of the sandbox have, and the Unix sockets of its proxies there."""
    found: list[str] = [one for server in spec.get("servers", []) for one in server.get("listen", [])]
    return found + [path for proxy in spec.get("proxies", []) for path in proxy["at"]]


def start_proxy(proxy: Json, url: str) -> None:
    """Starts a process outside of this sandbox, through which it reaches a scratch database. It ends with this process."""
    for path in proxy["listen"]:
        # That of an earlier sandbox.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    listening = [bind(path) for path in proxy["listen"]]
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        for one in listening:
            one.close()
        return
    try:
        kernel.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kernel.close_all_but({one.fileno() for one in listening})
        kind = PROXIES[proxy["vendor"]]
        kind(target_of(url, kind.dialect), proxy["names"], proxy["settings"]).serve(listening)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(1)


def end(status: int) -> NoReturn:
    """Ends with the exit code or the signal of another process."""
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def reap(process: int, parent: socket.socket, log: socket.socket) -> NoReturn:
    """Reaps ended processes, as process 1 of the PID namespace. When it ends, the kernel kills all others there."""
    threading.Thread(target=swallow, args=(log,), daemon=True).start()
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == process:
            parent.send(b"%d" % status)
            os._exit(0)


def log_of_the_machine() -> socket.socket:
    """Returns a socket in place of the machine's log."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    return log


def swallow(log: socket.socket) -> None:
    """Reads and drops what is sent to the log."""
    while True:
        log.recv(65536)


def make(spec: Json, sockets: list[str], user: bool) -> None:
    """Mounts the file system of the sandbox, and makes it the root of this process."""
    kernel.mount(None, "/", None, kernel.REC | kernel.PRIVATE)
    layers = Layers(spec["scratch"], user)
    layers.empty = [os.path.realpath(path) for path in spec.get("empty", [])]
    writable = [os.path.realpath(path) for path in spec.get("writable", []) if os.path.isdir(path)]
    tree: Any = spec.get("tree")
    layers.places = writable + [os.path.dirname(os.path.realpath(live)) for _, live in spec.get("files", [])]
    layers.places += [os.path.realpath(tree["live"])] if tree else []
    layers.cover("/", layers.root)
    layers.kernels()
    if tree:
        layers.tree(tree["live"], tree["staged"])
    for path in writable:
        layers.cover(path, layers.at(path))
    for source, path, *plain in spec.get("show", []):
        layers.show(source, path, bool(plain and plain[0]))
    # The scratch directory may lie in the live tree, and be missing in the staged one.
    os.makedirs(layers.at(layers.scratch), 0o700, exist_ok=True)
    kernel.bind(layers.scratch, layers.at(layers.scratch), 0)
    for source, path in spec.get("files", []):
        layers.replace(source, path)
    names = {name: address for server in spec.get("servers", []) for name, address in server.get("hosts", {}).items()}
    if names:
        layers.hosts(names)
    layers.mask(sockets)
    kernel.open_network([address for server in spec.get("servers", []) for address in server.get("listen", [])])
    kernel.pivot(layers.root)
    for path in writable + ([layers.places[-1]] if tree else []):
        prove(path)
    if tree:
        editable.lead_to(os.path.realpath(tree["live"]), tree["staged"])


def prove(path: str) -> None:
    """Fails unless a directory can be written to."""
    if not os.access(path, os.W_OK):
        return
    name = "%s/.deploykit-%d" % (path, time.time_ns())
    try:
        os.mkdir(name)
        os.rmdir(name)
    except OSError as error:
        raise Refused(
            "no_sandbox", reason="nothing can be written to the overlay over `%s` (%s)" % (path, error.strerror)
        ) from error


def start(server: Json) -> subprocess.Popen[bytes]:
    """Starts a server."""
    import pwd

    name = server.get("user")

    def become() -> None:
        """Becomes its user."""
        if name and os.getuid() == 0:
            found = pwd.getpwnam(name)
            os.initgroups(name, found.pw_gid)
            os.setgid(found.pw_gid)
            os.setuid(found.pw_uid)

    environment = dict(os.environ, **server.get("environment", {}))
    return subprocess.Popen(
        server["argv"], env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True, preexec_fn=become
    )


def wait_for(server: Json, process: subprocess.Popen[bytes]) -> None:
    """Waits until a server accepts connections."""
    ready, program = server["ready"], os.path.basename(server["argv"][0])
    family: Any = socket.AF_UNIX
    address: Any = ready.get("unix")
    if address is None:
        address = tuple(ready["tcp"])
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    until = time.monotonic() + READY
    while True:
        with socket.socket(family) as client:
            try:
                client.connect(address)
                return
            except OSError as error:
                said = readable(str(error))
        if process.poll() is not None:
            raise Refused("no_sandbox", reason="`%s` exited with code %d" % (program, process.returncode))
        if time.monotonic() > until:
            raise Refused("no_sandbox", reason="`%s` did not answer within %d s (%s)" % (program, READY, said))
        time.sleep(0.01)


@answers("stop_servers")
def do_stop_servers(request: Json) -> Json:
    """Stops the servers of this sandbox, so that another sandbox can start them on the same data."""
    for pid, number in STARTED:
        os.kill(pid, number)
    until = time.monotonic() + READY
    while STARTED:
        try:
            os.kill(STARTED[0][0], 0)
        except ProcessLookupError:
            STARTED.pop(0)
            continue
        if time.monotonic() > until:
            raise Refused("no_sandbox", reason="a server of a rehearsal did not stop within %d s" % READY)
        time.sleep(0.01)
    return {}


def remove(scratch: str) -> None:
    """Removes a scratch directory."""
    open_up(scratch)
    shutil.rmtree(scratch, ignore_errors=True)


@answers("try_sandbox")
def do_try_sandbox(request: Json) -> Json:
    """Says whether the namespaces can be made here, by making them in a fork."""
    scratch = "%s/try" % request["scratch"]
    remove(scratch)
    os.makedirs(scratch + "/site/old", 0o700)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            place = scratch + "/site"
            enter({"scratch": scratch, "writable": [place]}, {writing})
            os.rmdir(place + "/old")
            os.mkdir(place + "/old")
            told: Json = {"cannot": None}
        except Refused as error:
            told = {"cannot": error.fields.get("reason")}
        except BaseException as error:
            told = {"cannot": "%s: %s" % (type(error).__name__, readable(str(error)))}
        os.write(writing, json.dumps(told).encode("utf-8"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    remove(scratch)
    answer: Json = json.loads(said.decode("utf-8")) if said else {"cannot": "the process that tried it was killed"}
    return answer
