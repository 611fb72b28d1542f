//! A gunicorn that runs by itself, found by its pidfile and told to end by a signal.
//!
//! Source: <https://docs.gunicorn.org/en/stable/signals.html>, and `gunicorn/pidfile.py` for when the file comes and goes.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::daemon::{self, Daemon, Session};
use super::limits::{Limits, option};
use super::pidfile::{Identity, real};
use super::{
    Connected, Flags, ProcessId, Service, ServiceError, ServiceState, Settings, Socket, Status, socket,
};
use crate::host::Host;
use crate::keys::{Reader, Section, Table, keys};

/// A gunicorn without a manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gunicorn {
    /// The file that it writes the number of its master process to.
    pub pidfile: PathBuf,
    /// Starts it and returns, such as `gunicorn --daemon --pid FILE site.wsgi`; runs with the site's variables. Empty:
    /// the holder of its socket restarts it whenever it ends, unless the service's socket gate exists.
    pub start: Vec<String>,
    /// The directory to start it in; default: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

keys! {
    /// Keys of services with `manager = "gunicorn"`.
    struct GunicornKeys in "[[services]]" after "name = \"api\"\nmanager = \"gunicorn\"\nrole = \"web\"" {
        /// The file that contains the process ID of gunicorn's master.
        "pidfile" => pidfile: Option<PathBuf>, required "is missing", example "/srv/site/run/api.pid";
        /// Starts the service and returns. Empty if a program that holds the service's socket starts it, such as `deploykit hold-socket`.
        "start" => start: Vec<String>, required "is missing",
            example ["/srv/site/venv/bin/gunicorn", "--daemon", "--pid", "/srv/site/run/api.pid", "api.wsgi"];
        /// The working directory of `start`.
        "directory" => directory: Option<PathBuf>, shown "the caller's directory", example "project";
    }
}

impl Settings for Gunicorn {
    fn section() -> Section {
        GunicornKeys::section()
    }

    fn read(reader: &Reader<'_>) -> Option<Self> {
        let GunicornKeys { pidfile, start, directory } = GunicornKeys::read(reader);
        Some(Gunicorn { pidfile: pidfile?, start, directory })
    }

    fn of_flags(flags: Flags) -> Self {
        Gunicorn { pidfile: flags.pidfile, start: flags.start, directory: None }
    }

    fn is_same(&self, _name: &str, described: &Self, _described_name: &str) -> bool {
        real(&self.pidfile) == real(&described.pidfile)
    }

    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a> {
        Ok(Box::new(Session::new(service, self, host)))
    }

    fn commands(&self) -> [&[String]; 3] {
        [&self.start, &[], &[]]
    }

    fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

impl Identity for Gunicorn {
    fn name(&self) -> &'static str {
        "gunicorn"
    }

    fn pidfile(&self) -> &Path {
        &self.pidfile
    }

    fn pidfile_options(&self) -> &'static [&'static str] {
        &["-p", "--pid"]
    }

    fn start(&self) -> (&[String], Option<&Path>) {
        (&self.start, self.directory.as_deref())
    }

    fn is_title(&self, word: &str) -> bool {
        word.starts_with("gunicorn:")
    }
}

impl Daemon for Gunicorn {
    fn detaches(&self) -> &'static str {
        "--daemon"
    }

    /// gunicorn removes the file when it ends as it should.
    fn after(&self, pid: i32) -> (Status, String) {
        (Status::Failed, format!("it died: its pidfile names process {pid}, which has ended"))
    }

    fn put_up(&self) -> Result<&'static str, ServiceError> {
        Ok("the holder of its socket has not started it yet")
    }

    fn take_down(&self, service: &Service, master: Option<ProcessId>, _: &Host) -> Result<(), ServiceError> {
        daemon::signal(service, master, Signal::TERM)
    }

    fn socket(&self, service: &Service, state: &ServiceState) -> Socket {
        let kept = self.start.is_empty();
        let holder = if kept { socket::parent_that_holds(state) } else { None };
        Socket { holder, hold: service.hold.clone().filter(|_| kept), ..Socket::default() }
    }

    fn limits(&self, state: &ServiceState) -> Limits {
        Limits::default().of_servers(&state.main, &self.start)
    }

    fn logs(&self) -> Vec<PathBuf> {
        log_file(&self.start, self.directory.as_deref()).into_iter().collect()
    }
}

/// Finds gunicorn's log file among its arguments; one that is named in a configuration file is not seen.
fn log_file(argv: &[String], directory: Option<&Path>) -> Option<PathBuf> {
    let file = option(argv, &["--error-logfile", "--log-file"]).filter(|file| file != "-")?;
    Some(directory.map_or_else(|| PathBuf::from(&file), |directory| directory.join(&file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_log_file_is_found_among_the_arguments() {
        let found = |line: &str| log_file(&words(line), Some(Path::new("/srv")));
        assert_eq!(found("gunicorn --error-logfile a.log --access-logfile c.log"), Some("/srv/a.log".into()));
        assert_eq!(found("gunicorn --error-logfile a.log --log-file=/b.log app"), Some("/b.log".into()));
        assert_eq!(found("gunicorn --error-logfile a.log --log-file -"), None);
        assert_eq!(found("gunicorn --access-logfile c.log"), None);
    }
}
