"""Counts rows, and compares their values."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from typing import Any

from .connections import Looked, has_database, reach
from .errors import guarded, text_of
from .kinds import Connection, Json
from .registry import answers
from .schema_postgresql import postgresql_own
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


# The tables that `migrate` itself writes to: the applied migrations, and those of `post_migrate`.
OF_DJANGO = frozenset(("django_migrations", "django_content_type", "auth_permission"))

# Rows per fetch.
AT_ONCE = 2000


@answers("digests")
def do_digests(request: Json) -> Json:
    """Answers a digest of each table's rows, small tables first, until the deadline; names the tables left out."""
    alias = request["database"]
    if not has_database(alias):
        return {"digests": {}, "left": []}
    until, digests, left = time.monotonic() + request["seconds"], {}, []
    with Looked(alias) as connection:
        reach(connection, alias)
        for estimate, table in sorted(guarded("database", estimates, connection, database=alias)):
            digest = None
            if table not in OF_DJANGO and estimate <= MOST_ROWS:
                try:
                    digest = digest_of(connection, table, until)
                except Exception as error:
                    # The site's role may not read it, or a value is none of its type.
                    print("rows of `%s` not compared: %s" % (table, text_of(error)), file=sys.stderr)
            if digest is not None:
                digests[table] = digest
            elif table not in OF_DJANGO:
                left.append(table)
        left += guarded("database", out_of_sight, connection, database=alias)
        digests.update(guarded("database", definitions, connection, database=alias))
    return {"digests": digests, "left": sorted(left)}


def out_of_sight(connection: Connection) -> list[str]:
    """Returns the tables that no name without a schema reaches: those of other schemas."""
    if connection.vendor != "postgresql":
        return []
    sql = (
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND NOT pg_table_is_visible(c.oid) AND "
    )
    with connection.cursor() as cursor:
        return [name for (name,) in rows_of(cursor, sql + postgresql_own("pg_class", "c.oid"))]


def definitions(connection: Connection) -> dict[str, list[Any]]:
    """Digests what the description of a schema of SQLite only names: views and triggers."""
    if connection.vendor != "sqlite":
        return {}
    with connection.cursor() as cursor:
        found = rows_of(cursor, "SELECT type || ' ' || name, sql FROM sqlite_master WHERE type IN ('view', 'trigger')")
    return {name: [1, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()] for name, text in found}


def digest_of(connection: Connection, table: str, until: float) -> list[Any] | None:
    """Returns the number of rows and the sum of their digests, whatever their order; `None`: past the deadline."""
    if connection.vendor in ("postgresql", "mysql"):
        return digest_by_server(connection, table, max(until - time.monotonic(), 0.001))
    quote, total, count = connection.ops.quote_name, 0, 0
    with connection.cursor() as cursor:
        columns = sorted(one.name for one in connection.introspection.get_table_description(cursor, table))
    sql = "SELECT %s FROM %s" % (", ".join(map(quote, columns)), quote(table))
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql)
        while True:
            rows = cursor.fetchmany(AT_ONCE)
            if not rows:
                return [count, "%x" % total]
            if time.monotonic() > until:
                return None
            for row in rows:
                value = hashlib.sha256(repr(row).encode("utf-8", "replace")).digest()
                total = (total + int.from_bytes(value[:8], "big")) % (1 << 64)
            count += len(rows)


def digest_by_server(connection: Connection, table: str, seconds: float) -> list[Any]:
    """Lets a server do that: it is several times as fast, and knows all its types. Fails past the deadline."""
    from django.db import transaction

    quote = connection.ops.quote_name
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            names = sorted(one.name for one in connection.introspection.get_table_description(cursor, table))
            # A row as text tells NULL from an empty string, and a value from the next one.
            digest = "('x' || left(md5(ROW(%s)::text), 16))::bit(64)::bigint" % ", ".join(map(quote, names))
            limits = ""
            cursor.execute("SET LOCAL statement_timeout = %d" % max(1, seconds * 1000))
            # With fewer digits, different floats look alike.
            cursor.execute("SET LOCAL extra_float_digits = 3")
        else:
            sql = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE()"
            cursor.execute(sql + " AND table_name = %s ORDER BY column_name", [table])
            # As text, a float has fewer digits.
            values = [("CAST(%s AS double)" if kind == "float" else "%s") % quote(name) for name, kind in cursor.fetchall()]
            texts = ", ".join("ifnull(md5(%s), '-')" % value for value in values)
            digest = "CAST(conv(left(md5(concat(%s)), 16), 16, 10) AS unsigned)" % texts
            # In other time zones, an hour comes twice.
            limits = "SET STATEMENT max_statement_time = %f, time_zone = '+00:00' FOR " % seconds
        count, total = rows_of(cursor, "%sSELECT count(*), sum(%s) FROM %s" % (limits, digest, quote(table)))[0]
    return [count, str(total)]


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
