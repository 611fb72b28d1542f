"""Copies of SQLite."""

from __future__ import annotations

import os
from typing import IO

from . import origin
from .connections import sqlite_file
from .copies_sqlite import keep_mark, marked
from .errors import Refused
from .kinds import Connection


def sqlite_path(connection: Connection) -> str:
    """Returns the file of a SQLite database; one in memory cannot be copied."""
    path = sqlite_file(connection)
    if path is None:
        raise Refused("unsupported", what="backup", engine="a SQLite database in memory")
    return path


def sqlite_facts(connection: Connection) -> int:
    """Returns the size in bytes."""
    path = sqlite_path(connection)
    return os.path.getsize(path) if os.path.exists(path) else 0


def copy_database(source: str, target: str) -> None:
    """Copies a SQLite database that may be written to meanwhile."""
    import sqlite3

    if not os.path.exists(source):
        raise FileNotFoundError(source)
    reader, writer = sqlite3.connect(source, timeout=60), sqlite3.connect(target, timeout=60)
    try:
        reader.backup(writer)
    finally:
        writer.close()
        reader.close()


def sqlite_backup(connection: Connection, path: str, file: IO[bytes]) -> None:
    """Copies a SQLite database into this file."""
    if not os.path.exists(sqlite_path(connection)):
        # There is none yet: the copy is the empty database that an empty file is.
        return
    copy_database(sqlite_path(connection), path)


def sqlite_restore(connection: Connection, path: str) -> None:
    """Restores a SQLite database. In a rehearsal, the marker of the copy is kept."""
    target = sqlite_path(connection)
    marker = marked(target) if origin.IN_SANDBOX else ""
    copy_database(path, target)
    if marker:
        keep_mark(target, marker)
