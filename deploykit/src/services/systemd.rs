//! Units under systemd, through `systemctl`.
//!
//! Source: `systemctl(1)`, `org.freedesktop.systemd1(5)` for the properties.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::limits::{Limits, graceful_of, systemd_seconds};
use super::{Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Socket, Status};
use crate::command::Command;
use crate::host::{CommandError, Host, Output, TAIL_LINES};

/// How long systemd may take for an answer; it never waits for a unit.
const DEADLINE: Duration = Duration::from_secs(20);

const PROPERTIES: &str = "--property=LoadState,LoadError,ActiveState,SubState,Result,MainPID,Job,NRestarts,\
                          NeedDaemonReload,TriggeredBy,ExecStartPre,ExecMainCode,ExecMainStatus,\
                          TimeoutStopUSec,KillMode,ExecStart,ExecStop,WorkingDirectory,Triggers";

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

pub(super) struct Session<'a> {
    service: &'a Service,
    unit: String,
    user: bool,
    host: &'a Host,
    opened: SystemTime,
}

impl<'a> Session<'a> {
    pub(super) fn new(service: &'a Service, systemd: &Systemd, host: &'a Host) -> Self {
        let unit = full_name(systemd.unit.as_deref().unwrap_or(&service.name));
        Session { service, unit, user: systemd.user, host, opened: SystemTime::now() }
    }

    /// Makes a command of `program`; only what changes something takes more rights.
    fn command(&self, program: &str, args: &[&str], changes: bool) -> Command {
        let (program, first): (&str, &[&str]) =
            if changes && self.service.sudo { ("sudo", &["-n", program]) } else { (program, &[]) };
        let scope: &[&str] = if self.user { &["--user"] } else { &[] };
        let mut command = Command::new(program).args(first).args(scope).args(args);
        if self.user && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // A login shell has it, and cron has not.
            let own = rustix::process::geteuid().as_raw();
            command = command.env("XDG_RUNTIME_DIR", format!("/run/user/{own}"));
        }
        command.env("LC_ALL", "C").deadline(DEADLINE)
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
        let shown = self.show()?;
        let graceful = state.main.first().and_then(|main| graceful_of(*main, &[]));
        Ok(Limits { graceful, ..shown.limits() })
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
        let signal = if signal == Signal::KILL { "--signal=SIGKILL" } else { "--signal=SIGTERM" };
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
        let since = self.opened.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = format!("--since=@{since}");
        let lines = format!("--lines={TAIL_LINES}");
        let which = format!("{}={}", if self.user { "--user-unit" } else { "--unit" }, self.unit);
        let args = [which.as_str(), &since, &lines, "--no-pager", "--output=cat", "--quiet"];
        // Not everybody may read the journal, and the failure itself is told without it.
        match self.host.run(&self.command("journalctl", &args, false)) {
            Ok(output) => output.tail,
            Err(error) => vec![format!("(its journal cannot be read: {error})")],
        }
    }
}

/// What `systemctl show` said of one unit.
struct Shown(BTreeMap<String, String>);

impl Shown {
    fn of(text: &str) -> Self {
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            // A list comes as several lines.
            let all = shown.entry(name.to_owned()).or_default();
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(value);
        }
        Shown(shown)
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn main(&self) -> Option<ProcessId> {
        self.get("MainPID").parse().ok().filter(|pid| *pid > 0).and_then(ProcessId::of)
    }

    /// Adds its commands, shown as `{ path=/bin/x ; argv[]=/bin/x y ; … }`, and its process. A masked unit has no commands.
    fn add_to(&self, origin: &mut Origin) {
        // systemd writes `!` before a directory that may be missing.
        let directory = self.get("WorkingDirectory").trim_start_matches('!');
        let directory = Some(Path::new(directory)).filter(|path| path.is_absolute());
        let commands = [self.get("ExecStart"), self.get("ExecStop")];
        origin.add(commands.into_iter().flat_map(str::split_whitespace), directory);
        origin.add_processes(self.main());
    }

    /// Tells whether a command before its start names this file.
    fn waits_for(&self, file: &str) -> bool {
        let words = self.get("ExecStartPre").split(|c: char| c.is_whitespace() || "'\"[];()".contains(c));
        words.into_iter().any(|word| word == file)
    }

    fn status(&self, held: bool) -> Status {
        // A job that waits for its turn.
        let has_job = !matches!(self.get("Job"), "" | "0");
        match (self.get("ActiveState"), self.get("SubState")) {
            ("active" | "reloading" | "refreshing", _) => Status::Running,
            ("activating", sub) if sub.starts_with("auto-restart") => Status::Retrying,
            ("activating", "start-pre") if held => Status::Stopped,
            ("activating", _) => Status::Starting,
            ("deactivating", _) => Status::Stopping,
            ("inactive", _) if held => Status::Stopped,
            ("inactive" | "failed", _) if has_job => Status::Starting,
            ("inactive", _) => Status::Stopped,
            _ => Status::Failed,
        }
    }

    fn limits(&self) -> Limits {
        let force = systemd_seconds(self.get("TimeoutStopUSec")).map(Duration::from_secs);
        Limits {
            force: force.map(|force| (force, "TimeoutStopSec")),
            one_only: match self.get("KillMode") {
                "process" => Some("KillMode=process"),
                "none" => Some("KillMode=none"),
                _ => None,
            },
            graceful: None,
        }
    }

    fn detail(&self, unit: &str) -> String {
        let mut detail = format!("{} ({})", self.get("ActiveState"), self.get("SubState"));
        match self.get("MainPID") {
            "" | "0" => {}
            pid => detail = format!("{detail}, process {pid}"),
        }
        match (self.get("LoadState"), self.get("LoadError")) {
            ("loaded" | "", _) => {}
            (state, "") => detail = format!("{detail}; `{unit}` is {state}"),
            (state, error) => detail = format!("{detail}; `{unit}` is {state}: {error}"),
        }
        match self.get("Result") {
            "" | "success" => {}
            // CLD_EXITED; the other ways to end are signals.
            "exit-code" if self.get("ExecMainCode") == "1" => {
                detail = format!("{detail}: exit code {}", self.get("ExecMainStatus"));
            }
            "signal" | "core-dump" => detail = format!("{detail}: signal {}", self.get("ExecMainStatus")),
            result => detail = format!("{detail}: {result}"),
        }
        if !matches!(self.get("NRestarts"), "" | "0") {
            detail = format!("{detail}, {} restarts", self.get("NRestarts"));
        }
        if self.get("NeedDaemonReload") == "yes" {
            detail.push_str("; its file was changed: `systemctl daemon-reload` is due");
        }
        detail
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Manager, Role};

    fn shown(state: &str, sub: &str, more: &str) -> Shown {
        Shown::of(&format!("LoadState=loaded\nActiveState={state}\nSubState={sub}\n{more}"))
    }

    #[test]
    fn states_are_systemd_s_own_and_jobs_count() {
        let status = |state, sub, more| shown(state, sub, more).status(false);
        assert_eq!(status("active", "running", "Job="), Status::Running);
        assert_eq!(status("active", "exited", ""), Status::Running);
        assert_eq!(status("reloading", "reload", ""), Status::Running);
        assert_eq!(status("activating", "start", "Job=7"), Status::Starting);
        assert_eq!(status("activating", "start-pre", ""), Status::Starting);
        assert_eq!(status("activating", "auto-restart", ""), Status::Retrying);
        assert_eq!(status("activating", "auto-restart-queued", ""), Status::Retrying);
        assert_eq!(status("deactivating", "stop-sigterm", "Job=8"), Status::Stopping);
        assert_eq!(status("inactive", "dead", "Job="), Status::Stopped);
        assert_eq!(status("inactive", "dead", "Job=9"), Status::Starting, "its start waits for its turn");
        assert_eq!(status("failed", "failed", ""), Status::Failed);
        assert_eq!(status("failed", "failed", "Job=9"), Status::Starting);
        assert_eq!(shown("activating", "start-pre", "Job=9").status(true), Status::Stopped);
        assert_eq!(shown("inactive", "dead", "Job=9").status(true), Status::Stopped);
        assert_eq!(shown("active", "running", "").status(true), Status::Running);
    }

    #[test]
    fn a_unit_says_how_it_ends() {
        let limits = |more| shown("active", "running", more).limits();
        let default = limits("TimeoutStopUSec=1min 30s\nKillMode=control-group\n");
        assert_eq!(default.force, Some((Duration::from_secs(90), "TimeoutStopSec")));
        assert_eq!(default.one_only, None);
        let other = limits("TimeoutStopUSec=infinity\nKillMode=process\n");
        assert_eq!((other.force, other.one_only), (None, Some("KillMode=process")));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let detail = |state, sub, more| shown(state, sub, more).detail("web.service");
        assert_eq!(detail("active", "running", "MainPID=12\nResult=success"), "active (running), process 12");
        assert_eq!(
            detail(
                "failed",
                "failed",
                "MainPID=0\nResult=exit-code\nExecMainCode=1\nExecMainStatus=3\nNRestarts=5"
            ),
            "failed (failed): exit code 3, 5 restarts"
        );
        assert_eq!(
            detail("failed", "failed", "Result=signal\nExecMainCode=2\nExecMainStatus=9"),
            "failed (failed): signal 9"
        );
        assert_eq!(
            detail("failed", "failed", "Result=timeout\nNeedDaemonReload=yes"),
            "failed (failed): timeout; its file was changed: `systemctl daemon-reload` is due"
        );
        let masked = Shown::of("LoadState=masked\nActiveState=inactive\nSubState=dead\n");
        assert_eq!(masked.detail("web.service"), "inactive (dead); `web.service` is masked");
    }

    #[test]
    fn a_start_that_waits_names_the_file() {
        let line = |argv: &str| {
            shown(
                "active",
                "running",
                &format!("ExecStartPre={{ path=/bin/sh ; argv[]={argv} ; ignore_errors=no }}"),
            )
        };
        let file = "/srv/site/.deploykit/hold/web";
        assert!(
            line("/bin/sh -c while [ -e /srv/site/.deploykit/hold/web ]; do sleep 0.05; done")
                .waits_for(file)
        );
        assert!(
            line("/bin/sh -c 'while test -e /srv/site/.deploykit/hold/web; do sleep 1; done'")
                .waits_for(file)
        );
        assert!(
            !line("/bin/sh -c while [ -e /srv/site/.deploykit/hold/web-2 ]; do sleep 1; done")
                .waits_for(file)
        );
        assert!(!shown("active", "running", "").waits_for(file));
    }

    #[test]
    fn the_settings_of_a_stopped_unit_name_its_files() {
        let start =
            "{ path=/srv/venv/bin/gunicorn ; argv[]=/srv/venv/bin/gunicorn -c conf/g.py app ; pid=0 }";
        let more = format!("MainPID=0\nExecStart={start}\nWorkingDirectory=!/srv/site");
        let mut origin = Origin::default();
        shown("inactive", "dead", &more).add_to(&mut origin);
        let paths: Vec<&Path> = origin.paths().collect();
        assert!(paths.contains(&Path::new("/srv/venv/bin/gunicorn")), "{paths:?}");
        assert!(paths.contains(&Path::new("/srv/site/conf/g.py")), "{paths:?}");
        assert_eq!(origin.directories().collect::<Vec<_>>(), [Path::new("/srv/site")]);
        let mut masked = Origin::default();
        Shown::of("LoadState=masked\nActiveState=inactive\nMainPID=0\nTriggers=").add_to(&mut masked);
        assert_eq!(masked, Origin::default());
    }

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
