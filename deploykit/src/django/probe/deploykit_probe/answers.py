"""The lines that deploykit reads, and the log that the site's output goes to."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any

from .kinds import Json

ANSWERS = os.fdopen(os.dup(1), "wb", 0)


class Output(io.RawIOBase):
    """The log. When nobody reads it any more, it drops what is written: a print must never fail a migration."""

    def writable(self) -> bool:
        """Returns that it can be written to."""
        return True

    def fileno(self) -> int:
        """Returns the standard error."""
        return 2

    def isatty(self) -> bool:
        """Returns that it is not a terminal."""
        return False

    def write(self, data: Any) -> int:
        """Writes what it can; claims that all was written when nobody reads it."""
        view = memoryview(data).cast("B")
        try:
            return os.write(2, view)
        except OSError:
            return len(view)


def seal() -> None:
    """Sends what the site prints to the log, and gives it nothing to read."""
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, closefd=False)
    for name in ("stdout", "stderr"):
        buffer = io.BufferedWriter(Output(), 8192)
        stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True, write_through=True)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def line_of(value: Json) -> bytes:
    """Returns a line that deploykit reads."""
    # A byte of a file name that is not UTF-8 is a lone surrogate here, and a NUL with two digits in JSON.
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = re.sub("[\udc80-\udcff]", lambda found: "\\u0000%02x" % (ord(found.group()) - 0xDC00), text)
    return text.encode("utf-8", "replace") + b"\n"


def send(value: Json) -> None:
    """Writes one line for deploykit."""
    data = line_of(value)
    try:
        while data:
            data = data[ANSWERS.write(data) :]
    except OSError:
        # Nobody listens any more. Whatever runs goes on to its end; the closed input ends the process then.
        pass


def received(value: Any) -> Any:
    """What was sent, with the names of files as Python has them."""
    if isinstance(value, str):
        return re.sub("\0([0-9a-f]{2})", lambda found: chr(0xDC00 + int(found.group(1), 16)), value)
    if isinstance(value, list):
        return [received(one) for one in value]
    if isinstance(value, dict):
        return {name: received(one) for name, one in value.items()}
    return value
