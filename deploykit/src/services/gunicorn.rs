//! A gunicorn that runs by itself, found by its pidfile and told to end by a signal.
//!
//! Source: <https://docs.gunicorn.org/en/stable/signals.html>, and `gunicorn/pidfile.py` for when the file comes and goes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::all_processes;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::limits::{Limits, graceful_of, option};
use super::pidfile::{Seen, real};
use super::{
    Connected, Flags, Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Settings,
    Socket, Status, socket,
};
use crate::command::Command;
use crate::host::files::{self, FileError};
use crate::host::{Host, Output};
use crate::keys::{Reader, Section, Table, keys};

/// Marks what a start command leaves running, so that a failed start is seen at once.
const MARKER: &str = "DEPLOYKIT_START";

/// How long nothing at all may be left of a start before it counts as failed.
const NOTHING: Duration = Duration::from_millis(500);

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
        /// Starts the service and returns. Empty if the service's socket is held by a keeper that starts it.
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
        Ok(Box::new(Session { service, gunicorn: self, host, started: None, awaited: false }))
    }

    fn commands(&self) -> [&[String]; 3] {
        [&self.start, &[], &[]]
    }

    fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

pub(super) struct Session<'a> {
    service: &'a Service,
    gunicorn: &'a Gunicorn,
    host: &'a Host,
    started: Option<Started>,
    /// The holder of its socket is about to start it.
    awaited: bool,
}

/// A start command that has returned.
struct Started {
    mark: String,
    output: Output,
    /// Since when nothing is left of it.
    nothing_since: Option<Instant>,
}

/// What a pidfile leads to.
enum Master {
    /// There is no file: gunicorn ended as it should, or never started.
    NoFile,
    /// The file names a process that has ended.
    Gone(i32),
    /// The file names a process that is something else, and what shows that.
    Foreign(i32, String),
    /// It runs.
    Alive(ProcessId),
}

impl Session<'_> {
    fn master(&self) -> Result<Master, ServiceError> {
        let path = &self.gunicorn.pidfile;
        let read = || std::io::Result::Ok((std::fs::read_to_string(path)?, std::fs::metadata(path)?));
        let (text, file) = match read() {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Master::NoFile),
            Err(source) => return Err(FileError { what: "read", path: path.clone(), source }.into()),
        };
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1);
        let pid: i32 = pid.ok_or_else(|| ServiceError::Pidfile { path: path.clone() })?;
        Ok(match ProcessId::of(pid) {
            None => Master::Gone(pid),
            Some(process) => {
                match Seen::of(&process).stranger(self.gunicorn, file.uid(), file.modified().ok()) {
                    Some(what) => Master::Foreign(pid, what),
                    None => Master::Alive(process),
                }
            }
        })
    }

    /// Tells whether anything is left of the start command: a daemon on its way to its pidfile.
    fn is_on_its_way(&self, mark: &str) -> bool {
        let variable = std::ffi::OsStr::new(MARKER);
        let Ok(all) = all_processes() else { return true };
        all.filter_map(Result::ok).any(|process| {
            process.environ().is_ok_and(|found| found.get(variable).is_some_and(|value| value == mark))
        })
    }

    fn after_start(&mut self, otherwise: (Status, String)) -> (Status, String) {
        if self.awaited {
            return (Status::Starting, "the holder of its socket has not started it yet".to_owned());
        }
        let Some(started) = &self.started else { return otherwise };
        let on_its_way = self.is_on_its_way(&started.mark);
        let Some(started) = &mut self.started else { return otherwise };
        if on_its_way {
            started.nothing_since = None;
            return (Status::Starting, "it has not written its pidfile yet".to_owned());
        }
        // Between the end of the start command and the first look at its daemon the process list may miss a fork.
        let since = *started.nothing_since.get_or_insert_with(Instant::now);
        if since.elapsed() < NOTHING {
            return (Status::Starting, "nothing is left of its start command".to_owned());
        }
        let mut detail = "its start command came to its end and left nothing running".to_owned();
        if started.output.tail.is_empty() {
            // A daemon's standard error goes nowhere, and its log is not open yet when it loads the application.
            detail.push_str(" and said nothing; started without `--daemon` it shows why");
        } else {
            detail = format!("{detail}; it said: {}", started.output.tail.join(" / "));
        }
        (Status::Failed, detail)
    }
}

impl ServiceManager for Session<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        let mut main = Vec::new();
        let (status, detail) = match self.master()? {
            Master::Alive(process) => {
                main.push(process);
                (Status::Running, format!("process {}", process.pid))
            }
            Master::NoFile => self.after_start((Status::Stopped, "there is no pidfile".to_owned())),
            Master::Gone(pid) => {
                let detail = format!("it died: its pidfile names process {pid}, which has ended");
                self.after_start((Status::Failed, detail))
            }
            Master::Foreign(pid, what) => {
                let detail = format!("it died: its pidfile names process {pid}, {what}");
                self.after_start((Status::Failed, detail))
            }
        };
        Ok(ServiceState {
            main,
            detail: self.host.redactor().redact(&detail).into_owned(),
            logs: log_file(&self.gunicorn.start, self.gunicorn.directory.as_deref()).into_iter().collect(),
            ..ServiceState::new(&self.service.name, status)
        })
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        let directory = self.gunicorn.directory.clone().or_else(|| std::env::current_dir().ok());
        let mut origin = Origin::default();
        origin.add(self.gunicorn.start.iter().map(String::as_str), directory.as_deref());
        origin.add_file(&self.gunicorn.pidfile);
        if let Master::Alive(process) = self.master()? {
            origin.add_processes([process]);
        }
        Ok(origin)
    }

    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        let kept = self.gunicorn.start.is_empty();
        let holder = if kept { socket::parent_that_holds(state) } else { None };
        Ok(Socket { holder, hold: self.service.hold.clone().filter(|_| kept), ..Socket::default() })
    }

    fn limits(&mut self, state: &ServiceState) -> Result<Limits, ServiceError> {
        let graceful = state.main.first().and_then(|main| graceful_of(*main, &self.gunicorn.start));
        Ok(Limits { graceful, ..Limits::default() })
    }

    fn leaves_killing_to_us(&self) -> bool {
        true
    }

    fn start(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        let Some(mut command) = Command::from_argv(&self.gunicorn.start) else {
            self.awaited = true;
            return Ok(());
        };
        match self.master()? {
            Master::Alive(_) => return Ok(()),
            // gunicorn refuses to start while the file names a process that exists, whatever that is: a zombie, too.
            Master::Foreign(..) | Master::Gone(_) => files::remove_file(&self.gunicorn.pidfile)?,
            Master::NoFile => {}
        }
        if let Some(directory) = &self.gunicorn.directory {
            command = command.directory(directory);
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mark = format!("{}-{}", std::process::id(), now.as_nanos());
        let command = command.with_site_variables().env(MARKER, &mark).deadline(self.service.start_timeout);
        let output = self.host.run(&command).map_err(|source| self.service.failed("start", source))?;
        self.started = Some(Started { mark, output, nothing_since: None });
        Ok(())
    }

    fn stop(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        self.started = None;
        self.awaited = false;
        let Master::Alive(process) = self.master()? else { return Ok(()) };
        process.signal(Signal::TERM).map_err(|source| ServiceError::Signal {
            service: self.service.name.clone(),
            pid: process.pid,
            source: source.into(),
        })
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
