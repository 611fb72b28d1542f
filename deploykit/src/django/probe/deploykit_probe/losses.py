"""Finds what a migration would lose."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Callable, Iterable

from .fields import definer, is_djangos, length_of, range_of, related
from .identities import key_of
from .kinds import Connection, Field, Json, Key, Migration, Operation, ProjectState, Snapshot
from .old_code import failures
from .run_sql import is_harmless_sql
from .tables import Names, has_table, holds_values, names_of

# The operations whose effect on the database is what they do to the state.
OPERATIONS = (
    "CreateModel", "DeleteModel", "RenameModel", "AlterModelTable", "AlterModelTableComment", "AlterUniqueTogether",
    "AlterIndexTogether", "AlterOrderWithRespectTo", "AlterModelOptions", "AlterModelManagers", "AddIndex", "RemoveIndex",
    "RenameIndex", "AddConstraint", "RemoveConstraint", "AlterConstraint", "AddField", "RemoveField", "AlterField",
    "RenameField", "SeparateDatabaseAndState", "RunSQL", "RunPython",
)  # fmt: skip

POSTGRESQL_OPERATIONS = (
    "AddIndexConcurrently", "RemoveIndexConcurrently", "AddConstraintNotValid", "ValidateConstraint", "CreateExtension",
    "CreateCollation", "RemoveCollation",
)  # fmt: skip

BEHAVIOUR = ("state_forwards", "database_forwards", "database_backwards", "allow_migrate_model")


def kinds_of_operations() -> set[type]:
    """Returns Django's own classes of operations."""
    from django.db.migrations import operations

    postgres = sys.modules.get("django.contrib.postgres.operations")
    found = [getattr(operations, name, None) for name in OPERATIONS]
    found += [getattr(postgres, name, None) for name in POSTGRESQL_OPERATIONS]
    return {kind for kind in found if kind is not None}


class Change:
    """What is found out of one migration."""

    def __init__(self) -> None:
        """Begins with nothing found."""
        self.irreversible: list[str] = []
        self.losses: list[str] = []
        self.unknown: list[str] = []
        self.by_code: list[str] = []
        self.drops: list[str] = []
        self.misfits: list[str] = []
        # What the code of the old version could fail at once it is applied.
        self.old_code: list[str] = []

    def doubts(self, text: str) -> None:
        """Notes what is not known, once."""
        if text not in self.unknown:
            self.unknown.append(text)

    def surprises(self, text: str) -> None:
        """Notes what may do anything, to a reversal and to the old code."""
        self.doubts(text)
        self.old_code.append(text)


class Judge:
    """Finds what a series of migrations, reversed as a whole, would not restore.

    What is not understood is said to be unknown, never to be harmless.
    """

    def __init__(self, connection: Connection, state: ProjectState, names: Names | None = None) -> None:
        """Takes the state before the first migration, and who follows the names in the database."""
        self.connection, self.state, self.names = connection, state, names
        self.kinds = kinds_of_operations()
        # Models and fields that these migrations made themselves, and conditions on values that must fit when it is reversed.
        self.born: set[Any] = set()
        self.needs: list[Json] = []

    def judge(self, migration: Migration) -> Change:
        """Finds what a migration changes, and brings the state past it."""
        from django.db.migrations import Migration

        change = Change()
        for name in ("apply", "unapply", "mutate_state"):
            if name in vars(migration) or definer(type(migration), name) is not Migration:
                change.surprises("its `%s` is the site's own: what it does is not known" % name)
        self.operations(migration.app_label, migration.operations, self.state, change, key_of(migration))
        return change

    def pass_over(self, migration: Migration) -> None:
        """Brings the state past a migration that is not judged; where that fails, those after it are unknown by themselves."""
        for operation in migration.operations:
            try:
                operation.state_forwards(migration.app_label, self.state)
            except Exception:
                traceback.print_exc()

    def operations(self, app: str, operations: Iterable[Operation], state: ProjectState, change: Change, key: Key) -> None:
        """Goes through operations in their order."""
        for operation in operations:
            name = type(operation).__name__
            try:
                kind = self.kind_of(operation)
                self.reversal(operation, kind, change)
                inner = getattr(operation, "database_operations", None)
                if inner:
                    self.operations(app, inner, state.clone(), change, key)
                before = self.snapshot(app, operation, kind, state)
                operation.state_forwards(app, state)
                self.old_code(app, operation, kind, before, state, change)
                # Where the database has operations of its own, the state says nothing about it.
                if kind is None or kind.__name__ != "SeparateDatabaseAndState":
                    self.compare(app, operation, kind, before, state, change, key)
                    self.follow(app, operation, kind, before, state, key)
            except Exception as error:
                change.surprises("%s: what it does cannot be found out (%s)" % (name, type(error).__name__))

    def old_code(
        self, app: str, operation: Operation, kind: Any, before: Snapshot, state: ProjectState, change: Change
    ) -> None:
        """Notes what the code of the old version could fail at, which says nothing about the reversal."""
        try:
            change.old_code += failures(self.connection, app, operation, kind, before, state, self.born)
        except Exception as error:
            traceback.print_exc()
            change.old_code.append("%s: %s" % (operation.describe(), type(error).__name__))

    def kind_of(self, operation: Operation) -> Any:
        """Returns the operation of Django's that this one is, or behaves as; `None`: it is the site's own."""
        kind = next((one for one in type(operation).__mro__ if one in self.kinds), None)
        for name in BEHAVIOUR:
            if name in vars(operation) or not is_djangos(definer(type(operation), name)):
                return None
        return kind

    def reversal(self, operation: Operation, kind: Any, change: Change) -> None:
        """Notes whether an operation can be reversed, and where its reversal is code of the site's own."""
        from django.db.migrations.operations import RunPython, RunSQL
        from django.db.migrations.operations.base import Operation

        name = type(operation).__name__
        if not operation.reversible or definer(type(operation), "database_backwards") is Operation:
            reason = ", which cannot be reversed"
            if isinstance(operation, RunSQL):
                reason = " without `reverse_sql`"
            elif isinstance(operation, RunPython):
                reason = " without `reverse_code`"
            change.irreversible.append(name + reason)
        elif kind is None:
            change.doubts("%s is no operation of Django's: what it changes is not known" % name)
        elif issubclass(kind, RunSQL):
            if not is_harmless_sql(operation):
                change.doubts("%s: what its SQL changes is not known" % name)
        elif issubclass(kind, RunPython):
            if operation.code is not RunPython.noop:
                change.by_code.append("%s: what its code changes is not known" % name)
        elif kind.__name__ == "CreateExtension" and self.has_extension(operation):
            change.doubts("the extension `%s` is there already, and reversing it would remove it" % operation.name)

    def has_extension(self, operation: Operation) -> bool:
        """Tells whether PostgreSQL has the extension already."""
        if self.connection.vendor != "postgresql":
            return False
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_extension WHERE extname = %s", [operation.name])
            return bool(cursor.fetchall())

    def snapshot(self, app: str, operation: Operation, kind: Any, state: ProjectState) -> Snapshot:
        """Returns the models that the operation may change, as they are before it."""
        name = getattr(operation, "model_name", None) or getattr(operation, "old_name", None)
        name = name or getattr(operation, "name", None)
        keys = [(app, str(name).lower())] if kind is not None else list(state.models)
        models = ((key, state.models[key]) for key in keys if key in state.models)
        return {key: (model.name, dict(model.fields), dict(model.options)) for key, model in models}

    def compare(
        self, app: str, operation: Operation, kind: Any, before: Snapshot, state: ProjectState, change: Change, key: Key
    ) -> None:
        """Compares the models before an operation with those after it."""
        from django.db.migrations.operations import RenameField, RenameModel

        if kind is not None and issubclass(kind, RenameModel):
            old, new = (app, operation.old_name.lower()), (app, operation.new_name.lower())
            self.renamed(lambda one: new + one[2:] if one[:2] == old else one)
            return
        if kind is not None and issubclass(kind, RenameField):
            column = (app, operation.model_name.lower(), operation.old_name.lower())
            other = (app, operation.model_name.lower(), operation.new_name.lower())
            self.renamed(lambda one: other if one == column else one)
            return
        for one, (name, fields, options) in before.items():
            if not has_table(options) or one in self.born:
                continue
            if one not in state.models:
                change.losses.append("the rows of `%s`" % name)
                continue
            model = state.models[one]
            for field in fields:
                if one + (field.lower(),) in self.born:
                    continue
                if field not in model.fields:
                    if holds_values(fields[field]):
                        change.losses.append("the values of `%s.%s`" % (one[1], field))
                elif fields[field] is not model.fields[field]:
                    self.altered(one, field, fields[field], model.fields[field], change, key)
            order = options.get("order_with_respect_to")
            if order and order != model.options.get("order_with_respect_to"):
                change.losses.append("the order of `%s`" % name)
        self.made(app, operation, kind, before, state, change)

    def made(self, app: str, operation: Operation, kind: Any, before: Snapshot, state: ProjectState, change: Change) -> None:
        """Notes models and fields that were not there before."""
        keys = list(state.models) if kind is None else list(before)
        if kind is not None and kind.__name__ == "CreateModel":
            keys.append((app, operation.name.lower()))
        for key in keys:
            model = state.models.get(key)
            if model is None or not has_table(model.options):
                continue
            if key not in before:
                self.born.add(key)
                change.drops.append("the rows of `%s`" % model.name)
                continue
            for field in model.fields:
                if field not in before[key][1]:
                    self.born.add(key + (field.lower(),))
                    change.drops.append("the values of `%s.%s`" % (key[1], field))

    def follow(self, app: str, operation: Operation, kind: Any, before: Snapshot, state: ProjectState, key: Key) -> None:
        """Tells whoever follows the names in the database."""
        if self.names is None:
            return
        if kind is None or kind.__name__ in ("RunSQL", "RunPython"):
            self.names.sure = False
            return
        renamed: dict[Key, Key] = {}
        if kind.__name__ == "RenameModel":
            renamed[app, operation.old_name.lower()] = (app, operation.new_name.lower())
        keys = list(before)
        if kind.__name__ == "CreateModel":
            keys.append((app, operation.name.lower()))
        for one in keys:
            was = names_of(self.connection, one, before[one][2], before[one][1]) if one in before else {}
            other = renamed.get(one, one)
            after = state.models.get(other)
            now = {} if after is None else names_of(self.connection, other, after.options, after.fields)
            self.names.follow(key, was, now)

    def renamed(self, rename: Callable[[Any], Any]) -> None:
        """Gives models and fields that were noted their new names."""
        self.born = {rename(one) for one in self.born}
        for need in self.needs:
            need["column"] = rename(need["column"])

    def altered(self, model: Key, field: str, old: Field, new: Field, change: Change, key: Key) -> None:
        """Finds what becomes of the values of a field that is altered."""
        label = "`%s.%s`" % (model[1], field)
        if bool(old.many_to_many) or bool(new.many_to_many):
            if not (old.many_to_many and new.many_to_many and related(old) == related(new)):
                change.doubts("what becomes of the rows of %s is not known" % label)
            return
        if old.remote_field is None and old.db_type(self.connection) is None and new.db_type(self.connection) is None:
            return
        column = model + (field.lower(),)

        def need(kind: str, *limits: Any) -> None:
            """Notes which conditions the values must meet for a reversal."""
            self.needs.append({"key": key, "column": column, "label": label, "kind": kind, "limits": limits})

        kinds = (label, old.get_internal_type(), new.get_internal_type())
        if old.remote_field is not None and new.remote_field is not None:
            if related(old) != related(new):
                change.doubts("what becomes of the values of %s, which refers to something else, is not known" % label)
        elif old.remote_field is not None or new.remote_field is not None:
            change.losses.append("the values of %s, which turn from %s into %s" % kinds)
        else:
            lost = self.squeezed(old, new, need)
            if lost and kinds[1] == kinds[2]:
                change.losses.append("the values of %s, whose column turns from %s into %s" % ((label,) + lost))
            elif lost:
                change.losses.append("the values of %s, which turn from %s into %s" % kinds)
        if bool(old.primary_key) != bool(new.primary_key):
            change.doubts("%s becomes a primary key, or is none any more" % label)
        if getattr(old, "db_collation", None) != getattr(new, "db_collation", None):
            change.doubts("the collation of %s changes" % label)
        if old.null and not new.null:
            change.losses.append("the NULL values of %s" % label)
        elif new.null and not old.null:
            need("null")
        if old.unique and not new.unique:
            need("unique")

    def squeezed(self, old: Field, new: Field, need: Callable[..., None]) -> tuple[str, ...] | None:
        """Returns both types of a column that cannot hold all that it held; `None`: it can, maybe as long as `need` says."""
        types = tuple(str(field.db_type(self.connection)) for field in (old, new))
        if types[0].lower() == types[1].lower():
            return None
        if not all(is_djangos(definer(type(field), "db_type")) for field in (old, new)):
            return types
        ranges = tuple(range_of(self.connection, field) for field in (old, new))
        if None not in ranges:
            (low, high), (least, most) = ranges
            if (least is None or (low is not None and least <= low)) and (most is None or (high is not None and high <= most)):
                if ranges[0] != ranges[1]:
                    need("range", low, high)
                return None
            return types
        before, after = length_of(old), length_of(new)
        if before is not None and after is not None:
            if before > after:
                return types
            if before < after:
                need("length", before)
            return None
        if all(field.get_internal_type() == "DecimalField" for field in (old, new)):
            places = old.decimal_places, new.decimal_places
            digits = old.max_digits - places[0], new.max_digits - places[1]
            if places[0] <= places[1] and digits[0] <= digits[1]:
                need("decimal", places[0], 10 ** digits[0])
                return None
        return types
