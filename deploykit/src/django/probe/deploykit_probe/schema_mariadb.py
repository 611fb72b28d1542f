"""The schema of MariaDB."""

from __future__ import annotations

import collections
from typing import Iterable

from .errors import text_of
from .kinds import Connection, Cursor
from .lines import digest_of, numbered, plain
from .sql import rows_of


def mariadb_schema(connection: Connection, cursor: Cursor) -> Iterable[str]:
    """Returns the schema of a MariaDB database."""
    here = " = DATABASE()"
    lines = []
    for table, kind, engine, collation, comment in rows_of(
        cursor,
        "SELECT table_name, table_type, engine, table_collation, table_comment"
        " FROM information_schema.tables WHERE table_schema" + here,
    ):
        if kind == "SEQUENCE":
            lines.append("sequence %s" % table)
        elif kind != "VIEW":
            lines.append("table %s" % table)
            lines.append("table %s: %s %s %s" % (table, engine, collation, comment or ""))
    for view, definition in rows_of(
        cursor, "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema" + here
    ):
        lines += ["view %s" % view, "view %s: as %s" % (view, digest_of(text_of(definition)))]
    for table, column, kind, null, default, extra, collation, made, comment in rows_of(
        cursor,
        "SELECT c.table_name, c.column_name, c.column_type, c.is_nullable, c.column_default, c.extra, c.collation_name,"
        " c.generation_expression, c.column_comment FROM information_schema.columns c JOIN information_schema.tables t"
        " ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
        " WHERE t.table_type NOT IN ('VIEW', 'SEQUENCE') AND c.table_schema" + here,
    ):
        found = [column, text_of(kind), "null" if null == "YES" else "not null"]
        found += ["default %s" % text_of(default)] if default is not None else []
        found += [extra] if extra else []
        found += ["collate %s" % collation] if collation else []
        found += ["as %s" % plain(text_of(made))] if made else []
        found += ["comment %s" % comment] if comment else []
        lines.append("table %s: column %s" % (table, " ".join(found)))
    indexes: dict[tuple[str, ...], list[str]] = collections.OrderedDict()
    for table, index, repeated, kind, column, part, order in rows_of(
        cursor,
        "SELECT table_name, index_name, non_unique, index_type, column_name, sub_part, collation"
        " FROM information_schema.statistics WHERE table_schema" + here + " ORDER BY table_name, index_name, seq_in_index",
    ):
        word = "index" if int(repeated) else "primary key" if index == "PRIMARY" else "unique index"
        text = "%s%s%s" % (column, "(%s)" % part if part else "", " desc" if order == "D" else "")
        indexes.setdefault((table, index, word, kind), []).append(text)
    for (table, _, word, kind), columns in indexes.items():
        lines.append("table %s: %s %s (%s)" % (table, word, kind.lower(), ", ".join(columns)))
    keys: dict[tuple[str, ...], list[tuple[str, str]]] = collections.OrderedDict()
    for table, key, column, to, other, update, delete in rows_of(
        cursor,
        "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name,"
        " r.update_rule, r.delete_rule FROM information_schema.key_column_usage k"
        " JOIN information_schema.referential_constraints r ON r.constraint_schema = k.constraint_schema"
        " AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name WHERE k.table_schema"
        + here
        + " ORDER BY k.table_name, k.constraint_name, k.ordinal_position",
    ):
        keys.setdefault((table, key, to, update, delete), []).append((column, other))
    for (table, _, to, update, delete), pairs in keys.items():
        mine, others = (", ".join(names) for names in zip(*pairs))
        rule = (table, mine, to, others, update, delete)
        lines.append("table %s: foreign key (%s) to %s (%s) on update %s on delete %s" % rule)
    for table, clause in rows_of(
        cursor,
        "SELECT table_name, check_clause FROM information_schema.check_constraints WHERE constraint_schema" + here,
    ):
        lines.append("table %s: check (%s)" % (table, plain(text_of(clause))))
    for table, timing, event, statement in rows_of(
        cursor,
        "SELECT event_object_table, action_timing, event_manipulation, action_statement"
        " FROM information_schema.triggers WHERE trigger_schema" + here,
    ):
        lines.append("table %s: trigger %s %s %s" % (table, timing, event, digest_of(text_of(statement))))
    for kind, routine, definition in rows_of(
        cursor,
        "SELECT routine_type, routine_name, routine_definition FROM information_schema.routines WHERE routine_schema" + here,
    ):
        lines.append("%s %s: %s" % (kind.lower(), routine, digest_of(text_of(definition or ""))))
    for (event,) in rows_of(cursor, "SELECT event_name FROM information_schema.events WHERE event_schema" + here):
        lines.append("event %s" % event)
    return numbered(lines)
