"""A proxy for MariaDB: clients of the live database reach a scratch database, whatever user and password they have."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from typing import Callable, NamedTuple

from . import proxy
from .proxy import FAILURES, NO_TLS, Dialect, Proxy, Rejected, Target, exactly, unreachable, with_tls

DIALECT = Dialect(
    server="MariaDB",
    schemes=("mysql", "mariadb"),
    port=3306,
    local="socket",
    tls="ssl-mode",
    root="ssl-ca",
    modes=("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"),
    default="PREFERRED",
)

# What a client and a server can do. Source: "Connection" in the documentation of MariaDB's protocol.
WITH_DATABASE, PROTOCOL_41, TLS, SALTED = 1 << 3, 1 << 9, 1 << 11, 1 << 15
PLUGINS, ATTRIBUTES, LONG_ANSWER = 1 << 19, 1 << 20, 1 << 21
# Compression by zlib and by zstd, TLS, and more than one password.
FOREIGN = 1 << 5 | 1 << 26 | TLS | 1 << 30 | 1 << 28

# The first byte of a packet of the server, and of a command.
ACCEPTED, SWITCH, ERROR = b"\0", b"\xfe", b"\xff"
INIT_DB, QUERY = b"\2", b"\3"

# The plugin that checks passwords by SHA-1.
NATIVE = b"mysql_native_password"

# The longest packet before commands, and the longest name of a database, in bytes.
LONGEST = 1 << 16
LONGEST_NAME = 256


class UnknownPlugin(ConnectionError):
    """An account whose password is checked in another way."""

    def __init__(self, plugin: str) -> None:
        """Takes the plugin's name."""
        super().__init__("the role logs in by the plugin `%s`, which deploykit lacks" % plugin)


def packet(number: int, body: bytes) -> bytes:
    """Returns a packet."""
    return struct.pack("<I", len(body))[:3] + bytes([number % 256]) + body


def receive(opened: socket.socket) -> tuple[int, bytes]:
    """Returns the number of the next packet, and the packet."""
    header = exactly(opened, 4)
    size = int.from_bytes(header[:3], "little")
    if size > LONGEST:
        raise ConnectionError("a packet is not of MariaDB's protocol")
    return header[3], exactly(opened, size)


def complaint(text: str, state: bytes = b"#HY000", code: int = 1105) -> bytes:
    """Returns an error for a client, with a state once the client knows the protocol."""
    return ERROR + struct.pack("<H", code) + state + text.encode("utf-8", "replace")


def text_in(body: bytes) -> str:
    """Returns the text of an error."""
    return body[9 if body[3:4] == b"#" else 3 :].decode("utf-8", "replace")


def native(password: str, salt: bytes) -> bytes:
    """Returns the proof of a password: SHA1(password) XOR SHA1(salt + SHA1(SHA1(password)))."""
    if not password:
        return b""
    once = hashlib.sha1(password.encode("utf-8")).digest()
    mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
    return bytes(one ^ other for one, other in zip(once, mask))


class Greeting(NamedTuple):
    """The first packet of a server."""

    # The protocol, the version of the server, and the number of the connection.
    begin: bytes
    salt: bytes
    flags: int
    # The collation, and the state of the session.
    state: bytes
    # What else the server can do.
    more: bytes

    def body(self) -> bytes:
        """Returns the packet."""
        flags = struct.pack("<I", self.flags)
        begin = self.begin + self.salt[:8] + b"\0" + flags[:2] + self.state + flags[2:]
        return begin + bytes([len(self.salt) + 1]) + self.more + self.salt[8:] + b"\0" + NATIVE + b"\0"


def greeting_of(body: bytes) -> Greeting:
    """Reads the first packet of a server."""
    if body[:1] == ERROR:
        raise Rejected(body)
    end = body.index(b"\0") + 5
    low, state, high = struct.unpack_from("<H3sH", body, end + 9)
    salt = body[end : end + 8] + body[end + 27 : end + 39]
    return Greeting(body[:end], salt, low | high << 16, state, body[end + 17 : end + 27])


class Response(NamedTuple):
    """The answer of a client."""

    flags: int
    # Its longest packet, its collation, and what else it can do.
    limits: bytes
    database: bytes
    plugin: bytes
    attributes: bytes


def response_of(body: bytes) -> Response:
    """Reads the answer of a client; nobody needs to know its user and its password."""
    flags: int = struct.unpack_from("<I", body)[0]
    if flags & TLS or not flags & PROTOCOL_41:
        raise ConnectionError("the client requires TLS" if flags & TLS else "the client is too old")
    rest = body[body.index(b"\0", 32) + 1 :]
    if flags & LONG_ANSWER and rest[:1] == b"\xfc":
        rest = rest[3 + int.from_bytes(rest[1:3], "little") :]
    elif flags & (LONG_ANSWER | SALTED):
        rest = rest[1 + rest[0] :]
    else:
        rest = rest[rest.index(b"\0") + 1 :]
    database = plugin = b""
    if flags & WITH_DATABASE:
        database, _, rest = rest.partition(b"\0")
    if flags & PLUGINS:
        plugin, _, rest = rest.partition(b"\0")
    return Response(flags, body[4:32], database, plugin, rest)


def connect(target: Target) -> tuple[socket.socket, Greeting]:
    """Connects to the server, which speaks first."""
    opened = proxy.connect(target, target.host)
    try:
        return opened, greeting_of(receive(opened)[1])
    except BaseException:
        opened.close()
        raise


def log_in(opened: socket.socket, target: Target, greeting: Greeting, client: Response) -> tuple[socket.socket, bytes]:
    """Logs in as the scratch role; returns the connection, perhaps with TLS now, and the last packet of the server."""
    flags = (client.flags & ~(FOREIGN | LONG_ANSWER) | PROTOCOL_41 | SALTED | PLUGINS) & greeting.flags
    number, is_local = 1, opened.family == socket.AF_UNIX
    if greeting.flags & TLS and not is_local and target.mode != "DISABLED":
        flags |= TLS
        opened.sendall(packet(number, struct.pack("<I", flags) + client.limits))
        opened = with_tls(opened, target, DIALECT)
        number = 2
    elif not is_local and target.mode not in ("DISABLED", "PREFERRED"):
        raise ConnectionError(NO_TLS)
    proof = native(target.password, greeting.salt)
    body = struct.pack("<I", flags) + client.limits + target.user.encode("utf-8") + b"\0" + bytes([len(proof)]) + proof
    body += target.name.encode("utf-8") + b"\0" if flags & WITH_DATABASE else b""
    body += NATIVE + b"\0" + (client.attributes if flags & ATTRIBUTES else b"")
    opened.sendall(packet(number, body))
    while True:
        number, said = receive(opened)
        if said[:1] == ACCEPTED:
            return opened, said
        if said[:1] == ERROR:
            raise Rejected(said)
        plugin, _, salt = said[1:].partition(b"\0")
        if said[:1] != SWITCH or plugin != NATIVE:
            raise UnknownPlugin(plugin.decode("utf-8", "replace") or "mysql_old_password")
        opened.sendall(packet(number + 1, native(target.password, salt[:20])))


def run(opened: socket.socket, sql: bytes) -> None:
    """Runs a statement without a result."""
    opened.sendall(packet(0, QUERY + sql))
    _, said = receive(opened)
    if said[:1] != ACCEPTED:
        raise Rejected(said)


class MariaDbProxy(Proxy):
    """Answers clients of MariaDB."""

    dialect = DIALECT

    def refusal(self, text: str) -> bytes:
        """Returns an error in place of the first packet of a server."""
        return packet(0, complaint(text, b""))

    def begin(self, client: socket.socket) -> socket.socket:
        """Greets a client as the server does, accepts its password, and returns a connection of its own."""
        try:
            server, greeting = connect(self.target)
        except Rejected as error:
            raise Rejected(packet(0, error.args[0])) from error
        try:
            salt = bytes(1 + one % 127 for one in os.urandom(20))
            client.sendall(packet(0, greeting._replace(salt=salt, flags=greeting.flags & ~FOREIGN).body()))
            number, body = receive(client)
            try:
                response = response_of(body)
                if response.plugin not in (b"", NATIVE):
                    client.sendall(packet(number + 1, SWITCH + NATIVE + b"\0" + salt + b"\0"))
                    number, _ = receive(client)
                server, said = self.session(server, greeting, response)
            except Rejected as error:
                raise Rejected(packet(number + 1, error.args[0])) from error
            except FAILURES as error:
                raise Rejected(packet(number + 1, complaint(unreachable(error)))) from error
            client.sendall(packet(number + 1, said))
        except BaseException:
            server.close()
            raise
        return server

    def session(self, server: socket.socket, greeting: Greeting, client: Response) -> tuple[socket.socket, bytes]:
        """Begins a session for a client; returns its connection, and the last packet of the server."""
        called = client.database.decode("utf-8", "replace")
        if called and called not in self.names:
            raise Rejected(complaint("database `%s` has no copy in the rehearsal" % called, b"#42000", 1049))
        server, said = log_in(server, self.target, greeting, client)
        if self.settings:
            # A setting that the client itself chooses comes later.
            run(server, b"SET SESSION " + b", ".join(b"%s = %s" % one for one in self.settings.items()))
        return server, said

    def reader(self, client: socket.socket) -> Callable[[], bytes]:
        """Returns what reads the next bytes; a command that chooses the live database chooses the scratch one."""
        left = 0

        def read() -> bytes:
            """Reads a header, a short command, or the next part of a packet."""
            nonlocal left
            if left:
                data = client.recv(min(left, 65536))
                left -= len(data)
                return data
            header = exactly(client, 4)
            size = int.from_bytes(header[:3], "little")
            if header[3] or not 0 < size <= LONGEST_NAME:
                left = size
                return header
            body = exactly(client, size)
            if body[:1] == INIT_DB and body[1:].decode("utf-8", "replace") in self.names:
                return packet(0, INIT_DB + self.target.name.encode("utf-8"))
            return header + body

        return read


def attempt(target: Target, settings: dict[str, str]) -> None:
    """Fails unless a proxy could log in, with these settings."""
    server, greeting = connect(target)
    try:
        response = Response(PROTOCOL_41 | WITH_DATABASE, struct.pack("<IB23x", 1 << 24, 45), b"", NATIVE, b"")
        server, _ = MariaDbProxy(target, [], settings).session(server, greeting, response)
    finally:
        server.close()
