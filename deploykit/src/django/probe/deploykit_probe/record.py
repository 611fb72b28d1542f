"""Migrations with their records."""

from __future__ import annotations

from typing import Any, Callable

from .kinds import Executor, Migration, ProjectState

# The attribute that methods have once they are replaced.
MARK = "deploykit"

# The methods that were replaced.
ORIGINALS: dict[str, Callable[..., Any]] = {}


def record_at_once() -> None:
    """Lets each migration and its record reach the database in one transaction, where it can be.

    Django records a migration that it reverses, and some that it applies, after their own transaction: a process that
    is killed between the two leaves a schema that `django_migrations` knows nothing of.
    """
    from django.db import transaction
    from django.db.migrations.executor import MigrationExecutor

    def whole(original: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the method with a transaction around it."""

        def step(self: Executor, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any) -> Any:
            """Applies or unapplies a migration and records that."""
            connection = self.connection
            if not (migration.atomic and connection.features.can_rollback_ddl):
                return original(self, state, migration, *args, **kwargs)
            # SQLite's schema editor wants the checks off, which cannot be done within a transaction.
            off = connection.disable_constraint_checking()
            try:
                with transaction.atomic(using=connection.alias):
                    return original(self, state, migration, *args, **kwargs)
            finally:
                if off:
                    connection.enable_constraint_checking()

        setattr(step, MARK, True)
        return step

    for name in ("apply_migration", "unapply_migration"):
        original = getattr(MigrationExecutor, name)
        if not getattr(original, MARK, False):
            ORIGINALS[name] = original
            setattr(MigrationExecutor, name, whole(original))


def undo() -> None:
    """Restores the methods."""
    from django.db.migrations.executor import MigrationExecutor

    for name, original in ORIGINALS.items():
        setattr(MigrationExecutor, name, original)
