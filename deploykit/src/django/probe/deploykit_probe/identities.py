"""Migrations, as named in requests and answers."""

from __future__ import annotations

from typing import Iterable

from .errors import Refused
from .kinds import Json, Key, Migration


def key_of(migration: Migration) -> Key:
    """Returns app and name of a migration."""
    return (migration.app_label, migration.name)


def identity(key: Key) -> Json:
    """Returns a migration as answers say it."""
    return {"app": key[0], "name": key[1]}


def keys_of(rows: Iterable[Json]) -> set[Key]:
    """Returns the migrations that a request names."""
    return {(row["app"], row["name"]) for row in rows}


def identities(keys: Iterable[Key]) -> list[Json]:
    """Returns migrations as answers say them, in a fixed order."""
    return [identity(key) for key in sorted(keys)]


def moved(unexpected: Iterable[Key], missing: Iterable[Key]) -> Refused:
    """Returns the error for a database that has changed since the plan."""
    return Refused("state_moved", unexpected=identities(unexpected), missing=identities(missing))
