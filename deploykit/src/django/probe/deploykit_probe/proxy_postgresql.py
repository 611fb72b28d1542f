"""A proxy for PostgreSQL: clients of the live database reach a scratch database, whatever user and password they have."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import socket
import struct
import unicodedata
from typing import Callable

from . import proxy
from .proxy import NO_TLS, Dialect, Proxy, Rejected, Target, exactly, with_tls

DIALECT = Dialect(
    server="PostgreSQL",
    schemes=("postgresql", "postgres"),
    port=5432,
    local="host",
    tls="sslmode",
    root="sslrootcert",
    modes=("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    default="prefer",
)

# Codes of the first message of a client. Source: "Message Formats" in PostgreSQL's documentation.
TLS, GSS, CANCEL = 80877103, 80877104, 80877102

# The longest first message that a server accepts, in bytes.
LONGEST = 10000


def message(kind: bytes, body: bytes) -> bytes:
    """Returns a message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def refusal(text: str) -> bytes:
    """Returns an error that ends a connection."""
    return message(b"E", b"SFATAL\0VFATAL\0C3D000\0M" + text.encode("utf-8", "replace") + b"\0\0")


def connect(target: Target) -> socket.socket:
    """Connects to the server, with TLS if the URL or the server wants it."""
    opened = proxy.connect(target, "%s/.s.PGSQL.%d" % (target.host, target.port))
    if opened.family == socket.AF_UNIX or target.mode == "disable":
        return opened
    opened.sendall(struct.pack("!ii", 8, TLS))
    if exactly(opened, 1) == b"S":
        return with_tls(opened, target, DIALECT)
    if target.mode in ("allow", "prefer"):
        return opened
    raise ConnectionError(NO_TLS)


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


class PostgreSqlProxy(Proxy):
    """Answers clients of PostgreSQL."""

    dialect = DIALECT

    def refusal(self, text: str) -> bytes:
        """Returns an error that ends a connection."""
        return refusal(text)

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
