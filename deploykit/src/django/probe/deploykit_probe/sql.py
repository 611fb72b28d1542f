"""Runs queries."""

from __future__ import annotations

from .kinds import Cursor, Rows


def rows_of(cursor: Cursor, sql: str) -> Rows:
    """Returns all rows of a query."""
    cursor.execute(sql)
    rows: Rows = cursor.fetchall()
    return rows
