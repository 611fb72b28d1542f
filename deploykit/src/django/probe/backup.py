# --- copies of the database

# The oldest lines of a program that failed are left out.
TOOL_LINES = 30

# How often the limit of the database a copy may take to grow.
STALLED = 10


def way_of(connection, sqlite, postgresql, mariadb):
    """Chooses by the engine."""
    ways = {"sqlite": sqlite, "postgresql": postgresql}
    if connection.vendor == "mysql" and connection.mysql_is_mariadb:
        return mariadb
    if connection.vendor not in ways:
        raise Refused("unsupported", what="backup", engine=connection.vendor)
    return ways[connection.vendor]


def do_backup_facts(request):
    """How large the database is; refused where a copy could not be made or put back."""
    from django.db import connections

    connection, alias = connections[request["database"]], request["database"]
    facts = guarded("database", way_of, connection, sqlite_facts, postgresql_facts, mariadb_facts, database=alias)
    size = guarded("database", facts, connection, database=alias)
    return {"vendor": connection.vendor, "size_bytes": int(size)}


def do_backup(request):
    from django.db import connections

    connection, path = connections[request["database"]], request["path"]
    if os.path.exists(path):
        # It was made before the migrations began; a second one could hold half of them.
        return {}
    copy = guarded("backup", way_of, connection, sqlite_backup, postgresql_backup, mariadb_backup)
    part = path + ".part"
    try:
        if os.path.lexists(part):
            os.unlink(part)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "rb+") as file:
            guarded("backup", copy, connection, part, file)
            os.fsync(file.fileno())
        os.rename(part, path)
    finally:
        if os.path.lexists(part):
            os.unlink(part)
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return {}


def do_restore_backup(request):
    from django.db import connections

    connection = connections[request["database"]]
    put_back = guarded("backup", way_of, connection, sqlite_restore, postgresql_restore, mariadb_restore)
    guarded("backup", put_back, connection, request["path"])
    return {}


# Programs. What connects them stands in their environment or in a file without a name, never in their arguments.


def tool(*names):
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise Refused("tool_missing", what=names[0])


def tool_failed(program, code, lines):
    lines = [without_passwords(line) for line in lines[-TOOL_LINES:]]
    return Refused("tool", what=os.path.basename(program), code=code, traceback=lines)


def run_tool(argv, env, files=(), **streams):
    """Runs a program to its end; what it says goes to the log too."""
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=files, check=False, **streams
    )
    said = done.stderr.decode("utf-8", "replace")
    sys.stderr.write(without_passwords(said))
    if done.returncode:
        raise tool_failed(argv[0], done.returncode, said.splitlines())
    return done


def touch(cursor, tables):
    """Fails where somebody has locked a table, and says who: the programs say less, or wait without end."""
    for table in tables:
        rows_of(cursor, "SELECT 1 FROM %s LIMIT 0" % table)


def said_in(log):
    """Returns the lines of a log that a program wrote, which go to the run's log too."""
    os.lseek(log, 0, os.SEEK_SET)
    with os.fdopen(log, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    sys.stderr.write(without_passwords(said))
    return said.splitlines()


def copy_with(argv, env, path, files=(), stdout=subprocess.DEVNULL):
    """Runs a program that writes the copy; it is given up when that does not grow any more."""
    log = unnamed_file("")
    child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, pass_fds=files)
    over, stalled = threading.Event(), []

    def watch():
        size, times = -1, 0
        while not over.wait(LIMIT):
            size, before = os.path.getsize(path), size
            times = times + 1 if size == before else 0
            if times == STALLED:
                stalled.append("error: the copy has not grown for %d s" % (STALLED * LIMIT))
                child.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = child.wait()
    finally:
        over.set()
        said = said_in(log)
    if code:
        raise tool_failed(argv[0], code, said + stalled)


def feed_tool(argv, env, write, files=()):
    """Runs a program that reads what `write` gives it; what it complains of goes to the log too."""
    log = unnamed_file("")
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": log}
    child = subprocess.Popen(argv, env=env, pass_fds=files, **streams)
    try:
        write(child.stdin)
        child.stdin.close()
    except BrokenPipeError:
        pass
    except BaseException:
        child.kill()
        raise
    finally:
        code = child.wait()
        said = said_in(log)
    if code:
        raise tool_failed(argv[0], code, said)


def unnamed_file(text):
    """A file that nobody else can open and that is gone with the last process that has it."""
    number = os.memfd_create("deploykit")
    os.fchmod(number, 0o600)
    os.write(number, text.encode("utf-8"))
    os.lseek(number, 0, os.SEEK_SET)
    return number


def path_of(number):
    return "/dev/fd/%d" % number


# SQLite.


def sqlite_path(connection):
    path = sqlite_file(connection)
    if path is None:
        raise Refused("unsupported", what="backup", engine="a SQLite database in memory")
    return path


def sqlite_facts(connection):
    path = sqlite_path(connection)
    return os.path.getsize(path) if os.path.exists(path) else 0


def copy_database(source, target):
    import sqlite3

    if not os.path.exists(source):
        raise FileNotFoundError(source)
    reader, writer = sqlite3.connect(source, timeout=60), sqlite3.connect(target, timeout=60)
    try:
        reader.backup(writer)
    finally:
        writer.close()
        reader.close()


def sqlite_backup(connection, path, file):
    if not os.path.exists(sqlite_path(connection)):
        # There is none yet: the copy is the empty database that an empty file is.
        return
    copy_database(sqlite_path(connection), path)


def sqlite_restore(connection, path):
    copy_database(path, sqlite_path(connection))


# PostgreSQL.


def postgresql_tools(connection):
    server = connection.pg_version // 10000
    programs = []
    for name in ("pg_dump", "pg_restore", "psql"):
        program = tool(name)
        said = run_tool([program, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8")
        found = re.search(r"\) (\d+)", said)
        if found and int(found.group(1)) < server:
            raise Refused("tool_too_old", what=name, version=found.group(1), engine="PostgreSQL %d" % server)
        programs.append(program)
    return programs


def postgresql_environment(connection):
    settings = connection.settings_dict
    options = settings.get("OPTIONS") or {}
    names = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
    found = {variable: settings.get(name) for name, variable in names.items()}
    names = (
        "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "sslsni", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "channel_binding", "gssencmode", "krbsrvname", "require_auth", "requirepeer", "hostaddr",
        "target_session_attrs", "service", "servicefile", "passfile", "options",
    )  # fmt: skip
    found.update(("PG" + name.upper().replace("_", ""), options.get(name)) for name in names)
    found.update(PGAPPNAME="deploykit", PGCONNECT_TIMEOUT="30")
    return dict(os.environ, **{name: str(value) for name, value in found.items() if value})


def postgresql_role(connection):
    return (connection.settings_dict.get("OPTIONS") or {}).get("assume_role")


def postgresql_facts(connection):
    postgresql_tools(connection)
    with connection.cursor() as cursor:
        foreign = rows_of(
            cursor,
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT pg_has_role(c.relowner, 'USAGE') AND "
            + postgresql_own("pg_class", "c.oid") + " ORDER BY 1",
        )
        if foreign:
            raise Refused("not_owned", names=[name for name, in foreign])
        return rows_of(cursor, "SELECT pg_database_size(current_database())")[0][0]


def postgresql_backup(connection, path, file):
    program = postgresql_tools(connection)[0]
    tables = (
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND " + postgresql_own("pg_class", "c.oid")
    )
    with connection.cursor() as cursor:
        touch(cursor, [table for table, in rows_of(cursor, tables)])
    connection.close()
    # Large objects are left alone, by the way back too.
    argv = [program, "--format=custom", "--compress=1", "--no-blobs", "--no-password", "--file=" + path]
    argv.append("--lock-wait-timeout=%d" % (LIMIT * 1000))
    role = postgresql_role(connection)
    copy_with(argv + (["--role=" + role] if role else []), postgresql_environment(connection), path)


# What is never dropped is not restored either: it is the whole database's, and often a superuser's.
POSTGRESQL_LEFT = (
    "DATABASE", "EXTENSION", "SCHEMA", "PUBLICATION", "SUBSCRIPTION", "EVENT TRIGGER", "FOREIGN DATA", "SERVER",
    "USER MAPPING", "PROCEDURAL LANGUAGE", "CAST", "DEFAULT ACL", "BLOB", "LARGE OBJECT", "ACCESS METHOD",
    "TEXT SEARCH", "OPERATOR", "CONVERSION", "TRANSFORM", "ACL - SCHEMA", "COMMENT - SCHEMA", "COMMENT - EXTENSION",
    "ACL - LANGUAGE",
)  # fmt: skip

# Statements that drop all that a dump brings back.
POSTGRESQL_DROPS = (
    ("pg_class", "c.oid", "c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND NOT EXISTS (SELECT 1 FROM pg_depend d"
     " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))",
     "CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'"
     " WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END", "format('%I.%I', n.nspname, c.relname)",
     "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"),
    ("pg_proc", "p.oid", "true", "'ROUTINE'",
     "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))",
     "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"),
    ("pg_type", "t.oid", "(t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid"
     " AND c.relkind = 'c'))", "'TYPE'", "format('%I.%I', n.nspname, t.typname)",
     "pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"),
    ("pg_collation", "l.oid", "true", "'COLLATION'", "format('%I.%I', n.nspname, l.collname)",
     "pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace"),
)  # fmt: skip


def postgresql_restore(connection, path):
    _, pg_restore, psql = postgresql_tools(connection)
    env = dict(postgresql_environment(connection), PGAPPNAME=CHANGES)
    listed = run_tool([pg_restore, "--list", path], env, stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")
    entries = [line for line in listed.splitlines() if line and not line.startswith(";")]
    statements, there = [], set()
    with connection.cursor() as cursor:
        for catalog, oid, which, word, name, source in POSTGRESQL_DROPS:
            sql = "SELECT 'DROP ' || %s || ' IF EXISTS ' || %s || ' CASCADE;' FROM %s WHERE %s AND %s"
            sql %= (word, name, source, which, postgresql_own(catalog, oid))
            statements += [statement for statement, in rows_of(cursor, sql)]
        for kind, sql in (
            ("EXTENSION", "SELECT extname, quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql'"),
            ("SCHEMA", "SELECT nspname, quote_ident(nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"
             " AND nspname NOT IN ('public', 'information_schema')"),
        ):  # fmt: skip
            kept = set(line.split()[5] for line in entries if line.split()[3:5] == [kind, "-"])
            for name, quoted in rows_of(cursor, sql):
                there.add((kind, name))
                if name not in kept:
                    statements.append("DROP %s IF EXISTS %s CASCADE;" % (kind, quoted))
    connection.close()

    def wanted(line):
        words = line.split()
        if words[3:5] in (["EXTENSION", "-"], ["SCHEMA", "-"]) and words[5] != "public":
            return (words[3], words[5]) not in there
        return not " ".join(words[3:]).startswith(POSTGRESQL_LEFT)

    chosen = unnamed_file("\n".join(line for line in entries if wanted(line)) + "\n")
    argv = [pg_restore, "--use-list=" + path_of(chosen), "--file=-", path]
    role = postgresql_role(connection)
    opening = ["BEGIN;", "SET LOCAL lock_timeout = '%ds';" % max(1, LIMIT)]
    opening += ["SET LOCAL ROLE %s;" % connection.ops.quote_name(role)] if role else []

    def write(stream):
        stream.write("\n".join(opening + statements + [""]).encode("utf-8"))
        source = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=(chosen,))
        try:
            shutil.copyfileobj(source.stdout, stream, 1 << 20)
        finally:
            source.stdout.close()
            code = source.wait()
        # Without this last word nothing of it has happened.
        if code:
            raise tool_failed(pg_restore, code, [])
        stream.write(b"COMMIT;\n")

    try:
        feed_tool([psql, "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"], env, write)
    finally:
        os.close(chosen)


# MariaDB.


def mariadb_tool(name, older):
    program = tool(name, older)
    said = run_tool([program, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8")
    # MySQL has programs of the older names, too.
    if "MariaDB" not in said:
        raise Refused("tool_missing", what=name)
    return program


def mariadb_options(connection):
    """What connects the programs, as the text of an option file."""
    settings = connection.settings_dict
    options = settings.get("OPTIONS") or {}
    host = str(settings.get("HOST") or "")
    ssl = options.get("ssl") if isinstance(options.get("ssl"), dict) else {}
    ssl = {name: ssl.get(name) or options.get("ssl_" + name) for name in ("ca", "capath", "cert", "key", "cipher")}
    mode = str(options.get("ssl_mode") or "")
    verified = options.get("ssl_verify_cert") or options.get("ssl_verify_identity") or mode.startswith("VERIFY_")
    encrypted = any(ssl.values()) or verified or mode == "REQUIRED"
    found = {
        "user": options.get("user") or settings.get("USER"),
        "password": options.get("password") or options.get("passwd") or settings.get("PASSWORD"),
        "socket": host if host.startswith("/") else options.get("unix_socket"),
        "host": options.get("host") or (None if host.startswith("/") else host),
        "port": options.get("port") or settings.get("PORT"),
        "ssl": "1" if encrypted else "0" if mode == "DISABLED" or options.get("ssl_disabled") else None,
        "default-character-set": "utf8mb4",
        # As for Django: what is not asked for is not verified.
        "loose-ssl-verify-server-cert": "1" if verified else None if encrypted else "0",
    }
    found.update(("ssl-" + name, value) for name, value in ssl.items())
    lines = ["!include %s" % options["read_default_file"]] if options.get("read_default_file") else []
    lines.append("[client]")
    for name, value in found.items():
        if value:
            value = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append('%s="%s"' % (name, value))
    return "\n".join(lines) + "\n"


def mariadb_name(cursor):
    """The database, which may be named in an option file alone."""
    return rows_of(cursor, "SELECT DATABASE()")[0][0]


# What takes which rights to be made anew.
MARIADB_RIGHTS = (
    ("tables", "table_schema", {"SELECT", "INSERT", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES"}),
    ("triggers", "trigger_schema", {"TRIGGER"}),
    ("views", "table_schema", {"CREATE VIEW", "SHOW VIEW"}),
    ("routines", "routine_schema", {"CREATE ROUTINE", "ALTER ROUTINE"}),
    ("events", "event_schema", {"EVENT"}),
)

# What belongs to somebody, in whose name it runs.
MARIADB_OWNED = (
    ("triggers", "trigger_name", "trigger_schema"),
    ("views", "table_name", "table_schema"),
    ("routines", "routine_name", "routine_schema"),
    ("events", "event_name", "event_schema"),
)


def mariadb_rights(cursor, database):
    """The rights that the site's user has to this database as a whole."""
    found = set()
    for line, in rows_of(cursor, "SHOW GRANTS"):
        grant = re.match(r"GRANT (.+?) ON (?:`((?:[^`]|``)+)`|(\*))\.\* TO ", line)
        if not grant:
            continue
        rights, pattern, everywhere = grant.groups()
        # As in LIKE, with a backslash before what stands for itself.
        parts = re.findall(r"\\.|.", (pattern or "").replace("``", "`"))
        regex = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
        if everywhere or re.fullmatch(regex, database):
            found |= {right.strip() for right in rights.split(",")}
    return found


def mariadb_checked(cursor, database):
    """Fails where the site's user could not make anew what is in the database."""
    rights = mariadb_rights(cursor, database)
    if "ALL PRIVILEGES" not in rights:
        sql = "SELECT count(*) FROM information_schema.%s WHERE %s = DATABASE()"
        missing = set()
        for table, column, needed in MARIADB_RIGHTS:
            # What triggers there are is not shown without the right; who has it not can have made none.
            if table == "tables" or rows_of(cursor, sql % (table, column))[0][0]:
                missing |= needed - rights
        if missing:
            raise Refused("rights", names=sorted(missing))
    if rights & {"SUPER", "SET USER"}:
        return
    foreign = []
    for table, name, schema in MARIADB_OWNED:
        sql = "SELECT %s FROM information_schema.%s WHERE %s = DATABASE() AND definer <> CURRENT_USER() ORDER BY 1"
        foreign += [found for found, in rows_of(cursor, sql % (name, table, schema))]
    if foreign:
        raise Refused("not_owned", names=foreign)


def mariadb_facts(connection):
    mariadb_tool("mariadb-dump", "mysqldump")
    mariadb_tool("mariadb", "mysql")
    with connection.cursor() as cursor:
        mariadb_checked(cursor, mariadb_name(cursor))
        sql = "SELECT coalesce(sum(data_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()"
        return rows_of(cursor, sql)[0][0]


def mariadb_backup(connection, path, file):
    program = mariadb_tool("mariadb-dump", "mysqldump")
    # Only where there are some: reading them takes rights that a site need not have.
    extra = []
    with connection.cursor() as cursor:
        name = mariadb_name(cursor)
        for option, table in (("routines", "routine"), ("events", "event")):
            sql = "SELECT count(*) FROM information_schema.%ss WHERE %s_schema = DATABASE()" % (table, table)
            extra += ["--" + option] if rows_of(cursor, sql)[0][0] else []
        tables = (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type LIKE 'BASE%'"
        )
        touch(cursor, [connection.ops.quote_name(table) for table, in rows_of(cursor, tables)])
    connection.close()
    options = unnamed_file(mariadb_options(connection))
    argv = [program, "--defaults-file=" + path_of(options), "--single-transaction", "--quick", "--hex-blob"]
    argv += ["--skip-add-locks", "--no-tablespaces"] + extra + [name]
    try:
        copy_with(argv, dict(os.environ), path, files=(options,), stdout=file)
    finally:
        os.close(options)


def mariadb_restore(connection, path):
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 200))
        if b"-- Dump completed" not in file.read():
            raise ValueError("the copy has no end: %s" % path)
    program = mariadb_tool("mariadb", "mysql")
    statements = ["SET lock_wait_timeout = %d;" % max(1, LIMIT), "SET FOREIGN_KEY_CHECKS = 0;"]
    kinds = (
        ("CASE table_type WHEN 'VIEW' THEN 'VIEW' WHEN 'SEQUENCE' THEN 'SEQUENCE' ELSE 'TABLE' END", "table"),
        ("routine_type", "routine"),
        ("'EVENT'", "event"),
    )
    with connection.cursor() as cursor:
        name = mariadb_name(cursor)
        for word, table in kinds:
            sql = "SELECT %s, %s_name FROM information_schema.%ss WHERE %s_schema = DATABASE()"
            for kind, thing in rows_of(cursor, sql % (word, table, table, table)):
                statements.append("DROP %s IF EXISTS %s;" % (kind, connection.ops.quote_name(thing)))
    connection.close()
    options = unnamed_file(mariadb_options(connection))

    def write(stream):
        stream.write(("\n".join(statements) + "\n").encode("utf-8"))
        with open(path, "rb") as file:
            shutil.copyfileobj(file, stream, 1 << 20)

    argv = [program, "--defaults-file=" + path_of(options), "--batch", name]
    try:
        feed_tool(argv, dict(os.environ), write, files=(options,))
    finally:
        os.close(options)
