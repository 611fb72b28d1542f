//! Why a service could not be asked, stopped or started.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::error::error_chain;
use crate::host::CommandError;
use crate::host::files::FileError;

/// Why a service could not be asked, stopped or started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A file could not be read or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A configuration file says nothing that can be used.
    #[error("`{}`: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; no values of it.
        reason: String,
    },
    /// The settings of the service lack something.
    #[error("service `{service}` has no `{setting}`")]
    NoSetting {
        /// The service.
        service: String,
        /// The missing setting.
        setting: &'static str,
    },
    /// The socket's file is not there.
    #[error("supervisord does not run: there is no socket `{server}`")]
    NoSocket {
        /// The address.
        server: String,
    },
    /// The socket's file, or the port, is one on which nothing listens.
    #[error("supervisord does not run: nobody answers at `{server}`")]
    NobodyAnswers {
        /// The address.
        server: String,
    },
    /// The socket may not be used.
    #[error("no permission to use `{server}`")]
    Denied {
        /// The address.
        server: String,
    },
    /// The user name and password were refused.
    #[error("`{server}` rejected the user name and password")]
    Unauthorized {
        /// The address.
        server: String,
    },
    /// Something listens and does not answer.
    #[error("no answer from `{server}` within {:.0} s", deadline.as_secs_f64())]
    NoAnswer {
        /// The address.
        server: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The connection failed in another way.
    #[error("cannot talk to `{server}`")]
    Connection {
        /// The address.
        server: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What answers does not speak as supervisord does.
    #[error("`{server}` does not answer like supervisord: {what}")]
    Protocol {
        /// The address.
        server: String,
        /// What was wrong.
        what: String,
    },
    /// supervisord ends or restarts at this moment.
    #[error("supervisord at `{server}` is shutting down")]
    ShuttingDown {
        /// The address.
        server: String,
    },
    /// supervisord refused a call for a reason that has no variant of its own.
    #[error("supervisord refused `{call}`: {text} (fault {code})")]
    Fault {
        /// The method and its program.
        call: String,
        /// The fault's number.
        code: i32,
        /// The fault's text.
        text: String,
    },
    /// The manager knows no such program.
    #[error("supervisord knows no program `{name}`, but {}", listed(known))]
    UnknownProgram {
        /// The name that was asked for.
        name: String,
        /// The names that it knows.
        known: Vec<String>,
    },
    /// systemd could not be asked, or refused.
    #[error("`systemctl` failed for service `{service}`")]
    Systemd {
        /// The service.
        service: String,
        /// How.
        #[source]
        source: Box<CommandError>,
    },
    /// systemd knows no such unit.
    #[error("systemd knows no unit `{unit}`")]
    UnknownUnit {
        /// Its whole name.
        unit: String,
    },
    /// The manager could not start the program at all: no such file, not executable.
    #[error("service `{service}` cannot be started: {text}")]
    NotStartable {
        /// The service.
        service: String,
        /// The manager's words.
        text: String,
    },
    /// One of the service's own commands failed.
    #[error("service `{service}`: its {what} command failed")]
    Command {
        /// The service.
        service: String,
        /// `start`, `stop` or `status`.
        what: &'static str,
        /// How.
        #[source]
        source: Box<CommandError>,
    },
    /// A pidfile holds something else than the number of a process.
    #[error("`{}` holds no process id", path.display())]
    Pidfile {
        /// The file.
        path: PathBuf,
    },
    /// A process could not be told to end.
    #[error("cannot end process {pid} of service `{service}`")]
    Signal {
        /// The service.
        service: String,
        /// The process.
        pid: i32,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The service is to be stopped, and its settings do not say how.
    #[error("service `{service}` cannot be stopped: its `stop` is empty")]
    CannotStop {
        /// The service.
        service: String,
    },
    /// The manager's signal would not end the service within its `stop-timeout`.
    #[error("service `{service}` would not stop: {reason}")]
    WouldNotStop {
        /// The service.
        service: String,
        /// Why, and what to change.
        reason: String,
    },
    /// Processes of the service live on.
    #[error("service `{service}` still runs {:.0} s after it was told to end: {}", timeout.as_secs_f64(), listed(processes))]
    StillRunning {
        /// The service.
        service: String,
        /// Process ids with their command names.
        processes: Vec<String>,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The manager does not say that the service ended.
    #[error("service `{service}` did not stop within {:.0} s: {detail}", timeout.as_secs_f64())]
    NotStopped {
        /// The service.
        service: String,
        /// The manager's words.
        detail: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// A timer has stopped, and a job that it started before has not ended.
    #[error("timer `{service}` is stopped, and {} still runs after {:.0} s", listed(jobs), timeout.as_secs_f64())]
    JobRuns {
        /// The timer.
        service: String,
        /// Its jobs: `` its job `mail.service` (process 12) ``.
        jobs: Vec<String>,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// Another process listens where the service is to listen.
    #[error("service `{service}` is not started: `{address}` is in use by {holders}, which {}", if *old { "did not end with it" } else { "does not belong to it" })]
    SocketTaken {
        /// The service.
        service: String,
        /// Where.
        address: String,
        /// The processes that have it.
        holders: String,
        /// They are the service's own, from before.
        old: bool,
    },
    /// The service runs in processes that should have ended.
    #[error("service `{service}` was not restarted: process {pid} ran before the start")]
    OldProcess {
        /// The service.
        service: String,
        /// The process.
        pid: i32,
    },
    /// The service does not run in time.
    #[error("service `{service}` did not start within {:.0} s: {detail}", timeout.as_secs_f64())]
    NotStarted {
        /// The service.
        service: String,
        /// The manager's words.
        detail: String,
        /// How long it was waited for.
        timeout: Duration,
        /// The last lines that it wrote.
        lines: Vec<String>,
    },
    /// The service was started and ended again.
    #[error("service `{service}` did not stay up: {detail}")]
    Died {
        /// The service.
        service: String,
        /// The manager's words.
        detail: String,
        /// The last lines that it wrote.
        lines: Vec<String>,
    },
    /// Several services that were told to end at the same time did not.
    #[error("{}", errors.iter().map(|error| error_chain(error)).collect::<Vec<_>>().join("; "))]
    Several {
        /// Why, each in the order in which they were told.
        errors: Vec<ServiceError>,
    },
    /// The run was cancelled meanwhile.
    #[error("waiting for service `{service}` was interrupted")]
    Cancelled {
        /// The service.
        service: String,
    },
}

impl ServiceError {
    /// Returns the last lines of what failed, oldest first, secrets removed.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            ServiceError::NotStarted { lines, .. } | ServiceError::Died { lines, .. } => lines,
            ServiceError::Command { source, .. } | ServiceError::Systemd { source, .. } => source.tail(),
            ServiceError::Several { errors } => {
                errors.iter().map(ServiceError::tail).find(|tail| !tail.is_empty()).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Returns the exit code of the command that failed, when it had one.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            ServiceError::Command { source, .. } => source.code(),
            _ => None,
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
