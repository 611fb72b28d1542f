"""The table locks of migrations, read from `pg_locks` through a second connection."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from typing import Any, Callable, Iterator

from . import origin
from .kinds import Connection, Json

# The lock modes that block readers or writers of rows, weakest first. Source: PostgreSQL's "Explicit Locking".
MODES = {
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}

# A table that the transaction itself creates is not visible to others in `pg_class`, and blocks nobody.
HELD = (
    "SELECT c.oid::regclass::text, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.pid = %%s AND l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm') AND l.mode IN ('%s')"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
) % "', '".join(MODES)

# Statements that take no such lock, unless a function or a trigger does. After them the locks are read seldom: each reading is
# followed by statements that take so many times as long.
ROWS = ("SELECT", "INSERT", "UPDATE", "DELETE", "RELEAS", "SAVEPO")
SELDOM = 50

# Polling interval while a statement runs that is a transaction of its own, in seconds.
OFTEN = 0.005


class Locks:
    """Records which tables a connection locks, after each of its statements."""

    def __init__(self, connection: Connection) -> None:
        """Takes the connection whose locks are recorded."""
        self.connection = connection
        self.other: Connection = None
        self.next_look, self.failed = 0.0, False
        # By table and mode: when the lock was taken and released.
        self.seen: dict[tuple[str, str], tuple[float, float | None]] = {}

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Records locks meanwhile; only in a rehearsal, so that the live server gets no further connection."""
        if not origin.IN_SANDBOX or self.connection.vendor != "postgresql":
            yield
            return
        self.other = self.connection.copy()
        try:
            with self.connection.execute_wrapper(self):
                yield
        finally:
            self.other.close()

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Executes a statement."""
        since, rows = time.monotonic(), str(sql).lstrip()[:6].upper() in ROWS
        if self.connection.in_atomic_block:
            result = execute(sql, params, many, context)
            if not rows or since > self.next_look:
                # The locks are held until the end of the transaction.
                self.look(since)
            return result
        if rows:
            return execute(sql, params, many, context)
        over = threading.Event()
        watcher = threading.Thread(target=self.look_on, args=(since, over), daemon=True)
        watcher.start()
        try:
            return execute(sql, params, many, context)
        finally:
            over.set()
            watcher.join()
            now = time.monotonic()
            self.seen = {key: (begun, until or now) for key, (begun, until) in self.seen.items()}

    def look_on(self, since: float, over: threading.Event) -> None:
        """Polls the locks until the statement ends, which releases them."""
        while not over.wait(OFTEN):
            self.look(since)

    def look(self, since: float) -> None:
        """Records the locks that are held now."""
        if self.failed:
            return
        begun_look = time.monotonic()
        try:
            driver: Any = self.connection.connection
            session = driver.get_backend_pid() if hasattr(driver, "get_backend_pid") else driver.info.backend_pid
            self.other.ensure_connection()
            # Django's connections belong to one thread; the driver's cursor does not.
            with self.other.connection.cursor() as cursor:
                cursor.execute(HELD, (session,))
                held = cursor.fetchall()
        except Exception:
            # The migration must not fail because of it: the site's role may be limited to one connection.
            traceback.print_exc()
            self.failed = True
            return
        now = time.monotonic()
        self.next_look = now + SELDOM * (now - begun_look)
        for table, mode in held:
            begun, _ = self.seen.get((table, mode), (since, None))
            self.seen[table, mode] = (begun, None)

    def taken(self) -> list[Json]:
        """Returns the locks since the last call, of each table the strongest."""
        now, strength, found = time.monotonic(), list(MODES), {}
        for (table, mode), (since, until) in sorted(self.seen.items(), key=lambda one: strength.index(one[0][1])):
            found[table] = {"table": table, "mode": MODES[mode], "duration_ms": int(1000 * ((until or now) - since))}
        self.seen = {}
        return [found[table] for table in sorted(found)]
