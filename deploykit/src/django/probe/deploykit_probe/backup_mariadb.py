"""Copies of MariaDB."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import IO, Iterable

from . import patience
from .errors import Refused
from .kinds import Connection, Cursor, Json
from .sql import rows_of
from .tools import copy_with, feed_tool, path_of, run_tool, tool, touch, unnamed_file


def mariadb_tool(name: str, older: str) -> str:
    """Returns the path of one of MariaDB's programs, which may have its older name."""
    program = tool(name, older)
    said = run_tool([program, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8")
    # MySQL has programs of the older names, too.
    if "MariaDB" not in said:
        raise Refused("tool_missing", what=name)
    return program


def mariadb_options(connection: Connection) -> str:
    """Returns the text of an option file with which the programs connect."""
    settings = connection.settings_dict
    options = settings.get("OPTIONS") or {}
    host = str(settings.get("HOST") or "")
    given: Json = options["ssl"] if isinstance(options.get("ssl"), dict) else {}
    ssl = {name: given.get(name) or options.get("ssl_" + name) for name in ("ca", "capath", "cert", "key", "cipher")}
    mode = str(options.get("ssl_mode") or "")
    verified = options.get("ssl_verify_cert") or options.get("ssl_verify_identity") or mode.startswith("VERIFY_")
    encrypted = any(ssl.values()) or verified or mode == "REQUIRED"
    found = {
        "user": options.get("user") or settings.get("USER"),
        "password": options.get("password") or options.get("passwd") or settings.get("PASSWORD"),
        "socket": host if host.startswith("/") else options.get("unix_socket"),
        "host": options.get("host") or (None if host.startswith("/") else host),
        "port": options.get("port") or settings.get("PORT"),
        "ssl": "1" if encrypted else "0" if mode == "DISABLED" or options.get("ssl_disabled") else None,
        "default-character-set": "utf8mb4",
        # As for Django: what is not asked for is not verified.
        "loose-ssl-verify-server-cert": "1" if verified else None if encrypted else "0",
    }
    found.update(("ssl-" + name, value) for name, value in ssl.items())
    lines = ["!include %s" % options["read_default_file"]] if options.get("read_default_file") else []
    lines.append("[client]")
    for name, value in found.items():
        if value:
            value = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append('%s="%s"' % (name, value))
    return "\n".join(lines) + "\n"


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


def mariadb_rights(cursor: Cursor, database: str) -> set[str]:
    """The rights that the site's user has to this database as a whole."""
    return granted((line for (line,) in rows_of(cursor, "SHOW GRANTS")), database)


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


def mariadb_checked(cursor: Cursor, database: str) -> None:
    """Fails when the site's user could not recreate what is in the database."""
    rights = mariadb_rights(cursor, database)
    if "ALL PRIVILEGES" not in rights:
        sql = "SELECT count(*) FROM information_schema.%s WHERE %s = DATABASE()"
        missing = set()
        for table, column, needed in MARIADB_RIGHTS:
            # What triggers there are is not shown without the right; who has it not can have made none.
            if table == "tables" or rows_of(cursor, sql % (table, column))[0][0]:
                missing |= needed - rights
        if missing:
            raise Refused("rights", names=sorted(missing))
    if rights & {"SUPER", "SET USER"}:
        return
    foreign = []
    for table, name, schema in MARIADB_OWNED:
        sql = "SELECT %s FROM information_schema.%s WHERE %s = DATABASE() AND definer <> CURRENT_USER() ORDER BY 1"
        foreign += [found for (found,) in rows_of(cursor, sql % (name, table, schema))]
    if foreign:
        raise Refused("not_owned", names=foreign)


def mariadb_facts(connection: Connection) -> int:
    """Returns the size in bytes; refused where a copy could not be restored."""
    mariadb_tool("mariadb-dump", "mysqldump")
    mariadb_tool("mariadb", "mysql")
    with connection.cursor() as cursor:
        mariadb_checked(cursor, mariadb_name(cursor))
        sql = "SELECT coalesce(sum(data_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()"
        return int(rows_of(cursor, sql)[0][0])


def mariadb_backup(connection: Connection, path: str, file: IO[bytes]) -> None:
    """Copies a MariaDB database into this file."""
    program = mariadb_tool("mariadb-dump", "mysqldump")
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
    options = unnamed_file(mariadb_options(connection))
    argv = [program, "--defaults-file=" + path_of(options), "--single-transaction", "--quick", "--hex-blob"]
    argv += ["--skip-add-locks", "--no-tablespaces"] + extra + [name]
    try:
        copy_with(argv, dict(os.environ), path, files=(options,), stdout=file)
    finally:
        os.close(options)


def mariadb_restore(connection: Connection, path: str) -> None:
    """Restores a MariaDB database from a complete copy."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 200))
        if b"-- Dump completed" not in file.read():
            raise ValueError("the copy has no end: %s" % path)
    program = mariadb_tool("mariadb", "mysql")
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
    options = unnamed_file(mariadb_options(connection))

    def write(stream: IO[bytes]) -> None:
        """Writes the statements that drop what there is, then the copy."""
        stream.write(("\n".join(statements) + "\n").encode("utf-8"))
        with open(path, "rb") as file:
            shutil.copyfileobj(file, stream, 1 << 20)

    argv = [program, "--defaults-file=" + path_of(options), "--batch", name]
    try:
        feed_tool(argv, dict(os.environ), write, files=(options,))
    finally:
        os.close(options)
