"""The scratch database of the configuration, as far as none is there."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from deploykit_probe.overrides import plain_databases
from deploykit_probe.proxy_postgresql import GSS, TLS, Proxy, Scram, exactly, target_of


def test_a_url_is_read() -> None:
    """As libpq reads it."""
    found = target_of("postgresql://me:a%40b%2F@db.internal:6432/the%20copy?sslmode=verify-ca&sslrootcert=%2Fca.pem")
    assert found == ("db.internal", 6432, "me", "a@b/", "the copy", "verify-ca", "/ca.pem")
    assert target_of("postgresql://me@/copy?host=%2Frun%2Fpg")[:3] == ("/run/pg", 5432, "me")
    for url, reason in (
        ("mysql://me@h/copy", "it does not start with `postgresql://`"),
        ("postgresql://me@h/", "it names no database"),
        ("postgresql://h/copy", "it names no user"),
        ("postgresql://me@/copy", "it names no host"),
        ("postgresql://me@h/copy?sslmode=on", "`sslmode=on` is none of PostgreSQL's"),
        ("postgresql://me@h/copy?sslmode=verify-full", "`sslmode=verify-full` needs `sslrootcert`"),
        ("postgresql://me@h/copy?target=x", "unknown parameter `target`"),
    ):
        with pytest.raises(ValueError, match=reason):
            target_of(url)


def test_scram_is_that_of_the_rfc() -> None:
    """With the example of RFC 7677."""
    scram = Scram("pencil")
    scram.bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    answer = scram.final(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert answer.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(ConnectionError, match="another nonce"):
        scram.final(b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    with pytest.raises(ConnectionError, match="does not know the password"):
        scram.check(b"v=AAAA")


def test_only_the_database_that_was_copied_is_reached() -> None:
    """Whatever the client wants first."""
    client, server = socket.socketpair()
    proxy = Proxy(target_of("postgresql://me@127.0.0.1:1/copy"), ["live"], {})
    serving = threading.Thread(target=proxy.answer, args=(server,))
    serving.start()
    for code in (GSS, TLS):
        client.sendall(struct.pack("!ii", 8, code))
        assert client.recv(1) == b"N"
    body = b"user\0me\0database\0other\0application_name\0\0\0"
    client.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
    kind, size = struct.unpack("!ci", exactly(client, 5))
    assert kind == b"E"
    assert b'database "other" has no copy in the rehearsal' in exactly(client, size - 4)
    serving.join()
    client.close()


def test_requirements_of_the_live_server_are_dropped() -> None:
    """Only for the databases that a proxy answers for."""
    from types import SimpleNamespace

    tls = {"NAME": "a", "OPTIONS": {"sslmode": "verify-full", "assume_role": "owner", "application_name": "x"}}
    settings = SimpleNamespace(DATABASES={"default": tls, "other": tls})
    changed = plain_databases(settings, ["default"])["DATABASES"]
    assert changed["default"] == {"NAME": "a", "OPTIONS": {"application_name": "x", "sslmode": "disable"}}
    assert changed["other"] is tls
    assert plain_databases(settings, []) == {}
