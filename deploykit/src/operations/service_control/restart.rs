//! The parts of a restart, each as a change of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::operations::{Change, Check};
use crate::services::{Goal, Role, ServiceAction};

/// The parts of a restart, for those who do something in between.
///
/// The stops name the processes that they wait for, and the starts those that must not be in charge any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Stops what runs or is about to: timers, then workers, then the web.
    pub stop: Vec<ServiceAction>,
    /// Starts what ran before or has failed, and what others rely on: that, then the web, then workers, then timers.
    pub start: Vec<ServiceAction>,
    /// Waits until what was started has run for long enough, in the same order.
    pub stay_up: Vec<ServiceAction>,
    /// Starts exactly what ran before, whatever runs now: the undo of the stops.
    pub undo: Vec<ServiceAction>,
}

impl Restart {
    /// Tells whether a service of this role stops.
    #[must_use]
    pub fn stops(&self, role: Role) -> bool {
        self.stop.iter().any(|action| action.service.role == role)
    }

    /// Tells whether a service of this role starts.
    #[must_use]
    pub fn starts(&self, role: Role) -> bool {
        self.start.iter().any(|action| action.service.role == role)
    }

    /// Stops the services of these roles. The undo starts those that ran.
    #[must_use]
    pub fn stopping(&self, roles: &[Role]) -> Check {
        let stop: Vec<&ServiceAction> = of(&self.stop, roles).collect();
        let details = stop.iter().filter_map(|action| socket(action)).collect();
        let undo = of(&self.undo, roles).cloned().map(Action::Service).collect();
        one_part(&stop, "none runs", Change { details, undo, ..Change::default() })
    }

    /// Starts the services of these roles. The undo stops exactly these, except required ones. The undo of a stop starts what ran
    /// before. For a job that a timer of systemd has started meanwhile, the undo waits for at least as long as `jobs`.
    #[must_use]
    pub fn starting(&self, roles: &[Role], jobs: Duration) -> Check {
        let start: Vec<&ServiceAction> = of(&self.start, roles).collect();
        let stop = |action: &&ServiceAction| {
            let mut service = action.service.clone();
            if service.manager.settings().starts_jobs(&service.name) {
                // It may have started one at once, and an undo that does not wait for it would hold the site.
                service.stop_timeout = service.stop_timeout.max(jobs);
            }
            Action::Service(ServiceAction {
                goal: Goal::Stopped,
                old: Vec::new(),
                service,
                ..(*action).clone()
            })
        };
        let undo = start.iter().filter(|action| action.service.role != Role::Required).map(stop).collect();
        let none = if roles == [Role::Required] { "all run" } else { "none ran" };
        one_part(&start, none, Change { undo, ..Change::default() })
    }

    /// Waits until the started services have run for their `stay-up` time.
    #[must_use]
    pub fn staying_up(&self) -> Check {
        one_part(&self.stay_up.iter().collect::<Vec<_>>(), "nothing was started", Change::default())
    }
}

fn of<'a>(actions: &'a [ServiceAction], roles: &[Role]) -> impl Iterator<Item = &'a ServiceAction> {
    actions.iter().filter(|action| roles.contains(&action.service.role))
}

/// Completes a part of a restart; `none` is the reason where there is nothing to do.
fn one_part(actions: &[&ServiceAction], none: &str, change: Change) -> Check {
    if actions.is_empty() {
        return Check::unchanged(none);
    }
    let names: Vec<&str> = actions.iter().map(|action| action.service.name.as_str()).collect();
    let actions = actions.iter().map(|action| Action::Service((*action).clone())).collect();
    Check::Change(Change { reason: names.join(", "), actions, ..change })
}

/// Returns what happens to the socket of a service, where that is known.
fn socket(stop: &ServiceAction) -> Option<String> {
    let name = &stop.service.name;
    match (&stop.socket.holder, stop.socket.units.as_slice()) {
        (Some(holder), _) => Some(format!("{holder} holds the socket of `{name}`")),
        (None, []) => None,
        (None, units) => Some(format!(
            "`{}` would restart `{name}` and is stopped as well: its unit does not wait at the socket gate",
            units.join("`, `")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::service_control::{ServiceControl, Want};
    use crate::services::{CommandManager, Manager, Service, ServiceState, Status, Systemd};

    #[test]
    fn only_the_undo_of_a_systemd_timer_waits_for_jobs() {
        let unit = |unit: &str| Manager::Systemd(Systemd { unit: Some(unit.to_owned()), user: false });
        let managers = [
            ("nightly", unit("nightly.timer")),
            ("mail.timer", Manager::Systemd(Systemd::default())),
            ("beat", unit("celery-beat")),
            ("beat.timer", Manager::Command(CommandManager::default())),
        ];
        let services: Vec<Service> =
            managers.into_iter().map(|(name, manager)| Service::new(name, Role::Timer, manager)).collect();
        let states: Vec<ServiceState> =
            services.iter().map(|service| ServiceState::new(&service.name, Status::Running)).collect();
        let restart = ServiceControl { services, want: Want::Restart }.restart(&states);
        let undone_within = |jobs: u64| -> Vec<u64> {
            let change = restart.starting(&[Role::Timer], Duration::from_secs(jobs)).into_change();
            let timeout = |action: &Action| match action {
                Action::Service(stop) => stop.service.stop_timeout.as_secs(),
                other => panic!("{other:?}"),
            };
            change.undo.iter().map(timeout).collect()
        };
        assert_eq!(undone_within(600), [600, 600, 30, 30]);
        assert_eq!(undone_within(1), [30; 4], "the stop-timeout is the least");
    }
}
