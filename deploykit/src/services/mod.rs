//! The programs that serve a site: asked, stopped and started through whatever manages them.
//!
//! A [`Service`] names its [`Manager`]. Each kind of manager is one file of this directory with an implementation of
//! `ServiceManager`, which asks for a state and passes on a wish; the waiting, the deadlines and the proof that old
//! processes have ended are the same for all of them and stand in [`ServiceAction`]. Services of one role that stop are told
//! so one after another, and waited for together (`stop.rs`). A new manager costs its file and an entry of
//! the list of managers below.

mod action;
mod command;
mod daemon;
mod error;
mod gunicorn;
mod holding;
mod journal;
pub(crate) mod keeper;
mod kept;
mod leftover;
pub(crate) mod limits;
mod listen;
mod logs;
mod manager;
mod origin;
mod pidfile;
pub(crate) mod server;
mod serves;
mod socket;
mod stop;
pub(crate) mod supervisor;
mod systemd;
mod uwsgi;
pub(crate) mod uwsgi_options;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub use crate::host::ProcessId;
pub use crate::http::Address;
pub use action::{Before, Goal, ServiceAction};
pub use command::CommandManager;
pub use error::ServiceError;
pub use gunicorn::Gunicorn;
pub use holding::{ChangedFile, Holding, HoldingError, SocketChange};
pub use journal::{JournalUnit, last_lines_of_unit};
pub use listen::Listening;
pub(crate) use listen::listeners;
pub use logs::{LogMark, NewLines, last_lines_of};
pub use manager::Flags;
pub(crate) use manager::Settings;
pub use origin::Origin;
pub use serves::Serves;
pub use socket::Socket;
pub(crate) use stop::stop_together;
pub use supervisor::{Server, Supervisor};
pub use systemd::Systemd;
pub use uwsgi::Uwsgi;

use crate::host::Host;
use holding::{Wanted, unfit};
use kept::Kept;
use limits::Limits;

/// One program, or group of programs, that a site needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name: for messages, and for the manager where that has names.
    pub name: String,
    /// What starts and stops it.
    pub manager: Manager,
    /// What it is for; decides the order of stops and starts.
    pub role: Role,
    /// How long its processes may take to end; default 30 s. The manager may end them by force earlier.
    #[serde(rename = "stop_timeout_ms", with = "crate::millis", default = "default_stop_timeout")]
    pub stop_timeout: Duration,
    /// What is done about processes that outlive their manager's stop and [`Service::stop_timeout`]. Default: they are
    /// killed.
    #[serde(default, skip_serializing_if = "Kill::is_default")]
    pub kill: Kill,
    /// How long it may take until it runs; default 60 s.
    #[serde(rename = "start_timeout_ms", with = "crate::millis", default = "default_start_timeout")]
    pub start_timeout: Duration,
    /// How long it must run before it counts as staying up, unless its manager asks for more; `None`: 1 s, and in an update
    /// or a rollback at least three times as long as Django takes to boot.
    #[serde(
        rename = "stay_up_ms",
        with = "crate::millis::maybe",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub stay_up: Option<Duration>,
    /// Runs the commands of a [`Manager::Command`], and those of systemctl that change something, as `sudo -n`. Default:
    /// false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
    /// Its socket gate: the holder of its socket starts it only once this file is gone. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<PathBuf>,
    /// The program that the rehearsal runs in place of starting the service. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rehearse: Vec<String>,
    /// How processes are known whose manager knows none; for a [`Manager::Command`] that is the site's only web service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Serves>,
}

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Answers requests: stopped last, started first.
    Web,
    /// Works on jobs: stopped before the web, started after it.
    Worker,
    /// Starts jobs by the clock: stopped before the workers, started after them.
    Timer,
    /// Others rely on it: started when it does not run, never stopped.
    Required,
}

impl Role {
    /// All roles, in the order of a start.
    pub const ALL: &[Role] = &[Role::Required, Role::Web, Role::Worker, Role::Timer];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Web => "web",
            Role::Worker => "worker",
            Role::Timer => "timer",
            Role::Required => "required",
        })
    }
}

/// What is done about processes of a service that outlive its stop, after they were told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kill {
    /// They are killed after [`Service::stop_timeout`].
    #[default]
    Auto,
    /// They are waited for, and the stop fails.
    Never,
}

impl Kill {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Kill::Auto
    }
}

manager::managers! {
    /// A running supervisord.
    "supervisor" => Supervisor(Supervisor);
    /// A running systemd.
    "systemd" => Systemd(Systemd);
    /// The site's own commands.
    "command" => Command(CommandManager);
    /// A gunicorn that runs by itself and is found by its pidfile.
    "gunicorn" => Gunicorn(Gunicorn);
    /// A uWSGI that runs by itself, or as a vassal, and is found by its pidfile.
    "uwsgi" => Uwsgi(Uwsgi);
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// All of its processes run.
    Running,
    /// It was started, and its manager does not call it running yet.
    Starting,
    /// It was told to end and has not ended yet.
    Stopping,
    /// It does not run, and is not meant to: never started, stopped, or ended as it should.
    #[default]
    Stopped,
    /// It died, and its manager is about to start it again.
    Retrying,
    /// It died or could not be started, and stays so; or only a part of a group runs.
    Failed,
}

impl Status {
    /// Tells whether it serves, or is about to.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Starting)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Running => "running",
            Status::Starting => "starting",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Retrying => "restarting repeatedly",
            Status::Failed => "failed",
        })
    }
}

/// What a service was seen doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The service's name.
    pub service: String,
    /// Whether it runs.
    pub status: Status,
    /// The processes that its manager started; empty where the manager does not know them.
    pub main: Vec<ProcessId>,
    /// Those and all of their descendants.
    pub pids: Vec<ProcessId>,
    /// The jobs of a timer that run now, as a message shows them. Its stop waits for them and never ends them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// The manager's own words, secrets removed: `BACKOFF: Exited too quickly`.
    pub detail: String,
    /// The files that its output goes to.
    pub logs: Vec<PathBuf>,
    /// The unit whose journal its output goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalUnit>,
    /// How long it must run before its manager calls it running; zero where the manager has no such time.
    #[serde(rename = "startsecs_ms", with = "crate::millis")]
    pub startsecs: Duration,
    /// What becomes of its listening socket while it is stopped. Only [`Service::state`] looks.
    #[serde(default)]
    pub socket: Socket,
    /// What makes it likely that its stop fails or leaves something behind. Only [`Service::state`] looks, for
    /// [`Role::Web`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
    /// Why it cannot be stopped in time, and what to change. Only [`Service::state`] looks, but not for [`Role::Required`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

impl ServiceState {
    /// Makes the state of a service without known processes.
    #[must_use]
    pub fn new(service: impl Into<String>, status: Status) -> Self {
        ServiceState { service: service.into(), status, ..ServiceState::default() }
    }

    /// Tells whether none of it runs, nor will by itself.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.status, Status::Stopped | Status::Failed) && self.main.is_empty()
    }

    /// Tells whether a stop has nothing to do and nothing to wait for.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_at_rest() && self.pids.is_empty() && self.jobs.is_empty()
    }
}

/// The connection to one service's manager: asks and passes on wishes, and never waits for them to come true.
pub(crate) trait ServiceManager {
    /// Asks for the state, without what costs more: the descendants, a look at every process of the machine, and the time
    /// that it must run.
    fn state(&mut self) -> Result<ServiceState, ServiceError>;

    /// Asks how long the service must run before its manager calls it running.
    fn startsecs(&mut self) -> Result<Duration, ServiceError> {
        Ok(Duration::ZERO)
    }

    /// Finds out what the service is started with, without running any program of the site. By default, that of its
    /// processes.
    fn origin(&mut self) -> Result<Origin, ServiceError> {
        let mut origin = Origin::default();
        origin.add_processes(self.state()?.main);
        Ok(origin)
    }

    /// Tells whether a service in this state only waits for the first request, and is started by that.
    fn is_idle(&self, _state: &ServiceState) -> bool {
        false
    }

    /// Finds out what becomes of the listening socket when a service in this state, descendants included, is stopped.
    /// By default, it is closed.
    fn socket(&mut self, _state: &ServiceState) -> Result<Socket, ServiceError> {
        Ok(Socket::default())
    }

    /// Returns what would have to change so that the listening socket is held. By default, nobody knows.
    fn holding(&mut self, wanted: &Wanted<'_>) -> Result<SocketChange, HoldingError> {
        Err(unfit(wanted.service, "its manager knows no way to hold a socket"))
    }

    /// Asks for a start, after a look at the state; what runs already is left alone.
    fn start(&mut self, socket: &Socket) -> Result<(), ServiceError>;

    /// Asks for the end, after a look at the state; what does not run is left alone.
    fn stop(&mut self, socket: &Socket) -> Result<(), ServiceError>;

    /// Finds out how long a service in this state may take to end, and what may be left of it.
    fn limits(&mut self, _state: &ServiceState) -> Result<Limits, ServiceError> {
        Ok(Limits::default())
    }

    /// Tells whether only deploykit ends processes that do not end by themselves.
    fn leaves_killing_to_us(&self) -> bool {
        false
    }

    /// Sends a signal to whatever the manager knows to be left of the service; `false`: it has no such wish.
    fn signal_rest(&mut self, _signal: Signal) -> Result<bool, ServiceError> {
        Ok(false)
    }

    /// Returns the last lines that the service wrote since this connection was opened, where they are in no file.
    fn last_words(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A connection, or why there is none.
pub(crate) type Connected<'a> = Result<Box<dyn ServiceManager + 'a>, ServiceError>;

impl Service {
    /// Makes a service with the default times.
    pub fn new(name: impl Into<String>, role: Role, manager: Manager) -> Self {
        Service {
            name: name.into(),
            manager,
            role,
            stop_timeout: default_stop_timeout(),
            kill: Kill::Auto,
            start_timeout: default_start_timeout(),
            stay_up: None,
            sudo: false,
            hold: None,
            rehearse: Vec::new(),
            serves: None,
        }
    }

    /// Asks its manager for its state.
    ///
    /// # Errors
    ///
    /// When the manager cannot be asked, or does not know the service.
    pub fn state(&self, host: &Host) -> Result<ServiceState, ServiceError> {
        let mut manager = self.connect(host)?;
        let mut state = manager.state()?;
        state.startsecs = manager.startsecs()?;
        state.pids = crate::host::processes::with_descendants(&state.main);
        if let Some(serves) = &self.serves {
            state.pids.extend(serves.processes());
        }
        state.socket = manager.socket(&state)?;
        if state.socket.holder.is_none() && state.socket.units.is_empty() {
            state.socket.listens = listen::listening(&state.pids);
        }
        if self.role != Role::Required && !state.main.is_empty() {
            let limits = manager.limits(&state)?;
            let elsewhere = || kept::waits_elsewhere(&state.main, self.hold.as_deref()?);
            state.obstacle = limits.obstacle(self.stop_timeout).or_else(elsewhere);
            if self.role == Role::Web {
                state.cautions = limits.cautions(self.stop_timeout);
            }
        }
        Ok(state)
    }

    /// Asks its manager what it is started with, and in which directory. Runs none of its commands.
    ///
    /// # Errors
    ///
    /// When the manager cannot be asked, or does not know the service.
    pub fn origin(&self, host: &Host) -> Result<Origin, ServiceError> {
        self.connect(host)?.origin()
    }

    /// Tells whether its settings say how to stop it.
    #[must_use]
    pub fn can_be_stopped(&self) -> bool {
        self.manager.settings().can_be_stopped()
    }

    pub(crate) fn connect<'a>(&'a self, host: &'a Host) -> Connected<'a> {
        let manager = self.manager.settings().connect(self, host)?;
        Ok(match &self.hold {
            Some(gate) => Box::new(Kept::new(gate, manager)),
            None => manager,
        })
    }
}

pub(crate) fn default_stop_timeout() -> Duration {
    Duration::from_secs(30)
}

pub(crate) fn default_start_timeout() -> Duration {
    Duration::from_secs(60)
}

/// How long a service must run at least, unless its settings say otherwise.
pub(crate) const STAY_UP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_survives_the_journal() {
        let manager = Manager::Supervisor(Supervisor {
            server: Server::Config("/etc/supervisord.conf".into()),
            program: None,
        });
        let service = Service { sudo: true, ..Service::new("web", Role::Web, manager) };
        let text = serde_json::to_string(&service).unwrap();
        assert!(text.contains(r#""stop_timeout_ms":30000"#), "{text}");
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);
    }

    #[test]
    fn times_have_defaults() {
        let text = r#"{"name": "redis", "role": "required",
            "manager": {"kind": "command", "start": ["a"], "stop": [], "status": ["b"]}}"#;
        let service: Service = serde_json::from_str(text).unwrap();
        assert_eq!(service.stay_up, None);
        let text = text.replace("\"manager\"", "\"stay_up_ms\": 1500, \"manager\"");
        let told: Service = serde_json::from_str(&text).unwrap();
        assert_eq!(told.stay_up, Some(Duration::from_millis(1500)));
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), told);
        assert!(!service.can_be_stopped());
    }
}
