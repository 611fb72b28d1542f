"""Counts rows."""

from __future__ import annotations

import re
import time
from typing import Any

from .connections import Looked, has_database, reach
from .errors import guarded
from .kinds import Connection, Json
from .registry import answers
from .sql import rows_of

# Tables that are larger by the database's own estimate are not counted: that takes too long.
MOST_ROWS = 2000000


@answers("rows")
def do_rows(request: Json) -> Json:
    """Counts the rows of each table, small tables first, until the time is up; names the tables that are left."""
    alias = request["database"]
    if not has_database(alias):
        return {"counts": {}, "left": []}
    until, counts, left = time.monotonic() + request["seconds"], {}, []
    with Looked(alias) as connection:
        reach(connection, alias)
        for estimate, table in sorted(guarded("database", estimates, connection, database=alias)):
            if estimate > MOST_ROWS or time.monotonic() > until:
                left.append(table)
            else:
                counts[table] = guarded("database", rows_in, connection, table, database=alias)
    return {"counts": counts, "left": sorted(left)}


def rows_in(connection: Connection, table: str) -> int:
    """Counts the rows of a table."""
    with connection.cursor() as cursor:
        return int(rows_of(cursor, "SELECT count(*) FROM %s" % connection.ops.quote_name(table))[0][0])


def estimates(connection: Connection) -> list[tuple[int, str]]:
    """Returns each table with about how many rows it has."""
    known: dict[str, Any] = {}
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        if connection.vendor == "postgresql":
            sql = (
                "SELECT relname, greatest(reltuples, pg_relation_size(oid) / 200) FROM pg_class"
                " WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
            )
            known = dict(rows_of(cursor, sql))
        elif connection.vendor == "mysql":
            sql = "SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = DATABASE()"
            known = dict(rows_of(cursor, sql))
        elif connection.vendor == "sqlite":
            for name, text in rows_of(cursor, "SELECT name, sql FROM sqlite_master WHERE type = 'table'"):
                if name in tables and not re.search(r"\bWITHOUT\s+ROWID\b|\bVIRTUAL\b", text or "", re.IGNORECASE):
                    sql = "SELECT max(rowid) FROM %s" % connection.ops.quote_name(name)
                    known[name] = rows_of(cursor, sql)[0][0]
    return [(max(0, int(known.get(table) or 0)), table) for table in tables if table != "django_migrations"]
