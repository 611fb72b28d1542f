"""Values that do not fit any more once a migration is reversed."""

from __future__ import annotations

from .kinds import Connection, Json, Key, ProjectState
from .sql import rows_of
from .tables import column_of, table_of


def misfits(connection: Connection, state: ProjectState, needs: list[Json]) -> dict[Key, list[str]]:
    """Says by migration which values, written since, do not fit any more once it is reversed."""
    found: dict[Key, list[str]] = {}
    for need in needs:
        try:
            text = misfit(connection, state, need)
        except Exception as error:
            text = "whether the values of %s still fit is not known (%s)" % (need["label"], type(error).__name__)
        if text:
            found.setdefault(need["key"], []).append(text)
    return found


def misfit(connection: Connection, state: ProjectState, need: Json) -> str | None:
    """Returns what does not fit any more; `None`: all values fit."""
    app, name, field = need["column"]
    model = state.models[app, name]
    column = next(column_of(known, one) for known, one in model.fields.items() if known.lower() == field)
    table = table_of(connection, (app, name), model.options)
    table, column = connection.ops.quote_name(table), connection.ops.quote_name(column)
    kind, limits, label = need["kind"], need["limits"], need["label"]
    conditions, group = [], ""
    if kind == "null":
        conditions, text = ["%s IS NULL" % column], "%s has NULL values now" % label
    elif kind == "unique":
        conditions, text = ["%s IS NOT NULL" % column], "%s has a value more than once now" % label
        group = " GROUP BY %s HAVING count(*) > 1" % column
    elif kind == "range":
        low, high = limits
        conditions += ["%s < %d" % (column, low)] if low is not None else []
        conditions += ["%s > %d" % (column, high)] if high is not None else []
        text = "%s has values now that are outside the previous range" % label
    elif kind == "length":
        length = "LENGTH" if connection.vendor == "sqlite" else "CHAR_LENGTH"
        conditions = ["%s(%s) > %d" % (length, column, limits[0])]
        text = "%s has values now that are longer than %d characters" % (label, limits[0])
    else:
        conditions = ["ROUND(%s, %d) <> %s" % (column, limits[0], column), "ABS(%s) >= %d" % (column, limits[1])]
        text = "%s has values now that are outside the previous range" % label
    if not conditions:
        return None
    with connection.cursor() as cursor:
        rows = rows_of(cursor, "SELECT 1 FROM %s WHERE %s%s LIMIT 1" % (table, " OR ".join(conditions), group))
    return text if rows else None
