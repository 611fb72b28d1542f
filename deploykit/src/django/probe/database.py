# --- migrations and the database


def key_of(migration):
    return (migration.app_label, migration.name)


def identity(key):
    return {"app": key[0], "name": key[1]}


def keys_of(rows):
    return set((row["app"], row["name"]) for row in rows)


def identities(keys):
    return [identity(key) for key in sorted(keys)]


class Looked:
    """Removes the empty file that SQLite makes when somebody only looks."""

    def __init__(self, alias):
        from django.db import connections

        self.connection = guarded("database", lambda: connections[alias], database=alias)
        path = sqlite_file(self.connection) if self.connection.vendor == "sqlite" else None
        self.path = path if path and not os.path.lexists(path) else None

    def __enter__(self):
        return self.connection

    def __exit__(self, *exception):
        if self.path and os.path.exists(self.path) and os.path.getsize(self.path) == 0:
            self.connection.close()
            os.unlink(self.path)


def reach(connection, alias):
    guarded("database", connection.ensure_connection, database=alias)


def executor_of(connection, alias, progress=None):
    from django.db.migrations.exceptions import InconsistentMigrationHistory
    from django.db.migrations.executor import MigrationExecutor

    reach(connection, alias)
    executor = guarded("migrations", MigrationExecutor, connection, progress, database=alias)
    try:
        executor.loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        raise Failed("inconsistent", error, database=alias)
    conflicts = executor.loader.detect_conflicts()
    if conflicts:
        apps = [{"app": app, "names": sorted(names)} for app, names in sorted(conflicts.items())]
        raise Refused("conflicts", apps=apps)
    return executor


def pending_of(executor):
    return [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def described_operation(operation):
    try:
        return operation.describe()
    except Exception:
        return type(operation).__name__


def irreversible_reasons(operations):
    reasons = []
    for operation in operations:
        name = type(operation).__name__
        if not operation.reversible:
            missing = {"RunSQL": " without `reverse_sql`", "RunPython": " without `reverse_code`"}
            reasons.append(name + missing.get(name, ", which cannot be reversed"))
        else:
            reasons += irreversible_reasons(getattr(operation, "database_operations", None) or [])
    return reasons


def losses(app, operations, state):
    """What a reversal would not bring back: it restores columns and tables, not what was in them."""
    found = []
    for operation in operations:
        name = type(operation).__name__
        try:
            found += loss(app, operation, name, state)
            operation.state_forwards(app, state)
        except Exception:
            # An operation of the site's own, or a state that earlier ones could not give: nothing is known.
            pass
    return found


def loss(app, operation, name, state):
    if hasattr(operation, "database_operations"):
        return losses(app, operation.database_operations, state.clone())
    if name == "DeleteModel":
        options = state.models[app, operation.name_lower].options
        if options.get("proxy") or not options.get("managed", True):
            return []
        return ["the rows of `%s`" % operation.name]
    if name == "RemoveField":
        return ["the values of `%s.%s`" % (operation.model_name, operation.name)]
    if name == "AlterField":
        old = state.models[app, operation.model_name_lower].fields[operation.name]
        new = operation.field
        if old.get_internal_type() != new.get_internal_type():
            kinds = (operation.model_name, operation.name, old.get_internal_type(), new.get_internal_type())
            return ["the values of `%s.%s`, which turn from %s into %s" % kinds]
        if old.null and not new.null:
            return ["the NULL values of `%s.%s`" % (operation.model_name, operation.name)]
    return []


def do_migrations(request):
    alias = request["database"]
    with Looked(alias) as connection:
        executor = executor_of(connection, alias)
        state = guarded("migrations", executor._create_project_state, True, database=alias)
        transactional = bool(connection.features.can_rollback_ddl)
        steps = []
        for migration in guarded("migrations", pending_of, executor, database=alias):
            lost = losses(migration.app_label, migration.operations, state)
            step = identity(key_of(migration))
            step.update(
                database=alias,
                atomic=bool(migration.atomic),
                transactional=bool(migration.atomic) and transactional,
                irreversible=irreversible_reasons(migration.operations),
                losses=lost,
                operations=[described_operation(operation) for operation in migration.operations],
            )
            steps.append(step)
        applied = identities(executor.recorder.applied_migrations())
    return {"pending": steps, "applied": applied, "others": others(alias)}


def others(alias):
    """What waits in the other databases that `migrate --database` was used on."""
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    found = []
    for other in sorted(connections):
        if other == alias:
            continue
        try:
            with Looked(other) as connection:
                executor = MigrationExecutor(connection)
                if executor.recorder.has_table():
                    pending = [identity(key_of(migration)) for migration in pending_of(executor)]
                    found.append({"database": other, "pending": pending})
        except Exception as error:
            found.append({"database": other, "pending": [], "unknown": type(error).__name__})
    return found


def do_state(request):
    from django.db.migrations.recorder import MigrationRecorder

    alias = request["database"]
    with Looked(alias) as connection:
        reach(connection, alias)
        applied = guarded("database", MigrationRecorder(connection).applied_migrations, database=alias)
        schema = guarded("database", schema_of, connection, database=alias)
    return {"database": alias, "applied": identities(applied), "schema": schema}


class Progress:
    """Tells the start and the end of each migration, and hands on to whoever wants to know it too."""

    def __init__(self, original=None):
        self.original = original
        self.running = None
        self.since = 0.0

    def __call__(self, action, migration=None, fake=False):
        if migration is not None and action in ("apply_start", "unapply_start"):
            self.running, self.since = key_of(migration), time.monotonic()
            self.tell("started", action.startswith("un"), None)
        elif migration is not None and action in ("apply_success", "unapply_success"):
            self.tell("finished", action.startswith("un"), time.monotonic() - self.since)
            self.running = None
        if self.original is not None:
            self.original(action, migration, fake)

    def tell(self, phase, backwards, seconds):
        event = dict(identity(self.running), event="migration", phase=phase, backwards=backwards, seconds=seconds)
        send(event)

    def fields(self):
        return {"migration": identity(self.running) if self.running else None}


def moved(unexpected, missing):
    return Refused("state_moved", unexpected=identities(unexpected), missing=identities(missing))


def do_migrate(request):
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
    # Also when nothing waits any more: one that was cut off may not have told everybody (`post_migrate`).
    app = get_commands()["migrate"]
    command = load_command_class(app, "migrate") if isinstance(app, str) else app
    progress = Progress(getattr(command, "migration_progress_callback", None))
    command.migration_progress_callback = progress
    try:
        call_command(command, database=alias, interactive=False, verbosity=1, skip_checks=True)
    except BaseException as error:
        raise Failed("migration", error, **progress.fields())
    return {}


def to_reverse(executor, before):
    """What is applied and was not before, newest first; what of that is only recorded; and all migrations in order."""
    applied = set(executor.recorder.applied_migrations())
    if before - applied:
        raise moved((), before - applied)
    extra = applied - before
    full = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)]
    known, recorded_only = set(), set()
    for key, migration in executor.loader.disk_migrations.items():
        if migration.replaces and key in extra and set(migration.replaces) <= before:
            recorded_only.add(key)
        if key in extra:
            known |= {key} | set(migration.replaces)
    undone = [m for m in reversed(full) if key_of(m) in extra - recorded_only]
    for migration in undone:
        known |= set(migration.replaces)
    if extra - known:
        raise moved(extra - known, ())
    return undone, recorded_only, full


def do_reversal(request):
    """Says what `do_reverse` would do."""
    alias = request["database"]
    with Looked(alias) as connection:
        executor = executor_of(connection, alias)
        undone, _, full = to_reverse(executor, keys_of(request["applied"]))
        obstacles = obstacles_of(executor, undone, full)
        transactional = bool(connection.features.can_rollback_ddl)
        steps = []
        for migration in undone:
            step = identity(key_of(migration))
            step.update(
                transactional=bool(migration.atomic) and transactional,
                obstacles=obstacles.get(key_of(migration), []),
                drops=drops(migration.operations),
            )
            steps.append(step)
    return {"migrations": steps}


def drops(operations):
    """What goes with a reversal: what was written into the tables and columns that the migration made."""
    found = []
    for operation in operations:
        name = type(operation).__name__
        if hasattr(operation, "database_operations"):
            found += drops(operation.database_operations)
        elif name == "CreateModel":
            if operation.options.get("managed", True) and not operation.options.get("proxy"):
                found.append("the rows of `%s`" % operation.name)
        elif name == "AddField":
            found.append("the values of `%s.%s`" % (operation.model_name, operation.name))
    return found


def do_reverse(request):
    """Reverses what is applied and was not before, newest first, with the code that applied it."""
    from django.core.management.sql import emit_pre_migrate_signal
    from django.db import connections

    alias = request["database"]
    connection = connections[alias]
    progress = Progress()
    begin_to_change(connection, alias)
    executor = executor_of(connection, alias, progress)
    undone, recorded_only, full = to_reverse(executor, keys_of(request["applied"]))
    obstacles = obstacles_of(executor, undone, full)
    if obstacles:
        bad = [dict(identity(key), reasons=reasons) for key, reasons in obstacles.items()]
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
            raise Failed("reversal", error, **progress.fields())
    # A squashed migration that is only recorded; older Djangos also leave the record of one that was reversed.
    squashed = set(key_of(migration) for migration in undone if migration.replaces)
    for app, name in sorted(recorded_only | (squashed & set(executor.recorder.applied_migrations()))):
        executor.recorder.record_unapplied(app, name)
    return {}


def obstacles_of(executor, undone, full):
    """Why migrations cannot be reversed whole, by their keys."""
    found = {}
    names = set(key_of(migration) for migration in undone)
    state = executor._create_project_state(with_applied_migrations=False)
    for migration in full:
        lost = losses(migration.app_label, migration.operations, state)
        if key_of(migration) in names:
            reasons = irreversible_reasons(migration.operations)
            reasons += ["reversing it would not bring back %s" % text for text in lost]
            if reasons:
                found[key_of(migration)] = reasons
    return found
