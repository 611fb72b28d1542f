//! A server that runs by itself, found by its pidfile.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::time::Instant;

use procfs::process::all_processes;
use rustix::process::Signal;

use super::holding::{HoldingError, SocketChange, Wanted};
use super::limits::Limits;
use super::pidfile::{Identity, Seen};
use super::{Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Socket, Status};
use crate::command::Command;
use crate::host::files::{self, FileError};
use crate::host::{Host, Output};

/// Marks what a start command leaves running, so that a failed start is seen at once.
const MARKER: &str = "DEPLOYKIT_START";

/// How long nothing at all may be left of a start before it counts as failed.
const NOTHING: Duration = Duration::from_millis(500);

/// What is special about one kind of server.
pub(super) trait Daemon: Identity {
    /// Returns the option that lets it run in the background.
    fn detaches(&self) -> &'static str;

    /// Returns the status of the service, and its reason, if the pidfile names a process that has ended.
    fn after(&self, pid: i32) -> (Status, String);

    /// Returns why its starter, such as an emperor, keeps the server stopped; `None`: it does not.
    fn kept_down(&self) -> Option<String> {
        None
    }

    /// Lets an emperor or the holder of the socket start the server. Returns what deploykit waits for.
    fn put_up(&self) -> Result<&'static str, ServiceError>;

    /// Tells the server to end.
    fn take_down(
        &self,
        service: &Service,
        master: Option<ProcessId>,
        host: &Host,
    ) -> Result<(), ServiceError>;

    /// Returns who keeps the listening socket while the server is stopped.
    fn socket(&self, _service: &Service, _state: &ServiceState) -> Socket {
        Socket::default()
    }

    /// Returns how long a stop of the server may take, and its effects.
    fn limits(&self, state: &ServiceState) -> Limits;

    /// Returns the log files of the server.
    fn logs(&self) -> Vec<PathBuf>;
}

/// Sends a signal to the master of a service, if it runs.
pub(super) fn signal(
    service: &Service,
    master: Option<ProcessId>,
    signal: Signal,
) -> Result<(), ServiceError> {
    let Some(process) = master else { return Ok(()) };
    process.signal(signal).map_err(|source| ServiceError::Signal {
        service: service.name.clone(),
        pid: process.pid,
        source: source.into(),
    })
}

pub(super) struct Session<'a> {
    service: &'a Service,
    daemon: &'a dyn Daemon,
    host: &'a Host,
    started: Option<Started>,
    /// What is waited for, where somebody else starts it.
    awaited: Option<&'static str>,
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
    /// There is no file: it ended as it should, or never started.
    NoFile,
    /// The file names a process that has ended.
    Gone(i32),
    /// The file names a process that is something else, and what shows that.
    Foreign(i32, String),
    /// It runs.
    Alive(ProcessId),
}

impl<'a> Session<'a> {
    pub(super) fn new(service: &'a Service, daemon: &'a dyn Daemon, host: &'a Host) -> Self {
        Session { service, daemon, host, started: None, awaited: None }
    }

    fn master(&self) -> Result<Master, ServiceError> {
        let path = self.daemon.pidfile();
        let read = || std::io::Result::Ok((std::fs::read_to_string(path)?, std::fs::metadata(path)?));
        let (text, file) = match read() {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Master::NoFile),
            Err(source) => return Err(FileError { what: "read", path: path.to_owned(), source }.into()),
        };
        // uWSGI empties the file before it writes into it.
        if text.is_empty() {
            return Ok(Master::NoFile);
        }
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1);
        let pid: i32 = pid.ok_or_else(|| ServiceError::Pidfile { path: path.to_owned() })?;
        Ok(match ProcessId::of(pid) {
            None => Master::Gone(pid),
            Some(process) => {
                match Seen::of(&process).stranger(self.daemon, file.uid(), file.modified().ok()) {
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
        if let Some(awaited) = self.awaited {
            return (Status::Starting, awaited.to_owned());
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
            return (Status::Starting, "no process of its start command is running".to_owned());
        }
        let mut detail = "its start command ended and left nothing running".to_owned();
        if started.output.tail.is_empty() {
            // A daemon's standard error goes nowhere, and its log is not open yet when it loads the application.
            detail = format!(
                "{detail}, without output; to see the error, run the command without `{}`",
                self.daemon.detaches()
            );
        } else {
            detail = format!("{detail}; its output: {}", started.output.tail.join(" / "));
        }
        (Status::Failed, detail)
    }
}

impl ServiceManager for Session<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        let mut main = Vec::new();
        let kept_down = self.daemon.kept_down();
        let (status, detail) = match self.master()? {
            Master::Alive(process) => {
                main.push(process);
                let status = if kept_down.is_some() { Status::Stopping } else { Status::Running };
                (status, format!("process {}", process.pid))
            }
            _ if kept_down.is_some() => (Status::Stopped, kept_down.unwrap_or_default()),
            Master::NoFile => self.after_start((Status::Stopped, "there is no pidfile".to_owned())),
            Master::Gone(pid) => self.after_start(self.daemon.after(pid)),
            Master::Foreign(pid, what) => {
                let detail = format!("it died: its pidfile names process {pid}, {what}");
                self.after_start((Status::Failed, detail))
            }
        };
        Ok(ServiceState {
            main,
            detail: self.host.redactor().redact(&detail).into_owned(),
            logs: self.daemon.logs(),
            ..ServiceState::new(&self.service.name, status)
        })
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        let (start, directory) = self.daemon.start();
        let directory = directory.map(Path::to_owned).or_else(|| std::env::current_dir().ok());
        let mut origin = Origin::default();
        origin.add(start.iter().map(String::as_str), directory.as_deref());
        origin.add_file(self.daemon.pidfile());
        if let Master::Alive(process) = self.master()? {
            origin.add_processes([process]);
        }
        Ok(origin)
    }

    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        Ok(self.daemon.socket(self.service, state))
    }

    fn holding(&mut self, wanted: &Wanted<'_>) -> Result<SocketChange, HoldingError> {
        let (start, directory) = self.daemon.start();
        Err(wanted.by_hand(start, directory))
    }

    fn limits(&mut self, state: &ServiceState) -> Result<Limits, ServiceError> {
        Ok(self.daemon.limits(state))
    }

    fn leaves_killing_to_us(&self) -> bool {
        true
    }

    fn start(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        let (start, directory) = self.daemon.start();
        let Some(mut command) = Command::from_argv(start) else {
            self.awaited = Some(self.daemon.put_up()?);
            return Ok(());
        };
        match self.master()? {
            Master::Alive(_) => return Ok(()),
            // gunicorn refuses to start, and uWSGI is taken for another, while the file names a process that exists, whatever that is: a zombie, too.
            Master::Foreign(..) | Master::Gone(_) => files::remove_file(self.daemon.pidfile())?,
            Master::NoFile => {}
        }
        if let Some(directory) = directory {
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
        self.awaited = None;
        let master = match self.master()? {
            Master::Alive(process) => Some(process),
            _ => None,
        };
        self.daemon.take_down(self.service, master, self.host)
    }
}
