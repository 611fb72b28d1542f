//! Real database servers: one of each kind for a whole test binary, a database of its own for each test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::program;
use super::site::demo_site::{run, wait_until};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    PostgreSql,
    MariaDb,
}

/// An empty database with a user of its own, who owns it and has a password that a test can look for.
#[derive(Clone, Debug)]
pub struct Database {
    pub engine: Engine,
    pub name: String,
    pub password: String,
    /// The directory of PostgreSQL's socket, or MariaDB's socket.
    pub host: String,
}

/// What the password of every test's database begins with.
pub const CANARY: &str = "canary-in-a-database";

/// Runs a server until the standard input ends, which it does with the test binary, however that ends.
/// The kernel sends both a SIGHUP when it ends while the server is stopped.
const KEEPER: &str = "trap '' HUP; directory=$1; signal=$2; shift 2; \"$@\" & server=$!; read -r _; \
    kill -s CONT $server $(cat /proc/$server/task/$server/children); kill -s $signal $server; wait $server; rm -rf \"$directory\"";

const ADMIN: &str = "admin-of-the-tests";

/// Files of a server that offers TLS.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

impl Engine {
    /// Returns the package that Django reaches it with.
    pub fn driver(self) -> &'static str {
        match self {
            Engine::PostgreSql => "psycopg[binary]",
            Engine::MariaDb => "PyMySQL",
        }
    }

    fn user(self) -> &'static str {
        match self {
            Engine::PostgreSql => "postgres",
            Engine::MariaDb => "mysql",
        }
    }

    /// Returns the server's socket; it is started if it is not there yet. `None` where it is not installed.
    fn host(self) -> Option<String> {
        static POSTGRESQL: OnceLock<Option<String>> = OnceLock::new();
        static MARIADB: OnceLock<Option<String>> = OnceLock::new();
        match self {
            Engine::PostgreSql => POSTGRESQL.get_or_init(|| self.start(false)).clone(),
            Engine::MariaDb => MARIADB.get_or_init(|| self.start(false)).clone(),
        }
    }

    /// Makes a server, perhaps one that offers TLS, and starts it.
    fn start(self, tls: bool) -> Option<String> {
        let directory =
            tempfile::Builder::new().prefix("db-").tempdir().expect("a temporary directory").keep();
        let data = directory.join("data");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("a directory");
        let mut init = match self {
            Engine::PostgreSql => {
                let initdb = postgresql_program("initdb")?;
                let password = directory.join("password");
                fs::write(&password, ADMIN).expect("a file");
                let mut init = self.command(&initdb);
                init.args(["-A", "scram-sha-256", "-U", "admin", "-E", "UTF8", "--locale=C", "--no-sync"]);
                init.arg("--pwfile").arg(&password).arg("-D").arg(&data);
                init
            }
            Engine::MariaDb => {
                let mut init = self.command(&program("mariadb-install-db")?);
                init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                init.arg(format!("--datadir={}", data.display()));
                init
            }
        };
        if tls {
            let mut make = Command::new("openssl");
            make.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec"]);
            make.args([
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-addext",
                "subjectAltName=DNS:localhost",
            ]);
            make.arg("-keyout").arg(directory.join(KEY)).arg("-out").arg(directory.join(CERTIFICATE));
            run(&mut make).unwrap_or_else(|error| panic!("{error}"));
        }
        self.give(&directory);
        run(&mut init).unwrap_or_else(|error| panic!("{error}"));
        self.serve(&directory)
    }

    /// Starts a server in its directory.
    #[expect(clippy::zombie_processes, reason = "it outlives this process, which it waits for")]
    fn serve(self, directory: &Path) -> Option<String> {
        let data = directory.join("data");
        let (server, signal, host) = match self {
            Engine::PostgreSql => {
                let mut server = self.command(&postgresql_program("postgres")?);
                server.arg("-D").arg(&data).arg("-k").arg(directory).args(["-h", "", "-F", "-N", "200"]);
                (server, "INT", directory.display().to_string())
            }
            Engine::MariaDb => {
                let socket = directory.join("server.sock");
                let mut server = self.command(&program("mariadbd")?);
                server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
                server
                    .arg(format!("--datadir={}", data.display()))
                    .arg(format!("--socket={}", socket.display()));
                server.arg(format!("--pid-file={}", directory.join("server.pid").display()));
                server.arg(format!("--tmpdir={}", directory.display()));
                if directory.join(CERTIFICATE).exists() {
                    server.arg(format!("--ssl-cert={}", directory.join(CERTIFICATE).display()));
                    server.arg(format!("--ssl-key={}", directory.join(KEY).display()));
                }
                (server, "TERM", socket.display().to_string())
            }
        };
        let log = fs::File::create(directory.join("server.log")).expect("a log");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(directory).arg(signal);
        keeper.arg(server.get_program()).args(server.get_args()).current_dir("/").process_group(0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut keeper = keeper.spawn().expect("sh starts");
        // Its other end is closed with this process and by nothing else.
        std::mem::forget(keeper.stdin.take());
        let admin = Database { engine: self, name: String::new(), password: ADMIN.to_owned(), host };
        let up = wait_until(Duration::from_secs(60), || admin.try_sql("SELECT 1").is_ok());
        assert!(up, "{self:?} does not start: {:?}", fs::read_to_string(directory.join("server.log")));
        Some(admin.host)
    }

    /// Makes a command of the server's user, since a server refuses to run as root.
    fn command(self, program: &Path) -> Command {
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={0}", self.user())).arg(format!("--regid={0}", self.user()));
        command.arg("--clear-groups").arg(program);
        command.current_dir("/");
        command
    }

    /// Gives the server's user a directory and what is in it.
    fn give(self, directory: &Path) {
        if !is_root() {
            return;
        }
        let id = |flag: &str| -> u32 {
            let output = Command::new("id").args([flag, self.user()]).output().expect("id starts");
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("a user of the server's own")
        };
        let (user, group) = (id("-u"), id("-g"));
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            chown(entry.path(), Some(user), Some(group)).expect("root may");
        }
        chown(directory, Some(user), Some(group)).expect("root may");
    }
}

/// A client at work, ended when it is dropped.
pub struct Client(Child);

impl Client {
    /// Waits for the end; tells whether it was a good one.
    pub fn ended(mut self) -> bool {
        self.0.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Database {
    /// Makes a database; `None` where the server is not installed.
    pub fn new(engine: Engine) -> Option<Database> {
        Some(Database::on(engine, engine.host()?))
    }

    /// Makes a database on a server of its own, which may be ended and stopped.
    pub fn alone(engine: Engine) -> Option<Database> {
        Some(Database::on(engine, engine.start(false)?))
    }

    /// Makes a database on a MariaDB server whose certificate Django verifies.
    pub fn with_tls() -> Option<Database> {
        static HOST: OnceLock<Option<String>> = OnceLock::new();
        let host = HOST.get_or_init(|| Engine::MariaDb.start(true)).clone()?;
        Some(Database::on(Engine::MariaDb, host))
    }

    fn on(engine: Engine, host: String) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("site{number}");
        // With everything that an option file, a shell and SQL could stumble over.
        let password = format!("{CANARY}-{number} \\'\"#%$;");
        let admin = Database { engine, name: String::new(), password: ADMIN.to_owned(), host: host.clone() };
        match engine {
            Engine::PostgreSql => {
                admin.sql(&format!("CREATE USER {name} PASSWORD '{}'", password.replace('\'', "''")));
                admin.sql(&format!("CREATE DATABASE {name} OWNER {name}"));
            }
            Engine::MariaDb => {
                let quoted = password.replace('\\', "\\\\").replace('\'', "''");
                admin.sql(&format!(
                    "CREATE DATABASE {name} CHARACTER SET utf8mb4; CREATE USER {name}@localhost IDENTIFIED BY \
                     '{quoted}'; GRANT ALL ON {name}.* TO {name}@localhost"
                ));
            }
        }
        Database { engine, name, password, host }
    }

    fn directory(&self) -> &Path {
        let host = Path::new(&self.host);
        if self.engine == Engine::MariaDb { host.parent().expect("a directory") } else { host }
    }

    /// Returns the numbers of the server's processes.
    pub fn processes(&self) -> Vec<i32> {
        let file = if self.engine == Engine::MariaDb { "server.pid" } else { "data/postmaster.pid" };
        let text = fs::read_to_string(self.directory().join(file)).expect("a server that runs");
        let first: i32 = text.lines().next().expect("a line").trim().parse().expect("a number");
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(|number| number.parse().expect("a number"));
        std::iter::once(first).chain(children).collect()
    }

    /// Sends a signal to all of the server.
    pub fn signal(&self, signal: Signal) {
        for number in self.processes() {
            // A session may just have ended.
            let _ = kill_process(Pid::from_raw(number).expect("a number"), signal);
        }
    }

    /// Starts a server again that was killed.
    pub fn start_again(&self) {
        // Its keeper has not asked about it: the process seems to be there.
        for file in ["data/postmaster.pid", ".s.PGSQL.5432.lock"] {
            let _ = fs::remove_file(self.directory().join(file));
        }
        self.engine.serve(self.directory()).expect("it was there");
    }

    /// Runs SQL as the owner in a session that lasts until it is dropped.
    pub fn session(&self, sql: &str) -> Client {
        let mut command = self.client_for(sql, false);
        Client(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the client starts"))
    }

    /// Returns the database that settings name.
    pub fn of(settings: &str) -> Database {
        let settings: Value = serde_json::from_str(settings).expect("JSON");
        let text = |name: &str| settings[name].as_str().expect("a text").to_owned();
        let engine = if text("ENGINE").ends_with("mysql") { Engine::MariaDb } else { Engine::PostgreSql };
        Database { engine, name: text("NAME"), password: text("PASSWORD"), host: text("HOST") }
    }

    /// Returns what `settings.DATABASES` says of it, as JSON, which is Python as well.
    pub fn settings(&self) -> String {
        let engine = match self.engine {
            Engine::PostgreSql => "django.db.backends.postgresql",
            Engine::MariaDb => "django.db.backends.mysql",
        };
        let (name, password, host) = (&self.name, &self.password, &self.host);
        let mut found =
            json!({"ENGINE": engine, "NAME": name, "USER": name, "PASSWORD": password, "HOST": host});
        if let Some(certificate) = self.certificate() {
            found["OPTIONS"] = json!({ "ssl_ca": certificate });
        }
        found.to_string()
    }

    /// Returns the certificate of the server, if there is one.
    pub fn certificate(&self) -> Option<PathBuf> {
        Some(self.directory().join(CERTIFICATE)).filter(|path| path.exists())
    }

    /// Runs SQL as the owner and returns the rows, columns parted by `|` or a tab.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as the owner through a pooler that listens in another directory.
    #[track_caller]
    pub fn through(&self, port: u16, directory: &str, sql: &str) -> String {
        let mut command = self.client_for(sql, false);
        let output = command.env("PGHOST", directory).env("PGPORT", port.to_string()).output();
        let output = output.expect("the client starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs SQL of the server's administrator in this database.
    #[track_caller]
    pub fn sql_as_admin(&self, sql: &str) -> String {
        let admin = Database { password: ADMIN.to_owned(), ..self.clone() };
        admin.client(sql, true).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.client(sql, self.name.is_empty())
    }

    fn client(&self, sql: &str, admin: bool) -> Result<String, String> {
        let output = self.client_for(sql, admin).output().expect("the client starts");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn client_for(&self, sql: &str, admin: bool) -> Command {
        match self.engine {
            Engine::PostgreSql => {
                let mut command = Command::new(program("psql").expect("a client beside the server"));
                command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
                command.env("PGHOST", &self.host).env("PGPASSWORD", &self.password);
                command.env("PGUSER", if admin { "admin" } else { &self.name });
                command.env("PGDATABASE", if self.name.is_empty() { "postgres" } else { &self.name });
                command.args(["-c", sql]);
                command
            }
            Engine::MariaDb => {
                let mut command = Command::new(program("mariadb").expect("a client beside the server"));
                command.args(["--no-defaults", "--batch", "--skip-column-names", "--socket", &self.host]);
                command.args(["--user", if admin { "root" } else { &self.name }]);
                if !admin {
                    command.env("MYSQL_PWD", &self.password);
                }
                command.args(["-e", sql]);
                command.args((!self.name.is_empty()).then_some(&self.name));
                command
            }
        }
    }

    /// Returns schema, migrations and rows as named facts, read by the database's own client.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let (schema, tables) = match self.engine {
            Engine::PostgreSql => {
                (POSTGRESQL_SCHEMA, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            }
            Engine::MariaDb => (
                MARIADB_SCHEMA,
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
            ),
        };
        let mut facts = BTreeMap::new();
        for line in self.sql(schema).lines() {
            *facts.entry(format!("database schema {line}")).or_insert_with(String::new) += "+";
        }
        for table in self.sql(tables).lines() {
            if table.starts_with("guestbook_") || table.starts_with("shop_") {
                facts.insert(format!("database rows {table}"), self.rows(table));
            }
            if table == "django_migrations" {
                for line in self.sql("SELECT app, name FROM django_migrations").lines() {
                    facts.insert(
                        format!("migration {}", line.replace(['|', '\t'], ".")),
                        "applied".to_owned(),
                    );
                }
            }
        }
        facts
    }

    /// Returns the rows of a table, whatever the order of its columns.
    fn rows(&self, table: &str) -> String {
        let sql = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' AND table_schema = {} \
             ORDER BY column_name",
            if self.engine == Engine::MariaDb { "DATABASE()" } else { "'public'" }
        );
        let columns = self.sql(&sql).lines().collect::<Vec<_>>().join(", ");
        self.sql(&format!("SELECT {columns} FROM {table} ORDER BY id"))
    }
}

const POSTGRESQL_SCHEMA: &str = "
SELECT 'column', table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity
    FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', tablename, regexp_replace(indexdef, ' INDEX \\S+ ON ', ' '), NULL, NULL, NULL, NULL, NULL
    FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, contype::text, (SELECT string_agg(attname, ',' ORDER BY attname)
    FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)), NULL, confrelid::regclass::text, NULL, NULL
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'sequence', sequencename, data_type::text, start_value::text, NULL, increment_by::text, NULL, NULL
    FROM pg_sequences WHERE schemaname = 'public'
UNION ALL SELECT 'view', viewname, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'owner', relname, pg_get_userbyid(relowner), relacl::text, NULL, NULL, NULL, NULL FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
ORDER BY 1, 2, 3, 4";

const MARIADB_SCHEMA: &str = "
SELECT 'column', table_name, column_name, column_type, is_nullable, column_default, extra, collation_name
    FROM information_schema.columns WHERE table_schema = DATABASE()
UNION ALL SELECT 'index', table_name, GROUP_CONCAT(column_name ORDER BY seq_in_index), non_unique, index_type, '', '', ''
    FROM information_schema.statistics WHERE table_schema = DATABASE() GROUP BY table_name, index_name, non_unique
UNION ALL SELECT 'key', table_name, column_name, referenced_table_name, referenced_column_name, '', '', ''
    FROM information_schema.key_column_usage WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL
UNION ALL SELECT 'check', table_name, check_clause, '', '', '', '', ''
    FROM information_schema.check_constraints WHERE constraint_schema = DATABASE()
UNION ALL SELECT 'table', table_name, table_type, engine, table_collation, '', '', ''
    FROM information_schema.tables WHERE table_schema = DATABASE()
ORDER BY 1, 2, 3, 4";

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Returns a program of a server, which Debian keeps out of the `PATH`.
fn postgresql_program(name: &str) -> Option<PathBuf> {
    super::leave_out_if_fast(name);
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin").join(name)).filter(|file| file.is_file()).max();
    found.or_else(|| program(name))
}
