"""The SQL statements of migrations, without the values in them, with their durations."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Callable, Iterator

from . import origin
from .kinds import Connection, Json

# How many different statements of a migration are told apart, and how many are told: those that took longest.
MOST, TOLD = 1000, 20

# How many characters of a statement are told.
LENGTH = 300

# What stands for a value.
VALUE = "'…'"

# Strings and comments, which may contain each other's marks. Identifiers are kept. A string that does not end goes to the end.
TOKENS = re.compile(
    r"""(?P<name>"(?:[^"]|"")*(?:"|\Z)) | (?P<comment>/\*.*?(?:\*/|\Z) | --[^\n]*) | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    | \b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z)""",
    re.DOTALL | re.VERBOSE,
)
TOKENS_OF_MYSQL = re.compile(
    r"""(?P<name>`[^`]*(?:`|\Z)) | (?P<comment>/\*.*?(?:\*/|\Z) | --\s[^\n]* | \#[^\n]*)
    | '(?:[^'\\]|\\.|'')*(?:'|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z)""",
    re.DOTALL | re.VERBOSE,
)


def without_values(sql: str, vendor: str) -> str:
    """Returns a statement on one line without comments, and with the same mark for all strings in it."""

    def shown(found: re.Match[str]) -> str:
        """Returns what stands for a token."""
        if found.group("name"):
            return found.group("name")
        return " " if found.group("comment") else VALUE

    text = (TOKENS_OF_MYSQL if vendor == "mysql" else TOKENS).sub(shown, sql)
    text = " ".join(text.split())
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"


class Statements:
    """Records the statements of a connection; their parameters are not looked at."""

    def __init__(self, connection: Connection) -> None:
        """Takes the connection."""
        self.connection = connection
        # By statement: how often it was executed, and the seconds that took.
        self.seen: dict[str, tuple[int, float]] = {}

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Records statements meanwhile; only in a rehearsal."""
        if not origin.IN_SANDBOX:
            yield
            return
        with self.connection.execute_wrapper(self):
            yield

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Executes a statement."""
        since = time.monotonic()
        try:
            return execute(sql, params, many, context)
        finally:
            # Other types may show values.
            text = sql if isinstance(sql, str) else type(sql).__name__
            if text not in self.seen and len(self.seen) >= MOST:
                text = "…"
            count, seconds = self.seen.get(text, (0, 0.0))
            self.seen[text] = (count + 1, seconds + time.monotonic() - since)

    def taken(self) -> list[Json]:
        """Returns the statements since the last call, those first that took longest."""
        found: dict[str, tuple[int, float]] = {}
        for sql, (more, longer) in self.seen.items():
            text = without_values(sql, self.connection.vendor)
            count, seconds = found.get(text, (0, 0.0))
            found[text] = (count + more, seconds + longer)
        self.seen = {}
        longest = sorted(found.items(), key=lambda one: -one[1][1])[:TOLD]
        return [{"sql": text, "count": count, "duration_ms": int(1000 * seconds)} for text, (count, seconds) in longest]
