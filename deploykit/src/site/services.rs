//! The keys of `[[services]]` that every service has.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::keys::{Environment, Reader, Section, Table, choices, keys};
use crate::services::{Kill, Manager, ManagerKind, Role, Service};

choices!(Role { "web" => Web, "worker" => Worker, "timer" => Timer, "required" => Required });
choices!(Kill { "auto" => Auto, "never" => Never });

/// Maximum length of a service name, in bytes; a file name may have 255.
const MOST_OF_NAME: usize = 200;

keys! {
    /// Keys of every service.
    pub(super) struct ServiceKeys in "[[services]]" {
        /// The service's name, unique in the file. It contains no `/` and no control characters, and starts with neither
        /// `.` nor `-`.
        "name" => name: Option<String>, required "is missing", example "gunicorn";
        /// The service manager: what starts and stops the service.
        "manager" => manager: Option<ManagerKind>, shown "required", example "systemd";
        /// A `timer` starts jobs by the clock: a systemd timer, celery beat. A `required` service is started if it is not
        /// running, and never stopped.
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
            shown "`\"1s\"`; in an update or a rollback, at least three times Django's boot time; for the web after `hand-over`, about one boot", example "3s";
        /// Runs with `sudo -n`: for `command`, the service's commands; for `systemd`, `systemctl start`, `stop` and
        /// `reset-failed`. Other managers reject it.
        "sudo" => sudo: bool, example true;
        /// For a worker or a timer: a program with its arguments that the rehearsal runs in the checkout, in place of loading
        /// what the service loads when it starts. If it does not end with exit code 0, the update is refused.
        "rehearse" => rehearse: Vec<String>, commented ["celery", "-A", "config", "report"];
    }
}

/// Describes the keys of services: those of each, and those of each manager.
pub(super) fn sections() -> impl Iterator<Item = Section> {
    let managers = ManagerKind::ALL.iter().map(|kind| kind.section());
    std::iter::once(ServiceKeys::section()).chain(managers)
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
        if !reader.has("manager") {
            reader.wrong("manager", format!("is missing: {}", list(ManagerKind::ALL, "", "or")));
        }
        let manager = keys.manager.and_then(|kind| kind.read(&reader));
        if let Some(wrong) = keys.name.as_deref().and_then(|name| wrong_name(name, &mut names)) {
            reader.wrong("name", wrong);
        }
        if let Some(wrong) =
            keys.manager.filter(|_| keys.sudo).and_then(|kind| wrong_sudo(kind, manager.as_ref()))
        {
            reader.wrong("sudo", wrong);
        }
        if !keys.rehearse.is_empty() && !matches!(keys.role, Role::Worker | Role::Timer) {
            reader.wrong("rehearse", "only a worker or a timer is rehearsed by a program");
        }
        reader.finish();
        if let (Some(name), Some(manager)) = (keys.name, manager) {
            services.push(Service {
                stop_timeout: keys.stop_timeout,
                start_timeout: keys.start_timeout,
                kill: keys.kill,
                stay_up: keys.stay_up,
                sudo: keys.sudo,
                rehearse: keys.rehearse,
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
pub(super) fn wrong_sudo(kind: ManagerKind, manager: Option<&Manager>) -> Option<String> {
    if kind.can_use_sudo() {
        return manager?.settings().needs_no_sudo().map(str::to_owned);
    }
    let mut kinds: Vec<ManagerKind> =
        ManagerKind::ALL.iter().copied().filter(|kind| kind.can_use_sudo()).collect();
    kinds.sort_by_key(|kind| kind.as_str());
    Some(format!("only {} run commands with sudo", list(&kinds, "manager = ", "and")))
}

/// Lists kinds of managers: "`a`, `b` or `c`".
fn list(kinds: &[ManagerKind], key: &str, last: &str) -> String {
    let quote = if key.is_empty() { "" } else { "\"" };
    let names: Vec<String> =
        kinds.iter().map(|kind| format!("`{key}{quote}{}{quote}`", kind.as_str())).collect();
    match names.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => names.concat(),
    }
}
