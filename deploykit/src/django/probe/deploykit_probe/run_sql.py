"""What SQL of the site's own does, as far as it is understood."""

from __future__ import annotations

import re
from typing import Any

from .kinds import Operation

# Statements that hold no row and change none.
HARMLESS_SQL = re.compile(r"(?:CREATE (?:UNIQUE )?INDEX|DROP INDEX|ANALYZE|COMMENT ON)\b", re.IGNORECASE)


def is_harmless_sql(operation: Operation) -> bool:
    """Tells whether SQL makes or removes nothing but indexes, there and back."""
    there, back = (statements_of(sql) for sql in (operation.sql, operation.reverse_sql))
    return all(HARMLESS_SQL.match(statement) for statement in there + back) and bool(there) == bool(back)


def statements_of(sql: Any) -> list[str]:
    """Returns the statements of `RunSQL`, without comments, each in one line."""
    import sqlparse

    found = []
    for part in [sql] if isinstance(sql, str) else sql:
        text = sqlparse.format(part if isinstance(part, str) else part[0], strip_comments=True)
        found += [statement.strip().rstrip(";") for statement in sqlparse.split(text)]
    return [re.sub(r"\s+", " ", statement) for statement in found if statement]
