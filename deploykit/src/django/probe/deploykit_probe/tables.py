"""The tables of models, and what is there already."""

from __future__ import annotations

from .kinds import Connection, Field, Key, Options, Tables


def has_table(options: Options) -> bool:
    """Tells whether Django makes a table for a model with these options."""
    return options.get("managed", True) and not options.get("proxy")


def holds_values(field: Field) -> bool:
    """Tells whether values go with a field: not those that are calculated, nor rows that another model keeps."""
    if getattr(field, "generated", False):
        return False
    through = getattr(field.remote_field, "through", None) if field.many_to_many else None
    return not through or bool(getattr(getattr(through, "_meta", None), "auto_created", False))


def table_of(connection: Connection, key: Key, options: Options) -> str:
    """Returns the table of a model."""
    from django.db.backends.utils import truncate_name

    table: str = options.get("db_table") or truncate_name("%s_%s" % key, connection.ops.max_name_length())
    return table


def column_of(name: str, field: Field) -> str:
    """Returns the column of a field."""
    if field.db_column:
        return str(field.db_column)
    return name + "_id" if field.remote_field is not None and not field.many_to_many else name


def names_of(connection: Connection, key: Key, options: Options, fields: dict[str, Field]) -> Tables:
    """Returns the tables of a model, with the columns of the first one."""
    from django.db.backends.utils import strip_quotes, truncate_name

    if not has_table(options):
        return {}
    table = table_of(connection, key, options)
    found: Tables = {table: set()}
    for name, field in fields.items():
        if not field.many_to_many:
            found[table].add(column_of(name, field).lower())
        elif holds_values(field):
            other = "%s_%s" % (strip_quotes(table), name)
            found[field.db_table or truncate_name(other, connection.ops.max_name_length())] = set()
    return found


class Names:
    """The tables and columns that there are, as far as migrations have come: one that makes what is there fails."""

    def __init__(self, connection: Connection, sure: bool) -> None:
        """Takes whether all that makes tables is known: `migrate` is Django's own."""
        self.connection = connection
        self.columns: Tables = {}
        self.existing: list[str] = []
        self.doubtful: list[str] = []
        # After SQL and code of the site's own nobody knows what is there.
        self.sure = sure
        with connection.cursor() as cursor:
            self.tables = {self.fold(table) for table in connection.introspection.table_names(cursor, include_views=True)}

    def fold(self, name: str) -> str:
        """Returns a name as the database compares it."""
        return name if self.connection.vendor == "postgresql" else name.lower()

    def follow(self, key: Key, was: Tables, now: Tables) -> None:
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

    def columns_of(self, table: str) -> set[str]:
        """Returns the columns of a table, read at the first time."""
        if self.fold(table) not in self.columns:
            with self.connection.cursor() as cursor:
                described = []
                if self.fold(table) in self.tables:
                    described = self.connection.introspection.get_table_description(cursor, table)
            self.columns[self.fold(table)] = {column.name.lower() for column in described}
        return self.columns[self.fold(table)]

    def found(self, key: Key, what: str) -> None:
        """Notes that a migration makes what is there."""
        (self.existing if self.sure else self.doubtful).append("`%s.%s` creates %s" % (key + (what,)))
