"""Copies of the site's databases, for a rehearsal of the update."""

from __future__ import annotations

import collections
import os
import shutil
import sys
import time
import traceback
from typing import Any

from .backup_sqlite import copy_database
from .beside import beside
from .connections import has_database, place_of
from .copies_sqlite import SMALL, copy_schema, database_file, mark, marked
from .errors import Failed, Refused, readable, text_of, without_passwords
from .kinds import Connection, Json
from .registry import answers

# What stays free on the disk beside a copy, in bytes.
SPARE = 64 << 20


class CannotCopy(Exception):
    """A database that cannot be copied here, with what would help, if that is known."""

    def __init__(self, reason: str, help_: str | None = None) -> None:
        """Takes the reason and the help, one line each."""
        super().__init__(reason)
        self.help = help_


@answers("copy_databases")
def do_copy_databases(request: Json) -> Json:
    """Copies databases into a directory, in a fork of low priority."""
    return beside("backup", request["nice"], copy_databases, request)()


def copy_databases(request: Json) -> Json:
    """Copies databases into a directory, which is emptied first; says where the copies have to appear."""
    from django.db import connections

    since, directory = time.monotonic(), request["directory"]
    empty(directory)
    found: Json = {"files": [], "servers": [], "show": [], "empty": [], "expected": {}, "bytes": 0}
    found.update(skipped={}, schema_only=[])
    places: dict[Any, list[str]] = collections.OrderedDict()
    for alias in request["databases"]:
        if has_database(alias):
            places.setdefault(place_of(alias), []).append(alias)
    for aliases in places.values():
        try:
            connection = connections[aliases[0]]
            if connection.vendor != "sqlite":
                raise CannotCopy("databases of %s cannot be copied for a rehearsal" % connection.display_name)
            copy_sqlite(connection, aliases, request, found)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            for alias in aliases:
                found["skipped"][alias] = reason_of(error)
    found["seconds"] = time.monotonic() - since
    return found


def empty(directory: str) -> None:
    """Removes what a copy left that was killed."""
    os.makedirs(directory, 0o700, exist_ok=True)
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def reason_of(error: Exception) -> Json:
    """Returns in one line each why there is no copy, and what would help."""
    if isinstance(error, Refused):
        return {"reason": refusal(error.fields), "help": None}
    cause = error.error if isinstance(error, Failed) else error
    lines = readable(without_passwords(text_of(cause))).strip().splitlines()
    known = isinstance(error, (CannotCopy, OSError))
    text = lines[0] if lines and known else ": ".join([type(cause).__name__] + lines[:1])
    return {"reason": text, "help": getattr(error, "help", None)}


def refusal(fields: Json) -> str:
    """Returns an error of ours in one line."""
    if fields["kind"] == "tool":
        said = [line for line in fields["traceback"] if line.strip()]
        return "`%s` failed with exit code %d: %s" % (fields["what"], fields["code"], said[-1] if said else "it said nothing")
    if fields["kind"] == "tool_missing":
        return "`%s` is not installed" % fields["what"]
    if fields["kind"] in ("tool_too_old", "tool_foreign"):
        return "`%s` is of version %s, the server is %s" % (fields["what"], fields["version"], fields["engine"])
    names = ", ".join(fields.get("names", []))
    return "%s: %s" % (fields["kind"].replace("_", " "), names or fields.get("engine", ""))


def check_room(directory: str, size: int) -> None:
    """Fails where the disk has no room for a copy of this size."""
    free = shutil.disk_usage(directory).free
    if free < size + SPARE:
        text = "a copy takes %d MB, and %d MB are free below `%s`"
        raise CannotCopy(text % ((size + SPARE) >> 20, free >> 20, directory))


def copy_sqlite(connection: Connection, aliases: list[str], request: Json, found: Json) -> None:
    """Copies a SQLite database; one in memory, or one that is not there yet, needs none."""
    path = database_file(connection)
    if path is None or not os.path.exists(path):
        return
    copy = os.path.join(request["directory"], "%s.sqlite3" % aliases[0].replace("/", "_"))
    # What is not yet in the file itself may be in its log.
    size = sum(os.path.getsize(path + ending) for ending in ("", "-wal") if os.path.exists(path + ending))
    if size > request["limit_bytes"]:
        copy_schema(path, copy, SMALL)
        found["schema_only"] += aliases
    else:
        check_room(request["directory"], size)
        copy_database(path, copy)
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
    """Fails unless each database is the copy of it that was made."""
    from django.db import connections

    for alias, expected in request["expected"].items():
        try:
            difference = not_the_copy(connections[alias], expected)
        except Exception as error:
            raise Failed("not_the_copy", error, database=alias) from error
        if difference:
            raise Refused("not_the_copy", database=alias, message=difference)
    return {}


def not_the_copy(connection: Connection, expected: Json) -> str | None:
    """Returns why a database is not the copy that was made of it; `None`: it is."""
    path = database_file(connection)
    if path is None or path != expected["path"]:
        return "its file is `%s` and was `%s`" % (path, expected["path"])
    status = os.stat(path)
    if [status.st_dev, status.st_ino] == [expected["device"], expected["inode"]]:
        return "`%s` is the live file" % path
    if marked(path) != expected["marker"]:
        return "`%s` has not the mark of the copy" % path
    return None
