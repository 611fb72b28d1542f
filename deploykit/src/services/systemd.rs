//! Units under systemd, through `systemctl`.
//!
//! Source: `systemctl(1)`, `org.freedesktop.systemd1(5)` for the properties.

mod shown;

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::holding::{self, HoldingError, SocketChange, Wanted};
use super::journal::{JournalUnit, or_reason};
use super::limits::Limits;
use super::{
    Connected, Flags, Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Settings,
    Socket, Status,
};
use crate::command::Command;
use crate::host::{CommandError, Host, Output, TAIL_LINES};
use crate::keys::{Reader, Section, Table, keys};
use shown::Shown;

/// How long systemd may take for an answer; it never waits for a unit.
const DEADLINE: Duration = Duration::from_secs(20);

const PROPERTIES: &str = "--property=LoadState,LoadError,ActiveState,SubState,Result,MainPID,Job,NRestarts,\
                          NeedDaemonReload,TriggeredBy,ExecStartPre,ExecMainCode,ExecMainStatus,\
                          TimeoutStopUSec,KillMode,KillSignal,ExecStart,ExecStop,WorkingDirectory,Triggers,\
                          StandardOutput,StandardError";

/// A unit of a running systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Systemd {
    /// `gunicorn.service`; without a suffix it is a service. Default: the service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// It is one of the user's own units (`systemctl --user`). Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
}

keys! {
    /// Keys of services with `manager = "systemd"`.
    struct SystemdKeys in "[[services]]" after "name = \"celery\"\nmanager = \"systemd\"" {
        /// The unit. A name without a suffix is a `.service`.
        "unit" => unit: Option<String>, shown "the service's name", example "celery@1.service";
        /// Whether the unit belongs to the user's own manager (`systemctl --user`).
        "user" => user: bool, example true;
    }
}

impl Settings for Systemd {
    fn section() -> Section {
        SystemdKeys::section()
    }

    fn read(reader: &Reader<'_>) -> Option<Self> {
        let SystemdKeys { unit, user } = SystemdKeys::read(reader);
        Some(Systemd { unit, user })
    }

    fn of_flags(flags: Flags) -> Self {
        Systemd { unit: None, user: flags.user }
    }

    fn is_same(&self, name: &str, described: &Self, described_name: &str) -> bool {
        self.user == described.user && self.unit_of(name) == full_name(described_name)
    }

    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a> {
        Ok(Box::new(Session::new(service, self, host)))
    }

    fn starts_jobs(&self, name: &str) -> bool {
        is_timer(&self.unit_of(name))
    }

    fn can_use_sudo() -> bool {
        true
    }

    fn needs_no_sudo(&self) -> Option<&'static str> {
        self.user.then_some("a unit of the user's own manager needs no sudo")
    }
}

impl Systemd {
    /// Returns the full name of the unit of a service with this name.
    fn unit_of(&self, name: &str) -> String {
        full_name(self.unit.as_deref().unwrap_or(name))
    }
}

pub(super) struct Session<'a> {
    service: &'a Service,
    unit: String,
    user: bool,
    host: &'a Host,
    opened: SystemTime,
}

impl<'a> Session<'a> {
    pub(super) fn new(service: &'a Service, systemd: &Systemd, host: &'a Host) -> Self {
        let unit = systemd.unit_of(&service.name);
        Session { service, unit, user: systemd.user, host, opened: SystemTime::now() }
    }

    /// Makes a command of `program`; only what changes something takes more rights.
    fn command(&self, program: &str, args: &[&str], changes: bool) -> Command {
        let scope: &[&str] = if self.user { &["--user"] } else { &[] };
        let mut command = if changes { self.service.program(program) } else { Command::new(program) };
        command = command.args(scope).args(args);
        if self.user && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // A login shell has it, and cron has not.
            let own = rustix::process::geteuid().as_raw();
            command = command.env("XDG_RUNTIME_DIR", format!("/run/user/{own}"));
        }
        command.env("LC_ALL", "C").deadline(DEADLINE)
    }

    fn journal(&self) -> JournalUnit {
        JournalUnit { unit: self.unit.clone(), user: self.user }
    }

    fn run(&self, command: &Command) -> Result<Output, ServiceError> {
        let service = || self.service.name.clone();
        self.host.run(command).map_err(|source| match source {
            CommandError::Cancelled { .. } => ServiceError::Cancelled { service: service() },
            source => ServiceError::Systemd { service: service(), source: Box::new(source) },
        })
    }

    fn systemctl(&self, verb: &[&str], socket: &Socket) -> Command {
        let mut args = verb.to_vec();
        args.extend(socket.units.iter().map(String::as_str));
        args.push(&self.unit);
        self.command("systemctl", &args, true)
    }

    fn show(&self) -> Result<Shown, ServiceError> {
        let shown = self.show_unit(&self.unit)?;
        match shown.get("LoadState") {
            "not-found" => Err(ServiceError::UnknownUnit { unit: self.unit.clone() }),
            _ => Ok(shown),
        }
    }

    fn show_unit(&self, unit: &str) -> Result<Shown, ServiceError> {
        let output = self.run(&self.command("systemctl", &["show", PROPERTIES, "--", unit], false))?;
        Ok(Shown::of(&output.stdout))
    }

    /// Returns which of the sockets that start the unit are open.
    fn open_sockets(&self, shown: &Shown) -> Result<Vec<String>, ServiceError> {
        let sockets: Vec<&str> =
            shown.get("TriggeredBy").split_whitespace().filter(|unit| unit.ends_with(".socket")).collect();
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = vec!["show", "--property=Id,ActiveState", "--"];
        args.extend(sockets);
        let output = self.run(&self.command("systemctl", &args, false))?;
        let units = output.stdout.split("\n\n").map(Shown::of);
        Ok(units
            .filter(|unit| unit.get("ActiveState") == "active")
            .map(|unit| unit.get("Id").to_owned())
            .collect())
    }

    /// Returns the jobs of a timer that run now: they run on when the timer is stopped.
    fn jobs(&self, shown: &Shown) -> Result<Vec<String>, ServiceError> {
        let mut jobs = Vec::new();
        if is_timer(&self.unit) {
            for unit in shown.get("Triggers").split_whitespace() {
                let job = self.show_unit(unit)?;
                if job.is_at_work() {
                    let process = job.main().map(|main| format!(" (process {})", main.pid));
                    jobs.push(format!("its job `{unit}`{}", process.unwrap_or_default()));
                }
            }
        }
        Ok(jobs)
    }

    /// Tells whether its start is waiting at the service's socket gate.
    fn is_held(&self, shown: &Shown) -> bool {
        let Some(hold) = &self.service.hold else { return false };
        shown.waits_for(&hold.to_string_lossy()) && hold.exists()
    }
}

impl ServiceManager for Session<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        let shown = self.show()?;
        let held = self.is_held(&shown);
        let mut status = shown.status(held);
        let mut detail = shown.detail(&self.unit);
        let jobs = self.jobs(&shown)?;
        if !jobs.is_empty() {
            detail = format!("{detail}; {} runs", jobs.join(", "));
        }
        if held && shown.get("SubState") == "start-pre" {
            detail.push_str("; it waits until it may start");
        } else if status == Status::Stopped && !held {
            let sockets = self.open_sockets(&shown)?;
            if !sockets.is_empty() {
                status = Status::Running;
                detail = format!("{detail}; `{}` starts it for the next request", sockets.join("`, `"));
            }
        }
        Ok(ServiceState {
            main: shown.main().into_iter().collect(),
            jobs,
            journal: shown.uses_journal().then(|| self.journal()),
            detail: self.host.redactor().redact(&detail).into_owned(),
            ..ServiceState::new(&self.service.name, status)
        })
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        let mut origin = Origin::default();
        let shown = self.show()?;
        shown.add_to(&mut origin);
        // A socket, timer or path starts another unit, which may be missing.
        for unit in shown.get("Triggers").split_whitespace() {
            self.show_unit(unit)?.add_to(&mut origin);
        }
        Ok(origin)
    }

    fn is_idle(&self, state: &ServiceState) -> bool {
        state.main.is_empty() && state.status == Status::Running
    }

    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        let shown = self.show()?;
        let units = self.open_sockets(&shown)?;
        let Some(first) = units.first() else { return Ok(Socket::default()) };
        let hold = self.service.hold.clone().filter(|hold| shown.waits_for(&hold.to_string_lossy()));
        // The socket gate is in a directory that only its owner and root can read. A gate that exists has kept the service
        // from starting.
        let own = rustix::process::geteuid().as_raw();
        let sees = |user| user == own || user == 0;
        let user = state.main.iter().find_map(ProcessId::user);
        Ok(match hold {
            Some(hold) if user.is_some_and(sees) || hold.exists() => {
                Socket { holder: Some(format!("`{first}`")), hold: Some(hold), ..Socket::default() }
            }
            _ => Socket { units, ..Socket::default() },
        })
    }

    fn limits(&mut self, state: &ServiceState) -> Result<Limits, ServiceError> {
        Ok(self.show()?.limits().of_servers(&state.main, &[]))
    }

    fn holding(&mut self, wanted: &Wanted<'_>) -> Result<SocketChange, HoldingError> {
        let scope: &[&str] = if self.user { &["--user"] } else { &[] };
        let systemctl = |args: &[&str]| self.service.program("systemctl").args(scope).args(args);
        holding::systemd::change(wanted, &self.unit, self.user, systemctl)
    }

    fn start(&mut self, socket: &Socket) -> Result<(), ServiceError> {
        // What was started too often would be refused, whatever was fixed since. Of a unit that is not loaded at the
        // moment nothing is to be forgotten, which is an error; whatever else is in the way, the start meets too.
        self.run(&self.systemctl(&["reset-failed", "--no-ask-password"], socket).accept([1]))?;
        self.run(&self.systemctl(&["start", "--no-block", "--no-ask-password"], socket)).map(|_| ())
    }

    fn stop(&mut self, socket: &Socket) -> Result<(), ServiceError> {
        self.run(&self.systemctl(&["stop", "--no-block", "--no-ask-password"], socket)).map(|_| ())
    }

    fn signal_rest(&mut self, signal: Signal) -> Result<bool, ServiceError> {
        let signal = match signal {
            Signal::KILL => "--signal=SIGKILL",
            Signal::INT => "--signal=SIGINT",
            _ => "--signal=SIGTERM",
        };
        // It would meet us, too, where we are a job of the unit.
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if own.lines().any(|line| line.split('/').any(|part| part == self.unit)) {
            return Ok(false);
        }
        // The socket that starts it has no processes. What has ended meanwhile is an error.
        let command = self.systemctl(&["kill", signal, "--no-ask-password"], &Socket::default());
        Ok(self.run(&command.accept([1]))?.code == 0)
    }

    fn last_words(&mut self) -> Vec<String> {
        or_reason(self.journal().lines(self.host, Some(self.opened), TAIL_LINES))
    }
}

/// Adds what `systemctl` adds to a name without a suffix.
fn full_name(name: &str) -> String {
    const SUFFIXES: [&str; 6] = [".service", ".socket", ".target", ".timer", ".path", ".slice"];
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}

fn is_timer(unit: &str) -> bool {
    unit.ends_with(".timer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Manager, Role};

    #[test]
    fn only_changes_take_more_rights() {
        let manager = Manager::Systemd(Systemd::default());
        let service = Service { sudo: true, ..Service::new("web", Role::Web, manager) };
        let host = Host::new();
        let session = Session::new(&service, &Systemd::default(), &host);
        let line = |changes| session.command("systemctl", &["show", "web.service"], changes).to_string();
        assert_eq!(line(false), "LC_ALL=C systemctl show web.service");
        assert_eq!(line(true), "LC_ALL=C sudo -n systemctl show web.service");
    }

    #[test]
    fn names_get_a_suffix() {
        assert_eq!(full_name("web"), "web.service");
        assert_eq!(full_name("celery@1.service"), "celery@1.service");
        assert_eq!(full_name("site.example"), "site.example.service");
        assert_eq!(full_name("jobs.timer"), "jobs.timer");
    }
}
