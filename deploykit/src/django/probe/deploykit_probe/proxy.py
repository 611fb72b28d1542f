"""What the proxies have in common through which clients of a live database reach a scratch database."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Any, Callable, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

# How long connecting may take, in seconds.
PATIENCE = 30.0

NO_TLS = "the server of the scratch database offers no TLS"

# What a connection with TLS waits for, by the names of the exceptions of the module `ssl`.
WANTS = {"SSLWantReadError": select.POLLIN, "SSLWantWriteError": select.POLLOUT}

# What a connection may fail with.
FAILURES = (OSError, KeyError, ValueError, struct.error)


class Target(NamedTuple):
    """A database, and how it is reached. A host that begins with a slash is a path."""

    host: str
    port: int
    user: str
    password: str
    name: str
    mode: str
    root: str | None


class Dialect(NamedTuple):
    """How URLs name the databases of a kind of server."""

    server: str
    schemes: tuple[str, ...]
    port: int
    # The names of the parameters.
    local: str
    tls: str
    root: str
    # The values of `tls`: those that verify the certificate come last, and the last one verifies its name, too.
    modes: tuple[str, ...]
    default: str

    def verifies(self, mode: str) -> bool:
        """Tells whether the server's certificate is verified."""
        return mode in self.modes[-2:]


def target_of(url: str, dialect: Dialect) -> Target:
    """Reads a URL; a `ValueError` says what is wrong with it, without its password."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in dialect.schemes:
        raise ValueError("it does not start with `%s://`" % dialect.schemes[0])
    unknown = sorted(set(query) - {dialect.local, "port", dialect.tls, dialect.root})
    if unknown:
        raise ValueError("it has the unknown parameter `%s`" % unknown[0])
    mode, root = query.get(dialect.tls, dialect.default), query.get(dialect.root)
    if mode not in dialect.modes:
        raise ValueError("`%s=%s` is none of %s's" % (dialect.tls, mode, dialect.server))
    if dialect.verifies(mode) and not root:
        raise ValueError("`%s=%s` needs `%s`" % (dialect.tls, mode, dialect.root))
    host = query.get(dialect.local) or unquote(parts.hostname or "")
    for what, value in (("user", parts.username), ("host", host), ("database", parts.path.strip("/"))):
        if not value:
            raise ValueError("it names no %s" % what)
    user, password, name = (unquote(value or "") for value in (parts.username, parts.password, parts.path[1:]))
    return Target(host, int(query.get("port") or parts.port or dialect.port), user, password, name, mode, root)


def unreachable(error: Exception) -> str:
    """Returns what a client is told when the server cannot be reached."""
    return "the scratch database cannot be reached: %s" % error


class Rejected(Exception):
    """A server that does not accept the user, with its message for the client."""


def exactly(opened: socket.socket, size: int) -> bytes:
    """Reads this many bytes."""
    data = b""
    while len(data) < size:
        more = opened.recv(size - len(data))
        if not more:
            raise ConnectionError("the connection was closed")
        data += more
    return data


def connect(target: Target, local: str) -> socket.socket:
    """Connects to the server, or to this Unix socket if the host is a path."""
    if not target.host.startswith("/"):
        return socket.create_connection((target.host, target.port), PATIENCE)
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(PATIENCE)
    opened.connect(local)
    return opened


def with_tls(opened: socket.socket, target: Target, dialect: Dialect) -> socket.socket:
    """Begins TLS on a connection."""
    # It takes long to load, and Python may have been built without it.
    import ssl

    context = ssl.create_default_context(cafile=None if target.root == "system" else target.root)
    context.check_hostname = target.mode == dialect.modes[-1]
    if not dialect.verifies(target.mode):
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(opened, server_hostname=target.host)


class Link:
    """A connection that one thread reads and another one writes: OpenSSL does not allow both at once."""

    def __init__(self, opened: socket.socket) -> None:
        """Takes the connection."""
        self.opened, self.lock = opened, threading.Lock()
        opened.setblocking(False)

    def attempt(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Reads or writes as soon as that does not block."""
        while True:
            with self.lock:
                try:
                    return work(*arguments)
                except OSError as error:
                    wants = WANTS.get(type(error).__name__)
                    if isinstance(error, BlockingIOError):
                        wants = select.POLLOUT if work == self.opened.send else select.POLLIN
                    if wants is None:
                        raise
            waiting = select.poll()
            waiting.register(self.opened, wants)
            waiting.poll()

    def receive(self) -> bytes:
        """Returns the next bytes; none at the end."""
        data: bytes = self.attempt(self.opened.recv, 65536)
        return data

    def send(self, data: bytes) -> None:
        """Sends all bytes."""
        while data:
            data = data[self.attempt(self.opened.send, data) :]


class Proxy:
    """Answers clients at Unix sockets."""

    dialect: Dialect

    def __init__(self, target: Target, names: list[str], settings: dict[str, str]) -> None:
        """Takes the scratch database, the names that clients call it by, and the settings of their sessions."""
        self.target, self.names = target, names
        self.settings = {name.encode("utf-8"): value.encode("utf-8") for name, value in settings.items()}

    def serve(self, listening: list[socket.socket]) -> NoReturn:
        """Accepts connections without end."""
        waiting = select.poll()
        places = {one.fileno(): one for one in listening}
        for number in places:
            waiting.register(number, select.POLLIN)
        while True:
            for number, _ in waiting.poll():
                client, _ = places[number].accept()
                threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        """Serves a client until one side closes the connection."""
        with client:
            try:
                client.settimeout(PATIENCE)
                server = self.begin(client)
                client.settimeout(None)
            except Rejected as error:
                self.give_up(client, error.args[0])
                return
            except FAILURES as error:
                self.give_up(client, self.refusal(unreachable(error)))
                return
            if server is not None:
                with server:
                    join(client, server, self.reader(client))

    def give_up(self, client: socket.socket, message: bytes) -> None:
        """Tells the client why there is no connection, if it still listens."""
        try:
            client.sendall(message)
        except OSError:
            # The client has gone: a check whether the port is open sends nothing and disconnects.
            return

    def begin(self, client: socket.socket) -> socket.socket | None:
        """Logs a client in, whoever it is, and returns a connection of its own; `None`: it wanted none."""
        raise NotImplementedError

    def refusal(self, text: str) -> bytes:
        """Returns the message that ends a connection before anything else was sent."""
        raise NotImplementedError

    def reader(self, client: socket.socket) -> Callable[[], bytes]:
        """Returns what reads the next bytes for the server; none at the end."""
        return lambda: client.recv(65536)


def join(client: socket.socket, server: socket.socket, read: Callable[[], bytes]) -> None:
    """Passes on what a server sends, and what is read of a client, until one of them ends."""
    link = Link(server)

    def pass_on(receive: Callable[[], bytes], send: Callable[[bytes], None]) -> None:
        """Passes on one direction, and then ends both."""
        try:
            while True:
                data = receive()
                if not data:
                    break
                send(data)
        except OSError:
            # One side has gone; the other one learns that now.
            pass
        for one in (client, server):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It is closed already.
                continue

    back = threading.Thread(target=pass_on, args=(link.receive, client.sendall), daemon=True)
    back.start()
    pass_on(read, link.send)
    back.join()
