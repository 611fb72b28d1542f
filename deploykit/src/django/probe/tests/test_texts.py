"""What is computed of texts and values alone."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from deploykit_probe import answers, lines
from deploykit_probe.backup import refuse_old_mysql
from deploykit_probe.backup_mariadb import granted
from deploykit_probe.backup_postgresql import postgresql_environment
from deploykit_probe.errors import Failed, Refused, failure, guarded, text_of
from deploykit_probe.history import lacking, originals_of, unrecorded
from deploykit_probe.kinds import Key
from deploykit_probe.programs_mysql import check_version, dump_arguments, options_text
from deploykit_probe.schema import constraint_line


def test_names_of_files_come_and_go_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that is not UTF-8 is written and read without loss."""
    name = os.fsdecode(b"caf\xe9.txt")
    reading, writing = os.pipe()
    monkeypatch.setattr(answers, "ANSWERS", os.fdopen(writing, "wb", 0))
    answers.send({"ok": {"names": [name]}})
    answers.ANSWERS.close()
    with os.fdopen(reading, "rb") as pipe:
        line = pipe.read()
    assert line == b'{"ok": {"names": ["caf\\u0000e9.txt"]}}\n'
    assert answers.received(json.loads(line.decode("utf-8"))) == {"ok": {"names": [name]}}


def test_a_lost_reader_does_not_fail_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration goes on when nobody hears of it any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", 0) as pipe:
        monkeypatch.setattr(answers, "ANSWERS", pipe)
        answers.send({"ok": {}})


def test_errors_are_answers() -> None:
    """Errors of ours, failures with a context and bare exceptions differ by their kind."""
    assert failure(Refused("busy", names=["7"])) == {"error": {"kind": "busy", "names": ["7"]}}
    failed = failure(Failed("apps", LookupError("no app"), module="shop"))["error"]
    assert (failed["kind"], failed["type"], failed["module"]) == ("apps", "LookupError", "shop")
    raised = failure(KeyError("name"))["error"]
    assert (raised["kind"], raised["message"]) == ("raised", "'name'")


def test_the_innermost_failure_counts() -> None:
    """What is a failure already keeps its kind on the way up."""

    def fails() -> None:
        """Fails within a failure."""
        guarded("database", int, "x", database="default")

    with pytest.raises(Failed) as caught:
        guarded("migrations", fails)
    assert caught.value.fields == {"kind": "database", "database": "default"}
    assert isinstance(caught.value.error, ValueError)


def test_an_object_without_a_text_has_an_empty_one() -> None:
    """A broken `__str__` of the site does not hide its error."""

    class Broken:
        """Has no text."""

        def __str__(self) -> str:
            """Fails."""
            raise RuntimeError("no text")

    assert text_of(Broken()) == ""


@pytest.mark.parametrize(
    ("written", "restored"),
    [
        ("'new'::character varying", "('new'::character varying)::text"),
        ("price > 0::numeric(8,2)", "(price > (0)::numeric)"),
        ("ARRAY['a'::text]", "ARRAY['a'::character varying[]]"),
    ],
)
def test_expressions_are_compared_as_they_are_restored(written: str, restored: str) -> None:
    """PostgreSQL writes casts and brackets otherwise after a restore."""
    assert lines.plain(written) == lines.plain(restored)
    assert lines.digest_of(written) == lines.digest_of(restored)


def test_different_expressions_stay_different() -> None:
    """What is left out are casts alone."""
    assert lines.plain("price > 0") != lines.plain("price > 1")
    assert lines.digest_of("SELECT 1") != lines.digest_of("SELECT 2")


def test_equal_lines_are_numbered() -> None:
    """A second index of the same kind is a line of its own."""
    assert list(lines.numbered(["a", "b", "a", "a"])) == ["a", "b", "a, no. 2", "a, no. 3"]


@pytest.mark.parametrize(
    ("constraint", "line"),
    [
        ({"columns": ["id"], "primary_key": True, "unique": True}, "primary key (id)"),
        ({"columns": ["shop_id"], "foreign_key": ("shop", "id")}, "foreign key to shop.id (shop_id)"),
        ({"columns": ["name"], "unique": True}, "unique (name)"),
        ({"columns": None, "check": True, "definition": "price > 0"}, "check () price > 0"),
        ({"columns": ["a", "b"], "index": True, "orders": ["ASC", "DESC"]}, "index (a, b) ASC DESC"),
    ],
)
def test_constraints_are_lines(constraint: dict[str, Any], line: str) -> None:
    """The generated name of a constraint is left out."""
    assert constraint_line(constraint) == line


def replacing(*keys: Key) -> SimpleNamespace:
    """Returns a migration that stands for these, as far as the history reads it."""
    return SimpleNamespace(replaces=list(keys))


def loaded(**migrations: SimpleNamespace) -> SimpleNamespace:
    """Returns these migrations of the app `shop` as Django's loader has them."""
    found = {("shop", name): migration for name, migration in migrations.items()}
    return SimpleNamespace(disk_migrations=found, migrated_apps={"shop"}, unmigrated_apps=set())


def test_squashed_migrations_are_recorded_with_their_originals() -> None:
    """A squashed migration of squashed ones is found too, and one with an unapplied original is not."""
    one, two, three, four = (("shop", name) for name in ("one", "two", "three", "four"))
    loader = loaded(
        half=replacing(one, two), whole=replacing(("shop", "half"), three), other=replacing(three, four), four=replacing()
    )
    assert unrecorded(loader, {one, two, three}) == {("shop", "half"), ("shop", "whole")}
    squashes = {key: migration for key, migration in loader.disk_migrations.items() if migration.replaces}
    assert originals_of(squashes, ("shop", "whole")) == {one, two, three}


def test_applied_migrations_that_the_code_lacks_are_named() -> None:
    """Those of an app that is not installed are told apart; replaced ones are known."""
    loader = loaded(new=replacing(("shop", "old")))
    found = lacking(loader, {("shop", "old"), ("shop", "gone"), ("blog", "first")})
    assert found == [
        {"app": "blog", "name": "first", "installed": False},
        {"app": "shop", "name": "gone", "installed": True},
    ]


def connection_with(**settings: Any) -> SimpleNamespace:
    """Returns a connection with these settings, as far as the programs need it."""
    return SimpleNamespace(settings_dict=settings, mysql_is_mariadb=True)


def mysql_with(**settings: Any) -> SimpleNamespace:
    """Returns a connection to a MySQL server."""
    return SimpleNamespace(settings_dict=settings, mysql_is_mariadb=False, mysql_version=(8, 0, 36))


def test_the_option_file_of_mariadb_is_quoted() -> None:
    """A password may hold whatever it likes; a socket is no host."""
    connection = connection_with(HOST="/run/db.sock", USER="site", PASSWORD='a"b\\c', PORT="", OPTIONS={})
    text = options_text(connection).splitlines()
    assert text[0] == "[client]"
    assert 'password="a\\"b\\\\c"' in text
    assert 'socket="/run/db.sock"' in text
    assert not any(line.startswith(("host=", "port=")) for line in text)
    assert 'loose-ssl-verify-server-cert="0"' in text


def test_mariadb_verifies_only_what_django_verifies() -> None:
    """Encryption follows the options of the driver."""
    verified = options_text(connection_with(OPTIONS={"ssl": {"ca": "/ca.pem"}, "ssl_verify_cert": True}))
    assert 'ssl-ca="/ca.pem"' in verified
    assert 'loose-ssl-verify-server-cert="1"' in verified
    encrypted = options_text(connection_with(OPTIONS={"ssl_mode": "REQUIRED"}))
    assert 'ssl="1"' in encrypted
    assert "verify" not in encrypted


@pytest.mark.parametrize(
    "options, mode",
    [
        ({}, None),
        ({"ssl_mode": "DISABLED"}, "DISABLED"),
        ({"ssl_disabled": True}, "DISABLED"),
        ({"ssl": {"ca": "/ca.pem"}}, "REQUIRED"),
        ({"ssl_mode": "VERIFY_CA", "ssl": {"ca": "/ca.pem"}}, "VERIFY_CA"),
        ({"ssl_verify_identity": True}, "VERIFY_IDENTITY"),
    ],
)
def test_mysql_has_a_mode_where_mariadb_has_switches(options: dict[str, Any], mode: str | None) -> None:
    """Its programs end at an option of MariaDB's."""
    text = options_text(mysql_with(HOST="db", OPTIONS=options))
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("ssl-mode")] == (['ssl-mode="%s"' % mode] if mode else [])
    assert not any(line.startswith(("ssl=", "loose-ssl")) for line in lines)
    # `caching_sha2_password` without TLS.
    assert ('loose-get-server-public-key="1"' in lines) == (mode == "DISABLED")


MYSQL_SAYS = "mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)\n"
UBUNTU_SAYS = "mysql  Ver 8.0.36-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))\n"
PERCONA_SAYS = "mysqldump  Ver 8.4.0-1 for Linux on x86_64 (Percona Server (GPL), Release 1, Revision 7cf5e0e)\n"
OLD_SAYS = "mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)\n"
MARIADB_SAYS = "mysqldump  Ver 10.19 Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)\n"
NEWER_MARIADB_SAYS = "mysqldump from 11.8.3-MariaDB, client 10.19 for debian-linux-gnu (x86_64)\n"


def test_each_server_has_programs_of_its_own() -> None:
    """MariaDB's have the names of MySQL's, and neither reads all that the other writes."""
    for said in (MYSQL_SAYS, UBUNTU_SAYS, PERCONA_SAYS):
        check_version("mysqldump", said, "MySQL", (8, 0, 36))
    for said in (MARIADB_SAYS, NEWER_MARIADB_SAYS):
        check_version("mysqldump", said, "MariaDB", (10, 11, 6))
        with pytest.raises(Refused) as caught:
            check_version("mysqldump", said, "MySQL", (8, 0, 36))
        assert caught.value.fields == {"kind": "tool_foreign", "what": "mysqldump", "version": "MariaDB", "engine": "MySQL"}
    with pytest.raises(Refused) as caught:
        check_version("mysql", UBUNTU_SAYS, "MariaDB", (10, 11, 6))
    assert caught.value.fields["kind"] == "tool_foreign"


def test_programs_older_than_mysql_are_refused() -> None:
    """Those of 5.7 call themselves 10.13 or 14.14, and name their release."""
    for said, server in ((OLD_SAYS, (8, 0, 36)), (MYSQL_SAYS, (9, 1, 0))):
        with pytest.raises(Refused) as caught:
            check_version("mysqldump", said, "MySQL", server)
        assert caught.value.fields["kind"] == "tool_too_old"
    check_version("mysqldump", PERCONA_SAYS, "MySQL", (8, 0, 36))


def test_servers_older_than_mysql_8_are_refused() -> None:
    """By their version, not by the first statement that they do not know."""
    refuse_old_mysql((8, 0, 0))
    with pytest.raises(Refused) as caught:
        refuse_old_mysql((5, 7, 44))
    engine = "a MySQL server older than 8.0 (5.7.44)"
    assert caught.value.fields == {"kind": "unsupported", "what": "backup", "engine": engine}


def test_a_copy_of_mysql_leaves_the_server_s_own_out() -> None:
    """MariaDB's program knows neither option."""
    more = set(dump_arguments(False)) - set(dump_arguments(True))
    assert more == {"--set-gtid-purged=OFF", "--column-statistics=0"}


def test_postgresql_is_connected_by_variables() -> None:
    """What is empty is not set, and options of libpq are passed on."""
    options = {"sslmode": "require", "assume_role": "owner"}
    connection = connection_with(HOST="db", PORT="", USER="site", PASSWORD="secret", NAME="shop", OPTIONS=options)
    found = postgresql_environment(connection)
    assert {name: value for name, value in found.items() if name.startswith("PG") and name not in os.environ} == {
        "PGHOST": "db",
        "PGUSER": "site",
        "PGPASSWORD": "secret",
        "PGDATABASE": "shop",
        "PGSSLMODE": "require",
        "PGAPPNAME": "deploykit",
        "PGCONNECT_TIMEOUT": "30",
    }


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("`shop`", True), ("*", True), ("`sh%`", True), ("`sho_`", True), ("`s\\_op`", False), ("`shop2`", False)],
)
def test_rights_to_a_database_are_matched_as_mariadb_does(pattern: str, fits: bool) -> None:
    """The name in a grant is a pattern."""
    grants = ["GRANT USAGE ON *.* TO `u`@`%`", "GRANT SELECT, CREATE VIEW ON %s.* TO `u`@`%%`" % pattern]
    assert granted(grants, "shop") == ({"USAGE", "SELECT", "CREATE VIEW"} if fits else {"USAGE"})


def test_a_backslash_in_a_grant_takes_a_sign_for_itself() -> None:
    """An underscore without one stands for any sign."""
    grants = ["GRANT SELECT ON `s\\_op`.* TO `u`@`%`"]
    assert granted(grants, "s_op") == {"SELECT"}
    assert granted(grants, "shop") == set()
