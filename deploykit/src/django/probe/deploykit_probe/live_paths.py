"""Keeps the path of the staged tree out of the databases: in each SQL statement, the path of the checkout replaces it."""

from __future__ import annotations

import copy
import os
from typing import Any, Callable

from .connections import known
from .kinds import Connection
from .moved import Moves

# The attributes in which the drivers' wrappers, such as those for JSON, keep their values.
WRAPPED = ("obj", "_obj", "adapted", "_wrapped")

# The name of the receiver that watches connections.
WATCH = "deploykit paths"


class LivePaths:
    """A Django execute wrapper that replaces the path of the staged tree in statements and their parameters."""

    def __init__(self, tree: list[str]) -> None:
        """Takes the directory of the staged tree and that of the checkout."""
        self.moves = Moves([list(pair) for pair in dict.fromkeys((tuple(tree), tuple(map(os.path.realpath, tree))))], [])

    def begin(self) -> None:
        """Watches all connections from now on."""
        from django.db.backends.signals import connection_created

        connection_created.connect(self.watch, weak=False, dispatch_uid=WATCH)

    def watch(self, connection: Connection, **kwargs: Any) -> None:
        """Watches a connection, which may have been open before."""
        if self not in connection.execute_wrappers:
            connection.execute_wrappers.append(self)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Executes a statement."""
        return execute(self.value(sql), self.value(list(params) if many else params), many, context)

    def value(self, value: Any) -> Any:
        """Returns a value with the path replaced; the same value where it names none."""
        kind = type(value)
        if kind in (int, float, bool, type(None)):
            return value
        if isinstance(value, str):
            return self.moves.text(str.__str__(value)) if self.moves.named(value) else value
        if kind in (list, tuple):
            return kind(map(self.value, value))
        if kind is dict:
            return {name: self.value(one) for name, one in value.items()}
        if kind in (bytes, bytearray, memoryview):
            return self.moves.moved(bytes(value)) if self.moves.bytes.search(value) else value
        return self.wrapped(value) if kind.__module__.startswith("psycopg") else value

    def wrapped(self, value: Any) -> Any:
        """Returns a driver's wrapper with the path replaced in its value."""
        for name in WRAPPED:
            inner = getattr(value, name, None)
            changed = self.value(inner)
            if changed == inner:
                continue
            try:
                value = copy.copy(value)
                setattr(value, name, changed)
            except (AttributeError, TypeError):
                # The attributes of a wrapper that is not written in Python are read-only.
                value = type(value)(changed)
        return value


def replace_no_more() -> None:
    """Replaces no path any more: this process knows the checkout itself."""
    from django.db.backends.signals import connection_created

    connection_created.disconnect(dispatch_uid=WATCH)
    for connection in known():
        connection.execute_wrappers[:] = [one for one in connection.execute_wrappers if not isinstance(one, LivePaths)]
