"""The schema, as lines."""

from __future__ import annotations

import collections
from typing import Any, Iterable

from .kinds import Connection, Cursor, Json
from .schema_mariadb import mariadb_schema
from .schema_postgresql import postgresql_schema
from .sql import rows_of


def schema_of(connection: Connection) -> list[str]:
    """The schema as lines that do not depend on an order, on generated names or on how a constraint was written."""
    look = introspected_schema
    if connection.vendor == "postgresql":
        look = postgresql_schema
    elif connection.vendor == "mysql" and connection.mysql_is_mariadb:
        look = mariadb_schema
    with connection.cursor() as cursor:
        return sorted(look(connection, cursor))


# What was said of a table of SQLite, by the texts that it was made of: to parse these is what takes long.
DESCRIBED: dict[Any, list[str]] = {}


def introspected_schema(connection: Connection, cursor: Cursor) -> Iterable[str]:
    """What Django itself can say of a schema."""
    introspection = connection.introspection
    lines = set()
    texts = sqlite_texts(cursor) if connection.vendor == "sqlite" else {}
    for table in introspection.get_table_list(cursor):
        if table.type == "v":
            lines.add("view %s" % table.name)
            continue
        key = (table.name, texts.get(table.name))
        described = DESCRIBED.get(key)
        if described is None:
            described = table_lines(connection, cursor, table.name)
            if key[1]:
                DESCRIBED[key] = described
        lines.update(described)
    if connection.vendor == "sqlite":
        cursor.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        for name, table in cursor.fetchall():
            lines.add("table %s: trigger %s" % (table, name))
    return lines


def sqlite_texts(cursor: Cursor) -> dict[str, tuple[Any, ...]]:
    """Each table with the texts that it and its indexes were made of."""
    texts: dict[str, tuple[Any, ...]] = collections.defaultdict(tuple)
    for table, name, text in rows_of(cursor, "SELECT tbl_name, name, sql FROM sqlite_master ORDER BY type, name"):
        texts[table] += ((name, text),)
    return texts


def table_lines(connection: Connection, cursor: Cursor, table: str) -> list[str]:
    """Returns what Django can say of a table."""
    introspection = connection.introspection
    lines = ["table %s" % table]
    for column in introspection.get_table_description(cursor, table):
        lines.append("table %s: column %s" % (table, column_line(connection, column)))
    for constraint in introspection.get_constraints(cursor, table).values():
        lines.append("table %s: %s" % (table, constraint_line(constraint)))
    return lines


def column_line(connection: Connection, column: Any) -> str:
    """Returns what Django can say of a column."""
    kind = column.type_code
    if connection.vendor == "sqlite":
        # `ALTER TABLE` and a table that is made anew write the same type in different cases.
        kind = str(kind).lower()
    else:
        try:
            kind = connection.introspection.get_field_type(kind, column)
        except Exception:
            pass
        sizes = [column.internal_size, column.precision, column.scale]
        if isinstance(kind, tuple):
            kind = kind[0]
        kind = "%s(%s)" % (kind, ",".join("" if size is None else str(size) for size in sizes))
    words = [str(column.name), str(kind), "null" if column.null_ok else "not null"]
    if column.default is not None:
        words.append("default %s" % (column.default,))
    if getattr(column, "collation", None):
        words.append("collate %s" % column.collation)
    return " ".join(words)


def constraint_line(constraint: Json) -> str:
    """Returns what Django can say of a constraint or an index."""
    columns = ", ".join(str(column) for column in constraint.get("columns") or [])
    if constraint.get("primary_key"):
        kind = "primary key"
    elif constraint.get("foreign_key"):
        kind = "foreign key to %s" % ".".join(str(part) for part in constraint["foreign_key"])
    elif constraint.get("unique"):
        kind = "unique"
    elif constraint.get("check"):
        kind = "check"
    else:
        kind = "index"
    words = [kind, "(%s)" % columns]
    if constraint.get("definition"):
        words.append(str(constraint["definition"]))
    if "DESC" in (constraint.get("orders") or []):
        words.append(" ".join(constraint["orders"]))
    return " ".join(words)
