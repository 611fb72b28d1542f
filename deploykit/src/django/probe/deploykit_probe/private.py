"""Private servers that hold copies of databases: their processes, their programs, and where they have to be found."""

from __future__ import annotations

import ipaddress
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Iterable, Sequence

from .errors import without_passwords
from .kinds import Json
from .tools import run_tool, said_in, stream_of, tool_failed, unnamed_file

# Directories that hold other things than sockets, which nothing may hide.
SHARED = ("/", "/dev/shm", "/run", "/tmp", "/var", "/var/run", "/var/tmp")

# What stays free on the disk beside a copy, in bytes.
SPARE = 64 << 20

# How long a server may take to start or to stop, in seconds.
PATIENCE = 60.0

# Opens a directory that another user could not reach, becomes that user, and runs a program there.
AS_USER = (
    "import os, pwd, sys\n"
    "number = os.open(sys.argv[2], os.O_RDONLY)\n"
    "os.set_inheritable(number, True)\n"
    "user = pwd.getpwnam(sys.argv[1])\n"
    "os.setgroups([])\n"
    "os.setgid(user.pw_gid)\n"
    "os.setuid(user.pw_uid)\n"
    "os.execv(sys.argv[3], [one.replace('{}', '/proc/self/fd/%d' % number) for one in sys.argv[3:]])\n"
)

# Hands connections to one address on to another one, for a server that is reached at several ports.
FORWARD = (
    "import socket, sys, threading\n"
    "def pass_on(one, other):\n"
    "    try:\n"
    "        while True:\n"
    "            data = one.recv(65536)\n"
    "            if not data:\n"
    "                break\n"
    "            other.sendall(data)\n"
    "        other.shutdown(socket.SHUT_WR)\n"
    "    except OSError:\n"
    "        one.close()\n"
    "        other.close()\n"
    "address, port, to = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
    "listener = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)\n"
    "listener.bind((address, port))\n"
    "listener.listen(100)\n"
    "while True:\n"
    "    client, server = listener.accept()[0], socket.socket(listener.family)\n"
    "    try:\n"
    "        server.connect((address, to))\n"
    "    except OSError:\n"
    "        client.close()\n"
    "        continue\n"
    "    for pair in ((client, server), (server, client)):\n"
    "        threading.Thread(target=pass_on, args=pair, daemon=True).start()\n"
)


class CannotCopy(Exception):
    """A database that cannot be copied here, with what would help, if that is known."""

    def __init__(self, reason: str, help_: str | None = None) -> None:
        """Takes the reason and the help, one line each."""
        super().__init__(reason)
        self.help = help_


def check_room(directory: str, size: int) -> None:
    """Fails where the disk has no room for a copy of this size."""
    free = shutil.disk_usage(directory).free
    if free < size + SPARE:
        text = "a copy takes %d MB, and %d MB are free below `%s`"
        raise CannotCopy(text % ((size + SPARE) >> 20, free >> 20, directory))


def system() -> Any:
    """Returns the C library; `None`: this Python cannot call it."""
    try:
        import ctypes

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        # What is left by who is killed is ended by the next copy.
        return None


def end_with_parent(library: Any, number: int = signal.SIGKILL) -> None:
    """Lets the kernel send this process a signal when the one that started it ends, even if that is killed."""
    if library is not None:
        library.prctl(1, int(number), 0, 0, 0)


def begun(nice: int, user: str | None = None, number: int = signal.SIGKILL) -> Callable[[], None]:
    """Returns what a new process does before its program runs: it gets a low priority and a user, and ends with this one."""
    # Another user may not be able to load it.
    parent, library = os.getpid(), system()
    who = pwd.getpwnam(user) if user else None

    def begin() -> None:
        """Runs in the new process."""
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
        if who is not None:
            os.setgroups([])
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
        # A change of the user would end it.
        end_with_parent(library, number)
        if os.getppid() != parent:
            os._exit(1)

    return begin


def user_of(*names: str) -> str | None:
    """Returns the first of these users that there is, as whom root runs a server; `None`: this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in names:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise CannotCopy("there is no user `%s`, and root cannot run the database server" % names[0])


def directory_for(path: str, user: str | None, mode: int) -> None:
    """Makes a directory of a server's."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    if user is not None:
        who = pwd.getpwnam(user)
        os.chown(path, who.pw_uid, who.pw_gid)


def plain_environment(prefixes: Sequence[str]) -> dict[str, str]:
    """Returns the variables for programs of a private server: nothing that leads them to the live one."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(tuple(prefixes))}
    return dict(found, LC_ALL="C")


def server_environment() -> dict[str, str]:
    """Returns the variables of a private server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def version_of(program: str) -> str:
    """Returns what a program says of its version."""
    return run_tool([program, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")


def piped(
    source: list[str], env: dict[str, str], target: list[str], target_env: dict[str, str], nice: int, files: Sequence[int]
) -> None:
    """Runs two programs, the second of which reads what the first one writes."""
    logs = [unnamed_file(""), unnamed_file("")]
    begin = begun(nice)
    writer = subprocess.Popen(
        source, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=logs[0], pass_fds=files, preexec_fn=begin
    )
    pipe = stream_of(writer.stdout)
    try:
        reader = subprocess.Popen(
            target, env=target_env, stdin=pipe, stdout=subprocess.DEVNULL, stderr=logs[1], pass_fds=files, preexec_fn=begin
        )
    except BaseException:
        writer.kill()
        raise
    finally:
        pipe.close()
    codes = [writer.wait(), reader.wait()]
    said = [said_in(log) for log in logs]
    # Who writes to a program that has failed fails, too, and has nothing to say.
    for number in (1, 0) if codes[0] == -signal.SIGPIPE or not said[0] else (0, 1):
        if codes[number]:
            raise tool_failed((source, target)[number][0], codes[number], said[number])


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: str, what: str) -> None:
    """Waits until a server that was started answers."""
    until = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            with open(log, "rb") as file:
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
            sys.stderr.write("".join(without_passwords(line) + "\n" for line in lines))
            raise CannotCopy("a private %s server does not start: %s" % (what, lines[-1] if lines else "it says nothing"))
        time.sleep(0.02)


def end_left_server(data: str) -> None:
    """Ends the server of a copy that was killed, if it is still there."""
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or not os.path.samefile("/proc/%s/cwd" % name, data):
                continue
            os.kill(int(name), signal.SIGKILL)
            until = time.monotonic() + PATIENCE
            while os.path.exists("/proc/%s/cwd" % name) and time.monotonic() < until:
                time.sleep(0.02)
        except OSError:
            # It is not a process of ours, or it has ended.
            continue


class Endpoints:
    """Where a server is reached: what a private one has to do to be reached there in its stead."""

    def __init__(self, directory: str) -> None:
        """Takes the directory for its sockets."""
        self.directory = directory
        # The directories of sockets, private by live.
        self.sockets: dict[str, str] = {}
        # How the sockets are called, where they can have any name.
        self.files: set[str] = set()
        self.ports: set[int] = set()
        self.reached: set[tuple[str, int]] = set()
        self.addresses: list[str] = []
        self.hosts: dict[str, str] = {}

    def add_socket(self, directory: str) -> None:
        """Takes a directory where clients find a socket."""
        real = os.path.realpath(directory)
        if real in SHARED or (os.path.realpath(self.directory) + "/").startswith(real + "/"):
            raise CannotCopy("the socket of its server is in `%s`, beside other files" % directory)
        if real not in self.sockets:
            self.sockets[real] = os.path.join(self.directory, "sockets-%d" % len(self.sockets))

    def add_address(self, address: str, port: int, names: Iterable[str]) -> None:
        """Takes an address where clients find the server, and the names of hosts that lead there."""
        address = address.split("%")[0]
        if address.startswith("::ffff:"):
            address = address[len("::ffff:") :]
        if address not in self.addresses:
            self.addresses.append(address)
        self.ports.add(port)
        self.reached.add((address, port))
        for name in names:
            try:
                ipaddress.ip_address(name)
            except ValueError:
                if name not in ("", "localhost"):
                    self.hosts[name] = address

    def far(self) -> list[str]:
        """Returns the addresses that the loopback device does not have."""
        return [address for address in self.addresses if not ipaddress.ip_address(address).is_loopback]

    def port(self, default: int) -> int:
        """Returns the port of the server; at the others somebody hands connections on to it."""
        return min(self.ports, default=default)

    def forwarders(self) -> list[Json]:
        """Returns what hands on connections at the other ports."""
        to = self.port(0)
        return [
            {
                "argv": [sys.executable, "-I", "-S", "-c", FORWARD, address, str(port), str(to)],
                "environment": {},
                "user": None,
                "stop": int(signal.SIGTERM),
                "ready": {"tcp": [address, port]},
                "listen": [],
                "hosts": {},
            }
            for address, port in sorted(self.reached)
            if port != to
        ]

    def show(self, user: str | None) -> list[list[Any]]:
        """Makes the directories of the sockets, and returns where they have to appear."""
        for private in self.sockets.values():
            directory_for(private, user, 0o755)
        return [[private, live, True] for live, private in self.sockets.items()]

    def ready(self, socket: str) -> Json:
        """Returns what answers once the server does."""
        if self.sockets:
            return {"unix": os.path.join(next(iter(self.sockets)), socket)}
        return {"tcp": [self.addresses[0], self.port(0)]}


def size_below(directory: str) -> int:
    """Returns the bytes of the files below a directory."""
    sizes = (os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(directory) for name in names)
    return sum(sizes)


def make_certificate(directory: str, user: str | None) -> None:
    """Makes a certificate that nobody verifies."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise CannotCopy("its clients insist on TLS, and `openssl` is not installed", "apt install openssl")
    key, certificate = (os.path.join(directory, "server." + ending) for ending in ("key", "crt"))
    argv = [openssl, "req", "-new", "-x509", "-nodes", "-days", "30", "-subj", "/CN=rehearsal"]
    argv += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run_tool(argv + ["-keyout", key, "-out", certificate], dict(os.environ), stdout=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    if user is not None:
        status = os.stat(directory)
        for path in (key, certificate):
            os.chown(path, status.st_uid, status.st_gid)


def argv_as(user: str | None, directory: str, argv: list[str]) -> list[str]:
    """Returns the arguments that run a server in its directory, which is `{}` among them, as this user."""
    if user is None:
        return [directory if one == "{}" else one.replace("{}", directory) for one in argv]
    return [sys.executable, "-I", "-S", "-c", AS_USER, user, directory] + argv


def refusal(fields: Json) -> str:
    """Returns an error of ours in one line."""
    if fields["kind"] == "tool":
        said = [line for line in fields["traceback"] if line.strip()]
        # What comes after the first error often follows from it.
        said = [line for line in said if "error" in line.lower()][:1] or said[-1:] or ["it said nothing"]
        return "`%s` failed with exit code %d: %s" % (fields["what"], fields["code"], said[0])
    if fields["kind"] == "tool_missing":
        return "`%s` is not installed" % fields["what"]
    if fields["kind"] in ("tool_too_old", "tool_foreign"):
        return "`%s` is of version %s, the server is %s" % (fields["what"], fields["version"], fields["engine"])
    names = ", ".join(fields.get("names", []))
    return "%s: %s" % (fields["kind"].replace("_", " "), names or fields.get("engine", ""))
