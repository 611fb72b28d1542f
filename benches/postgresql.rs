//! A PostgreSQL server of its own, with the settings of a package: what it commits is synced.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::demo_site::{DatabaseServer, Server, run, wait_until};

/// Where Debian keeps the programs of each version.
const PLACE: &str = "/usr/lib/postgresql";

/// A server with an empty database and its owner; it ends with this value.
pub struct PostgreSql {
    _server: Server,
    sockets: PathBuf,
    programs: PathBuf,
    _directory: tempfile::TempDir,
}

impl PostgreSql {
    pub fn start() -> Outcome<PostgreSql> {
        let versions = fs::read_dir(PLACE).into_iter().flatten().flatten();
        let programs = versions.map(|version| version.path().join("bin")).max();
        let programs = programs.ok_or("PostgreSQL is not installed")?;
        let directory = tempfile::Builder::new().prefix("bench-pg-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let [data, sockets] = ["data", "run"].map(|name| directory.path().join(name));
        for path in [&data, &sockets] {
            fs::create_dir(path)?;
        }
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        if is_root {
            run(Command::new("chown").arg("postgres").args([&data, &sockets]))?;
        }
        // It refuses to run as root.
        let program = |name: &str| {
            let mut command = Command::new(if is_root { "setpriv" } else { "env" });
            command.current_dir("/");
            if is_root {
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
            }
            command.arg(programs.join(name)).arg("-D").arg(&data);
            command
        };
        run(program("initdb").args(["-A", "trust", "-U", "admin", "-E", "UTF8", "--locale=C"]))?;
        let mut command = program("postgres");
        command.arg("-k").arg(&sockets).args(["-h", ""]);
        let server = Server::start(&command, &directory.path().join("log"))?;
        let started = PostgreSql { _server: server, sockets, programs, _directory: directory };
        if !wait_until(Duration::from_secs(60), || started.psql("admin", "postgres", "SELECT 1").is_ok()) {
            return Err("PostgreSQL does not start".into());
        }
        started.psql("admin", "postgres", "CREATE USER site")?;
        started.psql("admin", "postgres", "CREATE DATABASE site OWNER site")?;
        Ok(started)
    }

    /// Returns how a site reaches it.
    pub fn server(&self) -> DatabaseServer {
        let settings = serde_json::json!({
            "ENGINE": "django.db.backends.postgresql", "NAME": "site", "USER": "site", "PASSWORD": "", "HOST": self.sockets,
        });
        DatabaseServer { settings: settings.to_string(), driver: "psycopg[binary]".to_owned() }
    }

    /// Fills a table with so many megabytes of rows.
    pub fn fill(&self, megabytes: usize) -> Outcome<()> {
        // A thousand rows of a kilobyte each, with their indexes.
        let rows = megabytes * 900;
        self.sql(&format!(
            "CREATE TABLE archive (id bigint PRIMARY KEY, name text, text text);
             INSERT INTO archive SELECT g, md5(g::text), (SELECT string_agg(md5((g * 31 + i)::text), '') FROM generate_series(1, 30) i)
             FROM generate_series(1, {rows}) g;
             CREATE INDEX archive_name ON archive (name)"
        ))?;
        self.psql("admin", "site", "CHECKPOINT").map(drop)
    }

    /// Returns the size of the database, in megabytes.
    pub fn megabytes(&self) -> Outcome<f64> {
        Ok(self.sql("SELECT pg_database_size(current_database()) / 1e6")?.trim().parse()?)
    }

    fn sql(&self, sql: &str) -> Outcome<String> {
        self.psql("site", "site", sql)
    }

    fn psql(&self, user: &str, database: &str, sql: &str) -> Outcome<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database]);
        Ok(run(command.arg("-h").arg(Path::new(&self.sockets)).args(["-c", sql]))?)
    }
}
