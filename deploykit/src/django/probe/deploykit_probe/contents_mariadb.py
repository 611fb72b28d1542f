"""What is in a MariaDB database, and how it is copied into another one."""

from __future__ import annotations

import os
from typing import NamedTuple, Sequence

from .copies_sqlite import SMALL
from .kinds import Connection, Cursor
from .private import piped, plain_environment
from .programs_mysql import dump_arguments, options_text, program
from .sql import rows_of
from .tools import path_of, touch, unnamed_file


class Contents(NamedTuple):
    """What is in a database."""

    name: str
    # In bytes.
    size: int
    tables: list[str]
    views: list[str]
    # Options of the program that copies, for what there is.
    programs: list[str]
    collation: tuple[str, str]

    def small(self) -> list[str]:
        """Returns the tables whose rows are always copied."""
        return [table for table in self.tables if table in SMALL]


def contents_of(cursor: Cursor) -> Contents:
    """Returns what is in the database of this connection."""
    name: str = rows_of(cursor, "SELECT DATABASE()")[0][0]
    sql = "SELECT table_name, coalesce(data_length + index_length, 0), table_type FROM information_schema.tables"
    found = rows_of(cursor, sql + " WHERE table_schema = DATABASE()")
    tables = [row[0] for row in found if not row[2].endswith("VIEW")]
    programs = []
    for option, table in (("routines", "routine"), ("events", "event")):
        sql = "SELECT count(*) FROM information_schema.%ss WHERE %s_schema = DATABASE()" % (table, table)
        programs += ["--" + option] if rows_of(cursor, sql)[0][0] else []
    sql = "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
    collation = tuple(rows_of(cursor, sql + " WHERE schema_name = DATABASE()")[0])
    views = [row[0] for row in found if row[2].endswith("VIEW")]
    return Contents(name, sum(int(row[1]) for row in found), tables, views, programs, (collation[0], collation[1]))


def unlocked_contents_of(connection: Connection, cursor: Cursor) -> Contents:
    """Returns what is in the database of this connection; fails if a table is locked."""
    found = contents_of(cursor)
    touch(cursor, map(connection.ops.quote_name, found.tables))
    return found


def dump(connection: Connection) -> tuple[list[str], int]:
    """Returns the arguments that copy a database, as far as they are always the same, and the open file that they name."""
    options = unnamed_file(options_text(connection))
    return [program(connection, "dump"), "--defaults-file=" + path_of(options)] + dump_arguments(True), options


def pipe(connection: Connection, what: list[str], target: list[str], nice: int, files: Sequence[int]) -> None:
    """Copies contents of a database into a client of another one."""
    source, options = dump(connection)
    try:
        piped(source + what, dict(os.environ), target, plain_environment(["MYSQL", "MARIADB"]), nice, (options, *files))
    finally:
        os.close(options)
