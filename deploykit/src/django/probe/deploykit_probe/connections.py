"""The databases, without changing them."""

from __future__ import annotations

import os
import sys
import traceback

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


def twins(alias: str) -> list[str]:
    """Returns the other aliases that the settings give the same database; a mirror is what it mirrors."""
    from django.db import connections

    mirrored = (connections.settings[alias].get("TEST") or {}).get("MIRROR")
    place = place_of(alias)
    return sorted(other for other in connections if other != alias and (other == mirrored or place_of(other) == place))


def place_of(alias: str) -> tuple[str, ...]:
    """Returns what tells a database from another one."""
    from django.db import connections

    settings, connection = connections.settings[alias], connections[alias]
    if connection.vendor == "sqlite":
        path = sqlite_file(connection)
        return ("sqlite", os.path.realpath(path) if path else "in memory: " + alias)
    options = settings.get("OPTIONS") or {}
    name = settings.get("NAME") or options.get("service") or options.get("read_default_file") or alias
    host = options.get("host") or settings.get("HOST") or options.get("unix_socket") or ""
    return (connection.vendor, str(name), str(host), str(settings.get("PORT") or options.get("port") or ""))


class Directed:
    """Connects aliases, for one request, as other aliases that bypass a pooler without sessions."""

    def __init__(self, direct: dict[str, str] | None) -> None:
        """Takes the aliases, each with the one in its place."""
        self.direct = direct or {}

    def __enter__(self) -> None:
        """Connections that are opened from now on go there, also those of the site's own code."""
        from django.db import connections

        self.settings = {alias: connections.settings[alias] for alias in self.direct}
        for alias, direct in self.direct.items():
            let_connections_go(alias)
            connections.settings[alias] = connections.settings[direct]

    def __exit__(self, *exception: object) -> None:
        """Restores what the settings say."""
        from django.db import connections

        for alias, settings in self.settings.items():
            let_connections_go(alias)
            connections.settings[alias] = settings


def let_all_go() -> None:
    """Lets every database have a new connection: django-tenants leaves the schema of a tenant in one that failed."""
    from django.db import connections

    for alias in connections:
        let_connections_go(alias)


def let_connections_go(alias: str) -> None:
    """Closes this thread's connection, with its pool, so that the next one is made of the settings."""
    from django.db import connections

    connection = connections[alias]
    connection.close()
    getattr(connection, "close_pool", lambda: None)()
    del connections[alias]


def known() -> list[Connection]:
    """Returns this thread's connections."""
    connections = getattr(sys.modules.get("django.db"), "connections", None)
    if connections is None:
        return []
    try:
        return list(connections.all(initialized_only=True))
    except TypeError:
        return list(connections.all())


def close_all() -> None:
    """Closes this thread's connections, with their pools."""
    for connection in known():
        for close in ("close", "close_pool"):
            try:
                getattr(connection, close, lambda: None)()
            except Exception:
                traceback.print_exc()
