"""A database that hangs, is locked, or went away."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from typing import Any

from . import origin
from .answers import send
from .connections import has_database
from .errors import Failed, Refused, guarded
from .kinds import Connection, Json
from .pooling import keeps_no_session
from .registry import answers
from .sql import rows_of

# What an application's sessions are called that change the schema, so that what a killed one left can be found.
CHANGES = "deploykit changes the schema"

# Seconds that a database may take to let us in, to give a lock, and to show that it lives; the configuration says it.
LIMIT = 60.0

# Whether the connections of the main thread change the schema.
CHANGING = False


def be_patient(seconds: float) -> None:
    """Lets no connection wait without end."""
    from django.db.backends.signals import connection_created

    global LIMIT
    LIMIT = float(seconds)
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(max(2, int(LIMIT))))
    connection_created.connect(limited, weak=False, dispatch_uid="deploykit")


def limited(connection: Connection, **kwargs: Any) -> None:
    """Gives a new connection the limit for locks, unless the site has one of its own, and its name."""
    if origin.LOADING:
        origin.READ_AT_BOOT.add(connection.alias)
    ours = CHANGING and threading.current_thread() is threading.main_thread()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Through such a pooler it would stay for whoever gets the session next.
            if rows_of(cursor, "SHOW lock_timeout")[0][0] == "0" and not keeps_no_session(connection):
                cursor.execute("SET lock_timeout = %d" % int(LIMIT * 1000))
            if ours:
                cursor.execute("SET application_name = '%s'" % CHANGES)
        elif connection.vendor == "mysql":
            if rows_of(cursor, "SELECT @@lock_wait_timeout")[0][0] >= 86400:
                cursor.execute("SET SESSION lock_wait_timeout = %d" % max(1, int(LIMIT)))
            if ours:
                cursor.execute("SELECT GET_LOCK(concat('%s ', md5(DATABASE())), 0)" % CHANGES)
                cursor.fetchall()


def begin_to_change(connection: Connection, alias: str) -> None:
    """Connects for a change of the schema, alone."""
    global CHANGING
    connection.close()
    guarded("database", end_left, connection, database=alias)
    connection.close()
    CHANGING = True


def change_no_more() -> None:
    """Makes connections read-only that are opened from now on."""
    global CHANGING
    CHANGING = False


def end_left(connection: Connection) -> None:
    """Ends what a killed process left running: its server would do it once a lock is free, when nobody expects it."""
    sql = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE application_name = '%s' AND usename = current_user"
        " AND datname = current_database() AND pid <> pg_backend_pid()" % CHANGES,
        "mysql": "SELECT id FROM (SELECT IS_USED_LOCK(concat('%s ', md5(DATABASE()))) AS id) AS used"
        " WHERE id IS NOT NULL" % CHANGES,
    }.get(connection.vendor)
    until = time.monotonic() + LIMIT
    while sql:
        with connection.cursor() as cursor:
            left = [row[0] for row in rows_of(cursor, sql)]
            if not left:
                return
            if time.monotonic() > until:
                raise Refused("busy", database=connection.alias, names=[str(session) for session in left])
            for session in left:
                end = "SELECT pg_terminate_backend(%d)" if connection.vendor == "postgresql" else "KILL %d"
                try:
                    cursor.execute(end % session)
                except Exception:
                    # It ended by itself.
                    traceback.print_exc()
        time.sleep(0.1)


@answers("settle")
def do_settle(request: Json) -> Json:
    """Waits for a server that restarts, and ends what was left running in it."""
    from django.db import connections
    from django.db.utils import OperationalError

    connection, until = connections[request["database"]], time.monotonic() + LIMIT
    while connection.vendor != "sqlite" and has_database(connection.alias):
        try:
            connection.ensure_connection()
        except OperationalError as error:
            if time.monotonic() > until:
                raise Failed("database", error, database=connection.alias) from error
            time.sleep(0.2)
            continue
        guarded("database", end_left, connection, database=connection.alias)
        break
    return {}


class Watched:
    """Ends everything, and says why, when the database does not even let anybody in any more.

    A driver that waits for a server which was stopped, or whose machine is gone, waits for ever.
    """

    def __init__(self, alias: str | None) -> None:
        """Takes the database's name; `None`: the request is about none."""
        from django.db import connections

        self.alias, self.over = alias, threading.Event()
        self.connection: Connection = connections[alias] if alias in connections.settings else None
        if self.connection is not None and self.connection.vendor in ("sqlite", "unknown"):
            self.connection = None

    def __enter__(self) -> None:
        """Begins to watch."""
        if self.connection is not None:
            threading.Thread(target=self.watch, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        """Ends the watch."""
        self.over.set()

    def watch(self) -> None:
        """Polls the database until the request is answered."""
        mute = 0
        while not self.over.wait(LIMIT / 2):
            asked = threading.Thread(target=self.ask, daemon=True)
            since = time.monotonic()
            asked.start()
            asked.join(LIMIT)
            mute = mute + 1 if time.monotonic() - since >= LIMIT else 0
            if mute > 1 and not self.over.is_set():
                send({"error": {"kind": "mute", "database": self.alias}})
                # With its programs, which wait as well.
                os.killpg(os.getpgrp(), signal.SIGKILL)

    def ask(self) -> None:
        """Checks that the database answers, on a connection of its own."""
        another = self.connection.copy()
        try:
            with another.cursor() as cursor:
                cursor.execute("SELECT 1")
            another.close()
        except Exception:
            # Refused is answered, too.
            pass
