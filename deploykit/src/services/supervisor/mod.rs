//! Programs under a running supervisord, over its XML-RPC interface.
//!
//! Source: <http://supervisord.org/api.html>, and `supervisor/rpcinterface.py` of 4.3 for faults and fields.

mod config;
mod rpc;
mod settings;

use std::path::PathBuf;
use std::time::Duration;

use dxr::Value;
use serde::{Deserialize, Serialize};

use super::limits::{Limits, graceful_of};
use super::pidfile::real;
use super::{
    Flags, Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Settings, Socket, Status,
    socket,
};
use crate::host::Host;
use crate::keys::{Reader, Section, Table, keys};
use rpc::{CallError, Client};
use settings::{limits_from, member, origin_from, startsecs_from};

/// supervisor's own default for `startsecs`.
const STARTSECS: Duration = Duration::from_secs(1);

/// How many known names an error lists.
const MOST_NAMES: usize = 20;

/// A program under supervisord.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// How supervisord is reached.
    pub server: Server,
    /// `program`, `group:program` or `group` (all of its programs); default: the service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// How a supervisord is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// As its configuration file says: `[unix_http_server]`, `[inet_http_server]` or `[supervisorctl]`, with the user
    /// name and password that stand there.
    Config(PathBuf),
    /// At `unix:///path` or `http://host:port`, without a password: it would end up in the journal.
    Url(String),
}

keys! {
    /// Keys of services with `manager = "supervisor"`.
    struct SupervisorKeys in "[[services]]" after "name = \"workers\"\nmanager = \"supervisor\"" {
        /// supervisor's own configuration file, which names its socket.
        "config" => config: Option<PathBuf>, required "is missing", example "/etc/supervisor/supervisord.conf";
        /// The program or programs: `program`, `group:program` or `group`.
        "program" => program: Option<String>, shown "the service's name", example "huey";
    }
}

impl Settings for Supervisor {
    fn section() -> Section {
        SupervisorKeys::section()
    }

    fn read(reader: &Reader<'_>) -> Option<Self> {
        let keys = SupervisorKeys::read(reader);
        Some(Supervisor { server: Server::Config(keys.config?), program: keys.program })
    }

    fn of_flags(flags: Flags) -> Self {
        Supervisor { server: Server::Config(flags.config), program: None }
    }

    fn is_same(&self, name: &str, described: &Self, described_name: &str) -> bool {
        let is_same_server = match (&self.server, &described.server) {
            (Server::Config(one), Server::Config(other)) => real(one) == real(other),
            (one, other) => one == other,
        };
        is_same_server && self.program.as_deref().unwrap_or(name) == described_name
    }

    fn connect<'a>(
        &'a self,
        service: &'a Service,
        host: &'a Host,
    ) -> Result<Box<dyn ServiceManager + 'a>, ServiceError> {
        Ok(Box::new(Session::open(service, self, host)?))
    }
}

pub(super) struct Session<'a> {
    service: &'a Service,
    name: &'a str,
    host: &'a Host,
    client: Client,
    /// What was seen last: each call costs some 15 ms, and visitors may be waiting.
    infos: Vec<Info>,
    /// The settings of all programs; `None`: they were not asked for yet, or there is no such method.
    settings: Option<Value>,
}

/// One process as supervisord reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Info {
    group: String,
    name: String,
    state: State,
    statename: String,
    /// Why it died, or that its exit code is not among `exitcodes`.
    spawnerr: String,
    pid: i32,
    logs: Vec<PathBuf>,
}

/// Source: `supervisor/states.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

impl State {
    fn of(code: i32) -> Self {
        match code {
            0 => State::Stopped,
            10 => State::Starting,
            20 => State::Running,
            30 => State::Backoff,
            40 => State::Stopping,
            100 => State::Exited,
            200 => State::Fatal,
            _ => State::Unknown,
        }
    }
}

impl Info {
    /// `group:name`, or the name alone where the group is only that program's.
    fn full_name(&self) -> String {
        if self.group == self.name { self.name.clone() } else { format!("{}:{}", self.group, self.name) }
    }

    fn namespec(&self) -> String {
        format!("{}:{}", self.group, self.name)
    }

    fn status(&self) -> Status {
        match self.state {
            State::Running => Status::Running,
            State::Starting => Status::Starting,
            State::Stopping => Status::Stopping,
            State::Stopped => Status::Stopped,
            State::Backoff => Status::Retrying,
            State::Exited if self.spawnerr.is_empty() => Status::Stopped,
            State::Exited | State::Fatal | State::Unknown => Status::Failed,
        }
    }

    fn detail(&self) -> String {
        match (self.pid, self.spawnerr.as_str()) {
            (0, "") => self.statename.clone(),
            // It keeps the error of the time before.
            (0, error) if self.state != State::Stopped => format!("{}: {error}", self.statename),
            (0, _) => self.statename.clone(),
            (pid, _) => format!("{}, process {pid}", self.statename),
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn open(
        service: &'a Service,
        supervisor: &'a Supervisor,
        host: &'a Host,
    ) -> Result<Self, ServiceError> {
        let address = match &supervisor.server {
            Server::Config(path) => config::read(path, host.variables())?,
            Server::Url(url) => config::Address::of_url(url).map_err(|reason| ServiceError::Config {
                path: PathBuf::from(host.redactor().redact(url).into_owned()),
                reason,
            })?,
        };
        let name = supervisor.program.as_deref().unwrap_or(&service.name);
        Ok(Session { service, name, host, client: Client::new(address), infos: Vec::new(), settings: None })
    }

    fn ask(&self) -> Result<Vec<Info>, ServiceError> {
        let answer = self.client.call("supervisor.getAllProcessInfo", Vec::new());
        let answer = answer.map_err(|error| self.explain("getAllProcessInfo", error))?;
        let all = infos_from(&answer).map_err(|what| self.client.protocol_error(what))?;
        pick(&all, self.name)
            .map_err(|known| ServiceError::UnknownProgram { name: self.name.to_owned(), known })
    }

    fn ask_settings(&self) -> Result<Option<Value>, ServiceError> {
        match self.client.call("supervisor.getAllConfigInfo", Vec::new()) {
            Ok(answer) => Ok(Some(answer)),
            // Before supervisor 4 there is no such method.
            Err(CallError::Fault { .. }) => Ok(None),
            Err(CallError::Other(error)) => Err(error),
        }
    }

    /// Calls a method for one program; `fine` is the fault that says that it is so already.
    fn order(&self, method: &str, info: &Info, fine: i32) -> Result<(), ServiceError> {
        let params = vec![Value::String(info.namespec()), Value::Boolean(false)];
        match self.client.call(&format!("supervisor.{method}"), params) {
            Ok(_) => Ok(()),
            Err(CallError::Fault { code, .. }) if code == fine => Ok(()),
            Err(error) => Err(self.explain(&format!("{method} {}", info.full_name()), error)),
        }
    }

    /// Source: `Faults` in `supervisor/xmlrpc.py`.
    fn explain(&self, call: &str, error: CallError) -> ServiceError {
        let (code, text) = match error {
            CallError::Other(error) => return error,
            CallError::Fault { code, text } => (code, self.host.redactor().redact(&text).into_owned()),
        };
        match code {
            6 => ServiceError::ShuttingDown { server: self.client.server() },
            10 => ServiceError::UnknownProgram { name: self.name.to_owned(), known: Vec::new() },
            // NO_FILE, NOT_EXECUTABLE, ABNORMAL_TERMINATION, SPAWN_ERROR.
            20 | 21 | 40 | 50 => ServiceError::NotStartable { service: self.service.name.clone(), text },
            _ => ServiceError::Fault { call: call.to_owned(), code, text },
        }
    }
}

impl ServiceManager for Session<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        self.infos = self.ask()?;
        let infos = &self.infos;
        let mut logs: Vec<PathBuf> = infos.iter().flat_map(|info| info.logs.iter().cloned()).collect();
        logs.dedup();
        Ok(ServiceState {
            main: infos.iter().filter_map(|info| ProcessId::of(info.pid)).collect(),
            detail: self.host.redactor().redact(&describe(infos)).into_owned(),
            logs,
            ..ServiceState::new(&self.service.name, together(infos))
        })
    }

    fn startsecs(&mut self) -> Result<Duration, ServiceError> {
        self.settings = self.ask_settings()?;
        Ok(self.settings.as_ref().map_or(STARTSECS, |settings| startsecs_from(settings, &self.infos)))
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        self.infos = self.ask()?;
        let settings = self.ask_settings()?;
        let mut origin = settings.map(|settings| origin_from(&settings, &self.infos)).unwrap_or_default();
        origin.add_processes(self.infos.iter().filter_map(|info| ProcessId::of(info.pid)));
        Ok(origin)
    }

    fn limits(&mut self, state: &ServiceState) -> Result<Limits, ServiceError> {
        let settings = self.settings.as_ref().map(|settings| limits_from(settings, &self.infos));
        let (limits, command) = settings.unwrap_or_default();
        let graceful = state.main.first().and_then(|main| graceful_of(*main, &command));
        Ok(Limits { graceful, ..limits })
    }

    /// supervisord closes the socket of an `[fcgi-program:x]` with the last process of it, so another one must have it.
    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        Ok(Socket { holder: socket::sibling_that_holds(state), ..Socket::default() })
    }

    fn start(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        for info in &self.infos {
            match info.state {
                State::Running | State::Starting | State::Stopping => {}
                State::Backoff => {
                    // It would be called started already; this way the wish gets an attempt of its own.
                    self.order("stopProcess", info, 70)?;
                    self.order("startProcess", info, 60)?;
                }
                State::Stopped | State::Exited | State::Fatal | State::Unknown => {
                    self.order("startProcess", info, 60)?;
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        for info in &self.infos {
            if matches!(info.state, State::Running | State::Starting | State::Backoff) {
                self.order("stopProcess", info, 70)?;
            }
        }
        Ok(())
    }
}

/// Finds the processes that a name means, or else answers with the names that there are.
fn pick(all: &[Info], name: &str) -> Result<Vec<Info>, Vec<String>> {
    let matching =
        |test: &dyn Fn(&Info) -> bool| all.iter().filter(|info| test(info)).cloned().collect::<Vec<_>>();
    let found = match name.split_once(':') {
        Some((group, "" | "*")) => matching(&|info| info.group == group),
        Some((group, name)) => matching(&|info| info.group == group && info.name == name),
        None => match matching(&|info| info.group == name) {
            // A program that stands in a group of another name is that program, as long as no other is called so.
            nothing if nothing.is_empty() => {
                let found = matching(&|info| info.name == name);
                if found.len() == 1 { found } else { nothing }
            }
            group => group,
        },
    };
    if found.is_empty() { Err(all.iter().take(MOST_NAMES).map(Info::full_name).collect()) } else { Ok(found) }
}

/// Returns the state of a group: that of its worst member.
fn together(infos: &[Info]) -> Status {
    let any = |status| infos.iter().any(|info| info.status() == status);
    if any(Status::Retrying) {
        Status::Retrying
    } else if any(Status::Failed) {
        Status::Failed
    } else if any(Status::Stopping) {
        Status::Stopping
    } else if any(Status::Stopped) {
        // A part of it is less than was wanted.
        if infos.iter().all(|info| info.status() == Status::Stopped) {
            Status::Stopped
        } else {
            Status::Failed
        }
    } else if any(Status::Starting) {
        Status::Starting
    } else {
        Status::Running
    }
}

fn describe(infos: &[Info]) -> String {
    match infos {
        [info] => info.detail(),
        infos => {
            let parts: Vec<String> =
                infos.iter().map(|info| format!("{} {}", info.full_name(), info.detail())).collect();
            parts.join("; ")
        }
    }
}

fn infos_from(answer: &Value) -> Result<Vec<Info>, String> {
    let Value::Array(list) = answer else { return Err("the processes are no list".to_owned()) };
    list.iter().map(info_from).collect()
}

fn info_from(value: &Value) -> Result<Info, String> {
    let text = |name: &str| match member(value, name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("a process without `{name}`")),
    };
    let number = |name: &str| match member(value, name) {
        Some(Value::Integer(number)) => Ok(*number),
        _ => Err(format!("a process without `{name}`")),
    };
    let logs = ["stdout_logfile", "stderr_logfile"].map(|name| text(name).unwrap_or_default());
    Ok(Info {
        group: text("group")?,
        name: text("name")?,
        state: State::of(number("state")?),
        statename: text("statename")?,
        spawnerr: text("spawnerr")?,
        pid: number("pid")?,
        // `syslog`, or nothing: not files.
        logs: logs.into_iter().map(PathBuf::from).filter(|path| path.is_absolute()).collect(),
    })
}

/// Reads bytes as an answer and as a configuration file.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    config::fuzz(&String::from_utf8_lossy(bytes));
    let Some(Ok(answer)) = rpc::answer(bytes) else { return };
    let infos = infos_from(&answer).unwrap_or_default();
    let _ =
        (startsecs_from(&answer, &infos), limits_from(&answer, &infos), together(&infos), describe(&infos));
    let _ = origin_from(&answer, &infos);
    for name in ["web", "celery:", "celery:celery_0"] {
        let _ = pick(&infos, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, state: State, spawnerr: &str) -> Info {
        let (group, name) = name.split_once(':').unwrap_or((name, name));
        Info {
            group: group.to_owned(),
            name: name.to_owned(),
            state,
            statename: format!("{state:?}").to_uppercase(),
            spawnerr: spawnerr.to_owned(),
            pid: 0,
            logs: Vec::new(),
        }
    }

    fn picked(name: &str) -> Result<Vec<String>, Vec<String>> {
        let all = ["web", "celery:celery_0", "celery:celery_1", "site:huey", "a:same", "b:same"];
        let all: Vec<Info> = all.iter().map(|name| info(name, State::Running, "")).collect();
        pick(&all, name).map(|found| found.iter().map(Info::full_name).collect())
    }

    #[test]
    fn names_mean_programs_and_groups() {
        assert_eq!(picked("web").unwrap(), ["web"]);
        assert_eq!(picked("web:web").unwrap(), ["web"]);
        assert_eq!(picked("celery").unwrap(), ["celery:celery_0", "celery:celery_1"]);
        assert_eq!(picked("celery:*").unwrap().len(), 2);
        assert_eq!(picked("celery:celery_1").unwrap(), ["celery:celery_1"]);
        assert_eq!(picked("huey").unwrap(), ["site:huey"]);
        assert!(picked("same").is_err(), "two programs have that name");
        assert!(picked("celery:web").unwrap_err().contains(&"celery:celery_0".to_owned()));
    }

    #[test]
    fn an_exit_is_a_failure_when_supervisor_calls_it_unexpected() {
        assert_eq!(info("a", State::Exited, "").status(), Status::Stopped);
        assert_eq!(info("a", State::Exited, "Bad exit code 1").status(), Status::Failed);
        assert_eq!(info("a", State::Exited, "Bad exit code 1").detail(), "EXITED: Bad exit code 1");
        assert_eq!(info("a", State::Stopped, "Bad exit code 1").detail(), "STOPPED");
    }

    #[test]
    fn a_group_is_as_well_as_its_worst_member() {
        use State::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        let group = |states: &[State]| {
            together(&states.iter().map(|state| info("g:a", *state, "")).collect::<Vec<_>>())
        };
        assert_eq!(group(&[Running, Running]), Status::Running);
        assert_eq!(group(&[Running, Starting]), Status::Starting);
        assert_eq!(group(&[Running, Backoff, Fatal]), Status::Retrying);
        assert_eq!(group(&[Running, Fatal]), Status::Failed);
        assert_eq!(group(&[Running, Stopped]), Status::Failed, "a part of it");
        assert_eq!(group(&[Stopped, Stopping]), Status::Stopping);
        assert_eq!(group(&[Stopped, Exited]), Status::Stopped);
    }

    #[test]
    fn answers_of_another_shape_are_errors() {
        assert_eq!(infos_from(&Value::Boolean(true)).unwrap_err(), "the processes are no list");
        let list = Value::Array(vec![Value::Integer(1)]);
        assert_eq!(infos_from(&list).unwrap_err(), "a process without `group`");
        assert_eq!(startsecs_from(&list, &[]), STARTSECS);
    }
}
