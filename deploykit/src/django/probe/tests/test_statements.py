"""Statements are told without the values in them."""

from __future__ import annotations

from typing import Any

import pytest

from deploykit_probe import statements
from deploykit_probe.statements import Statements, without_values


@pytest.mark.parametrize(
    ("vendor", "sql", "expected"),
    [
        ("sqlite", "UPDATE a\n  SET b = 'it''s secret' WHERE c = %s", "UPDATE a SET b = '…' WHERE c = %s"),
        ("postgresql", "SELECT E'a\\'secret', 'C:\\', 'secret'", "SELECT '…', '…', '…'"),
        ("postgresql", "DO $x$ BEGIN 'secret' $$ secret $x$; SELECT $$secret$$", "DO '…'; SELECT '…'"),
        ("postgresql", "SELECT \"it's\", 'secret' -- don't\n, 'secret'", "SELECT \"it's\", '…' , '…'"),
        ("postgresql", "SELECT /* don't */ 'secret", "SELECT '…'"),
        ("mysql", "SELECT `it's`, 'a\\'secret', \"secret\" # don't\n, 'x'", "SELECT `it's`, '…', '…' , '…'"),
    ],
)
def test_strings_and_comments_are_left_out(vendor: str, sql: str, expected: str) -> None:
    """Names, numbers and places of parameters stay."""
    assert without_values(sql, vendor) == expected


def test_a_long_statement_is_cut() -> None:
    """Its beginning tells enough."""
    assert len(without_values("SELECT " + "a, " * 1000, "sqlite")) == statements.LENGTH


def test_the_same_statement_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of statements that are told apart is limited."""
    monkeypatch.setattr(statements, "MOST", 3)

    class Opened:
        """A connection."""

        vendor = "sqlite"

    recorder = Statements(Opened())
    texts: list[Any] = ["INSERT 'a'", "INSERT 'b'", "INSERT 'a'", b"SELECT 1", "SELECT 2", "SELECT 3"]
    for text in texts:
        assert recorder(lambda sql, *others: sql, text, ("secret",), False, {}) == text
    told = {one["sql"]: one["count"] for one in recorder.taken()}
    assert told == {"INSERT '…'": 3, "bytes": 1, "…": 2}
    assert recorder.taken() == []
