//! PgBouncer in front of a test's PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::database::{Database, is_root};
use super::program;
use super::site::demo_site::wait_until;

/// A PgBouncer that ends with this value.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    /// What is reached through it.
    pub database: Database,
    /// The port in the name of its socket.
    pub port: u16,
    directory: tempfile::TempDir,
}

impl Pooler {
    /// Starts one; `None` where it is not installed. `mode`: `transaction` or `session`.
    pub fn before(database: &Database, mode: &str) -> Option<Pooler> {
        let pgbouncer = program("pgbouncer")?;
        let directory = tempfile::Builder::new().prefix("pool-").tempdir().expect("a directory");
        // It runs as another user.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("a directory");
        let place = |name: &str| directory.path().join(name);
        let port = 6432;
        let password = database.password.replace('"', "\"\"");
        fs::write(place("users"), format!("\"{}\" \"{password}\"\n", database.name)).expect("a file");
        let text = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_port = {port}\nunix_socket_dir = {top}\nauth_type = trust\n\
             auth_file = {top}/users\npool_mode = {mode}\nlogfile = {top}/log\n",
            database.host,
            top = directory.path().display()
        );
        fs::write(place("pgbouncer.ini"), text).expect("a file");
        let mut command = Command::new(pgbouncer);
        // It refuses to run as root.
        if is_root() {
            command.args(["-u", "postgres"]);
        }
        command
            .arg("-q")
            .arg(place("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("PgBouncer starts");
        let host = directory.path().display().to_string();
        let pooler = Pooler { child, database: Database { host, ..database.clone() }, port, directory };
        let socket = pooler.directory.path().join(format!(".s.PGSQL.{port}"));
        assert!(wait_until(Duration::from_secs(60), || socket.exists()), "{}", pooler.log());
        Some(pooler)
    }

    /// Returns what `settings.DATABASES` says of it.
    pub fn settings(&self) -> String {
        let text = self.database.settings();
        format!("{}, \"PORT\": \"{}\"}}", text.trim_end_matches('}'), self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(Path::new(&self.database.host).join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
