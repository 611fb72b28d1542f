"""The history of migrations: what the database has recorded, and what the code knows of it."""

from __future__ import annotations

from .identities import identity, key_of, moved
from .kinds import Connection, Executor, Json, Key, Loader, Migration, ProjectState
from .tables import column_of, has_table, table_of


def squashes_of(loader: Loader) -> list[tuple[Key, Migration]]:
    """Returns the squashed migrations of the code."""
    return [(key, migration) for key, migration in loader.disk_migrations.items() if migration.replaces]


def unrecorded(loader: Loader, applied: set[Key]) -> set[Key]:
    """Squashed migrations that stand for applied ones and are not recorded themselves; any run of `migrate` records them."""
    found: set[Key] = set()
    while True:
        known = applied | found
        more = {key for key, one in squashes_of(loader) if key not in known and set(one.replaces) <= known}
        if not more:
            return found
        found |= more


def originals_of(squashes: dict[Key, Migration], key: Key) -> set[Key]:
    """Returns what a squashed migration stands for in the end: it may stand for squashed ones."""
    found: set[Key] = set()
    seen: set[Key] = set()
    left = [key]
    while left:
        one = left.pop()
        if one in squashes and one not in seen:
            left += squashes[one].replaces
        elif one not in squashes:
            found.add(one)
        seen.add(one)
    return found


def lacking(loader: Loader, applied: set[Key]) -> list[Json]:
    """Applied migrations that the code has not, neither by themselves nor in a squashed one."""
    known = set(loader.disk_migrations)
    for _, migration in squashes_of(loader):
        known |= set(migration.replaces)
    installed = loader.migrated_apps | loader.unmigrated_apps
    return [dict(identity(key), installed=key[0] in installed) for key in sorted(applied - known)]


def required_strays(connection: Connection, state: ProjectState, apps: set[str]) -> list[str]:
    """Columns that the database fills by itself with nothing and the code does not know: each insert fails."""
    found = []
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
        for key, model in sorted(state.models.items()):
            table = table_of(connection, key, model.options)
            if key[0] not in apps or not has_table(model.options) or table not in tables:
                continue
            known = {column_of(field, one).lower() for field, one in model.fields.items()}
            known |= {"id", "_order"} if not any(one.primary_key for one in model.fields.values()) else {"_order"}
            for column in connection.introspection.get_table_description(cursor, table):
                required = not column.null_ok and getattr(column, "default", None) is None
                if required and column.name.lower() not in known:
                    found.append("%s.%s" % (table, column.name))
    return found


def to_reverse(executor: Executor, before: set[Key]) -> tuple[list[Migration], list[Migration]]:
    """What is applied and was not before, newest first; and all migrations in order, as the reversal goes through them."""
    applied = set(executor.recorder.applied_migrations())
    if before - applied:
        raise moved((), before - applied)
    extra = applied - before
    # A squashed migration that was applied as one is reversed as one. Of the others only the record goes: one whose
    # originals were all applied before, and one whose originals were applied one by one, some of them before.
    whole: set[Key] = set()
    split: set[Key] = set()
    known: set[Key] = set()
    recorded: set[Key] = set()
    squashes = dict(squashes_of(executor.loader))
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


def without(loader: Loader, split: set[Key]) -> None:
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
