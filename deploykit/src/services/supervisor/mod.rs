//! Programs under a running supervisord, over its XML-RPC interface.
//!
//! Source: <http://supervisord.org/api.html>, and `supervisor/rpcinterface.py` of 4.3 for faults and fields.

mod config;
mod processes;
mod rpc;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use dxr::Value;
use serde::{Deserialize, Serialize};

use super::holding::{self, HoldingError, SocketChange, Wanted, unfit};
use super::limits::Limits;
use super::pidfile::real;
use super::{
    Connected, Flags, Origin, ProcessId, Service, ServiceError, ServiceManager, ServiceState, Settings,
    Socket, socket,
};
use crate::host::Host;
use crate::keys::{Reader, Section, Table, keys};
use processes::{Info, State, describe, infos_from, pick, together};
use rpc::{CallError, Client};
use settings::{limits_from, origin_from, startsecs_from};

/// supervisor's own default for `startsecs`.
const STARTSECS: Duration = Duration::from_secs(1);

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

    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a> {
        let address = match &self.server {
            Server::Config(path) => config::read(path, host.variables())?,
            Server::Url(url) => config::Address::of_url(url).map_err(|reason| ServiceError::Config {
                path: PathBuf::from(host.redactor().redact(url).into_owned()),
                reason,
            })?,
        };
        let name = self.program.as_deref().unwrap_or(&service.name);
        let client = Client::new(address);
        let config = match &self.server {
            Server::Config(path) => Some(path.as_path()),
            Server::Url(_) => None,
        };
        Ok(Box::new(Session { service, name, host, client, config, infos: Vec::new(), settings: None }))
    }
}

pub(super) struct Session<'a> {
    service: &'a Service,
    name: &'a str,
    host: &'a Host,
    client: Client,
    /// supervisord's own configuration file.
    config: Option<&'a Path>,
    /// What was seen last: each call costs some 15 ms, and visitors may be waiting.
    infos: Vec<Info>,
    /// The settings of all programs; `None`: they were not asked for yet, or there is no such method.
    settings: Option<Value>,
}

impl Session<'_> {
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
        let Some(settings) = &self.settings else {
            return Ok(Limits::default().of_servers(&state.main, &[]));
        };
        // The programs of a group may differ in command and signal.
        let all = limits_from(settings, &self.infos).0;
        Ok(self.infos.iter().fold(all, |limits, info| {
            let (own, command) = limits_from(settings, std::slice::from_ref(info));
            let process: Vec<ProcessId> = ProcessId::of(info.pid).into_iter().collect();
            let known = limits.reloads.is_some();
            let limits = Limits { signal: own.signal, ..limits }.of_servers(&process, &command);
            // How long it may take counts for the program that only reloads.
            let force = if limits.reloads.is_some() && !known { own.force } else { limits.force };
            Limits { force, ..limits }
        }))
    }

    /// supervisord closes the socket of an `[fcgi-program:x]` with the last process of it, so another one must have it.
    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        Ok(Socket { holder: socket::sibling_that_holds(state), ..Socket::default() })
    }

    fn holding(&mut self, wanted: &Wanted<'_>) -> Result<SocketChange, HoldingError> {
        let Some(config) = &self.config else {
            return Err(unfit(wanted.service, "`config` does not name supervisor's configuration file"));
        };
        let files = config::files(config, self.host.variables())?;
        holding::supervisor::change(wanted, self.name, &files)
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
