"""The databases, without changing them."""

from __future__ import annotations

import os

from .errors import guarded
from .kinds import Connection


def sqlite_file(connection: Connection) -> str | None:
    """Returns the file of a SQLite database; `None`: it is in memory, or an address."""
    name = str(connection.settings_dict["NAME"])
    if not name or ":memory:" in name or name.startswith("file:"):
        return None
    return os.path.abspath(name)


def has_database(alias: str) -> bool:
    """Tells whether there is a database: Django has a stand-in for `{}`."""
    from django.db import connections
    from django.db.backends.dummy.base import DatabaseWrapper

    return not isinstance(guarded("database", lambda: connections[alias], database=alias), DatabaseWrapper)


def reach(connection: Connection, alias: str) -> None:
    """Connects, or fails with the database's name."""
    guarded("database", connection.ensure_connection, database=alias)


class Looked:
    """Removes the empty file that SQLite makes when somebody only looks."""

    def __init__(self, alias: str) -> None:
        """Takes the database's name; the connection is not opened yet."""
        from django.db import connections

        self.connection = guarded("database", lambda: connections[alias], database=alias)
        path = sqlite_file(self.connection) if self.connection.vendor == "sqlite" else None
        self.path = path if path and not os.path.lexists(path) else None

    def __enter__(self) -> Connection:
        """Returns the connection."""
        return self.connection

    def __exit__(self, *exception: object) -> None:
        """Removes the file if it was not there before and is empty."""
        if self.path and os.path.exists(self.path) and os.path.getsize(self.path) == 0:
            self.connection.close()
            os.unlink(self.path)
