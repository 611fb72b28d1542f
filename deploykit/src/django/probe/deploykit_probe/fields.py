"""What fields of models are to the database."""

from __future__ import annotations

import sys
from typing import Any

from .kinds import Connection, Field


def definer(kind: type, name: str) -> Any:
    """Returns the class that an attribute comes from."""
    return next((one for one in kind.__mro__ if name in vars(one)), None)


def is_djangos(kind: Any) -> bool:
    """Tells whether a class stands in Django itself."""
    name = getattr(kind, "__module__", "")
    module = sys.modules.get(name)
    return name.startswith("django.") and getattr(module, kind.__qualname__, None) is kind


def related(field: Field) -> list[str]:
    """Returns what a field refers to, so that it can be compared."""
    _, _, _, arguments = field.deconstruct()
    names = [arguments.get(name) for name in ("to", "through", "to_field", "db_table")]
    return [str(name).lower() for name in names]


def range_of(connection: Connection, field: Field) -> Any:
    """Returns the least and greatest integer that a column holds (`None`: any); `None` where it holds no integers."""
    kind = field.get_internal_type()
    names = {"SmallAutoField": "SmallIntegerField", "AutoField": "IntegerField", "BigAutoField": "BigIntegerField"}
    kind = names.get(kind, kind)
    if kind not in connection.ops.integer_field_ranges:
        return None
    return connection.ops.integer_field_range(kind)


def length_of(field: Field) -> float | None:
    """Returns how many characters a column holds; `None` where it holds no text."""
    kind = field.get_internal_type()
    if kind == "TextField":
        return float("inf")
    if kind in ("CharField", "SlugField", "FileField", "FilePathField"):
        return float("inf") if field.max_length is None else field.max_length
    return None


def has_db_default(field: Field) -> bool:
    """Tells whether the database itself has a default."""
    from django.db.models import NOT_PROVIDED

    return getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
