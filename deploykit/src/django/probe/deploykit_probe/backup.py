"""Copies of the database."""

from __future__ import annotations

import os

from .backup_mariadb import mariadb_backup, mariadb_facts, mariadb_restore
from .backup_postgresql import postgresql_backup, postgresql_facts, postgresql_restore
from .backup_sqlite import sqlite_backup, sqlite_facts, sqlite_restore
from .errors import Refused, T, guarded
from .kinds import Connection, Json
from .registry import answers


def way_of(connection: Connection, sqlite: T, postgresql: T, mariadb: T) -> T:
    """Chooses by the engine."""
    if connection.vendor == "mysql" and not connection.mysql_is_mariadb:
        refuse_old_mysql(connection.mysql_version)
    ways = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mariadb}
    if connection.vendor not in ways:
        raise Refused("unsupported", what="backup", engine=connection.vendor)
    return ways[connection.vendor]


def refuse_old_mysql(version: tuple[int, ...]) -> None:
    """Refuses a server that lacks what copies rely on, such as roles."""
    if version < (8,):
        engine = "a MySQL server older than 8.0 (%s)" % ".".join(map(str, version))
        raise Refused("unsupported", what="backup", engine=engine)


@answers("backup_facts")
def do_backup_facts(request: Json) -> Json:
    """How large the database is; refused where a copy could not be made or restored."""
    from django.db import connections

    connection, alias = connections[request["database"]], request["database"]
    facts = guarded("database", way_of, connection, sqlite_facts, postgresql_facts, mariadb_facts, database=alias)
    size = guarded("database", facts, connection, database=alias)
    return {"vendor": connection.vendor, "size_bytes": int(size)}


@answers("backup")
def do_backup(request: Json) -> Json:
    """Copies the database into a file that is complete or missing."""
    from django.db import connections

    connection, path = connections[request["database"]], request["path"]
    if os.path.exists(path):
        # It was made before the migrations began; a second one could hold half of them.
        return {}
    copy = guarded("backup", way_of, connection, sqlite_backup, postgresql_backup, mariadb_backup)
    part = path + ".part"
    try:
        if os.path.lexists(part):
            os.unlink(part)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "rb+") as file:
            guarded("backup", copy, connection, part, file)
            os.fsync(file.fileno())
        os.rename(part, path)
    finally:
        if os.path.lexists(part):
            os.unlink(part)
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return {}


@answers("restore_backup")
def do_restore_backup(request: Json) -> Json:
    """Restores the database from a copy."""
    from django.db import connections

    connection = connections[request["database"]]
    put_back = guarded("backup", way_of, connection, sqlite_restore, postgresql_restore, mariadb_restore)
    guarded("backup", put_back, connection, request["path"])
    return {}
