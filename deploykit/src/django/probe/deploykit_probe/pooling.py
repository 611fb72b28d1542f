"""Whether a pooler stands before a database, and whether two aliases lead to the same one."""

from __future__ import annotations

import traceback
from typing import Any

from .connections import has_database, place_of
from .errors import guarded
from .kinds import Connection, Json
from .registry import answers
from .sql import rows_of

# How often two connections are asked which session of the server they have.
ASKED = 10

# What tells a database of a server from any other one.
SERVER = {
    "postgresql": "SELECT datname, oid, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()",
    "mysql": "SELECT DATABASE(), @@hostname, @@port, @@datadir",
}

# What was found out, by what connects.
KNOWN: dict[Any, bool] = {}


def session_of(connection: Connection) -> int:
    """Returns the server's number of the session that answers."""
    with connection.cursor() as cursor:
        return int(rows_of(cursor, "SELECT pg_backend_pid()")[0][0])


def keeps_no_session(connection: Connection) -> bool:
    """Tells whether a pooler gives each transaction another session of the server, as PgBouncer in transaction mode does."""
    if connection.vendor != "postgresql":
        return False
    # A pooler has numbers of its own for those that connect to it.
    told = getattr(getattr(connection.connection, "info", None), "backend_pid", None)
    if told is None or told == session_of(connection):
        return False
    settings = connection.settings_dict
    key = tuple(str(settings.get(name)) for name in ("HOST", "PORT", "NAME", "USER"))
    if key not in KNOWN:
        # The two connections ask this themselves as they are made, and must leave nothing behind.
        KNOWN[key] = True
        try:
            KNOWN[key] = shares(connection)
        except Exception:
            # Too many connections: whether sessions are kept stays unknown, and nothing is left in them.
            traceback.print_exc()
    return KNOWN[key]


def shares(connection: Connection) -> bool:
    """Tells whether two open connections have the same session, or one of them has several."""
    first, second = connection.copy(), connection.copy()
    try:
        sessions: list[set[int]] = [set(), set()]
        for one in (first, second):
            one.set_autocommit(True)
        for _ in range(ASKED):
            for one, found in zip((first, second), sessions):
                found.add(session_of(one))
        return bool(sessions[0] & sessions[1]) or max(len(found) for found in sessions) > 1
    finally:
        first.close()
        second.close()


@answers("pooling")
def do_pooling(request: Json) -> Json:
    """Says whether sessions are kept, and which database it is, as the server itself says."""
    from django.db import connections

    alias = request["database"]
    if not has_database(alias):
        return {"shares": False, "place": []}
    connection = guarded("database", lambda: connections[alias], database=alias)
    if connection.vendor not in SERVER:
        # A connection to a file that is not there makes it.
        return {"shares": False, "place": list(place_of(alias))}
    guarded("database", connection.ensure_connection, database=alias)
    shared = guarded("database", keeps_no_session, connection, database=alias)
    return {"shares": shared, "place": guarded("database", server_of, connection, database=alias)}


def server_of(connection: Connection) -> list[str]:
    """Returns what the server says of the database."""
    with connection.cursor() as cursor:
        return [str(value) for value in rows_of(cursor, SERVER[connection.vendor])[0]]
