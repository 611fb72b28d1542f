# --- the history of migrations: what the database has recorded, and what the code knows of it


def squashes_of(loader):
    return [(key, migration) for key, migration in loader.disk_migrations.items() if migration.replaces]


def unrecorded(loader, applied):
    """Squashed migrations that stand for applied ones and are not recorded themselves; any run of `migrate` records them."""
    found = set()
    while True:
        known = applied | found
        more = set(key for key, one in squashes_of(loader) if key not in known and set(one.replaces) <= known)
        if not more:
            return found
        found |= more


def originals_of(squashes, key):
    """Returns what a squashed migration stands for in the end: it may stand for squashed ones."""
    found, seen, left = set(), set(), [key]
    while left:
        one = left.pop()
        if one in squashes and one not in seen:
            left += squashes[one].replaces
        elif one not in squashes:
            found.add(one)
        seen.add(one)
    return found


def lacking(loader, applied):
    """Applied migrations that the code has not, neither by themselves nor in a squashed one."""
    known = set(loader.disk_migrations)
    for _, migration in squashes_of(loader):
        known |= set(migration.replaces)
    installed = loader.migrated_apps | loader.unmigrated_apps
    return [dict(identity(key), installed=key[0] in installed) for key in sorted(applied - known)]


def required_strays(connection, state, apps):
    """Columns that the database fills by itself with nothing and the code does not know: each insert fails."""
    found = []
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
        for key, model in sorted(state.models.items()):
            table = table_of(connection, key, model.options)
            if key[0] not in apps or not has_table(model.options) or table not in tables:
                continue
            known = set(column_of(field, one).lower() for field, one in model.fields.items())
            known |= {"id", "_order"} if not any(one.primary_key for one in model.fields.values()) else {"_order"}
            for column in connection.introspection.get_table_description(cursor, table):
                required = not column.null_ok and getattr(column, "default", None) is None
                if required and column.name.lower() not in known:
                    found.append("%s.%s" % (table, column.name))
    return found


def to_reverse(executor, before):
    """What is applied and was not before, newest first; and all migrations in order, as the reversal goes through them."""
    applied = set(executor.recorder.applied_migrations())
    if before - applied:
        raise moved((), before - applied)
    extra = applied - before
    # A squashed migration that was applied as one is reversed as one. Of the others only the record goes: one whose
    # originals were all applied before, and one whose originals were applied one by one, some of them before.
    whole, split, known = set(), set(), set()
    recorded, squashes = set(), dict(squashes_of(executor.loader))
    for key in set(squashes) & (applied | unrecorded(executor.loader, applied)) - before:
        parts = originals_of(squashes, key)
        kind = recorded if parts <= before else split if parts & before else whole
        kind.add(key)
        known |= {key} if kind is split else {key} | parts | set(squashes[key].replaces)
    if split:
        without(executor.loader, split)
    full = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)]
    wanted = (extra | whole) - recorded - split
    undone = [migration for migration in reversed(full) if key_of(migration) in wanted]
    for migration in undone:
        known |= set(migration.replaces) | {key_of(migration)}
    if extra - known:
        raise moved(extra - known, ())
    return undone, full


def without(loader, split):
    """Builds the graph anew with the originals of some squashed migrations in their place."""
    loader.replace_migrations = False
    loader.build_graph()
    for key, migration in squashes_of(loader):
        there = [target in loader.applied_migrations for target in migration.replaces]
        if key not in split and all(there):
            loader.applied_migrations[key] = migration
        if key not in split and all(there) == any(there):
            loader.graph.remove_replaced_nodes(key, migration.replaces)
        else:
            loader.applied_migrations.pop(key, None)
            loader.graph.remove_replacement_node(key, migration.replaces)


# Tables and columns that are there already.


def table_of(connection, key, options):
    from django.db.backends.utils import truncate_name

    return options.get("db_table") or truncate_name("%s_%s" % key, connection.ops.max_name_length())


def column_of(name, field):
    if field.db_column:
        return field.db_column
    return name + "_id" if field.remote_field is not None and not field.many_to_many else name


def names_of(connection, key, options, fields):
    """Returns the tables of a model, with the columns of the first one."""
    from django.db.backends.utils import strip_quotes, truncate_name

    if not has_table(options):
        return {}
    table = table_of(connection, key, options)
    found = {table: set()}
    for name, field in fields.items():
        if not field.many_to_many:
            found[table].add(column_of(name, field).lower())
        elif holds_values(field):
            other = "%s_%s" % (strip_quotes(table), name)
            found[field.db_table or truncate_name(other, connection.ops.max_name_length())] = set()
    return found


class Names:
    """The tables and columns that there are, as far as migrations have come: one that makes what is there fails."""

    def __init__(self, connection, sure):
        self.connection, self.columns, self.existing, self.doubtful = connection, {}, [], []
        # After SQL and code of the site's own nobody knows what is there.
        self.sure = sure
        with connection.cursor() as cursor:
            self.tables = set(self.fold(table) for table in connection.introspection.table_names(cursor, include_views=True))

    def fold(self, name):
        return name if self.connection.vendor == "postgresql" else name.lower()

    def follow(self, key, was, now):
        """Follows an operation that turns these tables with their columns into those."""
        gone = [table for table in was if table not in now]
        new = [table for table in now if table not in was]
        if len(gone) == len(new):
            # Renamed: its columns go along.
            for old, other in zip(gone, new):
                self.columns[self.fold(other)] = self.columns_of(old)
        for table in gone:
            self.tables.discard(self.fold(table))
            self.columns.pop(self.fold(table), None)
        for table in new:
            if self.fold(table) in self.tables:
                self.found(key, "the table `%s`" % table)
            self.tables.add(self.fold(table))
            if len(gone) != len(new):
                self.columns[self.fold(table)] = set(now[table])
        for table in now:
            if table in was and was[table] != now[table]:
                there = self.columns_of(table)
                there -= was[table] - now[table]
                for column in sorted((now[table] - was[table]) & there):
                    self.found(key, "the column `%s.%s`" % (table, column))
                there |= now[table]

    def columns_of(self, table):
        if self.fold(table) not in self.columns:
            with self.connection.cursor() as cursor:
                described = []
                if self.fold(table) in self.tables:
                    described = self.connection.introspection.get_table_description(cursor, table)
            self.columns[self.fold(table)] = set(column.name.lower() for column in described)
        return self.columns[self.fold(table)]

    def found(self, key, what):
        (self.existing if self.sure else self.doubtful).append("`%s.%s` creates %s" % (key + (what,)))
