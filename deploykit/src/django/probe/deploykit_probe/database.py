"""Migrations: what is pending, applied and to be reversed."""

from __future__ import annotations

import collections
import sys
import time
from typing import Any, Callable

from .answers import send
from .connections import Looked, has_database, let_all_go, reach, twins
from .errors import Failed, Refused, guarded
from .history import lacking, required_strays, squashes_of, to_reverse, unrecorded
from .identities import identities, identity, key_of, keys_of, moved
from .kinds import Connection, Executor, Json, Key, Migration, Operation
from .locks import Locks
from .losses import Change, Judge
from .misfits import misfits
from .patience import begin_to_change
from .record import record_at_once
from .registry import answers
from .schema import schema_of
from .sql import rows_of
from .statements import Statements
from .tables import Names


def executor_of(connection: Connection, alias: str, progress: Progress | None = None) -> Executor:
    """Returns Django's migration executor after checking that the history is consistent."""
    from django.db.migrations.exceptions import InconsistentMigrationHistory
    from django.db.migrations.executor import MigrationExecutor

    reach(connection, alias)
    executor = guarded("migrations", MigrationExecutor, connection, progress, database=alias)
    try:
        executor.loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        raise Failed("inconsistent", error, database=alias) from error
    conflicts = executor.loader.detect_conflicts()
    if conflicts:
        apps = [{"app": app, "names": sorted(names)} for app, names in sorted(conflicts.items())]
        raise Refused("conflicts", apps=apps)
    return executor


def pending_of(executor: Executor) -> list[Migration]:
    """Returns the migrations that are not applied, in their order."""
    return [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def described_operation(operation: Operation) -> str:
    """Returns an operation in Django's words, or the name of its class."""
    try:
        text: str = operation.describe()
        return text
    except Exception:
        return type(operation).__name__


@answers("migrations")
def do_migrations(request: Json) -> Json:
    """Says which migrations are pending, and what each does."""
    from django.core.management import get_commands

    alias = request["database"]
    rest = others(request.get("migrated") or [alias])
    if not has_database(alias):
        return {"pending": [], "applied": [], "others": rest}
    with Looked(alias) as connection:
        executor = executor_of(connection, alias)
        state = guarded("migrations", executor._create_project_state, True, database=alias)
        transactional = bool(connection.features.can_rollback_ddl)
        names = guarded("database", Names, connection, get_commands()["migrate"] == "django.core", database=alias)
        judge, steps = Judge(connection, state, names), []
        pending = guarded("migrations", pending_of, executor, database=alias)
        for migration in pending:
            change = judge.judge(migration)
            step = identity(key_of(migration))
            step.update(
                database=alias,
                atomic=bool(migration.atomic),
                transactional=bool(migration.atomic) and transactional,
                irreversible=change.irreversible,
                losses=change.losses,
                unknown=change.unknown,
                by_code=change.by_code,
                old_code=change.old_code,
                operations=[described_operation(operation) for operation in migration.operations],
            )
            steps.append(step)
        if names.existing:
            raise Refused("existing", names=names.existing)
        applied = set(executor.recorder.applied_migrations())
        found: Json = {
            "pending": steps,
            "applied": identities(applied),
            "unrecorded": identities(unrecorded(executor.loader, applied)),
            "lacking": lacking(executor.loader, applied),
            "doubtful": names.doubtful,
        }
        apps = {row["app"] for row in found["lacking"]}
        found["required"] = guarded("database", required_strays, connection, judge.state, apps, database=alias) if apps else []
    return dict(found, others=rest)


def others(migrated: list[str]) -> list[Json]:
    """What waits in databases that nothing migrates, where somebody did before or where routers keep models of their own."""
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    found = []
    for other in sorted(connections):
        if other in migrated or not has_database(other):
            continue
        try:
            if set(twins(other)) & set(migrated):
                continue
            with Looked(other) as connection:
                executor = MigrationExecutor(connection)
                if executor.recorder.has_table() or has_models_of_its_own(other):
                    pending = [identity(key_of(migration)) for migration in pending_of(executor)]
                    found.append({"database": other, "pending": pending})
        except Exception as error:
            found.append({"database": other, "pending": [], "unknown": type(error).__name__})
    return found


def has_models_of_its_own(alias: str) -> bool:
    """Tells whether routers let a model be made in this database and not in the default one."""
    from django.apps import apps
    from django.db import router

    if not router.routers:
        return False
    models = [model for model in apps.get_models() if model._meta.managed]
    return any(router.allow_migrate_model(alias, one) and not router.allow_migrate_model("default", one) for one in models)


@answers("state")
def do_state(request: Json) -> Json:
    """Says which migrations are applied, and what the schema is."""
    from django.db.migrations.recorder import MigrationRecorder

    alias = request["database"]
    if not has_database(alias):
        return {"database": alias, "applied": [], "schema": []}
    with Looked(alias) as connection:
        reach(connection, alias)
        applied = guarded("database", MigrationRecorder(connection).applied_migrations, database=alias)
        schema = guarded("database", schema_of, connection, database=alias)
        if request.get("everywhere") and connection.vendor == "postgresql":
            schema = sorted(schema + guarded("database", records_elsewhere, connection, database=alias))
    return {"database": alias, "applied": identities(applied), "schema": schema}


def records_elsewhere(connection: Connection) -> list[str]:
    """Tells which migrations are applied in each other schema, as a digest: there may be hundreds of schemas."""
    with connection.cursor() as cursor:
        sql = "SELECT nspname, format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        sql += " WHERE relname = 'django_migrations' AND relkind = 'r' AND nspname <> current_schema() ORDER BY 1"
        tables = rows_of(cursor, sql)
        found = []
        for schema, table in tables:
            digest = "SELECT count(*), md5(string_agg(app || '.' || name, ',' ORDER BY app, name)) FROM %s" % table
            count, text = rows_of(cursor, digest)[0]
            found.append("migrations of %s: %d, %s" % (schema, count, text))
    return found


class Progress:
    """Tells the start and the end of each migration, and hands on to whoever wants to know it too."""

    def __init__(
        self, alias: str, original: Callable[..., Any] | None = None, recorders: tuple[Locks, Statements] | None = None
    ) -> None:
        """Takes the database, another callback that is called, too, and the recorders of locks and statements."""
        self.alias, self.original, self.recorders = alias, original, recorders
        self.running: Key | None = None
        self.since = 0.0

    def __call__(self, action: str, migration: Migration = None, fake: bool = False) -> None:
        """Receives the progress of Django's executor."""
        if migration is not None and action in ("apply_start", "unapply_start"):
            self.running, self.since = key_of(migration), time.monotonic()
            self.tell(migration, "started", action.startswith("un"), None)
        elif migration is not None and action in ("apply_success", "unapply_success"):
            self.tell(migration, "finished", action.startswith("un"), time.monotonic() - self.since)
            self.running = None
        if self.original is not None:
            self.original(action, migration, fake)

    def tell(self, migration: Migration, phase: str, backwards: bool, seconds: float | None) -> None:
        """Tells deploykit of the start or the end of a migration."""
        event = dict(identity(key_of(migration)), event="migration", phase=phase, backwards=backwards, seconds=seconds)
        if self.recorders is not None:
            locks, statements = (recorder.taken() for recorder in self.recorders)
            # Before its start, Django itself executes some.
            event.update(locks=locks, statements=[] if seconds is None else statements)
        send(dict(event, database=self.alias))

    def fields(self) -> Json:
        """Returns the migration that runs, for an error."""
        return {"migration": identity(self.running) if self.running else None}


@answers("migrate")
def do_migrate(request: Json) -> Json:
    """Applies the planned migrations, if they are still what is pending."""
    from django.core.management import call_command, get_commands, load_command_class

    alias = request["database"]
    before, plan = keys_of(request["applied"]), [(row["app"], row["name"]) for row in request["plan"]]
    from django.db import connections

    connection = connections[alias]
    begin_to_change(connection, alias)
    executor = executor_of(connection, alias)
    applied = set(executor.recorder.applied_migrations())
    replaced = set()
    for key, migration in executor.loader.disk_migrations.items():
        # A squashed migration is recorded under the names that it replaces, and under its own by the way.
        if migration.replaces and (key in plan or set(migration.replaces) <= applied):
            replaced |= set(migration.replaces) | {key}
    unexpected, missing = applied - before - set(plan) - replaced, before - applied
    if unexpected or missing:
        raise moved(unexpected, missing)
    pending = [key_of(migration) for migration in pending_of(executor)]
    wanted = [key for key in plan if key not in applied]
    if pending != [key for key in wanted if key in pending] or set(wanted) - set(pending) - replaced:
        raise moved(set(pending) - set(wanted), set(wanted) - set(pending))
    record_at_once()
    # Also when nothing waits any more: one that was interrupted may not have told everybody (`post_migrate`).
    app = get_commands()["migrate"]
    command = load_command_class(app, "migrate") if isinstance(app, str) else app
    locks, statements = Locks(connection), Statements(connection)
    progress = Progress(alias, getattr(command, "migration_progress_callback", None), (locks, statements))
    command.migration_progress_callback = progress
    try:
        with locks.watch(), statements.watch():
            call_command(command, database=alias, interactive=False, verbosity=1, skip_checks=True)
    except BaseException as error:
        raise Failed("migration", error, **progress.fields()) from error
    finally:
        if app != "django.core":
            let_all_go()
    return {}


@answers("reversal")
def do_reversal(request: Json) -> Json:
    """Says what `do_reverse` would do."""
    alias = request["database"]
    if not has_database(alias):
        return {"migrations": []}
    with Looked(alias) as connection:
        executor = executor_of(connection, alias)
        undone, full = to_reverse(executor, keys_of(request["applied"]))
        changes = changes_of(executor, undone, full)
        transactional = bool(connection.features.can_rollback_ddl)
        steps = []
        for migration in undone:
            change = changes[key_of(migration)]
            step = identity(key_of(migration))
            step.update(
                transactional=bool(migration.atomic) and transactional,
                obstacles=obstacles_of(change),
                unknown=change.unknown + change.by_code,
                drops=change.drops,
            )
            steps.append(step)
    return {"migrations": steps}


@answers("reverse")
def do_reverse(request: Json) -> Json:
    """Reverses what is applied and was not before, newest first, with the code that applied it."""
    from django.core.management.sql import emit_pre_migrate_signal
    from django.db import connections

    alias = request["database"]
    if not has_database(alias):
        return {}
    connection = connections[alias]
    progress = Progress(alias)
    begin_to_change(connection, alias)
    executor = executor_of(connection, alias, progress)
    before = keys_of(request["applied"])
    undone, full = to_reverse(executor, before)
    obstacles = [(key, obstacles_of(change)) for key, change in changes_of(executor, undone, full).items()]
    bad = [dict(identity(key), reasons=reasons) for key, reasons in obstacles if reasons]
    if bad:
        raise Refused("irreversible", migrations=bad)
    plan = [(migration, True) for migration in undone]
    if plan:
        record_at_once()
        apps = executor._create_project_state(with_applied_migrations=True).apps
        # Django's content types follow a renamed model by this signal, backwards too.
        emit_pre_migrate_signal(1, False, alias, stdout=sys.stdout, apps=apps, plan=plan)
        try:
            executor.migrate([], plan=plan)
        except BaseException as error:
            raise Failed("reversal", error, **progress.fields()) from error
    # Django records a squashed migration in passing, when it applies and when it reverses.
    squashed = {key for key, _ in squashes_of(executor.loader)}
    for app, name in sorted(squashed & set(executor.recorder.applied_migrations()) - before):
        executor.recorder.record_unapplied(app, name)
    return {}


def changes_of(executor: Executor, undone: list[Migration], full: list[Migration]) -> dict[Key, Change]:
    """What is found out of each migration to be reversed, and whether what is written now still has room."""
    found = collections.OrderedDict()
    keys = {key_of(migration) for migration in undone}
    judge = Judge(executor.connection, executor._create_project_state(with_applied_migrations=False))
    for migration in full:
        if key_of(migration) in keys:
            found[key_of(migration)] = judge.judge(migration)
        elif key_of(migration) in executor.loader.applied_migrations:
            judge.pass_over(migration)
    for key, texts in misfits(executor.connection, judge.state, judge.needs).items():
        found[key].misfits += texts
    return found


def obstacles_of(change: Change) -> list[str]:
    """Why a migration cannot be reversed whole."""
    lost = ["reversing it would not restore %s" % text for text in change.losses]
    return change.irreversible + lost + change.misfits
