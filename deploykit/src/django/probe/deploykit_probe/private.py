"""Private database servers for copies: their processes, their programs, and the addresses where clients expect them."""

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

# Directories that hold more than sockets, so no mount may hide them.
SHARED = ("/", "/dev/shm", "/run", "/tmp", "/var", "/var/run", "/var/tmp")

# Disk space that a copy must leave free, in bytes.
SPARE = 64 << 20

# How long a server may take to start or to stop, in seconds.
PATIENCE = 60.0

# Opens a directory that another user cannot reach, switches to that user, and runs a program there.
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

# Forwards connections from a port to another one or to a Unix socket, for a server that clients reach at several addresses.
FORWARD = (
    "import os, socket, sys, threading\n"
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
    "address, port, to = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
    "is_path = to.startswith('/')\n"
    # The whole path of a socket may be longer than the kernel allows.
    "near = is_path and '/proc/self/fd/%d/%s' % (os.open(os.path.dirname(to), os.O_PATH), os.path.basename(to))\n"
    "listener = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)\n"
    "listener.bind((address, port))\n"
    "listener.listen(100)\n"
    "while True:\n"
    "    client, server = listener.accept()[0], socket.socket(socket.AF_UNIX if is_path else listener.family)\n"
    "    try:\n"
    "        server.connect(near if is_path else (address, int(to)))\n"
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
    """Fails if the disk has no room for a copy of this size."""
    free = shutil.disk_usage(directory).free
    if free < size + SPARE:
        text = "a copy takes %d MB, and %d MB are free below `%s`"
        raise CannotCopy(text % ((size + SPARE) >> 20, free >> 20, directory))


def system() -> Any:
    """Returns the C library; `None`: Python cannot call it."""
    try:
        import ctypes

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        # Then the next copy ends the processes of one that was killed.
        return None


def end_with_parent(library: Any, number: int = signal.SIGKILL) -> None:
    """Lets the kernel send this process a signal when its parent ends, even if the parent is killed."""
    if library is not None:
        library.prctl(1, int(number), 0, 0, 0)


def begun(nice: int, user: str | None = None, number: int = signal.SIGKILL) -> Callable[[], None]:
    """Returns the `preexec_fn` of a new process: it sets the priority and the user, and ties its end to this process."""
    # Before the change of user: another user may not be able to load it.
    parent, library = os.getpid(), system()
    who = pwd.getpwnam(user) if user else None

    def begin() -> None:
        """Runs in the new process."""
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
        if who is not None:
            os.setgroups([])
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
        # A change of user resets this.
        end_with_parent(library, number)
        if os.getppid() != parent:
            os._exit(1)

    return begin


def user_of(*names: str) -> str | None:
    """Returns the first of these users that exists: root runs a server as this user. `None`: this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in names:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise CannotCopy("there is no user `%s`, and root cannot run the database server" % names[0])


def directory_for(path: str, user: str | None, mode: int) -> None:
    """Makes a directory for a server."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    if user is not None:
        who = pwd.getpwnam(user)
        os.chown(path, who.pw_uid, who.pw_gid)


def plain_environment(prefixes: Sequence[str]) -> dict[str, str]:
    """Returns the variables for the clients of a private server, without those that would connect them to the live one."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(tuple(prefixes))}
    return dict(found, LC_ALL="C")


def server_environment() -> dict[str, str]:
    """Returns the variables of a private server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def version_of(program: str) -> str:
    """Returns the output of `--version`."""
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
    # A program that writes to one that has failed fails, too, without a message.
    for number in (1, 0) if codes[0] == -signal.SIGPIPE or not said[0] else (0, 1):
        if codes[number]:
            raise tool_failed((source, target)[number][0], codes[number], said[number])


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: str, what: str) -> None:
    """Waits until a server answers that was started."""
    until = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            with open(log, "rb") as file:
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
            sys.stderr.write("".join(without_passwords(line) + "\n" for line in lines))
            raise CannotCopy("a private %s server does not start: %s" % (what, lines[-1] if lines else "it printed nothing"))
        time.sleep(0.02)


def end_left_server(data: str) -> None:
    """Kills the server of a copy that was killed, if it still runs."""
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or not os.path.samefile("/proc/%s/cwd" % name, data):
                continue
            os.kill(int(name), signal.SIGKILL)
            until = time.monotonic() + PATIENCE
            while os.path.exists("/proc/%s/cwd" % name) and time.monotonic() < until:
                time.sleep(0.02)
        except OSError:
            # Another user's process, or one that has ended.
            continue


def forwarder(address: str, port: int, to: str) -> Json:
    """Returns how the sandbox starts a program that forwards connections to another port, or to a Unix socket."""
    return {
        "argv": [sys.executable, "-I", "-S", "-c", FORWARD, address, str(port), to],
        "environment": {},
        "user": None,
        "stop": int(signal.SIGTERM),
        "ready": {"tcp": [address, port]},
        "listen": [],
        "hosts": {},
    }


class Endpoints:
    """The sockets and addresses at which clients reach a live server, and the private one must listen in the sandbox."""

    def __init__(self, directory: str) -> None:
        """Takes the directory for its sockets."""
        self.directory = directory
        # The private directory of sockets for each live one.
        self.sockets: dict[str, str] = {}
        # The names of the sockets, if these can be chosen.
        self.files: set[str] = set()
        self.ports: set[int] = set()
        self.reached: set[tuple[str, int]] = set()
        self.addresses: list[str] = []
        self.hosts: dict[str, str] = {}

    def add_socket(self, directory: str) -> None:
        """Adds a directory in which clients expect a socket."""
        real = os.path.realpath(directory)
        if real in SHARED or (os.path.realpath(self.directory) + "/").startswith(real + "/"):
            raise CannotCopy("the socket of its server is in `%s`, which holds other files, too" % directory)
        if real not in self.sockets:
            self.sockets[real] = os.path.join(self.directory, "sockets-%d" % len(self.sockets))

    def add_address(self, address: str, port: int, names: Iterable[str]) -> None:
        """Adds an address at which clients expect the server, and the host names that resolve to it."""
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
        """Returns the addresses that are not loopback addresses."""
        return [address for address in self.addresses if not ipaddress.ip_address(address).is_loopback]

    def port(self, default: int) -> int:
        """Returns the port of the server; the others are forwarded to it."""
        return min(self.ports, default=default)

    def forwarders(self) -> list[Json]:
        """Returns the programs that forward the other ports."""
        to = self.port(0)
        return [forwarder(address, port, str(to)) for address, port in sorted(self.reached) if port != to]

    def forwarders_to(self, socket: str) -> list[Json]:
        """Returns the programs that forward all addresses to a Unix socket."""
        found = [forwarder(address, port, socket) for address, port in sorted(self.reached)]
        for one in found[:1]:
            one.update(listen=self.far(), hosts=self.hosts)
        return found

    def show(self, user: str | None) -> list[list[Any]]:
        """Makes the directories of the sockets, and returns where the sandbox must mount them."""
        for private in self.sockets.values():
            directory_for(private, user, 0o755)
        return [[private, live, True] for live, private in self.sockets.items()]

    def ready(self, socket: str) -> Json:
        """Returns the address that accepts connections once the server is ready."""
        if self.sockets:
            return {"unix": os.path.join(next(iter(self.sockets)), socket)}
        return {"tcp": [self.addresses[0], self.port(0)]}


def size_below(directory: str) -> int:
    """Returns the size of all files below a directory, in bytes."""
    sizes = (os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(directory) for name in names)
    return sum(sizes)


def make_certificate(directory: str, user: str | None) -> None:
    """Makes a self-signed certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise CannotCopy("its clients require TLS, and `openssl` is not installed", "apt install openssl")
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
    """Returns the arguments that run a server as this user in its directory, for which `{}` stands in them."""
    if user is None:
        return [directory if one == "{}" else one.replace("{}", directory) for one in argv]
    return [sys.executable, "-I", "-S", "-c", AS_USER, user, directory] + argv


def refusal(fields: Json) -> str:
    """Returns an error of the probe in one line."""
    if fields["kind"] == "tool":
        said = [line for line in fields["traceback"] if line.strip()]
        # Later errors often follow from the first one.
        said = [line for line in said if "error" in line.lower()][:1] or said[-1:] or ["it printed nothing"]
        return "`%s` failed with exit code %d: %s" % (fields["what"], fields["code"], said[0])
    if fields["kind"] == "tool_missing":
        return "`%s` is not installed" % fields["what"]
    if fields["kind"] in ("tool_too_old", "tool_foreign"):
        return "`%s` has version %s, the server is %s" % (fields["what"], fields["version"], fields["engine"])
    names = ", ".join(fields.get("names", []))
    return "%s: %s" % (fields["kind"].replace("_", " "), names or fields.get("engine", ""))
