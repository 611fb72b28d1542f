"""Copies of a PostgreSQL database in the scratch database that the configuration names."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .backup_postgresql import POSTGRESQL_DROPS, postgresql_environment, postgresql_role, postgresql_tools
from .errors import Refused
from .kinds import Connection, Cursor, Json
from .private import CannotCopy, piped, plain_environment
from .private_postgresql import DROPPED, add_endpoint, quoted_name, small_tables
from .proxy import PATIENCE, Target
from .proxy_postgresql import DIALECT
from .schema_postgresql import postgresql_own
from .scratch import KEY, Scratch, not_empty
from .sql import rows_of

# What tells a database from all others, in any server.
IDENTITY = """SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid FROM pg_database
 WHERE datname = current_database()"""

FACTS = """SELECT current_database(), session_user, (SELECT system_identifier::text FROM pg_control_system()),
 pg_database_size(current_database()), pg_encoding_to_char(encoding), datcollate, datctype,
 pg_has_role(datdba, 'USAGE'), pg_get_userbyid(datdba), shobj_description(oid, 'pg_database')
 FROM pg_database WHERE datname = current_database()"""

# Whether a role may connect to this database, and through which other role it could.
RIGHTS = """SELECT has_database_privilege(r.oid, current_database(), 'CONNECT'), r.rolsuper, r.rolcreaterole, r.rolreplication,
 (SELECT string_agg(quote_ident(o.rolname), ', ' ORDER BY o.rolname) FROM pg_roles o WHERE o.oid <> r.oid
 AND pg_has_role(r.oid, o.oid, 'MEMBER')
 AND (o.rolname ~ '^pg_' OR has_database_privilege(o.oid, current_database(), 'CONNECT'))
 AND o.rolname <> 'pg_database_owner') FROM pg_roles r WHERE r.rolname = %s"""

# Schemas that no extension brought, beside the one that every database has.
SCHEMAS = """SELECT quote_ident(n.nspname) FROM pg_namespace n WHERE n.nspname <> 'public' AND """ + postgresql_own(
    "pg_namespace", "n.oid"
)

# Extensions that this role can drop.
EXTENSIONS = """SELECT quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql' AND pg_has_role(extowner, 'USAGE')"""

# Settings of the live database and of its role, which the sessions in the scratch database get, too.
SETTINGS = """SELECT split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)
 FROM pg_db_role_setting, unnest(setconfig) one
 WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
 AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user)) AND split_part(one, '=', 1) NOT IN ('%s')
 AND NOT EXISTS (SELECT 1 FROM pg_settings s WHERE lower(s.name) = lower(split_part(one, '=', 1)) AND s.context <> 'user')
 ORDER BY (setrole <> 0)::int * 2 + (setdatabase <> 0)::int""" % "', '".join(DROPPED)

# What the programs connect with; no other variable may lead them elsewhere.
VARIABLES = ("HOST", "PORT", "USER", "PASSWORD", "DATABASE", "SSLMODE", "SSLROOTCERT", "APPNAME", "CONNECT_TIMEOUT")


class Facts(NamedTuple):
    """What a server says of a database."""

    name: str
    user: str
    server: str
    size: int
    encoding: str
    collate: str
    ctype: str
    owned: bool
    owner: str
    comment: str | None


def facts_of(cursor: Cursor) -> Facts:
    """Returns what the server says of the database of this connection."""
    return Facts(*rows_of(cursor, FACTS)[0])


def quoted(name: str) -> str:
    """Returns a name as SQL."""
    return '"%s"' % name.replace('"', '""')


def literal(text: str) -> str:
    """Returns a string as SQL."""
    return "E'%s'" % text.replace("\\", "\\\\").replace("'", "''")


def check_rights(cursor: Cursor, live: Facts, role: str) -> None:
    """Fails if a role of the live server could reach the live database."""
    found = rows_of(cursor, RIGHTS.replace("%s", literal(role)))
    if not found:
        raise CannotCopy("its server does not know the role `%s` of %s" % (role, KEY))
    connects, is_super, creates, replicates, others = found[0]
    reason = "the role `%s` of %s may " % (role, KEY)
    for has, what, attribute in (
        (is_super, "do everything on the live server", "NOSUPERUSER"),
        (creates, "create roles on the live server", "NOCREATEROLE"),
        (replicates, "replicate the live database", "NOREPLICATION"),
    ):
        if has:
            raise CannotCopy(reason + what, "ALTER ROLE %s %s" % (quoted(role), attribute))
    if others:
        raise CannotCopy(reason + "act as the role %s" % others, "REVOKE %s FROM %s" % (others, quoted(role)))
    if connects:
        database = quoted(live.name)
        raise CannotCopy(
            reason + "connect to the live database `%s`" % live.name,
            "REVOKE CONNECT ON DATABASE %s FROM PUBLIC, %s; GRANT CONNECT ON DATABASE %s TO %s"
            % (database, quoted(role), database, quoted(live.user)),
        )


def contents(cursor: Cursor) -> list[str]:
    """Returns statements that drop all that is in a database but large objects."""
    statements = []
    for catalog, oid, which, word, name, source in POSTGRESQL_DROPS:
        sql = "SELECT 'DROP ' || %s || ' IF EXISTS ' || %s || ' CASCADE' FROM %s WHERE %s AND %s"
        sql %= (word, name, source, which, postgresql_own(catalog, oid))
        statements += [statement for (statement,) in rows_of(cursor, sql)]
    statements += ["DROP SCHEMA IF EXISTS %s CASCADE" % name for (name,) in rows_of(cursor, SCHEMAS)]
    return statements


def count_large(cursor: Cursor) -> int:
    """Returns the number of large objects."""
    return int(rows_of(cursor, "SELECT count(*) FROM pg_largeobject_metadata")[0][0])


def empty(cursor: Cursor) -> None:
    """Removes all that is in the database of this connection, and ends all other sessions there."""
    rows_of(cursor, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid()")  # fmt: skip
    cursor.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    for name in [name for (name,) in rows_of(cursor, EXTENSIONS)]:
        cursor.execute("DROP EXTENSION IF EXISTS %s CASCADE" % name)
    for statement in contents(cursor):
        cursor.execute(statement)
    left = contents(cursor)
    if left:
        raise CannotCopy("%s cannot be emptied: `%s` does not remove everything" % (KEY, left[0]))


class PostgreSqlScratch(Scratch):
    """A scratch database of PostgreSQL."""

    dialect, identity_query = DIALECT, IDENTITY

    @classmethod
    def options(cls, connection: Connection, target: Target) -> Json:
        """Returns the `OPTIONS` of a connection to the scratch database."""
        options = {"sslmode": target.mode, "sslrootcert": target.root, "connect_timeout": int(PATIENCE)}
        return {name: value for name, value in options.items() if value}

    @classmethod
    def comment(cls, cursor: Cursor) -> str | None:
        """Returns the comment of the database of this connection."""
        return facts_of(cursor).comment

    @classmethod
    def empty(cls, cursor: Cursor, marker: str) -> None:
        """Removes all that is in the database of this connection, and sets its comment."""
        empty(cursor)
        cursor.execute("COMMENT ON DATABASE %s IS %s" % (quoted(facts_of(cursor).name), literal(marker)))

    def add_endpoint(self, connection: Connection) -> None:
        """Connects, and adds the address to the endpoints."""
        connection.ensure_connection()
        add_endpoint(self.endpoints, connection)

    def sockets(self) -> Sequence[str]:
        """Returns the names of the sockets in their directories."""
        return [".s.PGSQL.%d" % port for port in sorted(self.endpoints.ports)]

    def names_of(self, connection: Connection) -> set[str]:
        """Returns what clients of an open connection call its database."""
        return {str(connection.connection.info.dbname)}

    def programs(self) -> list[str]:
        """Returns the programs that copy."""
        return postgresql_tools(self.live)

    def check(self, live: Cursor, scratch: Cursor) -> int:
        """Fails unless the scratch database has no rights on the live one, is like it, and is empty or deploykit's own."""
        original, found = facts_of(live), facts_of(scratch)
        name = quoted(found.name)
        if found.server == original.server:
            check_rights(live, original, found.user)
        if not found.owned:
            reason = "the role `%s` of %s does not own the database `%s`" % (found.user, KEY, found.name)
            raise CannotCopy(reason, "ALTER DATABASE %s OWNER TO %s" % (name, quoted(found.user)))
        if self.connection.pg_version // 10000 < self.live.pg_version // 10000:
            versions = (KEY, self.connection.pg_version // 10000, self.live.pg_version // 10000)
            raise CannotCopy("the server of %s is PostgreSQL %d, the live one PostgreSQL %d" % versions)
        for what in ("encoding", "collate", "ctype"):
            here, there = getattr(found, what), getattr(original, what)
            if here != there:
                create = "CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s"
                create %= (name, quoted(found.owner), original.encoding, original.collate, original.ctype)
                raise CannotCopy("%s of %s is `%s`, of the live database `%s`" % (what, KEY, here, there), create)
        if found.comment != self.marker and (contents(scratch) or count_large(scratch)):
            raise not_empty(found.name, "COMMENT ON DATABASE %s IS %s" % (name, literal(self.marker)))
        self.settings = dict(rows_of(live, SETTINGS))
        return original.size

    def parts(self, live: Cursor, whole: bool) -> list[list[str]]:
        """Returns what is copied one after the other, as arguments."""
        if whole:
            return [[]]
        kept = small_tables(live)
        chosen = [["--data-only"] + ["--table=*." + table for table in kept]] if kept else []
        # Only a superuser can switch foreign keys off: they come last.
        return [["--section=pre-data"]] + chosen + [["--section=post-data"]]

    def fill(self, programs: list[str], what: list[str]) -> None:
        """Copies contents of the live database."""
        source = [
            programs[0],
            "--format=custom",
            "--compress=0",
            "--no-password",
            "--lock-wait-timeout=10000",
            "--no-tablespaces",
        ]
        source += ["--no-subscriptions", "--no-publications", "--no-security-labels", "--no-comments"] + what
        role = postgresql_role(self.live)
        source += ["--role=" + role] if role else []
        target = [programs[1], "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-password"]
        target.append("--dbname=" + quoted_name(self.target.name))
        found = postgresql_environment(self.connection)
        env = plain_environment(["PG"])
        env.update(("PG" + name, found["PG" + name]) for name in VARIABLES if "PG" + name in found)
        try:
            piped(source, postgresql_environment(self.live), target, env, self.nice, ())
        except Refused as error:
            lines = "\n".join(error.fields.get("traceback", []))
            for name in self.missing(lines):
                reason = "the role of %s may not create the extension `%s`" % (KEY, name)
                raise CannotCopy(reason, "CREATE EXTENSION %s in that database, as a superuser" % quoted(name)) from error
            raise

    def finish(self, scratch: Cursor) -> int:
        """Ends the copy, and returns its size."""
        scratch.execute("ANALYZE")
        return facts_of(scratch).size

    def missing(self, lines: str) -> list[str]:
        """Returns the extensions that could not be created, as PostgreSQL says."""
        begin = 'permission denied to create extension "'
        return [part.split('"')[0] for part in lines.split(begin)[1:2]]
