"""Copies of MariaDB databases, in a private server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from typing import IO, Any, Iterable, Sequence

from .backup_mariadb import MARIADB_OWNED
from .contents_mariadb import pipe, unlocked_contents_of
from .kinds import Connection, Cursor, Json
from .private import (
    PATIENCE,
    CannotCopy,
    Endpoints,
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
from .programs_mysql import program, quoted_lines
from .sql import rows_of
from .tools import feed_tool, run_tool

# Directories of the server, which the `PATH` of a user may lack.
PLACES = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/libexec", "/usr/local/mysql/bin")

# Where systems keep time zones: without their variants, which take most of the time, or all of them.
ZONES = ("/usr/share/zoneinfo/posix", "/usr/share/zoneinfo")

# The administrator of a private server.
ADMIN = "deploykit rehearsal"

# The configuration of a server whose data may be lost at any time.
CONFIGURATION = {
    "innodb_buffer_pool_size": "64M",
    "innodb_log_file_size": "32M",
    "innodb_flush_log_at_trx_commit": "0",
    "innodb_doublewrite": "0",
    "innodb_use_native_aio": "0",
    "loose_debug_no_sync": "1",
    "performance_schema": "0",
    "skip_name_resolve": "1",
    "event_scheduler": "OFF",
    "silent_startup": "1",
}

# Settings of the live server that are kept: how statements and values are parsed.
KEPT = (
    "auto_increment_increment", "character_set_server", "collation_server", "default_storage_engine", "default_week_format",
    "div_precision_increment", "explicit_defaults_for_timestamp", "ft_min_word_len", "group_concat_max_len",
    "innodb_default_row_format", "innodb_ft_min_token_size", "innodb_lock_wait_timeout", "innodb_strict_mode",
    "lower_case_table_names", "max_allowed_packet", "old_mode", "sql_mode", "system_versioning_alter_history", "time_zone",
    "tx_isolation",
)  # fmt: skip

# The names of settings as options of the server, where they differ.
OPTIONS = {"tx_isolation": "transaction_isolation", "time_zone": "default_time_zone"}

# Rights on the server and its files.
MACHINE = "FILE, SHUTDOWN"


def server_programs(version: Sequence[int]) -> dict[str, str]:
    """Returns the programs of an installed server of this version or newer."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath)] + list(PLACES))
    programs: dict[str, str] = {}
    wanted = "%d.%d" % (version[0], version[1])
    for name, old in (("mariadbd", "mysqld"), ("mariadb-install-db", "mysql_install_db")):
        program_path = shutil.which(name, path=path) or shutil.which(old, path=path)
        if program_path is None:
            raise CannotCopy(
                "no MariaDB server of version %s or newer is installed here" % wanted, "apt install mariadb-server"
            )
        programs[name] = program_path
    said = version_of(programs["mariadbd"])
    numbers = re.search(r"Ver (\d+)\.(\d+)\S*MariaDB", said)
    if numbers is None or tuple(map(int, numbers.groups())) < tuple(version[:2]):
        have = "MariaDB %s.%s" % numbers.groups() if numbers else "not MariaDB"
        raise CannotCopy("the database server installed here is %s, the live one MariaDB %s" % (have, wanted))
    return programs


def place_of_server(connection: Connection) -> str:
    """Returns what identifies the live server."""
    if not connection.mysql_is_mariadb:
        raise CannotCopy("databases of MySQL cannot be copied for a rehearsal")
    with connection.cursor() as cursor:
        return str(rows_of(cursor, "SELECT @@hostname, @@port, @@datadir")[0])


def needs_tls(connection: Connection) -> bool:
    """Tells whether the client requires TLS; fails if it requires what only the live server can prove."""
    options = connection.settings_dict.get("OPTIONS") or {}
    ssl = options.get("ssl") or {}
    mode = str(options.get("ssl_mode") or "")
    authority = options.get("ssl_ca") or options.get("ssl_verify_cert") or options.get("ssl_verify_identity")
    if authority or mode.startswith("VERIFY_") or (isinstance(ssl, dict) and ssl.get("ca")):
        raise CannotCopy("its clients verify the server's certificate")
    return bool(ssl) or mode == "REQUIRED"


def sockets_of_this_process() -> set[str]:
    """Returns the file descriptors of open sockets, each with its name in `/proc`."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(number + " " + os.readlink("/proc/self/fd/" + number))
        except OSError:
            # The list itself was open.
            continue
    return {name for name in found if "socket:" in name}


def add_endpoint(endpoints: Endpoints, connection: Connection) -> None:
    """Connects, and adds the address of the new socket: not every driver reports it."""
    connection.close()
    before = sockets_of_this_process()
    connection.ensure_connection()
    settings, options = connection.settings_dict, connection.settings_dict.get("OPTIONS") or {}
    host = str(options.get("host") or settings.get("HOST") or "")
    named = host if host.startswith("/") else str(options.get("unix_socket") or "")
    for name in sockets_of_this_process() - before:
        with socket.socket(fileno=os.dup(int(name.split()[0]))) as opened:
            peer: Any = opened.getpeername()
            if opened.family != socket.AF_UNIX:
                endpoints.add_address(peer[0], peer[1], [host] + hosts_in(options.get("read_default_file")))
                continue
        path = named or (peer.decode() if isinstance(peer, bytes) else peer)
        if not os.path.isabs(path):
            raise CannotCopy("its server is reached by the socket `%s`" % path)
        endpoints.add_socket(os.path.dirname(path))
        endpoints.files.add(os.path.basename(path))
    if len(endpoints.files) > 1:
        raise CannotCopy("its server is reached by the sockets %s" % " and ".join(sorted(endpoints.files)))


def hosts_in(file: object) -> list[str]:
    """Returns the hosts that an option file names."""
    printer = shutil.which("my_print_defaults")
    if not file or printer is None:
        return []
    argv = [printer, "--defaults-file=%s" % file, "client"]
    said = run_tool(argv, dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")
    return [line[len("--host=") :] for line in said.splitlines() if line.startswith("--host=")]


class Server:
    """A private MariaDB server."""

    def __init__(self, directory: str, connections: dict[str, Connection], nice: int) -> None:
        """Takes the directory of the server, and the connections to one live server, by alias."""
        self.directory, self.data, self.nice = directory, os.path.join(directory, "data"), nice
        self.options, self.temporary = os.path.join(directory, "my.cnf"), os.path.join(directory, "tmp")
        self.endpoints = Endpoints(directory)
        self.tls = False
        for connection in connections.values():
            self.tls = needs_tls(connection) or self.tls
            add_endpoint(self.endpoints, connection)
        self.port = self.endpoints.port(3306)
        first = next(iter(connections.values()))
        self.programs = server_programs(first.mysql_version)
        self.programs.update((kind, program(first, kind)) for kind in ("dump", "client"))
        self.user: str | None = user_of("mysql", "nobody")
        self.process: subprocess.Popen[bytes] | None = None
        self.number = -1
        self.zone = "SYSTEM"
        # Whether each copied database has all rows.
        self.copied: dict[str, bool] = {}

    def start(self, connection: Connection) -> None:
        """Makes the server and starts it; only a socket in its own directory reaches it."""
        directory_for(self.directory, None, 0o755)
        directory_for(self.data, self.user, 0o700)
        self.number = os.open(self.data, os.O_RDONLY)
        self.find_user()
        directory_for(self.temporary, self.user, 0o700)
        with connection.cursor() as cursor:
            self.configure(cursor)
            zones = rows_of(cursor, "SELECT CONVERT_TZ('2020-01-01', 'UTC', 'Europe/Paris') IS NOT NULL")[0][0]
        argv = [self.programs["mariadb-install-db"], "--defaults-file=" + self.options, "--datadir=" + self.data]
        argv += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        begin = begun(self.nice, self.user)
        run_tool(argv, server_environment(), stdout=subprocess.DEVNULL, preexec_fn=begin, cwd="/")
        argv = self.argv() + ["--socket=./private.sock", "--skip-networking"]
        log = os.path.join(self.directory, "log")
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                argv, env=server_environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=begin
            )
        wait_for(self.process, self.answers, log, "MariaDB")
        # The site's account may have this name.
        self.run(["RENAME USER root@localhost TO '%s'@localhost" % ADMIN], "root")
        if zones:
            self.load_zones()

    def find_user(self) -> None:
        """Lets root run the server if its own user cannot reach the data: MariaDB resolves the path of the directory."""
        test = ["test", "-w", self.data]
        if self.user and subprocess.call(test, preexec_fn=begun(0, self.user), cwd="/", env=server_environment()):
            self.user = None
            directory_for(self.data, "root", 0o700)

    def configure(self, cursor: Cursor) -> None:
        """Writes its configuration."""
        # A server that starts removes other files in its directory of temporary files.
        settings = dict(CONFIGURATION, tmpdir=self.temporary)
        for name, value in rows_of(cursor, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('%s')" % "', '".join(KEPT)):
            option: str = OPTIONS.get(name) or name
            settings[option] = value
        # The server would need the time zones before they are loaded.
        self.zone = settings.pop("default_time_zone", "SYSTEM")
        if os.geteuid() == 0 and self.user is None:
            # Otherwise it refuses to run as root.
            settings["user"] = "root"
        # An empty value has a meaning here.
        lines = ["[mariadbd]"] + quoted_lines(settings) + ["%s=" % name for name, value in settings.items() if not value]
        if self.tls:
            make_certificate(self.directory, self.user)
            lines += ["ssl_%s = %s/server.%s" % (kind, self.directory, end) for kind, end in (("cert", "crt"), ("key", "key"))]
        with open(self.options, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.chmod(self.options, 0o644)

    def argv(self) -> list[str]:
        """Returns the arguments that start the server."""
        return [self.programs["mariadbd"], "--defaults-file=" + self.options, "--datadir=" + self.data]

    def client(self, user: str) -> list[str]:
        """Returns the arguments of a client."""
        place = "/proc/self/fd/%d/private.sock" % self.number
        argv = [self.programs["client"], "--no-defaults", "--batch", "--skip-column-names", "--socket=" + place]
        return argv + ["--user=" + user, "--default-character-set=utf8mb4"]

    def answers(self) -> bool:
        """Tells whether the server answers."""
        if not os.path.exists(os.path.join(self.data, "private.sock")):
            return False
        argv, quiet = self.client("root") + ["-e", "SELECT 1"], subprocess.DEVNULL
        env = plain_environment(["MYSQL", "MARIADB"])
        return not subprocess.call(argv, env=env, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=(self.number,))

    def run(self, statements: Iterable[str], user: str = ADMIN) -> None:
        """Runs statements as the administrator; stops at the first that fails."""

        def write(stream: IO[bytes]) -> None:
            """Writes them."""
            stream.write("".join(statement + ";\n" for statement in statements).encode("utf-8"))

        feed_tool(self.client(user), plain_environment(["MYSQL", "MARIADB"]), write, (self.number,))

    def load_zones(self) -> None:
        """Loads the names of time zones, which Django's queries use."""
        loader = shutil.which("mariadb-tzinfo-to-sql") or shutil.which("mysql_tzinfo_to_sql")
        directory = next(filter(os.path.isdir, ZONES), None)
        if loader and directory:
            env = plain_environment(["MYSQL", "MARIADB"])
            target = self.client(ADMIN) + ["--force", "mysql"]
            piped([loader, directory], env, target, env, self.nice, (self.number,))

    def copy(self, connection: Connection, limit: int) -> tuple[int, bool]:
        """Copies a database, above the limit without most of its rows; returns its size, and whether all rows were copied."""
        with connection.cursor() as cursor:
            found = unlocked_contents_of(connection, cursor)
            accounts = accounts_of(cursor, found.name)
        if found.name in self.copied:
            # Another alias has the same database, perhaps with another user.
            self.run(accounts)
            return found.size, self.copied[found.name]
        connection.close()
        whole = found.size <= limit
        if whole:
            check_room(self.directory, found.size)
        self.run(["CREATE DATABASE %s CHARACTER SET %s COLLATE %s" % ((quoted(found.name),) + found.collation)])
        self.fill(connection, found.programs + ([] if whole else ["--no-data"]) + [found.name], found.name)
        if not whole and found.small():
            self.fill(connection, ["--no-create-info", "--skip-triggers", found.name] + found.small(), found.name)
        self.run(accounts)
        self.copied[found.name] = whole
        return found.size, whole

    def fill(self, connection: Connection, what: list[str], name: str) -> None:
        """Copies the contents of a database."""
        pipe(connection, what, self.client(ADMIN) + [name], self.nice, (self.number,))

    def stop(self) -> None:
        """Shuts the server down cleanly, so that it starts again at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.number >= 0:
            os.close(self.number)

    def servers(self) -> list[Json]:
        """Returns how the sandbox starts it at the addresses of the live server."""
        name = next(iter(self.endpoints.files), "private.sock")
        directory = next(iter(self.endpoints.sockets), self.data)
        argv = self.argv() + ["--socket=" + os.path.join(directory, name), "--default-time-zone=" + self.zone]
        argv += ["--bind-address=*", "--port=%d" % self.port] if self.endpoints.addresses else ["--skip-networking"]
        server = {
            "argv": argv,
            "environment": server_environment(),
            "user": self.user,
            "stop": int(signal.SIGTERM),
            "ready": self.endpoints.ready(name),
            "listen": self.endpoints.far(),
            "hosts": self.endpoints.hosts,
        }
        return [server] + self.endpoints.forwarders()

    def expected(self) -> Json:
        """Returns the query that identifies it, and its result."""
        return {"query": "SELECT @@datadir", "is": os.path.realpath(self.data) + "/"}

    def size(self) -> int:
        """Returns its size in bytes."""
        return size_below(self.data)

    def show(self) -> list[list[Any]]:
        """Returns what the sandbox must mount: its sockets, and its data, without an overlay."""
        return [[self.data, self.data, True]] + self.endpoints.show(self.user)


def quoted(name: str) -> str:
    """Returns a name as SQL."""
    return "`%s`" % name.replace("`", "``")


def text(value: str) -> str:
    """Returns a string as SQL."""
    return "'%s'" % value.replace("\\", "\\\\").replace("'", "''")


def of_another(grant: str, database: str) -> bool:
    """Tells whether a grant is for a table of another database, which may not exist here."""
    found = re.match(r"GRANT .+? ON (?:\w+ )?`((?:[^`]|``)+)`\.`", grant)
    return found is not None and found.group(1).replace("``", "`") not in (database, "mysql")


def accounts_of(cursor: Cursor, database: str) -> list[str]:
    """Returns the statements that create the site's account with its rights, and the definers of views and routines."""
    user, host = rows_of(cursor, "SELECT CURRENT_USER()")[0][0].rsplit("@", 1)
    create: str = rows_of(cursor, "SHOW CREATE USER")[0][0]
    grants: list[str] = [line for (line,) in rows_of(cursor, "SHOW GRANTS")]
    roles = sorted({found.group(1) for found in map(re.compile(r"GRANT (`(?:[^`]|``)+`) TO ").match, grants) if found})
    for role in roles:
        grants += [line for (line,) in rows_of(cursor, "SHOW GRANTS FOR " + role)]
    grants = [create.replace("CREATE USER", "CREATE USER IF NOT EXISTS", 1)] + sorted(
        # A role is granted before it becomes the default.
        (line for line in grants if not of_another(line, database)),
        key=lambda line: line.startswith("SET"),
    )
    statements = ["CREATE ROLE IF NOT EXISTS " + role for role in roles]
    # In the sandbox, the account connects from another address. Older servers write names as strings.
    spelled = [("%s@%s" % (quote(user), quote(host))) for quote in (quoted, text)]
    for other in sorted({host, "%", "localhost"}):
        another = "%s@%s" % (quoted(user), quoted(other))
        statements += [line.replace(spelled[0], another).replace(spelled[1], another) for line in grants]
        statements.append("REVOKE %s ON *.* FROM %s" % (MACHINE, another))
    for table, _, schema in MARIADB_OWNED:
        sql = "SELECT DISTINCT definer FROM information_schema.%s WHERE %s = DATABASE()" % (table, schema)
        for (definer,) in rows_of(cursor, sql):
            if definer and definer != "%s@%s" % (user, host):
                owner = "%s@%s" % tuple(map(text, definer.rsplit("@", 1)))
                statements.append("CREATE USER IF NOT EXISTS " + owner)
                statements.append("GRANT ALL ON %s.* TO %s" % (quoted(database), owner))
    return statements
