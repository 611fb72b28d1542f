//! Services that the site starts and stops with commands of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Connected, Flags, Origin, Service, ServiceError, ServiceManager, ServiceState, Settings, Socket, Status,
};
use crate::command::Command;
use crate::host::{Host, Output};
use crate::keys::{Raw, Reader, Section, Table, keys};

/// How long a status command may take.
const STATUS_DEADLINE: Duration = Duration::from_secs(20);

/// Commands that start, stop and ask. They run in the site's environment, without a shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandManager {
    /// Starts the service and returns; what it leaves running may keep its output open.
    pub start: Vec<String>,
    /// Stops the service; empty when it cannot be stopped.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Exits with 0 when the service runs, with something else when it does not; 126 and 127 mean that it cannot be known.
    pub status: Vec<String>,
    /// Its listening socket is kept while it is stopped, and the program that starts it waits for [`Service::hold`] to go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The directory that they run in; default: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

keys! {
    /// Keys of services with `manager = "command"`.
    struct CommandKeys in "[[services]]" after "name = \"redis\"\nmanager = \"command\"\nrole = \"required\"" {
        /// Starts the service and returns.
        "start" => start: Vec<String>, required "is missing", example ["redis-server", "--daemonize", "yes"];
        /// Stops the service. If empty, the service cannot be stopped.
        "stop" => stop: Vec<String>, example Raw("[]");
        /// Exits with 0 while any process of the service runs. 126 and 127 mean that the status is unknown.
        "status" => status: Vec<String>, shown "required", example ["redis-cli", "ping"];
        /// Whether the service's listening socket is held while the service is stopped. For the other managers, deploykit
        /// detects this.
        "held" => held: bool;
        /// The working directory of `start`, `stop` and `status`.
        "directory" => directory: Option<PathBuf>, shown "the caller's directory", example "/var/lib/redis";
    }
}

impl Settings for CommandManager {
    fn section() -> Section {
        CommandKeys::section()
    }

    fn read(reader: &Reader<'_>) -> Option<Self> {
        let CommandKeys { start, stop, status, held, directory } = CommandKeys::read(reader);
        if status.is_empty() {
            reader.wrong("status", "is missing: a command that exits with 0 while the service runs");
        }
        Some(CommandManager { start, stop, status, held, directory })
    }

    fn of_flags(flags: Flags) -> Self {
        let Flags { start, stop, status, .. } = flags;
        CommandManager { start, stop, status, ..CommandManager::default() }
    }

    fn is_same(&self, _name: &str, described: &Self, _described_name: &str) -> bool {
        self.status == described.status || (!self.start.is_empty() && self.start == described.start)
    }

    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a> {
        Ok(Box::new(Session { service, manager: self, host, started: false }))
    }

    fn can_use_sudo() -> bool {
        true
    }

    fn commands(&self) -> [&[String]; 3] {
        [&self.start, &self.stop, &self.status]
    }

    fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    fn can_be_stopped(&self) -> bool {
        !self.stop.is_empty()
    }
}

pub(super) struct Session<'a> {
    service: &'a Service,
    manager: &'a CommandManager,
    host: &'a Host,
    /// A start command has returned: what does not run yet is on its way.
    started: bool,
}

impl Session<'_> {
    fn run(&self, what: &'static str, argv: &[String], deadline: Duration) -> Result<Output, ServiceError> {
        let prefix: &[&str] = if self.service.sudo { &["sudo", "-n"] } else { &[] };
        self.run_with(prefix, what, argv, deadline)
    }

    fn run_with(
        &self,
        prefix: &[&str],
        what: &'static str,
        argv: &[String],
        deadline: Duration,
    ) -> Result<Output, ServiceError> {
        let words = prefix.iter().copied().chain(argv.iter().map(String::as_str));
        let words: Vec<String> = words.map(str::to_owned).collect();
        let Some(mut command) = Command::from_argv(&words).filter(|_| !argv.is_empty()) else {
            return Err(ServiceError::NoSetting { service: self.service.name.clone(), setting: what });
        };
        if let Some(directory) = &self.manager.directory {
            command = command.directory(directory);
        }
        let command = command.with_site_variables().deadline(deadline);
        self.host.run(&command).map_err(|source| self.service.failed(what, source))
    }
}

impl ServiceManager for Session<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        let argv = &self.manager.status;
        if self.service.sudo && !argv.is_empty() {
            // A sudo that wants a password exits with 1, as does a service that does not run: ask for the permission.
            self.run_with(&["sudo", "-n", "-l"], "status", argv, STATUS_DEADLINE)?;
        }
        let (status, detail) = match self.run("status", argv, STATUS_DEADLINE) {
            Ok(_) => (Status::Running, "its status command says that it runs".to_owned()),
            Err(error) => {
                // 126 and 127 are a shell's or an `env`'s: the command itself could not be run, so it said nothing.
                let code = error.code().filter(|code| !matches!(code, 126 | 127));
                let Some(code) = code else { return Err(error) };
                let mut detail = format!("its status command exits with {code}");
                if let Some(line) = error.tail().last() {
                    detail = format!("{detail}: {line}");
                }
                (if self.started { Status::Starting } else { Status::Stopped }, detail)
            }
        };
        Ok(ServiceState { detail, ..ServiceState::new(&self.service.name, status) })
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        let CommandManager { start, stop, status, directory, .. } = self.manager;
        let directory = directory.clone().or_else(|| std::env::current_dir().ok());
        let words = [start, stop, status].into_iter().flatten();
        let mut origin = Origin::default();
        origin.add(words.map(String::as_str), directory.as_deref());
        Ok(origin)
    }

    fn socket(&mut self, _state: &ServiceState) -> Result<Socket, ServiceError> {
        let hold = self.service.hold.clone().filter(|_| self.manager.held);
        let holder = hold.is_some().then(|| "its holder".to_owned());
        Ok(Socket { holder, hold, ..Socket::default() })
    }

    fn start(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        self.run("start", &self.manager.start, self.service.start_timeout)?;
        self.started = true;
        Ok(())
    }

    fn stop(&mut self, _socket: &Socket) -> Result<(), ServiceError> {
        if self.manager.stop.is_empty() {
            return Err(ServiceError::CannotStop { service: self.service.name.clone() });
        }
        self.started = false;
        self.run("stop", &self.manager.stop, self.service.stop_timeout).map(|_| ())
    }
}
