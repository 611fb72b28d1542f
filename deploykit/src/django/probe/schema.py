# --- the schema


def schema_of(connection):
    """The schema as lines that do not depend on an order, on generated names or on how a constraint was written."""
    look = introspected_schema
    if connection.vendor == "postgresql":
        look = postgresql_schema
    elif connection.vendor == "mysql" and connection.mysql_is_mariadb:
        look = mariadb_schema
    with connection.cursor() as cursor:
        return sorted(look(connection, cursor))


def rows_of(cursor, sql):
    cursor.execute(sql)
    return cursor.fetchall()


def digest_of(text):
    return hashlib.sha256(plain(text or "").encode("utf-8")).hexdigest()[:12]


def numbered(lines):
    """Tells lines apart that say the same: a table may have an index twice."""
    seen = collections.Counter()
    for line in lines:
        seen[line] += 1
        yield line if seen[line] == 1 else "%s, no. %d" % (line, seen[line])


CAST = re.compile(
    r"::(?:character varying|double precision|bit varying|time(?:stamp)? with(?:out)? time zone|[\w.\"]+)"
    r"(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)


def plain(expression):
    """An expression without casts, brackets and space: PostgreSQL writes some of them otherwise once they are restored."""
    return re.sub(r"[\s()]", "", CAST.sub("", str(expression)))


# Schemas of the site's own, and things in them that no extension brought.
POSTGRESQL_OWN = """n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND NOT EXISTS
(SELECT 1 FROM pg_depend e WHERE e.classid = '%(catalog)s'::regclass AND e.objid = %(oid)s AND e.deptype = 'e')"""
POSTGRESQL_NAME = "CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || "


def postgresql_own(catalog, oid):
    return POSTGRESQL_OWN % {"catalog": catalog, "oid": oid}


def postgresql_schema(connection, cursor):
    version = connection.pg_version
    relation = " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    own, name = postgresql_own("pg_class", "c.oid"), POSTGRESQL_NAME + "c.relname"
    words = {"r": "table", "p": "table", "f": "table", "v": "view", "m": "view"}
    lines = []
    for table, kind, comment, view in rows_of(
        cursor,
        "SELECT " + name + ", c.relkind, obj_description(c.oid, 'pg_class'),"
        " CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END" + relation
        + "WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND " + own,
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
        " CASE WHEN a.attcollation <> t.typcollation THEN l.collname END, col_description(c.oid, a.attnum)" + relation
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
        "SELECT " + name + ", pg_get_constraintdef(k.oid)" + relation
        + "JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype NOT IN ('n', 't') AND " + own,
    ):
        kind, rest = definition.split("(", 1)
        lines.append("table %s: %s (%s" % (table, kind.strip().lower(), plain(rest)))
    for table, definition, valid in rows_of(
        cursor,
        "SELECT " + name + ", pg_get_indexdef(i.indexrelid), i.indisvalid" + relation
        + "JOIN pg_index i ON i.indrelid = c.oid WHERE NOT EXISTS"
        " (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AND " + own,
    ):
        kind = "unique index" if definition.startswith("CREATE UNIQUE") else "index"
        method, columns = definition.split(" USING ", 1)[1].split(" ", 1)
        broken = "" if valid else " invalid"
        lines.append("table %s: %s %s (%s)%s" % (table, kind, method, plain(columns), broken))
    for table, definition in rows_of(
        cursor,
        "SELECT " + name + ", pg_get_triggerdef(t.oid)" + relation
        + "JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal AND " + own,
    ):
        lines.append("table %s: trigger %s" % (table, digest_of(definition)))
    # The sequence of an identity column is a part of that column.
    for sequence, owner, kind, start, step, least, most, cycle in rows_of(
        cursor,
        "SELECT " + name + ", (SELECT o.relname || '.' || a.attname FROM pg_depend d"
        " JOIN pg_class o ON o.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = d.refobjsubid"
        " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'),"
        " format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle" + relation
        + "JOIN pg_sequence s ON s.seqrelid = c.oid WHERE NOT EXISTS (SELECT 1 FROM pg_depend d"
        " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i') AND " + own,
    ):
        place = "table %s: sequence" % owner.replace(".", " ", 1).split(" ")[0] if owner else "sequence %s:" % sequence
        found = (place, owner or "", kind, start, step, least, most, " cycle" if cycle else "")
        lines.append("%s %s %s from %s by %s within %s and %s%s" % found)
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


def mariadb_schema(connection, cursor):
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
    indexes = collections.OrderedDict()
    for table, index, repeated, kind, column, part, order in rows_of(
        cursor,
        "SELECT table_name, index_name, non_unique, index_type, column_name, sub_part, collation"
        " FROM information_schema.statistics WHERE table_schema" + here
        + " ORDER BY table_name, index_name, seq_in_index",
    ):
        word = "index" if int(repeated) else "primary key" if index == "PRIMARY" else "unique index"
        text = "%s%s%s" % (column, "(%s)" % part if part else "", " desc" if order == "D" else "")
        indexes.setdefault((table, index, word, kind), []).append(text)
    for (table, index, word, kind), columns in indexes.items():
        lines.append("table %s: %s %s (%s)" % (table, word, kind.lower(), ", ".join(columns)))
    keys = collections.OrderedDict()
    for table, key, column, to, other, update, delete in rows_of(
        cursor,
        "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name,"
        " r.update_rule, r.delete_rule FROM information_schema.key_column_usage k"
        " JOIN information_schema.referential_constraints r ON r.constraint_schema = k.constraint_schema"
        " AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name WHERE k.table_schema" + here
        + " ORDER BY k.table_name, k.constraint_name, k.ordinal_position",
    ):
        keys.setdefault((table, key, to, update, delete), []).append((column, other))
    for (table, key, to, update, delete), columns in keys.items():
        mine, others = (", ".join(names) for names in zip(*columns))
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
        "SELECT routine_type, routine_name, routine_definition FROM information_schema.routines WHERE routine_schema"
        + here,
    ):
        lines.append("%s %s: %s" % (kind.lower(), routine, digest_of(text_of(definition or ""))))
    for (event,) in rows_of(cursor, "SELECT event_name FROM information_schema.events WHERE event_schema" + here):
        lines.append("event %s" % event)
    return numbered(lines)


# What was said of a table of SQLite, by the texts that it was made of: to parse these is what takes long.
DESCRIBED = {}


def introspected_schema(connection, cursor):
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


def sqlite_texts(cursor):
    """Each table with the texts that it and its indexes were made of."""
    texts = collections.defaultdict(tuple)
    for table, name, text in rows_of(cursor, "SELECT tbl_name, name, sql FROM sqlite_master ORDER BY type, name"):
        texts[table] += ((name, text),)
    return texts


def table_lines(connection, cursor, table):
    introspection = connection.introspection
    lines = ["table %s" % table]
    for column in introspection.get_table_description(cursor, table):
        lines.append("table %s: column %s" % (table, column_line(connection, column)))
    for constraint in introspection.get_constraints(cursor, table).values():
        lines.append("table %s: %s" % (table, constraint_line(constraint)))
    return lines


def column_line(connection, column):
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


def constraint_line(constraint):
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
