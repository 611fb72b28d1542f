"""The scratch database of the configuration, as far as none is there."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Sequence

import pytest

from deploykit_probe import proxy_mariadb, proxy_postgresql
from deploykit_probe.overrides import plain_databases
from deploykit_probe.private import CannotCopy
from deploykit_probe.proxy import exactly, target_of
from deploykit_probe.proxy_mariadb import MariaDbProxy, greeting_of, native, packet, response_of, text_in
from deploykit_probe.proxy_postgresql import GSS, TLS, PostgreSqlProxy, Scram
from deploykit_probe.scratch_mariadb import DEFINER, Facts, check_rights


def test_a_url_is_read() -> None:
    """As libpq reads it, or as MySQL's programs do."""
    postgresql, mariadb = proxy_postgresql.DIALECT, proxy_mariadb.DIALECT
    url = "postgresql://me:a%40b%2F@db.internal:6432/the%20copy?sslmode=verify-ca&sslrootcert=%2Fca.pem"
    assert target_of(url, postgresql) == ("db.internal", 6432, "me", "a@b/", "the copy", "verify-ca", "/ca.pem")
    assert target_of("postgresql://me@/copy?host=%2Frun%2Fpg", postgresql)[:3] == ("/run/pg", 5432, "me")
    url = "mysql://me:a%40b@db.internal/copy?ssl-mode=VERIFY_IDENTITY&ssl-ca=%2Fca.pem"
    assert target_of(url, mariadb) == ("db.internal", 3306, "me", "a@b", "copy", "VERIFY_IDENTITY", "/ca.pem")
    assert target_of("mariadb://me@/copy?socket=%2Frun%2Fdb.sock", mariadb)[:3] == ("/run/db.sock", 3306, "me")
    for dialect, url, reason in (
        (postgresql, "mysql://me@h/copy", "it does not start with `postgresql://`"),
        (postgresql, "postgresql://me@h/", "it names no database"),
        (postgresql, "postgresql://h/copy", "it names no user"),
        (postgresql, "postgresql://me@/copy", "it names no host"),
        (postgresql, "postgresql://me@h/copy?sslmode=on", "`sslmode=on` is none of PostgreSQL's"),
        (postgresql, "postgresql://me@h/copy?sslmode=verify-full", "`sslmode=verify-full` needs `sslrootcert`"),
        (postgresql, "postgresql://me@h/copy?target=x", "unknown parameter `target`"),
        (mariadb, "postgresql://me@h/copy", "it does not start with `mysql://`"),
        (mariadb, "mysql://me@h/copy?ssl-mode=on", "`ssl-mode=on` is none of MariaDB's"),
        (mariadb, "mysql://me@h/copy?host=h", "unknown parameter `host`"),
    ):
        with pytest.raises(ValueError, match=reason):
            target_of(url, dialect)


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
    proxy = PostgreSqlProxy(target_of("postgresql://me@127.0.0.1:1/copy", proxy_postgresql.DIALECT), ["live"], {})
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


# The first packet of MariaDB 10.11, and the answer of its own client that wants the database `live`.
GREETING = (
    b'\n5.5.5-10.11.19-MariaDB-0+deb12u1\0\x19\0\0\0oP"Vm?4(\0\xfe\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0'
    b"gRB6&YnA98LX\0mysql_native_password\0"
)
ANSWER = struct.pack("<IIB23x", 0x3BA28D, 1 << 24, 45) + b"me\0\x14" + 20 * b"?" + b"live\0client_ed25519\0\x03\1a\1b"


def test_packets_of_mariadb_are_read() -> None:
    """And written."""
    found = greeting_of(GREETING)
    assert (found.salt, hex(found.flags)) == (b'oP"Vm?4(gRB6&YnA98LX', "0x81fff7fe")
    assert found.body() == GREETING
    assert response_of(ANSWER)[2:] == (b"live", b"client_ed25519", b"\x03\1a\1b")
    # SHA1("x") XOR SHA1(salt + SHA1(SHA1("x"))), as the server's own functions compute it.
    assert native("x", b"01234567890123456789").hex() == "e1c58b9ffc59eb0ac787aaa4c6c19bae1f2b2014"
    assert native("", b"01234567890123456789") == b""
    assert text_in(b"\xff\x15\x04#28000no") == text_in(b"\xff\x15\x04no") == "no"
    for flags, reason in ((1 << 11 | 1 << 9, "requires TLS"), (0, "too old")):
        with pytest.raises(ConnectionError, match=reason):
            response_of(struct.pack("<I", flags) + ANSWER[4:])


def test_a_command_that_chooses_the_live_database_chooses_the_scratch_one() -> None:
    """Whatever else it passes on."""
    client, server = socket.socketpair()
    proxy = MariaDbProxy(target_of("mysql://me@127.0.0.1/copy", proxy_mariadb.DIALECT), ["live"], {})
    read = proxy.reader(server)
    query = packet(0, b"\3live" + 70000 * b"x")
    sent = packet(0, b"\2live") + packet(0, b"\2other") + query + packet(1, b"\2live") + packet(0, b"")
    writing = threading.Thread(target=client.sendall, args=(sent,))
    writing.start()
    expected = packet(0, b"\2copy") + packet(0, b"\2other") + query + packet(1, b"\2live") + packet(0, b"")
    seen = b""
    while len(seen) < len(expected):
        seen += read()
    assert seen == expected
    writing.join()
    client.close()
    with pytest.raises(ConnectionError):
        read()
    server.close()


def test_rights_are_those_of_the_scratch_database_only() -> None:
    """By the lines that a server prints."""
    own = "GRANT ALL PRIVILEGES ON `my\\_copy`.* TO `me`@`%`"
    usage = "GRANT USAGE ON *.* TO `me`@`%` IDENTIFIED BY PASSWORD '*SECRET'"
    test = "GRANT SELECT, DELETE HISTORY ON `test\\_%`.* TO PUBLIC"
    facts = Facts("my_copy", "me@%", 0, 1, 0)

    def refused(grants: list[str], seen: Sequence[str] = ("my_copy",), live: str = "live") -> tuple[str, str]:
        """Returns why the role is refused, and what helps."""
        try:
            check_rights(facts, grants, seen, live)
        except CannotCopy as error:
            assert "SECRET" not in str(error) + str(error.help)
            return str(error).replace("the role `me@%` of `rehearsal.database-url` ", ""), str(error.help)
        return ("", "")

    assert refused([usage, own, test], ["my_copy", "test", "test_x"]) == ("", "")
    secret = "TO `me`@`%` IDENTIFIED BY PASSWORD '*SECRET'"
    for granted, on, to in (
        ("FILE", "*.*", secret),
        ("ALL PRIVILEGES", "*.*", secret + " WITH GRANT OPTION"),
        ("SELECT (`a`)", "`live`.`t`", "TO `me`@`%`"),
        ("EXECUTE", "PROCEDURE `live`.`p`", "TO `me`@`%`"),
        ("ALL PRIVILEGES", "`my%`.*", "TO `me`@`%`"),
        ("SELECT", "`live`.*", "TO PUBLIC"),
    ):
        who = "PUBLIC" if "PUBLIC" in to else "`me`@`%`"
        expected = ("has rights on %s (%s)" % (on, granted), "REVOKE %s ON %s FROM %s" % (granted, on, who))
        assert refused([usage, own, "GRANT %s ON %s %s" % (granted, on, to)]) == expected
    for granted in ("`owner`", "PROXY ON ''@'%'"):
        expected = ("may act as another one (%s)" % granted, "REVOKE %s FROM `me`@`%%`" % granted)
        assert refused([usage, own, "GRANT %s TO `me`@`%%`" % granted]) == expected
    assert refused([usage, own], ["live", "my_copy"])[0] == "has rights on the database `live`"
    assert refused([usage, own], ["my_copy", "other"])[0] == "has rights on the database `other`"
    assert refused([usage, own, test], live="test_live")[0] == "has rights on `test\\_%`.* (SELECT, DELETE HISTORY)"
    assert refused([usage, own], ["my_copy", "test_live"], "test_live")[0] == "has rights on the database `test_live`"
    assert refused([usage]) == ("lacks rights on the database `my_copy`", "GRANT ALL ON `my\\_copy`.* TO `me`@`%`")


def test_definitions_name_no_owner() -> None:
    """But rows may."""
    dump = b"""/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`local``host`*/ /*!50003 trigger t before insert on x */;;
/*!50106 CREATE*/ /*!50117 DEFINER=`a`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 'DEFINER=`a`@`b`' */ ;;
CREATE DEFINER=`role` FUNCTION `f`() RETURNS int
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
INSERT INTO x VALUES ('CREATE DEFINER=`a`@`b`');
"""
    assert (
        DEFINER.sub(rb"\1", dump)
        == b"""/*!50003 CREATE*/ /*!50017 */ /*!50003 trigger t before insert on x */;;
/*!50106 CREATE*/ /*!50117 */ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 'DEFINER=`a`@`b`' */ ;;
CREATE  FUNCTION `f`() RETURNS int
/*!50013  SQL SECURITY DEFINER */
INSERT INTO x VALUES ('CREATE DEFINER=`a`@`b`');
"""
    )


def test_requirements_of_the_live_server_are_dropped() -> None:
    """Only for the databases that a proxy answers for."""
    from types import SimpleNamespace

    tls = {"NAME": "a", "OPTIONS": {"sslmode": "verify-full", "assume_role": "owner", "application_name": "x"}}
    settings = SimpleNamespace(DATABASES={"default": tls, "other": tls})
    changed = plain_databases(settings, ["default"])["DATABASES"]
    assert changed["default"] == {"NAME": "a", "OPTIONS": {"application_name": "x", "sslmode": "disable"}}
    assert changed["other"] is tls
    assert plain_databases(settings, []) == {}
    mariadb = {
        "ENGINE": "django.db.backends.mysql",
        "OPTIONS": {"ssl": {"ca": "x"}, "ssl_mode": "REQUIRED", "charset": "utf8mb4"},
    }
    changed = plain_databases(SimpleNamespace(DATABASES={"default": mariadb}), ["default"])["DATABASES"]
    assert changed["default"]["OPTIONS"] == {"charset": "utf8mb4"}
