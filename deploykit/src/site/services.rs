//! The keys of `[[services]]`: those of every service, and those of each manager.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::keys::{Environment, Raw, Reader, Section, Table, choices, keys};
use crate::services::{CommandManager, Gunicorn, Kill, Manager, Role, Server, Service, Supervisor, Systemd};

choices!(Role { "web" => Web, "worker" => Worker, "required" => Required });
choices!(Kill { "auto" => Auto, "never" => Never });

/// Maximum length of a service name, in bytes; a file name may have 255.
const MOST_OF_NAME: usize = 200;

keys! {
    /// Keys of every service.
    pub(super) struct ServiceKeys in "[[services]]" after "config = \"/etc/supervisor/supervisord.conf\"" {
        /// The service's name, unique in the file. It contains no `/` and no control characters, and starts with neither
        /// `.` nor `-`.
        "name" => name: Option<String>, required "is missing", example "gunicorn";
        /// The service manager: what starts and stops the service.
        "manager" => manager: Option<ManagerKind>,
            required "is missing: `supervisor`, `systemd`, `command` or `gunicorn`", example "supervisor";
        /// A `required` service is started if it is not running, and never stopped.
        "role" => role: Role = Role::Worker, example "web";
        /// How long the service's processes may take to end.
        "stop-timeout" => stop_timeout: Duration = crate::services::default_stop_timeout();
        /// What deploykit does with processes that outlive their manager's stop. `auto`: they get SIGTERM, and SIGKILL after
        /// `stop-timeout`. `never`: they get no SIGKILL, and the stop fails.
        "kill" => kill: Kill = Kill::Auto;
        /// How long the service may take until it runs.
        "start-timeout" => start_timeout: Duration = crate::services::default_start_timeout();
        /// How long the service must run to count as started. A longer time that its manager requires takes precedence.
        "stay-up" => stay_up: Option<Duration>,
            shown "`\"1s\"`; in an update or a rollback, at least three times Django's boot time", example "3s";
        /// Runs with `sudo -n`: for `command`, the service's commands; for `systemd`, `systemctl start`, `stop` and
        /// `reset-failed`. Other managers reject it.
        "sudo" => sudo: bool;
    }
}

keys! {
    /// Keys of services with `manager = "supervisor"`.
    pub(super) struct SupervisorKeys in "[[services]]" after "name = \"workers\"\nmanager = \"supervisor\"" {
        /// supervisor's own configuration file, which names its socket.
        "config" => config: Option<PathBuf>, required "is missing", example "/etc/supervisor/supervisord.conf";
        /// The program or programs: `program`, `group:program` or `group`.
        "program" => program: Option<String>, shown "the service's name", example "huey";
    }
}

keys! {
    /// Keys of services with `manager = "systemd"`.
    pub(super) struct SystemdKeys in "[[services]]" after "name = \"celery\"\nmanager = \"systemd\"" {
        /// The unit. A name without a suffix is a `.service`.
        "unit" => unit: Option<String>, shown "the service's name", example "celery@1.service";
        /// Whether the unit belongs to the user's own manager (`systemctl --user`).
        "user" => user: bool, example true;
    }
}

keys! {
    /// Keys of services with `manager = "command"`.
    pub(super) struct CommandKeys in "[[services]]" after "name = \"redis\"\nmanager = \"command\"\nrole = \"required\"" {
        /// Starts the service and returns.
        "start" => start: Vec<String>, required "is missing", example ["redis-server", "--daemonize", "yes"];
        /// Stops the service. If empty, the service cannot be stopped.
        "stop" => stop: Vec<String>, example Raw("[]");
        /// Exits with 0 while the service runs. 126 and 127 mean that the status is unknown.
        "status" => status: Vec<String>, shown "required", example ["redis-cli", "ping"];
        /// Whether the service's listening socket is held while the service is stopped. For the other managers, deploykit
        /// detects this.
        "held" => held: bool;
        /// The working directory of `start`, `stop` and `status`.
        "directory" => directory: Option<PathBuf>, shown "the caller's directory", example "/var/lib/redis";
    }
}

keys! {
    /// Keys of services with `manager = "gunicorn"`.
    pub(super) struct GunicornKeys in "[[services]]" after "name = \"api\"\nmanager = \"gunicorn\"\nrole = \"web\"" {
        /// The file that contains the process ID of gunicorn's master.
        "pidfile" => pidfile: Option<PathBuf>, required "is missing", example "/srv/site/run/api.pid";
        /// Starts the service and returns. Empty if the service's socket is held by a keeper that starts it.
        "start" => start: Vec<String>, required "is missing",
            example ["/srv/site/venv/bin/gunicorn", "--daemon", "--pid", "/srv/site/run/api.pid", "api.wsgi"];
        /// The working directory of `start`.
        "directory" => directory: Option<PathBuf>, shown "the caller's directory", example "project";
    }
}

/// A kind of service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManagerKind {
    Supervisor,
    Systemd,
    Command,
    Gunicorn,
}

choices!(ManagerKind {
    "supervisor" => Supervisor, "systemd" => Systemd, "command" => Command, "gunicorn" => Gunicorn,
});

/// Describes the keys of services.
pub(super) fn sections() -> [Section; 5] {
    [
        ServiceKeys::section(),
        SupervisorKeys::section(),
        SystemdKeys::section(),
        CommandKeys::section(),
        GunicornKeys::section(),
    ]
}

fn manager(kind: ManagerKind, reader: &Reader<'_>) -> Option<Manager> {
    match kind {
        ManagerKind::Supervisor => {
            let keys = SupervisorKeys::read(reader);
            let server = Server::Config(keys.config?);
            Some(Manager::Supervisor(Supervisor { server, program: keys.program }))
        }
        ManagerKind::Systemd => {
            let SystemdKeys { unit, user } = SystemdKeys::read(reader);
            Some(Manager::Systemd(Systemd { unit, user }))
        }
        ManagerKind::Command => {
            let CommandKeys { start, stop, status, held, directory } = CommandKeys::read(reader);
            if status.is_empty() {
                reader.wrong("status", "is missing: a command that exits with 0 while the service runs");
            }
            Some(Manager::Command(CommandManager { start, stop, status, held, directory }))
        }
        ManagerKind::Gunicorn => {
            let GunicornKeys { pidfile, start, directory } = GunicornKeys::read(reader);
            Some(Manager::Gunicorn(Gunicorn { pidfile: pidfile?, start, directory }))
        }
    }
}

/// Reads the services; in development there are none.
pub(super) fn services(top: &Reader<'_>) -> Vec<Service> {
    if top.environment() == Environment::Development {
        let _ = top.items("services");
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut services = Vec::new();
    for (text, reader) in top.items("services") {
        if text.is_some() {
            reader.problem(reader.span(), "services", "expected a table: [[services]]");
            continue;
        }
        let keys = ServiceKeys::read(&reader);
        let manager = keys.manager.and_then(|kind| manager(kind, &reader));
        if let Some(wrong) = keys.name.as_deref().and_then(|name| wrong_name(name, &mut names)) {
            reader.wrong("name", wrong);
        }
        if let Some(wrong) = wrong_sudo(keys.sudo, manager.as_ref()) {
            reader.wrong("sudo", wrong);
        }
        reader.finish();
        if let (Some(name), Some(manager)) = (keys.name, manager) {
            services.push(Service {
                stop_timeout: keys.stop_timeout,
                start_timeout: keys.start_timeout,
                kill: keys.kill,
                stay_up: keys.stay_up,
                sudo: keys.sudo,
                hold: Some(top.resolve(&format!(".deploykit/hold/{name}"))),
                ..Service::new(name, keys.role, manager)
            });
        }
    }
    services
}

/// Returns what is wrong with the name of a service: its socket gate is a file of that name. `names` has those before it.
pub(super) fn wrong_name(name: &str, names: &mut BTreeSet<String>) -> Option<String> {
    let wrong = if name.chars().any(char::is_control) {
        "contains a control character"
    } else if name.starts_with(['.', '-']) {
        "starts with `.` or `-`"
    } else if name.contains('/') {
        "contains `/`, which a file name cannot contain"
    } else if name.len() > MOST_OF_NAME {
        "is longer than 200 bytes"
    } else if !names.insert(name.to_owned()) {
        return Some(format!("there are two services named `{name}`"));
    } else {
        return None;
    };
    Some(wrong.to_owned())
}

/// Returns why a service cannot use sudo.
pub(super) fn wrong_sudo(sudo: bool, manager: Option<&Manager>) -> Option<&'static str> {
    match manager {
        _ if !sudo => None,
        Some(Manager::Systemd(systemd)) if systemd.user => {
            Some("a unit of the user's own manager needs no sudo")
        }
        Some(Manager::Command(_) | Manager::Systemd(_)) => None,
        _ => Some("only `manager = \"command\"` and `manager = \"systemd\"` run commands with sudo"),
    }
}
