"""The helper of a bridge: the one process that can change the view. It writes what the workers say, and watches the gate."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
import traceback
from typing import Any, NoReturn

from . import kernel
from .kinds import Json
from .view import View

# Seconds between two looks at the gate.
INTERVAL = 0.01

# Seconds after which a bridge that should end is killed.
PATIENCE = 10.0

# The lowest number of a file descriptor that is not the server's.
ABOVE = 64

# The lower priority of a boot.
NICE = 10


class Directory:
    """The directory of a bridge, which its processes reach from any namespace."""

    def __init__(self, number: int) -> None:
        """Takes its file descriptor."""
        self.number = number

    @classmethod
    def at(cls, path: str) -> Directory:
        """Opens it."""
        return cls(above(os.open(path, os.O_RDONLY | os.O_DIRECTORY)))

    def write(self, name: str, value: Json) -> None:
        """Writes a file, wholly or not at all."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(name + ".new", flags, 0o600, dir_fd=self.number), "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(name + ".new", name, src_dir_fd=self.number, dst_dir_fd=self.number)

    def has(self, name: str) -> bool:
        """Tells whether there is a file."""
        try:
            os.stat(name, dir_fd=self.number)
        except FileNotFoundError:
            return False
        return True


def above(number: int) -> int:
    """Moves a file descriptor above those that gunicorn gets."""
    moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, ABOVE)
    os.close(number)
    return moved


def start(spec: Json, directory: Directory, view: View | None, link: socket.socket, theirs: socket.socket) -> int:
    """Starts the helper, which ends with this process at the latest, and returns its PID."""
    master = os.getpid()
    helper = os.fork()
    if helper:
        link.close()
        return helper
    try:
        theirs.close()
        kernel.die_with_parent()
        if os.getppid() == master:
            Helper(spec, directory, view, link, master).run()
    except BaseException:
        traceback.print_exc()
        os.kill(master, signal.SIGTERM)
    finally:
        os._exit(1)


def stop(helper: int) -> None:
    """Stops the helper."""
    # gunicorn waits for all children, and the PID may be somebody else's then.
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(helper, os.WNOHANG) == (0, 0):
            os.kill(helper, signal.SIGKILL)
            os.waitpid(helper, 0)


class Helper:
    """What the helper knows."""

    def __init__(self, spec: Json, directory: Directory, view: View | None, link: socket.socket, master: int) -> None:
        """Takes the other end of the workers' socket."""
        self.directory, self.owner = directory, spec["owner"]
        self.view, self.link, self.master = view, link, master
        self.nice, self.cores = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
        if view:
            view.hold()
        # It does nearly nothing, and everybody waits for it.
        link.settimeout(INTERVAL)

    def run(self) -> NoReturn:
        """Waits for the gate or for the end."""
        kill_at: float | None = None
        while True:
            message = self.message()
            if message == {}:
                os._exit(0)
            end = False
            if message and "failed" in message:
                self.directory.write("failed", {"reason": message["failed"]})
                end = True
            elif message:
                self.directory.write("ready/%d" % message.pop("pid"), message)
            if self.directory.has("gate"):
                self.free()
            if kill_at is None and (end or kernel.started(self.owner[0]) != self.owner[1]):
                os.kill(self.master, signal.SIGTERM)
                kill_at = time.monotonic() + PATIENCE
            elif kill_at is not None and time.monotonic() > kill_at:
                os.kill(self.master, signal.SIGKILL)

    def message(self) -> Any:
        """Returns a message of a worker; `None`: there is none yet; an empty one: all others have ended."""
        try:
            data = self.link.recv(1 << 20)
        except socket.timeout:
            return None
        return json.loads(data.decode("utf-8")) if data else {}

    def free(self) -> NoReturn:
        """Removes the view, and lets the workers go."""
        if self.view:
            self.view.remove()
        self.link.send(b"free")
        self.directory.write("free", {})
        for thread in threads_of(os.getpgrp()):
            # It may have ended.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, self.cores)
        if os.getuid() == 0:
            os.setpriority(os.PRIO_PGRP, 0, self.nice)
        os._exit(0)


def threads_of(group: int) -> list[int]:
    """Returns the threads of a process group."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if os.getpgid(int(name)) == group:
                    found += [int(thread) for thread in os.listdir("/proc/%s/task" % name)]
    return found
