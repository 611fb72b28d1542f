"""Copies of SQLite databases: their schema, and the marker that identifies them."""

from __future__ import annotations

import os
from typing import Any, Iterable, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from .connections import sqlite_file
from .kinds import Connection

# The tables whose rows every copy has: they say which migrations are applied and which models exist.
SMALL = ("django_migrations", "django_content_type", "auth_permission", "django_site")

# Bytes of the file's header that SQLite reserves, and neither reads nor writes.
MARK_AT, MARK_LENGTH = 72, 16


def database_file(connection: Connection) -> str | None:
    """Returns the file of a SQLite database with all symlinks resolved; `None`: it is in memory."""
    name = str(connection.settings_dict["NAME"])
    if not name.startswith("file:"):
        path = sqlite_file(connection)
        return path and os.path.realpath(path)
    address = urlsplit(name)
    memory = ":memory:" in name or parse_qs(address.query).get("mode") == ["memory"]
    return None if memory else os.path.realpath(unquote(address.path))


def mark(path: str) -> str:
    """Writes a marker into a copy that identifies it, and returns it; empty for an empty database."""
    marker = os.urandom(MARK_LENGTH)
    with open(path, "r+b") as file:
        if not file.read(1):
            return ""
        file.seek(MARK_AT)
        file.write(marker)
    return marker.hex()


def marked(path: str) -> str:
    """Returns the marker of a file."""
    with open(path, "rb") as file:
        file.seek(MARK_AT)
        return file.read(MARK_LENGTH).hex()


def keep_mark(path: str, marker: str) -> None:
    """Writes the marker again into a copy that was overwritten."""
    with open(path, "r+b") as file:
        file.seek(MARK_AT)
        file.write(bytes.fromhex(marker))


def quoted(name: str) -> str:
    """Returns a name as SQL."""
    return '"%s"' % name.replace('"', '""')


def copy_schema(source: str, target: str, tables: Sequence[str]) -> None:
    """Copies a SQLite database without the rows of any but these tables."""
    # Python may have been built without it.
    import sqlite3

    reader, writer = (sqlite3.connect(path, timeout=60, isolation_level=None) for path in (source, target))
    try:
        for pragma in ("encoding", "page_size", "auto_vacuum", "user_version", "application_id"):
            value = reader.execute("PRAGMA %s" % pragma).fetchone()[0]
            writer.execute("PRAGMA %s = %s" % (pragma, "'%s'" % value if isinstance(value, str) else value))
        reader.execute("BEGIN")
        writer.execute("BEGIN")
        # A virtual table creates tables of its own. Rows are copied before the triggers exist.
        sql = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        made = reader.execute(sql + " ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid").fetchall()
        create(writer, (row for row in made if row[0] == "table"))
        for kind, name, _ in made:
            if kind == "table" and name in tables:
                copy_rows(reader, writer, name)
        create(writer, (row for row in made if row[0] != "table"))
        writer.execute("COMMIT")
        mode = reader.execute("PRAGMA journal_mode").fetchone()[0]
        writer.execute("PRAGMA journal_mode = %s" % mode)
    finally:
        writer.close()
        reader.close()


def create(writer: Any, things: Iterable[tuple[str, str, str]]) -> None:
    """Creates tables, indexes, views and triggers that do not exist yet."""
    for kind, name, sql in things:
        if not writer.execute("SELECT 1 FROM sqlite_master WHERE type = ? AND name = ?", (kind, name)).fetchone():
            writer.execute(sql)


def copy_rows(reader: Any, writer: Any, table: str) -> None:
    """Copies the rows of a table; generated columns are computed again."""
    columns = [row[1] for row in reader.execute("PRAGMA table_info(%s)" % quoted(table))]
    names, places = ", ".join(map(quoted, columns)), ", ".join("?" * len(columns))
    rows = reader.execute("SELECT %s FROM %s" % (names, quoted(table)))
    writer.executemany("INSERT INTO %s (%s) VALUES (%s)" % (quoted(table), names, places), rows)
