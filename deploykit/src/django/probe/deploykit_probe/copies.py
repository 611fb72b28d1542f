"""Copies of the site's databases, for a rehearsal of the update."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import sys
import time
import traceback
from typing import Any, Iterator

from . import private_mariadb, private_postgresql, redis_servers
from .backup_sqlite import copy_database
from .beside import beside
from .connections import has_database, place_of
from .copies_sqlite import SMALL, copy_schema, database_file, mark, marked
from .errors import Failed, Refused, readable, text_of, without_passwords
from .kinds import Connection, Json
from .private import CannotCopy, check_room, end_left_server, end_with_parent, refusal, system
from .registry import answers
from .scratch import Scratch
from .scratch_mariadb import MariaDbScratch
from .scratch_postgresql import PostgreSqlScratch
from .sql import rows_of

# The alias whose database `rehearsal.database-url` may receive.
MAIN = "default"

# The kinds of scratch databases, by what Django calls their vendor.
SCRATCH: dict[str, type[Scratch]] = {"postgresql": PostgreSqlScratch, "mysql": MariaDbScratch}


# The kinds of private servers, by what Django calls their vendor: what identifies the live one, and the private one.
PRIVATE: dict[str, tuple[Any, Any]] = {
    "postgresql": (private_postgresql.place_of_server, private_postgresql.Cluster),
    "mysql": (private_mariadb.place_of_server, private_mariadb.Server),
}


@answers("can_copy")
def do_can_copy(request: Json) -> Json:
    """Says why a database would have no copy in a private server, as far as that is known before one is made."""
    from django.db import connections

    alias = request["database"]
    connection = connections[alias]
    found: Json = {"skipped": {}}
    with skipping(found, [alias]):
        if connection.vendor in PRIVATE:
            place_of_server, kind = PRIVATE[connection.vendor]
            place_of_server(connection)
            kind("", {alias: connection}, 0)
        elif connection.vendor != "sqlite":
            raise unknown(connection)
    return {"cannot": found["skipped"].get(alias)}


def unknown(connection: Connection) -> CannotCopy:
    """Returns the error for a database of another kind."""
    return CannotCopy("databases of %s cannot be copied for a rehearsal" % connection.display_name)


@answers("copy_databases")
def do_copy_databases(request: Json) -> Json:
    """Copies databases into a directory, in a fork of low priority."""
    return beside("backup", request["nice"], copy_databases, request, os.getpid())()


def copy_databases(request: Json, parent: int) -> Json:
    """Copies databases into a directory, which is emptied first; answers where the sandbox must mount the copies."""
    from django.conf import settings
    from django.db import connections

    if os.getppid() == parent:
        end_with_parent(system())
    since, directory = time.monotonic(), request["directory"]
    empty(directory)
    found: Json = {"files": [], "servers": [], "show": [], "empty": [], "expected": {}, "bytes": 0}
    found.update(skipped={}, schema_only=[], copied={}, proxies=[], plain=[], redis=[], in_memory=None)
    places: dict[Any, list[str]] = collections.OrderedDict()
    for alias in request["databases"]:
        if has_database(alias):
            places.setdefault(place_of(alias), []).append(alias)
    servers: dict[Any, dict[str, list[str]]] = collections.OrderedDict()
    for aliases in places.values():
        connection = connections[aliases[0]]
        with skipping(found, aliases):
            if connection.vendor == "sqlite":
                copy_sqlite(connection, aliases, request, found)
            elif connection.vendor in PRIVATE:
                place_of_server, _ = PRIVATE[connection.vendor]
                servers.setdefault(place_of_server(connection), {})[aliases[0]] = aliases
            else:
                raise unknown(connection)
    for number, databases in enumerate(servers.values()):
        with skipping(found, [alias for aliases in databases.values() for alias in aliases]):
            copy_server(os.path.join(directory, "server-%d" % number), databases, request, found)
    for databases in servers.values():
        if request.get("scratch_url") and MAIN in found["skipped"] and any(MAIN in one for one in databases.values()):
            copy_to_scratch(databases, request, found)
    redis_servers.start_redis(directory, settings, found)
    found["seconds"] = time.monotonic() - since
    return found


@contextlib.contextmanager
def skipping(found: Json, aliases: list[str]) -> Iterator[None]:
    """Records the reason if databases cannot be copied, whatever fails."""
    try:
        yield
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        for alias in aliases:
            found["skipped"][alias] = reason_of(error)


def copy_server(directory: str, databases: dict[str, list[str]], request: Json, found: Json) -> None:
    """Copies the databases of a server into a private one."""
    from django.db import connections

    opened = {alias: connections[alias] for alias in databases}
    first = next(iter(opened.values()))
    _, kind = PRIVATE[first.vendor]
    server = kind(directory, opened, request["nice"])
    copied: dict[str, bool] = {}
    try:
        server.start(first)
        for alias, aliases in databases.items():
            with skipping(found, aliases):
                begun = time.monotonic()
                size, whole = server.copy(opened[alias], request["limits"][alias])
                note(found, aliases, size, time.monotonic() - begun)
                copied.update((one, whole) for one in aliases)
    finally:
        server.stop()
    found["bytes"] += server.size()
    if copied:
        found["servers"] += server.servers()
        found["show"] += server.show()
    for alias, whole in copied.items():
        found["expected"][alias] = server.expected()
        found["schema_only"] += [] if whole else [alias]


def note(found: Json, aliases: list[str], size: int, seconds: float) -> None:
    """Records the size of a live database, and how long its copy took."""
    found["copied"].update((alias, {"size_bytes": size, "duration_ms": int(1000 * seconds)}) for alias in aliases)


def copy_to_scratch(databases: dict[str, list[str]], request: Json, found: Json) -> None:
    """Copies the main database, which no private server can have, into the scratch database of the configuration."""
    from django.db import connections

    aliases = [alias for aliases in databases.values() for alias in aliases]
    private = found["skipped"].pop(MAIN)["reason"]
    with skipping(found, aliases):
        directory = os.path.join(request["directory"], "scratch")
        opened = {alias: connections[alias] for alias in [MAIN] + sorted(set(databases) - {MAIN})}
        kind = SCRATCH[connections[MAIN].vendor]
        scratch = kind(directory, opened, request["scratch_url"], request["nice"], private)
        begun = time.monotonic()
        size, whole = scratch.copy(request["limits"][MAIN])
        note(found, aliases, size, time.monotonic() - begun)
        found["show"] += scratch.show()
        found["servers"] += scratch.servers()
        found["proxies"].append(scratch.proxy())
        found["bytes"] += scratch.size
        found["plain"] += aliases
        found["expected"].update((alias, scratch.expected()) for alias in aliases)
        found["schema_only"] += [] if whole else aliases
        for alias in aliases:
            found["skipped"].pop(alias, None)


@answers("clear_scratch")
def do_clear_scratch(request: Json) -> Json:
    """Empties the scratch database of the configuration if a copy for a rehearsal is in it."""
    from django.db import connections

    kind = SCRATCH.get(connections[MAIN].vendor)
    if kind is None:
        return {}
    try:
        kind.clear(connections[MAIN], request["scratch_url"], request["directory"])
    except Exception as error:
        raise Failed("raised", error) from error
    return {}


def empty(directory: str) -> None:
    """Stops the servers and removes the files of a copy that was killed."""
    os.makedirs(directory, 0o700, exist_ok=True)
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            end_left_server(os.path.join(path, "data"))
            shutil.rmtree(path)
        else:
            os.unlink(path)


def reason_of(error: Exception) -> Json:
    """Returns why there is no copy, and what would help, in one line each."""
    if isinstance(error, Refused):
        return {"reason": refusal(error.fields), "help": None}
    cause = error.error if isinstance(error, Failed) else error
    lines = readable(without_passwords(text_of(cause))).strip().splitlines()
    known = isinstance(error, (CannotCopy, OSError))
    text = lines[0] if lines and known else ": ".join([type(cause).__name__] + lines[:1])
    return {"reason": text, "help": getattr(error, "help", None)}


def copy_sqlite(connection: Connection, aliases: list[str], request: Json, found: Json) -> None:
    """Copies a SQLite database, unless it is in memory or does not exist yet."""
    path = database_file(connection)
    if path is None or not os.path.exists(path):
        return
    copy = os.path.join(request["directory"], "%s.sqlite3" % aliases[0].replace("/", "_"))
    # The write-ahead log may hold what the file lacks.
    size = sum(os.path.getsize(path + ending) for ending in ("", "-wal") if os.path.exists(path + ending))
    begun = time.monotonic()
    if size > request["limits"][aliases[0]]:
        copy_schema(path, copy, SMALL)
        found["schema_only"] += aliases
    else:
        check_room(request["directory"], size)
        copy_database(path, copy)
    note(found, aliases, size, time.monotonic() - begun)
    status = os.stat(path)
    shutil.copymode(path, copy)
    if os.geteuid() == 0:
        os.chown(copy, status.st_uid, status.st_gid)
    marker = mark(copy)
    found["files"].append([copy, path])
    found["bytes"] += os.path.getsize(copy)
    for alias in aliases:
        found["expected"][alias] = {"path": path, "device": status.st_dev, "inode": status.st_ino, "marker": marker}


@answers("confirm_copies")
def do_confirm_copies(request: Json) -> Json:
    """Fails unless each alias of this version connects to the copy of its database."""
    from django.db import connections

    for alias, expected in request["expected"].items():
        if alias not in connections:
            # Only the other version has it.
            continue
        try:
            difference = not_the_copy(connections[alias], expected)
        except Exception as error:
            raise Failed("not_the_copy", error, database=alias) from error
        if difference:
            raise Refused("not_the_copy", database=alias, message=difference)
    return {}


def not_the_copy(connection: Connection, expected: Json) -> str | None:
    """Returns why a database is not its copy; `None`: it is."""
    if "query" in expected:
        with connection.cursor() as cursor:
            found = str(rows_of(cursor, expected["query"])[0][0])
        return None if found == expected["is"] else "its server says `%s` instead of `%s`" % (found, expected["is"])
    path = database_file(connection)
    # In the sandbox, the live name is a symlink to the copy.
    if path is None or path != os.path.realpath(expected["path"]):
        return "its file is `%s` and was `%s`" % (path, expected["path"])
    status = os.stat(path)
    if [status.st_dev, status.st_ino] == [expected["device"], expected["inode"]]:
        return "`%s` is the live file" % path
    if marked(path) != expected["marker"]:
        return "`%s` lacks the marker of the copy" % path
    return None
