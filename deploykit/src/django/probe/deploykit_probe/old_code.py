"""Finds what the code of the old version could fail at once a migration is applied.

What is not understood counts as a failure. Only what Django itself does with models is looked at: not the site's own SQL, and
not how long a migration keeps others waiting.
"""

from __future__ import annotations

import re
from typing import Any

from .fields import has_db_default, is_djangos, length_of, related
from .kinds import Connection, Field, Operation, ProjectState, Snapshot
from .run_sql import statements_of
from .tables import has_table, holds_values

# What changes no row and no column, or only how rows are found. The operations within the first are looked at by themselves.
HARMLESS = (
    "SeparateDatabaseAndState", "AlterModelOptions", "AlterModelManagers", "AlterModelTableComment", "AlterIndexTogether",
    "RemoveIndex", "RenameIndex", "RemoveIndexConcurrently", "CreateExtension", "CreateCollation",
)  # fmt: skip

# A unique index may refuse what the old code writes; one that is removed may be what the old code's `ON CONFLICT` names.
ADDING_SQL = re.compile(r"(?:CREATE INDEX|ANALYZE|COMMENT ON)\b", re.IGNORECASE)

# Options of a field that do not matter to the old code, or that are judged one by one.
JUDGED = {
    "auto_now", "auto_now_add", "blank", "choices", "db_collation", "db_column", "db_comment", "db_default", "db_index",
    "default", "editable", "error_messages", "help_text", "limit_choices_to", "max_length", "null", "on_delete", "primary_key",
    "related_name", "related_query_name", "to", "through", "to_field", "db_table", "unique", "upload_to", "validators",
    "verbose_name",
}  # fmt: skip


def failures(
    connection: Connection, app: str, operation: Operation, kind: Any, before: Snapshot, state: ProjectState, born: set[Any]
) -> list[str]:
    """Returns what could fail after an operation, which has brought the state past it; `born`: what these migrations made."""
    if kind is None:
        return ["%s: what it changes is not known" % type(operation).__name__]
    name = kind.__name__
    if name in HARMLESS:
        return []
    if name == "RunPython":
        return [] if operation.code is kind.noop else ["RunPython: what its code changes is not known"]
    if name == "RunSQL":
        is_known = all(ADDING_SQL.match(one) for one in statements_of(operation.sql))
        return [] if is_known else ["RunSQL: what its SQL changes is not known"]
    names = [getattr(operation, one, None) for one in ("model_name", "old_name", "name")]
    model = (app, next(str(one) for one in names if one).lower())
    field = str(getattr(operation, "old_name", None) or getattr(operation, "name", "")).lower()
    if name == "CreateModel":
        return created(model, state, born | {model})
    if name == "AddField":
        return added(connection, model, field, state, born)
    is_new = model in born or (name in ("AlterField", "RenameField", "RemoveField") and model + (field,) in born)
    if is_new or (model in state.models and not has_table(state.models[model].options)):
        return []
    if name == "AlterField":
        old, new = (find(fields, field) for fields in (before[model][1], state.models[model].fields))
        return ["`%s.%s`: %s" % (model[1], field, text) for text in altered(connection, old, new)]
    if name in ("AddIndex", "AddIndexConcurrently") and not operation.index.expressions:
        return []
    if name == "RemoveConstraint" and is_check(operation.name, before[model][2]):
        return []
    return [str(operation.describe())]


def created(model: Any, state: ProjectState, born: set[Any]) -> list[str]:
    """Returns what could fail once there is one model more."""
    found = state.models[model]
    if not has_table(found.options):
        return []
    return [text for field in found.fields.items() for text in references(model, field, state, born)]


def find(fields: dict[str, Field], name: str) -> Field:
    """Returns the field with a name."""
    return next(field for known, field in fields.items() if known.lower() == name)


def is_check(name: str, options: Any) -> bool:
    """Tells whether a constraint only refuses values."""
    from django.db.models import CheckConstraint

    return any(type(one) is CheckConstraint and one.name == name for one in options.get("constraints") or [])


def added(connection: Connection, model: Any, name: str, state: ProjectState, born: set[Any]) -> list[str]:
    """Returns what could fail once a model has one field more."""
    if not has_table(state.models[model].options):
        return []
    field = find(state.models[model].fields, name)
    found = references(model, (name, field), state, born)
    if field.many_to_many or model in born:
        return found
    if getattr(field, "generated", False):
        found.append("`%s.%s` is computed from what the old code writes" % (model[1], name))
    elif has_column(connection, field) and not field.null and not has_db_default(field):
        found.append("`%s.%s` has neither `null` nor `db_default`: the old code cannot insert rows" % (model[1], name))
    elif not field.null and field.unique:
        found.append("`%s.%s` is unique: the old code can insert only one row with its `db_default`" % (model[1], name))
    return found


def has_column(connection: Connection, field: Field) -> bool:
    """Tells whether a field has a column; one that refers to something does, and cannot be asked for its type here."""
    return field.remote_field is not None or field.db_type(connection) is not None


def references(model: Any, item: tuple[str, Field], state: ProjectState, born: set[Any]) -> list[str]:
    """Returns what could fail because new rows refer to others, which the old code does not know to delete first."""
    name, field = item
    relation = field.remote_field
    if relation is None or (field.many_to_many and not holds_values(field)):
        return []
    if not getattr(relation if field.many_to_many else field, "db_constraint", True):
        return []
    other = target(model, relation.model)
    keys = dict.fromkeys([model, other] if field.many_to_many else [other])
    old = [".".join(key) for key in keys if key not in born]
    return ["rows of `%s.%s` keep the old code from deleting rows of `%s`" % (model[1], name, one) for one in old]


def target(model: Any, other: Any) -> Any:
    """Returns the key of the model that a relation refers to."""
    if not isinstance(other, str):
        return (other._meta.app_label, other._meta.model_name)
    if other == "self":
        return model
    app, _, name = other.rpartition(".")
    return (app or model[0], name.lower())


def altered(connection: Connection, old: Field, new: Field) -> list[str]:
    """Returns what could fail once a field is another one."""
    if old.many_to_many or new.many_to_many:
        return [] if old.many_to_many and new.many_to_many and related(old) == related(new) else ["it becomes another field"]
    found: list[str] = []
    note = found.append
    if (old.remote_field is None) != (new.remote_field is None) or (old.remote_field and related(old) != related(new)):
        note("it refers to something else")
    if old.db_column != new.db_column:
        note("its column is renamed")
    # One that refers to something cannot be asked for its type here.
    types = ["" if field.remote_field else str(field.db_type(connection)) for field in (old, new)]
    before, after = (length_of(field) if is_djangos(type(field)) else None for field in (old, new))
    is_longer = before is not None and after is not None and before <= after
    if type(old) is not type(new) and not is_longer:
        note("it turns from %s into %s" % (type(old).__name__, type(new).__name__))
    elif types[0].lower() != types[1].lower() and not is_longer:
        note("its column turns from %s into %s" % tuple(types))
    if old.null and not new.null:
        note("NULL is refused")
    elif new.null and not old.null:
        note("NULL is new to the old code")
    if bool(old.unique) != bool(new.unique) or bool(old.primary_key) != bool(new.primary_key):
        note("it becomes unique, or is unique no more")
    if getattr(old, "db_collation", None) != getattr(new, "db_collation", None):
        note("its collation changes")
    if has_db_default(old) and not has_db_default(new):
        note("its `db_default` is removed")
    before_it, after_it = (field.deconstruct()[3] for field in (old, new))
    for name in sorted(set(before_it) | set(after_it)):
        if name not in JUDGED and before_it.get(name) != after_it.get(name):
            note("its option `%s` changes" % name)
    return found
