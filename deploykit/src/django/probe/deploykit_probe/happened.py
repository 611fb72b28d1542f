"""Records of requests: exceptions, refusals, and attempts to connect to other hosts."""

from __future__ import annotations

import contextvars
import errno
import logging
import os
import sys
import threading
import traceback
from types import FrameType
from typing import Any, NamedTuple

from .errors import described, readable, text_of
from .kinds import Json
from .site import foreign_directories

# Errors that may come from the mounts of a sandbox: writing to a read-only file, removing a mount, copying a file whose owner
# the user namespace lacks, moving a file to another layer.
LIMITS = (errno.EROFS, errno.EBUSY, errno.EOVERFLOW, errno.EXDEV)

# The loggers of Django that give the reason of a 400 or 403 without an exception.
LOGGERS = ("django.request", "django.security", "django.security.csrf", "django.security.DisallowedHost")


class Asked:
    """The record of a request."""

    def __init__(self, method: str, path: str) -> None:
        """Takes the method, and the path with the query."""
        self.method, self.path = method, path
        self.status: int | None = None
        self.complete = False
        self.exceptions: list[Json] = []
        self.network: list[str] = []
        self.read_only: str | None = None
        # Whether nothing handled an exception, and Django answered with the site's error page.
        self.unhandled = False
        self.known: list[BaseException] = []

    def failed(self, error: BaseException) -> None:
        """Records an exception once."""
        if any(error is known for known in self.known):
            return
        self.known.append(error)
        self.exceptions.append(exception_of(error))
        self.read_only = self.read_only or read_only_path(error)

    def refused(self, logger: str, message: str) -> None:
        """Records Django's log message about a refusal without an exception."""
        self.exceptions.append({"type": logger, "message": message, "where": None, "site": False, "trace": []})

    def answer(self) -> Json:
        """Returns the record."""
        names = ("method", "path", "status", "complete", "exceptions", "unhandled", "network", "read_only")
        return {name: getattr(self, name) for name in names}


# The record of the request that this thread or task answers.
CURRENT: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("deploykit_asked", default=None)

# The records of the requests that are being answered.
RUNNING: list[Asked] = []
LOCK = threading.Lock()


def current() -> Asked | None:
    """Returns the record of the current request; in a thread of the site's own, that of the only running request."""
    asked = CURRENT.get()
    if asked is not None:
        return asked
    with LOCK:
        return RUNNING[0] if len(RUNNING) == 1 else None


class Place(NamedTuple):
    """Where an exception was raised."""

    text: str
    site: bool


def is_of_site(path: str) -> bool:
    """Tells whether a file is the site's own: neither Python's nor a package's."""
    parts = path.split(os.sep)
    if not os.path.isabs(path) or "site-packages" in parts or "dist-packages" in parts:
        return False
    return not path.startswith(foreign_directories())


def place(path: str, line: int | None, inside: str = "") -> Place:
    """Returns the text for a place."""
    shown = os.path.relpath(path) if path.startswith(os.path.join(os.getcwd(), "")) else path
    text = readable(shown) + (", line %d" % line if line else "")
    if inside and inside != "<module>" and path.endswith(".py"):
        text += " (in %s)" % inside
    return Place(text, is_of_site(path))


def template_place(frame: FrameType, error: BaseException) -> Place | None:
    """Returns the place in a template that a frame of Django's template engine renders or compiles.

    Django sets `template_debug` only if the engine has `debug`.
    """
    if frame.f_globals.get("__name__") != "django.template.base":
        return None
    ours: Any = frame.f_locals.get("self")
    if frame.f_code.co_name == "render_annotated":
        token = getattr(ours, "token", None)
    elif frame.f_code.co_name == "compile_nodelist":
        token = getattr(error, "token", None)
    else:
        return None
    path = getattr(getattr(ours, "origin", None), "name", None)
    if token is None or not isinstance(path, str) or not os.path.isabs(path):
        return None
    return place(path, getattr(token, "lineno", None))


def places_of(error: BaseException) -> list[Place]:
    """Returns the places of the traceback, the innermost last."""
    found = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = os.path.abspath(frame.f_code.co_filename)
        if frame.f_code.co_filename.startswith("<") or "importlib" in path:
            continue
        found.append(template_place(frame, error) or place(path, line, frame.f_code.co_name))
    if isinstance(error, SyntaxError) and error.filename:
        found.append(place(error.filename, error.lineno))
    return found


def where(error: BaseException) -> Place | None:
    """Returns the innermost place in the site's own code or templates, or else the innermost of all."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is known for known in chain):
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    innermost = None
    for link in chain:
        places = places_of(link)
        for one in reversed(places):
            if one.site:
                return one
        innermost = innermost or (places[-1] if places else None)
    return innermost


def exception_of(error: BaseException) -> Json:
    """Returns type, message, place and traceback of an exception."""
    said = described(error)
    found = where(error)
    return {
        "type": said["type"],
        "message": said["message"],
        "where": found.text if found else None,
        "site": bool(found and found.site),
        "trace": said["traceback"],
    }


def read_only_path(error: BaseException) -> str | None:
    """Returns the file whose write or removal the mounts of the sandbox refused."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is known for known in seen):
        if isinstance(cause, OSError) and cause.errno in LIMITS:
            name = cause.filename if cause.filename is not None else cause.strerror
            return readable(os.fsdecode(name)) if isinstance(name, (str, bytes)) else text_of(name)
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


class Heard(logging.Handler):
    """Records what Django logs about responses with status 400, 403, or 500 and above."""

    def emit(self, record: logging.LogRecord) -> None:
        """Records the exception that is being handled, or the message."""
        asked, status = current(), getattr(record, "status_code", None)
        if asked is None or not (status in (400, 403) or (isinstance(status, int) and status >= 500)):
            return
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        # For an exception without a signal, the name of the logger ends with that of the exception.
        if error is not None and (record.exc_info or record.name == "django.security." + type(error).__name__):
            asked.failed(error)
        elif not asked.exceptions:
            asked.refused(record.name, record.getMessage())


def raised(**kwargs: Any) -> None:
    """Records the exception of the signal `got_request_exception`."""
    asked, error = current(), sys.exc_info()[1]
    if asked is not None and error is not None:
        asked.unhandled = True
        asked.failed(error)


def listen() -> None:
    """Connects to Django's signal and loggers, whatever the site's logging configuration is."""
    from django.core.signals import got_request_exception

    got_request_exception.connect(raised, weak=False, dispatch_uid="deploykit")
    for name in LOGGERS:
        logger = logging.getLogger(name)
        # `disable_existing_loggers` may have disabled them.
        logger.disabled = False
        if not logger.isEnabledFor(logging.WARNING):
            logger.setLevel(logging.WARNING)
        if not any(isinstance(handler, Heard) for handler in logger.handlers):
            logger.addHandler(Heard())
