"""Copies of PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import IO

from . import patience
from .errors import Refused
from .kinds import Connection
from .patience import CHANGES
from .schema_postgresql import postgresql_own
from .sql import rows_of
from .tools import copy_with, feed_tool, path_of, run_tool, stream_of, tool, tool_failed, touch, unnamed_file


def postgresql_tools(connection: Connection) -> list[str]:
    """Returns the programs, none of them older than the server."""
    server = connection.pg_version // 10000
    programs = []
    for name in ("pg_dump", "pg_restore", "psql"):
        program = tool(name)
        said = run_tool([program, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8")
        found = re.search(r"\) (\d+)", said)
        if found and int(found.group(1)) < server:
            raise Refused("tool_too_old", what=name, version=found.group(1), engine="PostgreSQL %d" % server)
        programs.append(program)
    return programs


def postgresql_environment(connection: Connection) -> dict[str, str]:
    """Returns the variables with which the programs connect like Django."""
    settings = connection.settings_dict
    options = settings.get("OPTIONS") or {}
    names = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
    found = {variable: settings.get(name) for name, variable in names.items()}
    passed = (
        "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "sslsni", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "channel_binding", "gssencmode", "krbsrvname", "require_auth", "requirepeer", "hostaddr",
        "target_session_attrs", "service", "servicefile", "passfile", "options",
    )  # fmt: skip
    found.update(("PG" + name.upper().replace("_", ""), options.get(name)) for name in passed)
    found.update(PGAPPNAME="deploykit", PGCONNECT_TIMEOUT="30")
    return dict(os.environ, **{name: str(value) for name, value in found.items() if value})


def postgresql_role(connection: Connection) -> str | None:
    """Returns the role that Django assumes, if any."""
    role: str | None = (connection.settings_dict.get("OPTIONS") or {}).get("assume_role")
    return role


def postgresql_facts(connection: Connection) -> int:
    """Returns the size in bytes; refused where something belongs to another user."""
    postgresql_tools(connection)
    with connection.cursor() as cursor:
        foreign = rows_of(
            cursor,
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT pg_has_role(c.relowner, 'USAGE') AND "
            + postgresql_own("pg_class", "c.oid")
            + " ORDER BY 1",
        )
        if foreign:
            raise Refused("not_owned", names=[name for (name,) in foreign])
        return int(rows_of(cursor, "SELECT pg_database_size(current_database())")[0][0])


def postgresql_backup(connection: Connection, path: str, file: IO[bytes]) -> None:
    """Copies a PostgreSQL database into this file."""
    program = postgresql_tools(connection)[0]
    tables = (
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND " + postgresql_own("pg_class", "c.oid")
    )
    with connection.cursor() as cursor:
        touch(cursor, [table for (table,) in rows_of(cursor, tables)])
    connection.close()
    # Large objects are left alone, by the restore too.
    argv = [program, "--format=custom", "--compress=1", "--no-blobs", "--no-password", "--file=" + path]
    argv.append("--lock-wait-timeout=%d" % (patience.LIMIT * 1000))
    role = postgresql_role(connection)
    copy_with(argv + (["--role=" + role] if role else []), postgresql_environment(connection), path)


# What is never dropped is not restored either: it is the whole database's, and often a superuser's.
POSTGRESQL_LEFT = (
    "DATABASE", "EXTENSION", "SCHEMA", "PUBLICATION", "SUBSCRIPTION", "EVENT TRIGGER", "FOREIGN DATA", "SERVER",
    "USER MAPPING", "PROCEDURAL LANGUAGE", "CAST", "DEFAULT ACL", "BLOB", "LARGE OBJECT", "ACCESS METHOD",
    "TEXT SEARCH", "OPERATOR", "CONVERSION", "TRANSFORM", "ACL - SCHEMA", "COMMENT - SCHEMA", "COMMENT - EXTENSION",
    "ACL - LANGUAGE",
)  # fmt: skip

# Statements that drop all that a dump restores.
POSTGRESQL_DROPS = (
    ("pg_class", "c.oid", "c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND NOT EXISTS (SELECT 1 FROM pg_depend d"
     " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))",
     "CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'"
     " WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END", "format('%I.%I', n.nspname, c.relname)",
     "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"),
    ("pg_proc", "p.oid", "true", "'ROUTINE'",
     "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))",
     "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"),
    ("pg_type", "t.oid", "(t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid"
     " AND c.relkind = 'c'))", "'TYPE'", "format('%I.%I', n.nspname, t.typname)",
     "pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"),
    ("pg_collation", "l.oid", "true", "'COLLATION'", "format('%I.%I', n.nspname, l.collname)",
     "pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace"),
)  # fmt: skip


def postgresql_restore(connection: Connection, path: str) -> None:
    """Restores a PostgreSQL database in one transaction."""
    _, pg_restore, psql = postgresql_tools(connection)
    env = dict(postgresql_environment(connection), PGAPPNAME=CHANGES)
    listed = run_tool([pg_restore, "--list", path], env, stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")
    entries = [line for line in listed.splitlines() if line and not line.startswith(";")]
    statements, there = [], set()
    with connection.cursor() as cursor:
        for catalog, oid, which, word, name, source in POSTGRESQL_DROPS:
            sql = "SELECT 'DROP ' || %s || ' IF EXISTS ' || %s || ' CASCADE;' FROM %s WHERE %s AND %s"
            sql %= (word, name, source, which, postgresql_own(catalog, oid))
            statements += [statement for (statement,) in rows_of(cursor, sql)]
        for kind, sql in (
            ("EXTENSION", "SELECT extname, quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql'"),
            ("SCHEMA", "SELECT nspname, quote_ident(nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"
             " AND nspname NOT IN ('public', 'information_schema')"),
        ):  # fmt: skip
            kept = {line.split()[5] for line in entries if line.split()[3:5] == [kind, "-"]}
            for name, quoted in rows_of(cursor, sql):
                there.add((kind, name))
                if name not in kept:
                    statements.append("DROP %s IF EXISTS %s CASCADE;" % (kind, quoted))
    connection.close()

    def wanted(line: str) -> bool:
        """Tells whether an entry of the copy's table of contents is restored."""
        words = line.split()
        if words[3:5] in (["EXTENSION", "-"], ["SCHEMA", "-"]) and words[5] != "public":
            return (words[3], words[5]) not in there
        return not " ".join(words[3:]).startswith(POSTGRESQL_LEFT)

    chosen = unnamed_file("\n".join(line for line in entries if wanted(line)) + "\n")
    argv = [pg_restore, "--use-list=" + path_of(chosen), "--file=-", path]
    role = postgresql_role(connection)
    opening = ["BEGIN;", "SET LOCAL lock_timeout = '%ds';" % max(1, patience.LIMIT)]
    opening += ["SET LOCAL ROLE %s;" % connection.ops.quote_name(role)] if role else []

    def write(stream: IO[bytes]) -> None:
        """Writes the transaction: drops, then the copy, then the last word."""
        stream.write("\n".join(opening + statements + [""]).encode("utf-8"))
        source = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=(chosen,))
        copied = stream_of(source.stdout)
        try:
            shutil.copyfileobj(copied, stream, 1 << 20)
        finally:
            copied.close()
            code = source.wait()
        # Without this last word nothing of it has happened.
        if code:
            raise tool_failed(pg_restore, code, [])
        stream.write(b"COMMIT;\n")

    try:
        feed_tool([psql, "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"], env, write)
    finally:
        os.close(chosen)
