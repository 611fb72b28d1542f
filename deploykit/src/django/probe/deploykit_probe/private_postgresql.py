"""Copies of PostgreSQL databases, in a private server."""

from __future__ import annotations

import glob
import os
import re
import signal
import socket
import subprocess
from typing import IO, Any, Sequence

from .backup_postgresql import postgresql_environment, postgresql_role
from .copies_sqlite import SMALL
from .errors import Refused, text_of
from .kinds import Connection, Json
from .private import (
    PATIENCE,
    CannotCopy,
    Endpoints,
    argv_as,
    begun,
    check_room,
    directory_for,
    make_certificate,
    piped,
    plain_environment,
    server_environment,
    size_below,
    user_of,
    version_of,
    wait_for,
)
from .sql import rows_of
from .tools import feed_tool, run_tool

# Where systems keep the programs of each version.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql*/bin", "/opt/homebrew/opt/postgresql@*/bin")

# The superuser, who owns what no role of the site owns.
ADMIN = "deploykit rehearsal"

# A database that every server has.
TEMPLATE = "template1"

# The configuration of a server whose data may be lost at any time.
CONFIGURATION = """
listen_addresses = ''
shared_buffers = 32MB
maintenance_work_mem = 64MB
max_connections = 100
max_worker_processes = 4
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
min_wal_size = 8MB
max_wal_size = 256MB
checkpoint_timeout = 1h
autovacuum = off
logging_collector = off
log_min_messages = fatal
unix_socket_permissions = 0777
"""

# Settings of the live server that are kept: how statements and values are parsed, and the limits of a session.
KEPT = (
    "array_nulls", "backslash_quote", "bytea_output", "datestyle", "default_text_search_config", "default_toast_compression",
    "default_transaction_deferrable", "default_transaction_isolation", "extra_float_digits", "gin_fuzzy_search_limit",
    "idle_in_transaction_session_timeout", "intervalstyle", "jit", "lock_timeout", "max_prepared_transactions",
    "password_encryption", "row_security", "search_path", "standard_conforming_strings", "statement_timeout", "timezone",
    "transform_null_equals", "xmlbinary", "xmloption",
)  # fmt: skip

# Settings of a role or a database that a private server could not apply.
DROPPED = ("session_preload_libraries", "local_preload_libraries", "temp_tablespaces", "default_tablespace")

# Rights on the server's machine.
MACHINE = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")

# Queries for the statements that create the roles of the live server. Superusers become ordinary roles.
ROLES = """SELECT format('CREATE ROLE %I ', rolname) || concat_ws(' ', 'LOGIN', CASE WHEN NOT rolinherit THEN 'NOINHERIT' END,
 CASE WHEN rolcreatedb OR rolsuper THEN 'CREATEDB' END, CASE WHEN rolcreaterole OR rolsuper THEN 'CREATEROLE' END,
 CASE WHEN rolbypassrls OR rolsuper THEN 'BYPASSRLS' END) FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY oid"""
MEMBERS = """SELECT format('GRANT %%I TO %%I', r.rolname, m.rolname) || %s FROM pg_auth_members a
 JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
 WHERE m.rolname !~ '^pg_' AND r.rolname NOT IN ('%s') ORDER BY a.roleid, a.member"""
ROLE_SETTINGS = """SELECT format('INSERT INTO pg_db_role_setting SELECT %%s, %%s, %%L::text[]',
 CASE WHEN setdatabase = 0 THEN '0' ELSE '(SELECT oid FROM pg_database WHERE datname = current_database())' END,
 CASE WHEN setrole = 0 THEN '0' ELSE format('(SELECT oid FROM pg_roles WHERE rolname = %%L)', pg_get_userbyid(setrole)) END,
 kept::text) FROM pg_db_role_setting, LATERAL (SELECT array_agg(one) AS kept FROM unnest(setconfig) one
 WHERE split_part(one, '=', 1) NOT IN ('%s')) k WHERE kept IS NOT NULL AND setdatabase %s"""
EXTENSIONS = """SELECT extname, format('UPDATE pg_extension SET extowner = (SELECT oid FROM pg_roles WHERE rolname = %L)
 WHERE extname = %L', pg_get_userbyid(extowner), extname) FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"""


def programs_for(major: int) -> dict[str, str]:
    """Returns the programs of the oldest installed server of this major version or newer."""
    directories = [directory for place in PLACES for directory in glob.glob(place)]
    directories += os.environ.get("PATH", os.defpath).split(os.pathsep)
    found: dict[int, dict[str, str]] = {}
    for directory in directories:
        names = {name: os.path.join(directory, name) for name in ("initdb", "postgres", "pg_dump", "pg_restore", "psql")}
        if not all(os.access(path, os.X_OK) for path in names.values()):
            continue
        version = re.search(r"\) (\d+)", version_of(names["postgres"]))
        if version and int(version.group(1)) >= major:
            found.setdefault(int(version.group(1)), names)
    if not found:
        raise CannotCopy(
            "no PostgreSQL server of version %d or newer is installed here" % major, "apt install postgresql-%d" % major
        )
    return found[min(found)]


def place_of_server(connection: Connection) -> str:
    """Returns what identifies the live server."""
    with connection.cursor() as cursor:
        return str(rows_of(cursor, "SELECT pg_postmaster_start_time(), version()")[0])


def option(connection: Connection, name: str, variable: str) -> str:
    """Returns an option of a connection, from the settings or from a variable."""
    return str((connection.settings_dict.get("OPTIONS") or {}).get(name) or os.environ.get(variable) or "")


def needs_tls(connection: Connection) -> bool:
    """Tells whether the client requires TLS; fails if it requires what only the live server can prove."""
    mode = option(connection, "sslmode", "PGSSLMODE")
    if mode.startswith("verify-"):
        raise CannotCopy("its clients verify the server's certificate (`sslmode=%s`)" % mode)
    for name, variable, allowed in (
        ("require_auth", "PGREQUIREAUTH", "none"),
        ("channel_binding", "PGCHANNELBINDING", "prefer disable"),
        ("gssencmode", "PGGSSENCMODE", "prefer disable"),
        ("requirepeer", "PGREQUIREPEER", "postgres"),
    ):
        value = option(connection, name, variable)
        if value and not set(value.split(",")) & set(allowed.split()):
            raise CannotCopy("its clients require `%s=%s`, which a copy cannot offer" % (name, value))
    return mode == "require"


def add_endpoint(endpoints: Endpoints, connection: Connection) -> None:
    """Adds the address that the driver reports for the open connection."""
    info = connection.connection.info
    host, port = str(info.host or ""), int(info.port or 5432)
    endpoints.ports.add(port)
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as opened:
        peer: Any = opened.getpeername()
        if opened.family != socket.AF_UNIX:
            options = connection.settings_dict.get("OPTIONS") or {}
            names = "%s,%s" % (host, options.get("host") or connection.settings_dict.get("HOST") or "")
            endpoints.add_address(peer[0], port, {name for name in names.split(",") if not name.startswith("/")})
        elif host.startswith("/"):
            endpoints.add_socket(host)
        else:
            raise CannotCopy("its server is reached by the socket `%s`" % text_of(peer))


class Cluster:
    """A private PostgreSQL server."""

    def __init__(self, directory: str, connections: dict[str, Connection], nice: int) -> None:
        """Takes the directory of the cluster, and the connections to one live server, by alias."""
        self.directory, self.data, self.nice = directory, os.path.join(directory, "data"), nice
        self.name = "deploykit-rehearsal-" + os.urandom(8).hex()
        self.endpoints = Endpoints(directory)
        self.tls = False
        for connection in connections.values():
            self.tls = needs_tls(connection) or self.tls
            connection.ensure_connection()
            add_endpoint(self.endpoints, connection)
        self.port = self.endpoints.port(5432)
        first = next(iter(connections.values()))
        self.programs = programs_for(first.pg_version // 10000)
        self.user = user_of("postgres", "nobody")
        self.process: subprocess.Popen[bytes] | None = None
        self.number = -1
        # Whether each copied database has all rows.
        self.copied: dict[str, bool] = {}

    def start(self, connection: Connection) -> None:
        """Makes the cluster and starts it; only a socket in its own directory reaches it."""
        directory_for(self.directory, None, 0o755)
        directory_for(self.data, self.user, 0o700)
        self.number = os.open(self.data, os.O_RDONLY)
        begin = begun(self.nice, self.user)
        argv = [
            self.programs["initdb"],
            "-D",
            self.place(),
            "-U",
            ADMIN,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
            "--wal-segsize=4",
        ]
        run_tool(argv, server_environment(), (self.number,), stdout=subprocess.DEVNULL, preexec_fn=begin, cwd="/")
        with connection.cursor() as cursor:
            self.configure([line for (line,) in rows_of(cursor, settings_sql())], relations(cursor))
            roles = [statement for (statement,) in rows_of(cursor, ROLES)]
            if connection.pg_version >= 160000:
                members = "format(' WITH ADMIN %s, INHERIT %s, SET %s', admin_option, inherit_option, set_option)"
            else:
                members = "CASE WHEN admin_option THEN ' WITH ADMIN OPTION' ELSE '' END"
            roles += [statement for (statement,) in rows_of(cursor, MEMBERS % (members, "', '".join(MACHINE)))]
            roles += [row[0] for row in rows_of(cursor, ROLE_SETTINGS % ("', '".join(DROPPED), "= 0"))]
        argv = [self.programs["postgres"], "-D", self.place(), "-k", ".", "-c", "max_connections=20", "-p", "5432"]
        log = os.path.join(self.directory, "log")
        with open(log, "wb") as file:
            # On this signal it ends its own processes at once.
            begin = begun(self.nice, self.user, signal.SIGQUIT)
            self.process = subprocess.Popen(
                argv, env=server_environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                pass_fds=(self.number,), preexec_fn=begin,
            )  # fmt: skip
        wait_for(self.process, self.answers, log, "PostgreSQL")
        # A database of the site may have this name.
        self.run(TEMPLATE, ["DROP DATABASE postgres"] + roles)

    def place(self) -> str:
        """Returns a short path of the data that also works for a user who cannot reach the directory."""
        return "/proc/self/fd/%d" % self.number

    def configure(self, settings: list[str], relations: int) -> None:
        """Writes its configuration."""
        lines = CONFIGURATION + "cluster_name = '%s'\nport = %d\n" % (self.name, self.port)
        # `pg_dump` and `pg_restore` lock all tables in one transaction.
        lines += "max_locks_per_transaction = %d\n" % max(128, relations // 10)
        lines += "".join(settings)
        if self.tls:
            lines += "ssl = on\n"
            make_certificate(self.data, self.user)
        for name, text in (
            ("postgresql.conf", lines),
            ("pg_hba.conf", "local all all trust\nhost all all all trust\n"),
        ):
            with open(os.path.join(self.data, name), "w", encoding="utf-8") as file:
                file.write(text)

    def environment(self, database: str) -> dict[str, str]:
        """Returns the variables with which programs connect to it as its superuser."""
        found = {"PGHOST": self.place(), "PGPORT": "5432", "PGUSER": ADMIN, "PGDATABASE": database, "PGSSLMODE": "disable"}
        return dict(plain_environment(["PG"]), PGCLIENTENCODING="UTF8", PGPASSFILE=self.directory + "/no-passwords", **found)

    def answers(self) -> bool:
        """Tells whether the server answers."""
        if not os.path.exists(os.path.join(self.data, ".s.PGSQL.5432")):
            return False
        argv = [self.programs["psql"], "-X", "-q", "-c", "SELECT 1"]
        quiet = subprocess.DEVNULL
        env = self.environment(TEMPLATE)
        return not subprocess.call(argv, env=env, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=(self.number,))

    def run(self, database: str, statements: Sequence[str]) -> None:
        """Runs statements as the superuser; stops at the first that fails."""

        def write(stream: IO[bytes]) -> None:
            """Writes them."""
            stream.write("".join(statement + ";\n" for statement in statements).encode("utf-8"))

        argv = [self.programs["psql"], "-X", "-q", "--set=ON_ERROR_STOP=1"]
        feed_tool(argv, self.environment(database), write, (self.number,))

    def rows(self, database: str, sql: str) -> list[str]:
        """Returns the only column of a query."""
        argv = [self.programs["psql"], "-X", "-q", "-A", "-t", "-c", sql]
        done = run_tool(argv, self.environment(database), (self.number,), stdout=subprocess.PIPE)
        return done.stdout.decode("utf-8").splitlines()

    def copy(self, connection: Connection, limit: int) -> tuple[int, bool]:
        """Copies a database, above the limit without most of its rows; returns its size, and whether all rows were copied."""
        with connection.cursor() as cursor:
            name, size = rows_of(cursor, "SELECT current_database(), pg_database_size(current_database())")[0]
            size = int(size)
            called = getattr(connection.connection.info, "dbname", name)
            if called != name:
                raise CannotCopy("a pooler calls its database `%s`, the server `%s`" % (called, name))
            if name in self.copied:
                # Another alias has the same database.
                return size, self.copied[name]
            extensions = rows_of(cursor, EXTENSIONS)
            create = [create_sql(connection, cursor)]
            access = "SELECT format('UPDATE pg_database SET datacl = %L::aclitem[] WHERE datname = %L', datacl::text, datname)"
            after = [row[0] for row in rows_of(cursor, access + " FROM pg_database WHERE datname = current_database()")]
            own = "= (SELECT oid FROM pg_database WHERE datname = current_database())"
            after += [row[0] for row in rows_of(cursor, ROLE_SETTINGS % ("', '".join(DROPPED), own))]
            kept = small_tables(cursor) if size > limit else []
        connection.close()
        here = self.rows(TEMPLATE, "SELECT name FROM pg_available_extensions")
        missing = sorted({extension for extension, _ in extensions} - set(here))
        if missing:
            text = "the extension `%s` is not installed for PostgreSQL %s here"
            raise CannotCopy(text % (missing[0], self.rows(TEMPLATE, "SHOW server_version")[0].split()[0]))
        whole = size <= limit
        if whole:
            check_room(self.directory, size)
        try:
            self.run(TEMPLATE, create)
        except Refused as error:
            unknown = re.search(r"invalid locale name: \"(.+)\"", "\n".join(error.fields.get("traceback", [])))
            if unknown is None:
                raise
            locale = unknown.group(1)
            text = "the locale `%s` of its database is not installed here"
            raise CannotCopy(text % locale, "locale-gen " + locale) from error
        self.fill(connection, str(name), [] if whole else ["--schema-only"], [])
        if kept:
            chosen = ["--table=*." + table for table in kept]
            self.fill(connection, str(name), ["--data-only"] + chosen, ["--data-only", "--disable-triggers"])
        self.run(str(name), [statement for _, statement in extensions] + ["ANALYZE"] + after)
        self.copied[name] = whole
        return size, whole

    def fill(self, connection: Connection, name: str, what: list[str], how: list[str]) -> None:
        """Copies the contents of a database."""
        source = [self.programs["pg_dump"], "--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=10000"]
        source += ["--no-tablespaces", "--no-subscriptions", "--no-security-labels"] + what
        role = postgresql_role(connection)
        source += ["--role=" + role] if role else []
        target = [self.programs["pg_restore"], "--exit-on-error", "--single-transaction", "--dbname=" + quoted_name(name)] + how
        env = postgresql_environment(connection)
        piped(source, env, target, self.environment(name), self.nice, (self.number,))

    def stop(self) -> None:
        """Shuts the server down cleanly, so that it starts again at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
        if self.number >= 0:
            os.close(self.number)

    def servers(self) -> list[Json]:
        """Returns how the sandbox starts it at the addresses of the live server."""
        argv = [self.programs["postgres"], "-D", "{}", "-k", ",".join(self.endpoints.sockets)]
        argv += ["-h", ",".join(self.endpoints.addresses)]
        server = {
            "argv": argv_as(self.user, self.data, argv),
            "environment": server_environment(),
            "user": None,
            "stop": int(signal.SIGINT),
            "ready": self.endpoints.ready(".s.PGSQL.%d" % self.port),
            "listen": self.endpoints.far(),
            "hosts": self.endpoints.hosts,
        }
        return [server] + self.endpoints.forwarders()

    def expected(self) -> Json:
        """Returns the query that identifies it, and its result."""
        return {"query": "SHOW cluster_name", "is": self.name}

    def size(self) -> int:
        """Returns its size in bytes."""
        return size_below(self.data)

    def show(self) -> list[list[Any]]:
        """Returns what the sandbox must mount: its sockets, and its data, without an overlay."""
        found = self.endpoints.show(self.user)
        for private in self.endpoints.sockets.values():
            for port in self.endpoints.ports - {self.port}:
                os.symlink(".s.PGSQL.%d" % self.port, os.path.join(private, ".s.PGSQL.%d" % port))
        return [[self.data, self.data, True]] + found


def quoted_name(name: str) -> str:
    """Returns a connection string with the name of a database, whatever characters the name has."""
    return "dbname='%s'" % name.replace("\\", "\\\\").replace("'", "\\'")


def settings_sql() -> str:
    """Returns the query for the lines of configuration with the settings that are kept."""
    return (
        "SELECT format(E'%%s = %%s\\n', name, quote_literal(reset_val)) FROM pg_settings WHERE lower(name) IN ('%s')"
        " AND source IN ('configuration file', 'command line', 'environment variable', 'session')" % "', '".join(KEPT)
    )


def relations(cursor: Any) -> int:
    """Returns the number of tables, indexes and other relations."""
    return int(rows_of(cursor, "SELECT count(*) FROM pg_class")[0][0])


def create_sql(connection: Connection, cursor: Any) -> str:
    """Returns the statement that creates an empty database with the same attributes."""
    version = connection.pg_version
    provider = "''"
    if version >= 150000:
        locale = "datlocale" if version >= 170000 else "daticulocale"
        provider = (
            "CASE datlocprovider WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %%L', %s)"
            " WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %%L', %s) ELSE '' END"
        ) % (locale, locale)
    sql = (
        "SELECT format('CREATE DATABASE %I TEMPLATE template0 OWNER %I ENCODING %L LC_COLLATE %L LC_CTYPE %L', datname,"
        " pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype) || "
    )
    sql += provider + " FROM pg_database WHERE datname = current_database()"
    return str(rows_of(cursor, sql)[0][0])


def small_tables(cursor: Any) -> list[str]:
    """Returns the existing tables whose rows are always copied, and their sequences."""
    sql = (
        "SELECT DISTINCT t.name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_depend d"
        " ON d.refobjid = c.oid AND d.deptype IN ('a', 'i') AND d.classid = 'pg_class'::regclass LEFT JOIN pg_class s"
        " ON s.oid = d.objid AND s.relkind = 'S', LATERAL (VALUES (c.relname), (s.relname)) t (name)"
        " WHERE c.relkind IN ('r', 'p') AND c.relname IN ('%s') AND t.name IS NOT NULL ORDER BY 1"
    )
    return [name for (name,) in rows_of(cursor, sql % "', '".join(SMALL))]
