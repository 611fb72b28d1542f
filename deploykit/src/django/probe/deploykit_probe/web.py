"""The web's running main process: whether a bridge can take its place, and its listening sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import NamedTuple

from . import kernel
from .errors import Refused, readable

# Namespaces that a bridge does not enter.
NAMESPACES = ("net", "user", "pid", "ipc")

# gunicorn listens there for commands.
CONTROL = "gunicorn.ctl"

# Seconds after which a socket should have been handed over.
HANDED = 5.0

# Where the listening sockets of a service begin.
FIRST = 3


class Sockets(NamedTuple):
    """The listening sockets that were taken."""

    taken: int
    # How many of them systemd passed to the web.
    passed: int

    def compare(self, named: int) -> None:
        """Refuses unless there are as many as the server's settings name."""
        if self.taken != named:
            reason = "the web's main process listens on %d sockets, and its settings name %d" % (self.taken, named)
            raise Refused("no_bridge", reason=reason)

    def numbers(self) -> range:
        """Returns their descriptors."""
        return range(FIRST, FIRST + self.taken)


def compare(main: int) -> None:
    """Refuses unless this process is to the machine what the main process is."""
    for name, what in (("Uid", "as another user"), ("Gid", "with another group")):
        if status(main, name) != status(os.getpid(), name):
            raise Refused("no_bridge", reason="the web runs %s" % what)
    if set(status(main, "Groups")) - set(status(os.getpid(), "Groups")):
        raise Refused("no_bridge", reason="the web has supplementary groups that deploykit lacks")
    for name in NAMESPACES:
        if is_in_another(main, name):
            raise Refused("no_bridge", reason="the web runs in another %s namespace" % name)
    if os.getuid() and is_in_another(main, "mnt"):
        reason = "the web runs in a mount namespace of its own (such as `PrivateTmp=` makes), which only root can enter"
        raise Refused("no_bridge", reason=reason)


def status(pid: int, name: str) -> list[str]:
    """Returns what the kernel says about a process."""
    with open("/proc/%d/status" % pid, encoding="utf-8", errors="surrogateescape") as file:
        return next(line for line in file if line.startswith(name + ":")).split()[1:]


def is_in_another(main: int, name: str) -> bool:
    """Tells whether a process is in another namespace than this one."""
    return os.readlink("/proc/%d/ns/%s" % (main, name)) != os.readlink("/proc/self/ns/" + name)


def sockets_of(main: int) -> list[int]:
    """Returns duplicates of the sockets that a process listens on."""
    handed = handed_over(main)
    if handed is not None:
        return [handed]
    process = kernel.open_process(main)
    found, seen = [], set()
    directory = "/proc/%d/fd" % main
    for name in sorted(os.listdir(directory), key=int):
        try:
            target = os.readlink("%s/%s" % (directory, name))
        except FileNotFoundError:
            # It was closed meanwhile.
            continue
        if not target.startswith("socket:") or target in seen:
            continue
        seen.add(target)
        try:
            one = kernel.descriptor_of(process, int(name))
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
            raise Refused("no_bridge", reason=forbidden(error)) from error
        if is_listening(one):
            found.append(one)
        else:
            os.close(one)
    os.close(process)
    if not found:
        raise Refused("no_bridge", reason="the web's main process has no listening socket")
    return found


def handed_over(main: int) -> int | None:
    """Returns the socket that `deploykit hold-socket` holds for a process; `None`: something else holds it."""
    parent = kernel.parent(main)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(HANDED)
        try:
            control.connect("\0deploykit-hold-socket-%d" % parent)
        except ConnectionRefusedError:
            return None
        pid, _, _ = struct.unpack("3i", control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid != parent:
            raise Refused("no_bridge", reason="process %d pretends to hold the web's socket" % pid)
        _, received, _, _ = control.recvmsg(256, socket.CMSG_SPACE(4))
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return int(struct.unpack("i", data)[0])
    raise Refused("no_bridge", reason="process %d does not hand the web's socket to this user" % parent)


def passed_to(main: int) -> int:
    """Returns how many sockets a process got from systemd."""
    with open("/proc/%d/environ" % main, "rb") as file:
        variables = dict(one.split(b"=", 1) for one in file.read().split(b"\0") if b"=" in one)
    return int(variables.get(b"LISTEN_FDS", 0)) if variables.get(b"LISTEN_PID") == b"%d" % main else 0


def is_listening(descriptor: int) -> bool:
    """Tells whether a descriptor is a socket for requests."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.type != socket.SOCK_STREAM or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        name = one.getsockname()
        return not (one.family == socket.AF_UNIX and os.path.basename(os.fsdecode(name)) == CONTROL)


def forbidden(error: OSError) -> str:
    """Returns why a socket of another process cannot be taken."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            scope = int(file.read())
    except OSError:
        scope = 0
    if error.errno == errno.EPERM and scope and (os.getuid() or scope > 2):
        return "the kernel does not let this user take the web's socket (`sysctl kernel.yama.ptrace_scope=0` allows it)"
    return "the web's socket cannot be taken: %s" % readable(error.strerror or str(error))


def pass_on(sockets: list[int]) -> None:
    """Moves the sockets to where a service expects them; says so, as systemd does."""
    import fcntl

    above = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, FIRST + len(sockets)) for one in sockets]
    for one in sockets:
        os.close(one)
    for number, one in enumerate(above):
        os.dup2(one, FIRST + number)
        os.close(one)
    os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(len(sockets))
