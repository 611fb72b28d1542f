"""Copies of a MariaDB database in the scratch database that the configuration names."""

from __future__ import annotations

import os
import re
import subprocess
from typing import IO, Any, Iterable, NamedTuple, Sequence

from .backup_mariadb import granted
from .contents_mariadb import Contents, contents_of, dump, pipe, unlocked_contents_of
from .kinds import Connection, Cursor, Json
from .private import CannotCopy, begun, plain_environment
from .private_mariadb import add_endpoint, quoted, text
from .programs_mysql import program, quoted_lines
from .proxy import PATIENCE, Rejected, Target
from .proxy_mariadb import DIALECT, UnknownPlugin, attempt, text_in
from .scratch import KEY, Scratch, not_empty
from .sql import rows_of
from .tools import feed_tool, path_of, run_tool, unnamed_file

# What tells a database from all others, in any server.
IDENTITY = "SELECT CONCAT_WS('/', @@hostname, @@port, @@server_id, @@datadir, DATABASE())"

FACTS = """SELECT DATABASE(), CURRENT_USER(), @@lower_case_table_names, @@max_allowed_packet,
 CONVERT_TZ('2020-01-01', 'UTC', 'Europe/Paris') IS NOT NULL"""

# Settings of the live server that sessions in another server get, too: how statements and values are parsed.
SETTINGS = (
    "auto_increment_increment", "default_storage_engine", "default_week_format", "div_precision_increment",
    "explicit_defaults_for_timestamp", "group_concat_max_len", "innodb_lock_wait_timeout", "innodb_strict_mode", "old_mode",
    "sql_mode", "system_versioning_alter_history", "time_zone", "tx_isolation",
)  # fmt: skip

# The databases to which every role has rights unless an administrator revokes them, as grants say and as their names are.
EVERYBODYS = ("test", "test\\_%")
TEST = re.compile("test(_.*)?")

# The server's own databases that every role sees.
OF_SERVER = ("information_schema", "performance_schema")

# The beginning of definitions, which name who owns them.
DEFINER = re.compile(rb"(?m)^(/\*!\d+ (?:CREATE\*/ /\*!\d+ )?|CREATE )DEFINER=`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?")

# A statement that names the live database.
ALTER = re.compile(rb"(?m)^ALTER DATABASE `(?:[^`]|``)*`")

# A right, and what it is for.
GRANT = re.compile(r"GRANT (.+) ON ((?:[A-Z ]+ )?(`(?:[^`]|``)*`|\*)\.(?:`(?:[^`]|``)*`|\*)) TO (PUBLIC)?")

# Since this version, databases have comments.
OLDEST = (10, 5)

# A session that has ended.
NO_SUCH_THREAD = 1094


class Facts(NamedTuple):
    """What a server says of a database."""

    name: str
    account: str
    folds: int
    packet: int
    zones: int


def facts_of(cursor: Cursor) -> Facts:
    """Returns what the server says of the database of this connection."""
    return Facts(*rows_of(cursor, FACTS)[0])


def check_rights(scratch: Facts, grants: Iterable[str], seen: Iterable[str], live: str) -> None:
    """Fails if the role has rights on more than its own database, or not all rights there.

    Takes what it was granted, and the databases that it sees.
    """
    role = "@".join(map(quoted, scratch.account.rsplit("@", 1)))
    reason = "the role `%s` of %s " % (scratch.account, KEY)
    grants = [line for line in grants if line.startswith("GRANT ")]
    for line in grants:
        found = GRANT.match(line)
        if found is None:
            # What else the line says may be secret.
            what = line[len("GRANT ") :].split(" TO ")[0]
            raise CannotCopy(reason + "may act as another one (%s)" % what, "REVOKE %s FROM %s" % (what, role))
        rights, place, database, public = found.groups()
        pattern = database.strip("`").replace("``", "`")
        is_everybodys = public and pattern in EVERYBODYS and not granted([line], live)
        if rights != "USAGE" and pattern.replace("\\", "") != scratch.name and not is_everybodys:
            help_ = "REVOKE %s ON %s FROM %s" % (rights, place, public or role)
            raise CannotCopy(reason + "has rights on %s (%s)" % (place, rights), help_)
    # What everybody has, old servers do not list.
    for name in seen:
        if name != scratch.name and name not in OF_SERVER and (name == live or not TEST.fullmatch(name)):
            raise CannotCopy(reason + "has rights on the database `%s`" % name)
    if "ALL PRIVILEGES" not in granted(grants, scratch.name):
        help_ = "GRANT ALL ON %s.* TO %s" % (quoted(scratch.name.replace("_", "\\_")), role)
        raise CannotCopy(reason + "lacks rights on the database `%s`" % scratch.name, help_)


def settings_of(cursor: Cursor) -> dict[str, str]:
    """Returns the settings of a server."""
    names = "', '".join(SETTINGS)
    return dict(rows_of(cursor, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('%s')" % names))


def needs_tls(target: Target) -> bool:
    """Tells whether connections without TLS are refused; on a Unix socket, there is none."""
    return target.mode in DIALECT.modes[2:] and not target.host.startswith("/")


def client_options(target: Target) -> str:
    """Returns the text of an option file with which the client connects."""
    is_local, requires = target.host.startswith("/"), needs_tls(target)
    found = {
        # Otherwise it takes `localhost` for a Unix socket.
        "protocol": "socket" if is_local else "tcp",
        "user": target.user,
        "password": target.password,
        "socket": target.host if is_local else None,
        "host": None if is_local else target.host,
        "port": None if is_local else target.port,
        "ssl": "1" if requires else "0" if target.mode == "DISABLED" else None,
        "ssl-ca": target.root if requires else None,
        "loose-ssl-verify-server-cert": "1" if requires and DIALECT.verifies(target.mode) else "0",
        "default-character-set": "utf8mb4",
    }
    return "\n".join(["[client]"] + quoted_lines(found)) + "\n"


class MariaDbScratch(Scratch):
    """A scratch database of MariaDB."""

    dialect, identity_query = DIALECT, IDENTITY
    found: Contents

    @classmethod
    def options(cls, connection: Connection, target: Target) -> Json:
        """Returns the `OPTIONS` of a connection to the scratch database."""
        found: Json = {"charset": "utf8mb4", "connect_timeout": int(PATIENCE)}
        if needs_tls(target):
            verified: Any = {} if DIALECT.verifies(target.mode) else {"verify_mode": "none"}
            found["ssl"] = dict(verified, ca=target.root, check_hostname=target.mode == DIALECT.modes[-1])
            if connection.Database.__name__ == "MySQLdb":
                found["ssl_mode"] = target.mode
        return found

    @classmethod
    def comment(cls, cursor: Cursor) -> str | None:
        """Returns the comment of the database of this connection."""
        # Old servers have none.
        row = rows_of(cursor, "SELECT * FROM information_schema.schemata WHERE schema_name = DATABASE()")[0]
        return {column[0].lower(): value for column, value in zip(cursor.description, row)}.get("schema_comment")

    @classmethod
    def empty(cls, cursor: Cursor, marker: str) -> None:
        """Removes all that is in the database of this connection, ends all other sessions there, and sets its comment."""
        sessions = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for (number,) in rows_of(cursor, sessions):
            try:
                cursor.execute("KILL %d" % number)
            except Exception as error:
                if error.args[0] != NO_SUCH_THREAD:
                    raise
        name = quoted(facts_of(cursor).name)
        sql = "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
        collation = tuple(rows_of(cursor, sql + " WHERE schema_name = DATABASE()")[0])
        # Tables are dropped in any order.
        cursor.execute("SET SESSION foreign_key_checks = 0")
        create = "CREATE OR REPLACE DATABASE %s CHARACTER SET %s COLLATE %s COMMENT %s"
        cursor.execute(create % (name, *collation, text(marker)))
        cursor.execute("USE " + name)

    def add_endpoint(self, connection: Connection) -> None:
        """Connects, and adds the address to the endpoints."""
        add_endpoint(self.endpoints, connection)

    def sockets(self) -> Sequence[str]:
        """Returns the names of the sockets in their directories."""
        return sorted(self.endpoints.files)

    def names_of(self, connection: Connection) -> set[str]:
        """Returns what clients of an open connection call its database."""
        with connection.cursor() as cursor:
            # The server may fold the case of what the settings say.
            names = {facts_of(cursor).name, str(connection.settings_dict.get("NAME") or "")}
        return names - {""}

    def programs(self) -> list[str]:
        """Returns the program that copies; fails unless it is installed, and the proxy could log in."""
        found = [program(self.live, "dump"), program(self.live, "client")]
        self.log_in({})
        return found

    def log_in(self, settings: dict[str, str]) -> None:
        """Fails unless the proxy can log in, with these settings."""
        try:
            attempt(self.target, settings)
        except UnknownPlugin as error:
            account = "%s@'…'" % quoted(self.target.user)
            help_ = "ALTER USER %s IDENTIFIED VIA mysql_native_password USING PASSWORD('…')" % account
            raise CannotCopy("%s cannot be used: %s" % (KEY, error), help_) from error
        except Rejected as error:
            raise CannotCopy("%s cannot be reached: %s" % (KEY, text_in(error.args[0]))) from error
        except (OSError, ValueError) as error:
            raise CannotCopy("%s cannot be reached: %s" % (KEY, error)) from error

    def check(self, live: Cursor, scratch: Cursor) -> int:
        """Fails unless the scratch database has no rights on the live one, is like it, and is empty or deploykit's own."""
        original, own = facts_of(live), facts_of(scratch)
        versions = (self.connection.mysql_version[:2], max(self.live.mysql_version[:2], OLDEST))
        if not self.connection.mysql_is_mariadb or versions[0] < versions[1]:
            have = "MariaDB" if self.connection.mysql_is_mariadb else "MySQL"
            numbers = (KEY, have, *versions[0], *versions[1])
            raise CannotCopy("the server of %s is %s %d.%d, and MariaDB %d.%d or newer is needed" % numbers)
        grants = [line for (line,) in rows_of(scratch, "SHOW GRANTS")]
        seen = [name for (name,) in rows_of(scratch, "SELECT schema_name FROM information_schema.schemata ORDER BY 1")]
        check_rights(own, grants, seen, original.name)
        for name, here, there, is_bad in (
            ("lower_case_table_names", own.folds, original.folds, own.folds != original.folds),
            ("max_allowed_packet", own.packet, original.packet, own.packet < original.packet),
        ):
            if is_bad:
                raise CannotCopy("`%s` of the server of %s is %d, of the live server %d" % (name, KEY, here, there))
        if own.zones < original.zones:
            load = "mariadb-tzinfo-to-sql /usr/share/zoneinfo | mariadb mysql, as the server's administrator"
            raise CannotCopy("the server of %s has no time zones" % KEY, load)
        inside = contents_of(scratch)
        if self.comment(scratch) != self.marker and (inside.tables or inside.views or inside.programs):
            raise not_empty(own.name, "ALTER DATABASE %s COMMENT %s" % (quoted(own.name), text(self.marker)))
        known = settings_of(scratch)
        changed = {name: value for name, value in settings_of(live).items() if known.get(name, value) != value}
        self.settings = {name: value if value.isdigit() else text(value) for name, value in changed.items()}
        if self.settings:
            self.log_in(self.settings)
        self.found = unlocked_contents_of(self.live, live)
        scratch.execute("ALTER DATABASE %s CHARACTER SET %s COLLATE %s" % (quoted(own.name), *self.found.collation))
        return self.found.size

    def parts(self, live: Cursor, whole: bool) -> list[list[str]]:
        """Returns what is copied one after the other, as arguments."""
        found = self.found
        rows = [] if whole else ["--no-data"]
        ignored = ["--ignore-table=%s.%s" % (found.name, view) for view in found.views]
        parts = [rows + ["--skip-triggers"] + ignored + [found.name]]
        if not whole and found.small():
            parts.append(["--no-create-info", "--skip-triggers", found.name] + found.small())
        parts.append(["--no-data", "--no-create-info"] + found.programs + [found.name])
        if found.views:
            parts.append(["--no-data", "--skip-triggers", found.name] + found.views)
        return parts

    def fill(self, programs: list[str], what: list[str]) -> None:
        """Copies contents of the live database."""
        options = unnamed_file(client_options(self.target))
        target = [programs[1], "--defaults-file=" + path_of(options), "--batch", self.target.name]
        try:
            if "--no-data" in what:
                self.define(what, target, options)
            else:
                pipe(self.live, what, target, self.nice, (options,))
        finally:
            os.close(options)

    def define(self, what: list[str], target: list[str], number: int) -> None:
        """Copies definitions, which the scratch role will own."""
        source, options = dump(self.live)
        try:
            begin = begun(self.nice)
            done = run_tool(source + what, dict(os.environ), (options,), stdout=subprocess.PIPE, preexec_fn=begin)
        finally:
            os.close(options)
        # Stored programs may have another collation than the database has now.
        sql = ALTER.sub(b"ALTER DATABASE " + quoted(self.target.name).encode("utf-8"), DEFINER.sub(rb"\1", done.stdout))

        def write(stream: IO[bytes]) -> None:
            """Writes them."""
            stream.write(sql)

        feed_tool(target, plain_environment(["MYSQL", "MARIADB"]), write, (number,))

    def finish(self, scratch: Cursor) -> int:
        """Ends the copy, and returns its size."""
        events = rows_of(scratch, "SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()")
        for (event,) in events:
            # They would change rows during the rehearsal.
            scratch.execute("ALTER EVENT %s DISABLE" % quoted(event))
        return contents_of(scratch).size
