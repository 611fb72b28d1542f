"""Errors, as answers say them."""

from __future__ import annotations

import runpy
import sys
import traceback
from typing import Any, Callable, TypeVar

from .kinds import Json
from .sql import rows_of

T = TypeVar("T")


class Refused(Exception):
    """An answer that is an error of ours, not one that the site raised."""

    def __init__(self, kind: str, **fields: Any) -> None:
        """Takes the kind of the error and what the answer says with it."""
        super().__init__(kind)
        self.fields = dict(fields, kind=kind)


class Failed(Exception):
    """An exception of the site, with what was being done."""

    def __init__(self, kind: str, error: BaseException, **fields: Any) -> None:
        """Takes the kind of the error, the exception, and what the answer says with it."""
        super().__init__(kind)
        self.error = error
        self.fields = dict(fields, kind=kind)


def readable(text: str) -> str:
    """A text for people: a byte of a file name that is not UTF-8 is shown as such."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def text_of(error: object) -> str:
    """Returns the text of an exception or another object, empty where it has none."""
    try:
        return readable(str(error))
    except Exception:
        return ""


def described(error: BaseException) -> Json:
    """Returns type, message and the site's part of the traceback."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = kind.__module__ + "." + name
    found = traceback.TracebackException(kind, error, error.__traceback__)
    ours = ("<deploykit>", "<string>", "<frozen runpy>", runpy.__file__)
    kept = [frame for frame in found.stack if frame.filename not in ours and "importlib" not in frame.filename]
    found.stack = traceback.StackSummary.from_list(kept)
    lines = "".join(found.format()).rstrip().split("\n")
    shown = [without_passwords(line.encode("utf-8", "backslashreplace").decode("utf-8")) for line in lines[-30:]]
    message = without_passwords(text_of(error)) + lock_holders(error)
    return {"type": name, "message": message, "traceback": shown}


def without_passwords(text: str) -> str:
    """Hides the passwords of the databases, which need not be in the secrets file."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if not getattr(settings, "configured", False):
        return text
    for database in (getattr(settings, "DATABASES", None) or {}).values():
        password = str(database.get("PASSWORD") or "")
        if len(password) >= 6:
            text = text.replace(password, "***")
    return text


def failure(error: BaseException) -> Json:
    """Returns the answer that says an error."""
    if isinstance(error, Refused):
        return {"error": error.fields}
    if isinstance(error, Failed):
        return {"error": dict(described(error.error), **error.fields)}
    return {"error": dict(described(error), kind="raised")}


def guarded(kind: str, work: Callable[..., T], *args: Any, **fields: Any) -> T:
    """Calls a function; what the site raises in it is a failure of this kind."""
    try:
        return work(*args)
    except (Refused, Failed):
        raise
    except BaseException as error:
        raise Failed(kind, error, **fields) from error


LOCKED = ("55P03", 1205)


def lock_holders(error: BaseException) -> str:
    """Returns the sessions that may hold the lock an error is about; empty where no lock is the cause, or none is known."""
    cause = error.__cause__ or error
    codes = [getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)] + list(cause.args)[:1]
    if not any(code in LOCKED for code in codes):
        return ""
    from django.db import connections

    connection = connections["default"].copy()
    sql = (
        "SELECT DISTINCT a.pid, a.usename, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.granted"
        " AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND n.nspname !~ '^pg_' ORDER BY 1"
    )
    if connection.vendor == "mysql":
        sql = "SELECT id, user, host FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    try:
        with connection.cursor() as cursor:
            found = ["%s (%s, %s)" % row for row in rows_of(cursor, sql)]
        connection.close()
    except Exception:
        traceback.print_exc()
        return ""
    return "; sessions that may hold the lock: %s" % ", ".join(found) if found else ""
