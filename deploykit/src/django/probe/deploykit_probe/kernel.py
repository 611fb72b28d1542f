"""Calls of the kernel that Python's standard library lacks."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import stat
import struct
from typing import Any, Iterator, NamedTuple

# Namespaces.
NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC = 0x00020000, 0x10000000, 0x20000000, 0x40000000, 0x08000000

# Flags of mounts.
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
REMOUNT, BIND, MOVE, REC, UNBINDABLE, PRIVATE = 32, 4096, 8192, 16384, 1 << 17, 1 << 18
KEPT = {
    "ro": RDONLY,
    "nosuid": NOSUID,
    "nodev": NODEV,
    "noexec": NOEXEC,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
}
DETACH = 2

# System calls that every architecture numbers alike.
PIDFD_OPEN, PIDFD_GETFD = 434, 438

# Calls of `prctl`.
PDEATHSIG, CAPBSET_DROP, NO_NEW_PRIVS, CAP_AMBIENT, CLEAR_ALL = 1, 24, 38, 47, 4

# The capabilities that root keeps: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID.
CAPABILITIES = sum(1 << number for number in range(8))

LIBC: list[Any] = []


class Mount(NamedTuple):
    """A mount, as `/proc/self/mountinfo` describes it."""

    path: str
    kind: str
    flags: int


def call(what: str, name: str, *args: Any) -> int:
    """Calls a function of the C library, and returns its result; its error says what was being done."""
    import ctypes

    if not LIBC:
        LIBC.append(ctypes.CDLL(None, use_errno=True))
    result: int = getattr(LIBC[0], name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (what, os.strerror(number)))
    return result


def number(value: int) -> Any:
    """Returns a number as an `unsigned long`."""
    import ctypes

    return ctypes.c_ulong(value)


def unshare(flags: int) -> None:
    """Moves this process into new namespaces. All but root need one of users, in which they stay who they are."""
    uid, gid = os.getuid(), os.getgid()
    call("making namespaces", "unshare", flags | (NEWUSER if uid else 0))
    if not uid:
        return
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (uid, uid)), ("gid_map", "%d %d 1" % (gid, gid))):
        with open("/proc/self/" + name, "w", encoding="ascii") as file:
            file.write(text)


def enter(namespace: str) -> None:
    """Moves this process into the mount namespace that a file of `/proc` stands for."""
    file = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("entering a mount namespace", "setns", file, NEWNS)
    finally:
        os.close(file)


def descriptor_of(process: int, name: int) -> int:
    """Returns a duplicate of another process's file descriptor; the process is a `pidfd`."""
    return call("duplicating a file descriptor", "syscall", number(PIDFD_GETFD), process, name, 0)


def open_process(pid: int) -> int:
    """Returns a `pidfd` of a process."""
    # `os.pidfd_open` needs Python 3.9.
    return call("opening process %d" % pid, "syscall", number(PIDFD_OPEN), pid, 0)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mounts."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    what = "mounting %s on `%s`" % (kind or "`%s`" % source, target)
    call(what, "mount", texts[0], texts[1], texts[2], number(flags), texts[3])


def bind(source: str, target: str, deep: int = REC) -> None:
    """Bind-mounts a file or a directory."""
    mount(source, target, None, BIND | deep)


def read_only(target: str, flags: int) -> None:
    """Makes a mount with these flags read-only."""
    mount(None, target, None, BIND | REMOUNT | RDONLY | flags)


def unmount(path: str) -> None:
    """Detaches a mount."""
    call("detaching `%s`" % path, "umount2", os.fsencode(path), DETACH)


def pivot(root: str) -> None:
    """Makes a mount the root, and detaches the old root."""
    os.chdir(root)
    call("making `%s` the root" % root, "pivot_root", b".", b".")
    unmount(".")
    os.chdir("/")


def prctl(option: int, value: int) -> None:
    """Sets an attribute of this process."""
    call("setting attribute %d of the process" % option, "prctl", option, *map(number, (value, 0, 0, 0)))


def die_with_parent() -> None:
    """Lets this process be killed when its parent dies."""
    prctl(PDEATHSIG, signal.SIGKILL)


def drop_capabilities(kept: int) -> None:
    """Drops all capabilities but these, for good."""
    prctl(NO_NEW_PRIVS, 1)
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for one in range(last + 1):
        if not kept >> one & 1:
            prctl(CAPBSET_DROP, one)
    prctl(CAP_AMBIENT, CLEAR_ALL)
    lower, upper = kept & 0xFFFFFFFF, kept >> 32
    # Version 3, this process; effective, permitted and inheritable ones, the lower and the upper half.
    header, sets = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", lower, lower, 0, upper, upper, 0)
    call("dropping capabilities", "capset", header, sets)


def mounts() -> list[Mount]:
    """Returns the mounts, the outer ones first; of several on one path, the topmost."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, special = (part.split(" ") for part in line.rstrip("\n").split(" - ", 1))
            path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4])
            flags = sum(KEPT.get(option, 0) for option in fields[5].split(","))
            found[path] = Mount(path, special[0], flags)
    return [found[path] for path in sorted(found) if os.path.isdir(path)]


def sockets() -> Iterator[str]:
    """Returns the paths of Unix sockets."""
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) == 8 and fields[7].startswith("/"):
                yield fields[7]


def open_network(addresses: list[str]) -> None:
    """Brings the loopback interface up, and adds addresses to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # SIOCSIFFLAGS: up and running.
        fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
        others = [address for address in addresses if ":" not in address and not address.startswith("127.")]
        for index, address in enumerate(others, 1):
            name = b"lo:%d" % index
            for request, value in ((0x8916, address), (0x891C, "255.255.255.255")):
                # SIOCSIFADDR, SIOCSIFNETMASK.
                data = struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, data)
    for address in addresses:
        if ":" in address and address != "::1":
            data = socket.inet_pton(socket.AF_INET6, address) + struct.pack("=Ii", 128, socket.if_nametoindex("lo"))
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
                fcntl.ioctl(control, 0x8916, data)


def close_all_but(kept: set[int]) -> None:
    """Closes all file descriptors but the standard ones and these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                # The list itself was open.
                continue


def is_directory(path: str) -> bool:
    """Tells whether a path is a directory, and no symlink to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def status(pid: int) -> tuple[str, list[str]]:
    """Returns the name of a process, and what the kernel says about it from its state on (proc_pid_stat(5))."""
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="surrogateescape") as file:
        name, fields = file.read().rsplit(")", 1)
    return name.split("(", 1)[1], fields.split()


def parent(pid: int) -> int:
    """Returns the parent of a process."""
    return int(status(pid)[1][1])


def started(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since the boot of the machine; `None`: it has ended."""
    try:
        _, fields = status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
