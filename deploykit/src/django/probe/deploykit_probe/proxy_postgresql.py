"""A proxy for PostgreSQL: clients of the live database reach a scratch database, whatever user and password they have."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import select
import socket
import struct
import threading
import unicodedata
from typing import Any, Callable, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

# Codes of the first message of a client. Source: "Message Formats" in PostgreSQL's documentation.
TLS, GSS, CANCEL = 80877103, 80877104, 80877102

# The longest first message that a server accepts, in bytes.
LONGEST = 10000

# How long connecting may take, in seconds.
PATIENCE = 30.0

# What a connection with TLS waits for, by the names of the exceptions of the module `ssl`.
WANTS = {"SSLWantReadError": select.POLLIN, "SSLWantWriteError": select.POLLOUT}

PARAMETERS = ("host", "port", "sslmode", "sslrootcert")
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class Target(NamedTuple):
    """A database, and how it is reached."""

    host: str
    port: int
    user: str
    password: str
    name: str
    mode: str
    root: str | None

    def settings(self) -> dict[str, Any]:
        """Returns what `DATABASES` would say of it."""
        options = {"sslmode": self.mode, "sslrootcert": self.root, "connect_timeout": int(PATIENCE)}
        found: dict[str, Any] = {"NAME": self.name, "USER": self.user, "PASSWORD": self.password, "HOST": self.host}
        return dict(found, PORT=str(self.port), OPTIONS={name: value for name, value in options.items() if value})


def target_of(url: str) -> Target:
    """Reads a URL; a `ValueError` says what is wrong with it, without its password."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("it does not start with `postgresql://`")
    unknown = sorted(set(query) - set(PARAMETERS))
    if unknown:
        raise ValueError("it has the unknown parameter `%s`" % unknown[0])
    mode = query.get("sslmode", "prefer")
    if mode not in MODES:
        raise ValueError("`sslmode=%s` is none of PostgreSQL's" % mode)
    if mode.startswith("verify-") and not query.get("sslrootcert"):
        raise ValueError("`sslmode=%s` needs `sslrootcert`" % mode)
    host = query.get("host") or unquote(parts.hostname or "")
    for what, value in (("user", parts.username), ("host", host), ("database", parts.path.strip("/"))):
        if not value:
            raise ValueError("it names no %s" % what)
    user, password, name = (unquote(value or "") for value in (parts.username, parts.password, parts.path[1:]))
    return Target(host, int(query.get("port") or parts.port or 5432), user, password, name, mode, query.get("sslrootcert"))


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


def message(kind: bytes, body: bytes) -> bytes:
    """Returns a message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def refusal(text: str) -> bytes:
    """Returns an error that ends a connection."""
    return message(b"E", b"SFATAL\0VFATAL\0C3D000\0M" + text.encode("utf-8", "replace") + b"\0\0")


def connect(target: Target) -> socket.socket:
    """Connects to the server, with TLS if the URL or the server wants it."""
    if target.host.startswith("/"):
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(PATIENCE)
        local.connect("%s/.s.PGSQL.%d" % (target.host, target.port))
        return local
    opened = socket.create_connection((target.host, target.port), PATIENCE)
    if target.mode == "disable":
        return opened
    opened.sendall(struct.pack("!ii", 8, TLS))
    if exactly(opened, 1) == b"S":
        # It takes long to load, and Python may have been built without it.
        import ssl

        context = ssl.create_default_context(cafile=None if target.root == "system" else target.root)
        context.check_hostname = target.mode == "verify-full"
        if not target.mode.startswith("verify-"):
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(opened, server_hostname=target.host)
    if target.mode in ("allow", "prefer"):
        return opened
    raise ConnectionError("the server of the scratch database offers no TLS")


class Scram:
    """SCRAM-SHA-256 without a channel binding. Source: RFC 5802, RFC 7677."""

    def __init__(self, password: str) -> None:
        """Takes the password."""
        self.password = unicodedata.normalize("NFKC", password).encode("utf-8")
        self.bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode("ascii")
        self.proof = b""

    def first(self) -> bytes:
        """Returns the first message."""
        text = ("n,," + self.bare).encode("ascii")
        return message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(text)) + text)

    def final(self, challenge: bytes) -> bytes:
        """Returns the answer to the server's challenge."""
        said = challenge.decode("ascii")
        found = dict(part.split("=", 1) for part in said.split(","))
        if not found["r"].startswith(self.bare.split("r=", 1)[1]):
            raise ConnectionError("the server repeats another nonce")
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(found["s"]), int(found["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = "c=biws,r=" + found["r"]
        whole = ",".join((self.bare, said, last)).encode("ascii")
        signature = hmac.digest(hashlib.sha256(key).digest(), whole, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature))
        self.proof = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), whole, "sha256")
        return message(b"p", (last + ",p=" + base64.b64encode(proof).decode("ascii")).encode("ascii"))

    def check(self, said: bytes) -> None:
        """Fails unless the server knows the password, too."""
        found = re.match(rb"v=([^,]+)", said)
        if found is None or not hmac.compare_digest(base64.b64decode(found.group(1)), self.proof):
            raise ConnectionError("the server does not know the password")


def log_in(opened: socket.socket, target: Target, tell: Callable[[bytes], None]) -> None:
    """Answers the server's questions until it accepts the user, and tells the client what concerns it."""
    scram = Scram(target.password)
    while True:
        kind, size = struct.unpack("!ci", exactly(opened, 5))
        body = exactly(opened, size - 4)
        if kind == b"E":
            raise Rejected(message(kind, body))
        if kind != b"R":
            tell(message(kind, body))
            continue
        code, said = struct.unpack("!i", body[:4])[0], body[4:]
        if code == 0:
            tell(message(kind, body))
            return
        if code == 3:
            opened.sendall(message(b"p", target.password.encode("utf-8") + b"\0"))
        elif code == 5:
            once = hashlib.md5((target.password + target.user).encode("utf-8")).hexdigest()
            twice = hashlib.md5(once.encode("ascii") + said).hexdigest()
            opened.sendall(message(b"p", b"md5" + twice.encode("ascii") + b"\0"))
        elif code == 10 and b"SCRAM-SHA-256" in said.split(b"\0"):
            opened.sendall(scram.first())
        elif code == 11:
            opened.sendall(scram.final(said))
        elif code == 12:
            scram.check(said)
        else:
            raise ConnectionError("the server of the scratch database wants authentication %d, which deploykit lacks" % code)


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
                client.sendall(error.args[0])
                return
            except (OSError, KeyError, ValueError, struct.error) as error:
                self.give_up(client, error)
                return
            if server is not None:
                with server:
                    join(client, server)

    def give_up(self, client: socket.socket, error: Exception) -> None:
        """Tells the client why there is no connection, if it still listens."""
        try:
            client.sendall(refusal("the scratch database cannot be reached: %s" % error))
        except OSError:
            # The client has gone: a check whether the port is open sends nothing and disconnects.
            return

    def begin(self, client: socket.socket) -> socket.socket | None:
        """Reads the first messages of a client, and returns a connection of its own; `None`: it wanted none."""
        while True:
            size, code = struct.unpack("!ii", exactly(client, 8))
            if not 8 <= size <= LONGEST:
                raise ConnectionError("the client does not speak PostgreSQL's protocol")
            rest = exactly(client, size - 8)
            if code not in (TLS, GSS):
                break
            client.sendall(b"N")
        if code == CANCEL:
            with connect(self.target) as server:
                server.sendall(struct.pack("!ii", size, code) + rest)
            return None
        # Two zeros end the last value and the message.
        words = rest[:-2].split(b"\0")
        given = dict(zip(words[::2], words[1::2]))
        called = given.get(b"database", given[b"user"]).decode("utf-8", "replace")
        if called not in self.names:
            raise Rejected(refusal('database "%s" has no copy in the rehearsal' % called))
        if b"replication" in given:
            raise Rejected(refusal("a copy for a rehearsal cannot be replicated"))
        given.update({b"user": self.target.user.encode("utf-8"), b"database": self.target.name.encode("utf-8")})
        # A setting that the client itself chooses comes first.
        own = given.get(b"options", b"")
        given.update((name, value) for name, value in self.settings.items() if name not in given and name not in own)
        server = connect(self.target)
        try:
            body = b"".join(name + b"\0" + value + b"\0" for name, value in given.items()) + b"\0"
            server.sendall(struct.pack("!ii", len(body) + 8, code) + body)
            log_in(server, self.target, client.sendall)
        except BaseException:
            server.close()
            raise
        return server


def join(client: socket.socket, server: socket.socket) -> None:
    """Passes on what each of two connections sends, until one of them ends."""
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
    pass_on(lambda: client.recv(65536), link.send)
    back.join()
