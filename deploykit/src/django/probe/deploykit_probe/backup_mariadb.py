"""Copies of MariaDB and MySQL."""

from __future__ import annotations

import os
import re
import shutil
from typing import IO, Iterable

from . import patience
from .errors import Refused
from .kinds import Connection, Cursor
from .programs_mysql import dump_arguments, options_text, program
from .sql import rows_of
from .tools import copy_with, feed_tool, path_of, touch, unnamed_file


def mariadb_name(cursor: Cursor) -> str:
    """The database, which may be named in an option file alone."""
    name: str = rows_of(cursor, "SELECT DATABASE()")[0][0]
    return name


# What takes which rights to be made anew.
MARIADB_RIGHTS = (
    ("tables", "table_schema", {"SELECT", "INSERT", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES"}),
    ("triggers", "trigger_schema", {"TRIGGER"}),
    ("views", "table_schema", {"CREATE VIEW", "SHOW VIEW"}),
    ("routines", "routine_schema", {"CREATE ROUTINE", "ALTER ROUTINE"}),
    ("events", "event_schema", {"EVENT"}),
)

# What belongs to somebody, in whose name it runs.
MARIADB_OWNED = (
    ("triggers", "trigger_name", "trigger_schema"),
    ("views", "table_name", "table_schema"),
    ("routines", "routine_name", "routine_schema"),
    ("events", "event_name", "event_schema"),
)


def mariadb_rights(cursor: Cursor, database: str, mariadb: bool) -> set[str]:
    """The rights that the site's user has to this database as a whole."""
    grants = "SHOW GRANTS"
    if not mariadb:
        # MySQL names the rights of roles only where they are asked for.
        roles = rows_of(cursor, "SELECT CURRENT_ROLE()")[0][0]
        grants += "" if roles in (None, "NONE") else " FOR CURRENT_USER() USING %s" % roles
    return granted((line for (line,) in rows_of(cursor, grants)), database)


def granted(grants: Iterable[str], database: str) -> set[str]:
    """Returns the rights to a database as a whole that these grants give."""
    found: set[str] = set()
    for line in grants:
        grant = re.match(r"GRANT (.+?) ON (?:`((?:[^`]|``)+)`|(\*))\.\* TO ", line)
        if not grant:
            continue
        rights, pattern, everywhere = grant.groups()
        # As in LIKE, with a backslash before what stands for itself.
        parts = re.findall(r"\\.|.", (pattern or "").replace("``", "`"))
        regex = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
        if everywhere or re.fullmatch(regex, database):
            found |= {right.strip() for right in rights.split(",")}
    return found


def mysql_trusts(cursor: Cursor, database: str) -> bool:
    """Tells whether MySQL lets an ordinary user make triggers and functions again: with a binary log it may not."""
    if not rows_of(cursor, "SELECT @@log_bin AND NOT @@log_bin_trust_function_creators")[0][0]:
        return True
    sql = "SELECT (SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE())"
    sql += " + (SELECT count(*) FROM information_schema.routines WHERE routine_schema = DATABASE())"
    return not rows_of(cursor, sql)[0][0]


def mariadb_checked(cursor: Cursor, database: str, mariadb: bool) -> None:
    """Fails when the site's user could not recreate what is in the database."""
    rights = mariadb_rights(cursor, database, mariadb)
    if not mariadb and "SUPER" not in rights and not mysql_trusts(cursor, database):
        raise Refused("rights", names=["SUPER, as `log_bin_trust_function_creators` is off"])
    if "ALL PRIVILEGES" not in rights:
        sql = "SELECT count(*) FROM information_schema.%s WHERE %s = DATABASE()"
        missing = set()
        for table, column, needed in MARIADB_RIGHTS:
            # What triggers there are is not shown without the right; who has it not can have made none.
            if table == "tables" or rows_of(cursor, sql % (table, column))[0][0]:
                missing |= needed - rights
        if missing:
            raise Refused("rights", names=sorted(missing))
    if rights & {"SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"}:
        return
    foreign = []
    for table, name, schema in MARIADB_OWNED:
        sql = "SELECT %s FROM information_schema.%s WHERE %s = DATABASE() AND definer <> CURRENT_USER() ORDER BY 1"
        foreign += [found for (found,) in rows_of(cursor, sql % (name, table, schema))]
    if foreign:
        raise Refused("not_owned", names=foreign)


def mariadb_facts(connection: Connection) -> int:
    """Returns the size in bytes; refused where a copy could not be restored."""
    program(connection, "dump")
    program(connection, "client")
    with connection.cursor() as cursor:
        mariadb_checked(cursor, mariadb_name(cursor), connection.mysql_is_mariadb)
        if not connection.mysql_is_mariadb:
            # Otherwise it may be a day old.
            cursor.execute("SET SESSION information_schema_stats_expiry = 0")
        sql = "SELECT coalesce(sum(data_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()"
        return int(rows_of(cursor, sql)[0][0])


def mariadb_backup(connection: Connection, path: str, file: IO[bytes]) -> None:
    """Copies a MariaDB or MySQL database into this file."""
    dump = program(connection, "dump")
    # Only where there are some: reading them takes rights that a site need not have.
    extra = []
    with connection.cursor() as cursor:
        name = mariadb_name(cursor)
        for option, table in (("routines", "routine"), ("events", "event")):
            sql = "SELECT count(*) FROM information_schema.%ss WHERE %s_schema = DATABASE()" % (table, table)
            extra += ["--" + option] if rows_of(cursor, sql)[0][0] else []
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type LIKE 'BASE%'"
        touch(cursor, [connection.ops.quote_name(table) for (table,) in rows_of(cursor, tables)])
    connection.close()
    options = unnamed_file(options_text(connection))
    argv = [dump, "--defaults-file=" + path_of(options)]
    argv += dump_arguments(connection.mysql_is_mariadb) + extra + [name]
    try:
        copy_with(argv, dict(os.environ), path, files=(options,), stdout=file)
    finally:
        os.close(options)


def mariadb_restore(connection: Connection, path: str) -> None:
    """Restores a MariaDB or MySQL database from a complete copy."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 200))
        if b"-- Dump completed" not in file.read():
            raise ValueError("the copy has no end: %s" % path)
    client = program(connection, "client")
    statements = ["SET lock_wait_timeout = %d;" % max(1, patience.LIMIT), "SET FOREIGN_KEY_CHECKS = 0;"]
    kinds = (
        ("CASE table_type WHEN 'VIEW' THEN 'VIEW' WHEN 'SEQUENCE' THEN 'SEQUENCE' ELSE 'TABLE' END", "table"),
        ("routine_type", "routine"),
        ("'EVENT'", "event"),
    )
    with connection.cursor() as cursor:
        name = mariadb_name(cursor)
        for word, table in kinds:
            sql = "SELECT %s, %s_name FROM information_schema.%ss WHERE %s_schema = DATABASE()"
            for kind, thing in rows_of(cursor, sql % (word, table, table, table)):
                statements.append("DROP %s IF EXISTS %s;" % (kind, connection.ops.quote_name(thing)))
    connection.close()
    options = unnamed_file(options_text(connection))

    def write(stream: IO[bytes]) -> None:
        """Writes the statements that drop what there is, then the copy."""
        stream.write(("\n".join(statements) + "\n").encode("utf-8"))
        with open(path, "rb") as file:
            shutil.copyfileobj(file, stream, 1 << 20)

    argv = [client, "--defaults-file=" + path_of(options), "--batch", name]
    try:
        feed_tool(argv, dict(os.environ), write, files=(options,))
    finally:
        os.close(options)
