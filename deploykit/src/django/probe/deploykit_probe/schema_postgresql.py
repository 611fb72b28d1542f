"""The schema of PostgreSQL."""

from __future__ import annotations

from typing import Iterable

from .errors import text_of
from .kinds import Connection, Cursor
from .lines import digest_of, numbered, plain
from .sql import rows_of

# Schemas of the site's own, and things in them that no extension brought.
POSTGRESQL_OWN = """n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND NOT EXISTS
(SELECT 1 FROM pg_depend e WHERE e.classid = '%(catalog)s'::regclass AND e.objid = %(oid)s AND e.deptype = 'e')"""

POSTGRESQL_NAME = "CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || "


def postgresql_own(catalog: str, oid: str) -> str:
    """Returns the condition that something is the site's own."""
    return POSTGRESQL_OWN % {"catalog": catalog, "oid": oid}


def postgresql_schema(connection: Connection, cursor: Cursor) -> Iterable[str]:
    """Returns the schema of a PostgreSQL database."""
    version = connection.pg_version
    relation = " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    own, name = postgresql_own("pg_class", "c.oid"), POSTGRESQL_NAME + "c.relname"
    words = {"r": "table", "p": "table", "f": "table", "v": "view", "m": "view"}
    lines = []
    for table, kind, comment, view in rows_of(
        cursor,
        "SELECT " + name + ", c.relkind, obj_description(c.oid, 'pg_class'),"
        " CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END"
        + relation
        + "WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND "
        + own,
    ):
        lines.append("%s %s" % (words[text_of(kind)], table))
        if view:
            lines.append("view %s: as %s" % (table, digest_of(view)))
        if comment:
            lines.append("table %s: comment %s" % (table, comment))
    generated = "a.attgenerated" if version >= 120000 else "''"
    for table, column, kind, not_null, default, identity, stored, collation, comment in rows_of(
        cursor,
        "SELECT " + name + ", a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
        " pg_get_expr(d.adbin, d.adrelid), a.attidentity, " + generated + ","
        " CASE WHEN a.attcollation <> t.typcollation THEN l.collname END, col_description(c.oid, a.attnum)"
        + relation
        + "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE c.relkind IN ('r', 'p', 'f') AND " + own,
    ):
        found = [column, kind, "not null" if not_null else "null"]
        found += ["default %s" % plain(default)] if default is not None else []
        found += ["identity %s" % text_of(identity)] if text_of(identity) else []
        found += ["generated"] if text_of(stored) else []
        found += ["collate %s" % collation] if collation else []
        found += ["comment %s" % comment] if comment else []
        lines.append("table %s: column %s" % (table, " ".join(found)))
    for table, definition in rows_of(
        cursor,
        "SELECT "
        + name
        + ", pg_get_constraintdef(k.oid)"
        + relation
        + "JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype NOT IN ('n', 't') AND "
        + own,
    ):
        kind, rest = definition.split("(", 1)
        lines.append("table %s: %s (%s" % (table, kind.strip().lower(), plain(rest)))
    for table, definition, valid in rows_of(
        cursor,
        "SELECT "
        + name
        + ", pg_get_indexdef(i.indexrelid), i.indisvalid"
        + relation
        + "JOIN pg_index i ON i.indrelid = c.oid WHERE NOT EXISTS"
        " (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AND " + own,
    ):
        kind = "unique index" if definition.startswith("CREATE UNIQUE") else "index"
        method, columns = definition.split(" USING ", 1)[1].split(" ", 1)
        broken = "" if valid else " invalid"
        lines.append("table %s: %s %s (%s)%s" % (table, kind, method, plain(columns), broken))
    for table, definition in rows_of(
        cursor,
        "SELECT "
        + name
        + ", pg_get_triggerdef(t.oid)"
        + relation
        + "JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal AND "
        + own,
    ):
        lines.append("table %s: trigger %s" % (table, digest_of(definition)))
    # The sequence of an identity column is a part of that column.
    for sequence, owner, kind, start, step, least, most, cycle in rows_of(
        cursor,
        "SELECT " + name + ", (SELECT o.relname || '.' || a.attname FROM pg_depend d"
        " JOIN pg_class o ON o.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = d.refobjsubid"
        " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'),"
        " format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle"
        + relation
        + "JOIN pg_sequence s ON s.seqrelid = c.oid WHERE NOT EXISTS (SELECT 1 FROM pg_depend d"
        " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i') AND " + own,
    ):
        place = "table %s: sequence" % owner.replace(".", " ", 1).split(" ")[0] if owner else "sequence %s:" % sequence
        said = (place, owner or "", kind, start, step, least, most, " cycle" if cycle else "")
        lines.append("%s %s %s from %s by %s within %s and %s%s" % said)
    for routine, arguments, definition in rows_of(
        cursor,
        "SELECT " + POSTGRESQL_NAME + "p.proname, pg_get_function_identity_arguments(p.oid),"
        " coalesce(p.prosrc, '') || coalesce(pg_get_function_result(p.oid), '')"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE " + postgresql_own("pg_proc", "p.oid"),
    ):
        lines.append("routine %s(%s): %s" % (routine, arguments, digest_of(definition)))
    for kind, labels, base in rows_of(
        cursor,
        "SELECT " + POSTGRESQL_NAME + "t.typname, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)"
        " FROM pg_enum e WHERE e.enumtypid = t.oid), format_type(t.typbasetype, t.typtypmod)"
        " FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
        " WHERE t.typtype IN ('e', 'd') AND " + postgresql_own("pg_type", "t.oid"),
    ):
        lines.append("type %s: %s" % (kind, labels or base))
    for (extension,) in rows_of(cursor, "SELECT extname FROM pg_extension"):
        lines.append("extension %s" % extension)
    return numbered(lines)
