//! Stops and starts the services of a site, in the order that its users notice least.

mod restart;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Context};
use crate::host::Host;
use crate::operations::{Change, Check, Operation};
use crate::services::{Before, Goal, Role, Service, ServiceAction, ServiceError, ServiceState, Status};

pub use restart::Restart;

/// Stops, starts or restarts services.
///
/// Timers stop before the workers, and these before the web; they start in the reverse order. What others rely on starts first
/// and never stops. Those of one role
/// start in the order in which they are given; they are told to end in the reverse order, and waited for together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceControl {
    /// The services; of one role, those first that others rely on.
    pub services: Vec<Service>,
    /// What is wanted of them.
    pub want: Want,
}

/// What is wanted of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// None runs, but those that others rely on.
    Stop,
    /// All run.
    Start,
    /// Services that run, or have failed, are restarted. Stopped services stay stopped, except those that others rely on.
    Restart,
}

impl ServiceControl {
    /// Asks the managers for the states, in the order of the services.
    ///
    /// # Errors
    ///
    /// When a manager cannot be asked, or does not know its service.
    pub fn observe(&self, host: &Host) -> Result<Vec<ServiceState>, ServiceError> {
        self.services.iter().map(|service| service.state(host)).collect()
    }

    /// Decides what is to be done about services in these states, which stand in the order of the services.
    #[must_use]
    pub fn decide(&self, states: &[ServiceState]) -> Check {
        let plan = match self.want {
            Want::Stop => self.stop(states),
            Want::Start => self.start(states),
            Want::Restart => {
                let restart = self.restart(states);
                let actions =
                    [&restart.stop, &restart.start, &restart.stay_up].into_iter().flatten().cloned();
                (actions.collect(), restart.undo)
            }
        };
        let (actions, undo) = plan;
        let details = self.sorted(states).map(|(service, state)| self.line(service, state)).collect();
        let touched: Vec<&str> = names(&actions);
        if touched.is_empty() {
            return Check::Unchanged { reason: self.nothing(states) };
        }
        let reason = match self.want {
            Want::Stop => format!("running: {}", touched.join(", ")),
            Want::Start => format!("not running: {}", touched.join(", ")),
            Want::Restart => format!("to restart: {}", touched.join(", ")),
        };
        let told = |text: &dyn Fn(&str, &ServiceState) -> String| {
            let parts: Vec<String> = self
                .sorted(states)
                .filter(|(service, _)| touched.contains(&service.name.as_str()))
                .map(|(service, state)| text(&service.name, state))
                .collect();
            parts.join(", ")
        };
        let wanted = if self.want == Want::Stop { Status::Stopped } else { Status::Running };
        Check::Change(Change {
            reason,
            before: told(&|name, state| format!("{name} {}", state.status)),
            after: told(&|name, _| format!("{name} {wanted}")),
            details,
            actions: actions.into_iter().map(Action::Service).collect(),
            undo: undo.into_iter().map(Action::Service).collect(),
            ..Change::default()
        })
    }

    /// Returns the parts of a restart of services in these states, which stand in the order of the services.
    #[must_use]
    pub fn restart(&self, states: &[ServiceState]) -> Restart {
        let mut parts = Restart::default();
        for (service, state) in self.sorted(states) {
            let wanted = match (service.role, state.status) {
                // It is not stopped, so there is nothing to start.
                (Role::Required, status) => !status.is_up(),
                (_, status) => !matches!(status, Status::Stopped | Status::Stopping),
            };
            if wanted {
                let old = if service.role == Role::Required { Vec::new() } else { all_of(state) };
                parts.start.push(ServiceAction { old, ..action(service, state, Goal::Running) });
                parts.stay_up.push(action(service, state, Goal::StaysUp));
            }
        }
        (parts.stop, parts.undo) = self.stop(states);
        parts
    }

    /// Returns the actions that stop the services, and those that start the ones that ran.
    fn stop(&self, states: &[ServiceState]) -> (Vec<ServiceAction>, Vec<ServiceAction>) {
        let runs = |(service, state): &(&Service, &ServiceState)| {
            service.role != Role::Required && !state.has_ended()
        };
        let mut touched: Vec<_> = self.sorted(states).filter(runs).collect();
        // A service that restarted repeatedly or was stopping did not run before, and would fail to start.
        let undo = touched.iter().filter(|(_, state)| state.status.is_up());
        let undo = undo.map(|(service, state)| action(service, state, Goal::Running)).collect();
        touched.reverse();
        let stop = |(service, state): (&Service, &ServiceState)| ServiceAction {
            old: all_of(state),
            ..action(service, state, Goal::Stopped)
        };
        (touched.into_iter().map(stop).collect(), undo)
    }

    /// Returns what starts, and what stops that did not run.
    fn start(&self, states: &[ServiceState]) -> (Vec<ServiceAction>, Vec<ServiceAction>) {
        let touched: Vec<_> =
            self.sorted(states).filter(|(_, state)| state.status != Status::Running).collect();
        let of = |goal| touched.iter().map(move |(service, state)| action(service, state, goal));
        let actions = of(Goal::Running).chain(of(Goal::StaysUp)).collect();
        // What had failed was meant to run, and what others rely on is left to them.
        let stopped = |(service, state): &&(&Service, &ServiceState)| {
            state.status == Status::Stopped && service.role != Role::Required
        };
        let undo = touched.iter().rev().filter(stopped);
        let undo = undo.map(|(service, state)| action(service, state, Goal::Stopped));
        (actions, undo.collect())
    }

    /// Pairs services with their states, in the order of a start.
    fn sorted<'a>(
        &'a self,
        states: &'a [ServiceState],
    ) -> impl Iterator<Item = (&'a Service, &'a ServiceState)> {
        let mut pairs: Vec<_> = self.services.iter().zip(states).collect();
        // Stable: equals keep the order in which they were given.
        pairs.sort_by_key(|(service, _)| match service.role {
            Role::Required => 0,
            Role::Web => 1,
            Role::Worker => 2,
            Role::Timer => 3,
        });
        pairs.into_iter()
    }

    fn line(&self, service: &Service, state: &ServiceState) -> String {
        let note = match (self.want, service.role, state.status) {
            (Want::Stop, Role::Required, _) => "; others rely on it, so it is left alone",
            (Want::Restart, Role::Required, status) if status.is_up() => {
                "; others rely on it, so it is left alone"
            }
            (Want::Restart, Role::Web | Role::Worker | Role::Timer, Status::Stopped) => "; it stays so",
            (Want::Stop, _, Status::Retrying) => "; it stays stopped, even if this is undone",
            _ => "",
        };
        format!("{}: {} ({}){note}", service.name, state.status, state.detail)
    }

    fn nothing(&self, states: &[ServiceState]) -> String {
        if self.services.is_empty() {
            return "there are no services".to_owned();
        }
        let parts: Vec<String> = self
            .sorted(states)
            .map(|(service, state)| format!("{} is {}", service.name, state.status))
            .collect();
        parts.join(", ")
    }
}

impl Operation for ServiceControl {
    /// The states, in the order of the services.
    type Prepared = Vec<ServiceState>;
    type Error = ServiceError;

    fn name(&self) -> &'static str {
        "service-control"
    }

    fn prepare(&self, context: &mut Context) -> Result<Vec<ServiceState>, ServiceError> {
        let stops = self.want != Want::Start;
        let fixed = |service: &&Service| service.role != Role::Required && !service.can_be_stopped();
        if let Some(service) = self.services.iter().find(fixed).filter(|_| stops) {
            return Err(ServiceError::CannotStop { service: service.name.clone() });
        }
        let states = self.observe(&context.host)?;
        if stops {
            can_stop(&states)?;
        }
        Ok(states)
    }

    fn change(&self, states: &Vec<ServiceState>) -> Check {
        self.decide(states)
    }
}

/// Fails for a service whose stop would fail.
pub(crate) fn can_stop(states: &[ServiceState]) -> Result<(), ServiceError> {
    let found = states.iter().find_map(|state| Some((&state.service, state.obstacle.as_ref()?)));
    found.map_or(Ok(()), |(service, reason)| {
        Err(ServiceError::WouldNotStop { service: service.clone(), reason: reason.clone() })
    })
}

/// Makes an action on a service that was seen in this state.
pub(crate) fn action(service: &Service, state: &ServiceState, goal: Goal) -> ServiceAction {
    // What others rely on is never made to end.
    let before = if service.role == Role::Required { Vec::new() } else { all_of(state) };
    let (service, socket) = (service.clone(), state.socket.clone());
    ServiceAction { service, goal, old: Vec::new(), before: Before::of(before), socket }
}

fn all_of(state: &ServiceState) -> Vec<crate::services::ProcessId> {
    let mut all = state.pids.clone();
    all.extend(state.main.iter().filter(|main| !state.pids.contains(main)));
    all
}

fn names(actions: &[ServiceAction]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for action in actions {
        if !names.contains(&action.service.name.as_str()) {
            names.push(&action.service.name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{CommandManager, Manager, ProcessId};

    const PROCESS: ProcessId = ProcessId { pid: 12, started: 34 };

    fn control(want: Want, states: &[(&str, Role, Status)]) -> (ServiceControl, Vec<ServiceState>) {
        let manager =
            Manager::Command(CommandManager { stop: vec!["stop".to_owned()], ..Default::default() });
        let services =
            states.iter().map(|(name, role, _)| Service::new(*name, *role, manager.clone())).collect();
        let states = states.iter().map(|(name, _, status)| {
            let pids = if status.is_up() { vec![PROCESS] } else { Vec::new() };
            ServiceState {
                main: pids.clone(),
                pids,
                detail: "as it is".to_owned(),
                ..ServiceState::new(*name, *status)
            }
        });
        (ServiceControl { services, want }, states.collect())
    }

    const ALL: [(&str, Role, Status); 4] = [
        ("web", Role::Web, Status::Running),
        ("redis", Role::Required, Status::Running),
        ("celery", Role::Worker, Status::Running),
        ("beat", Role::Worker, Status::Running),
    ];

    fn told(actions: &[Action]) -> Vec<String> {
        let tell = |action: &Action| match action {
            Action::Service(action) => {
                format!("{:?} {} {}", action.goal, action.service.name, action.old.len())
            }
            other => panic!("{other:?}"),
        };
        actions.iter().map(tell).collect()
    }

    fn change(want: Want, states: &[(&str, Role, Status)]) -> Change {
        let (control, states) = control(want, states);
        match control.decide(&states) {
            Check::Change(change) => change,
            Check::Unchanged { reason } => panic!("unchanged: {reason}"),
        }
    }

    fn unchanged(want: Want, states: &[(&str, Role, Status)]) -> String {
        let (control, states) = control(want, states);
        match control.decide(&states) {
            Check::Unchanged { reason } => reason,
            Check::Change(change) => panic!("{change:?}"),
        }
    }

    fn with(
        mut states: [(&'static str, Role, Status); 4],
        name: &str,
        status: Status,
    ) -> [(&'static str, Role, Status); 4] {
        for state in states.iter_mut().filter(|state| state.0 == name) {
            state.2 = status;
        }
        states
    }

    #[test]
    fn workers_stop_before_the_web_and_what_others_rely_on_stays() {
        let change = change(Want::Stop, &ALL);
        assert_eq!(told(&change.actions), ["Stopped beat 1", "Stopped celery 1", "Stopped web 1"]);
        assert_eq!(told(&change.undo), ["Running web 0", "Running celery 0", "Running beat 0"]);
        assert_eq!(change.reason, "running: beat, celery, web");
        assert_eq!(change.before, "web running, celery running, beat running");
        assert_eq!(change.details[0], "redis: running (as it is); others rely on it, so it is left alone");
    }

    #[test]
    fn what_did_not_run_is_not_brought_back() {
        let states = with(with(ALL, "celery", Status::Stopped), "beat", Status::Retrying);
        let change = change(Want::Stop, &states);
        assert_eq!(told(&change.actions), ["Stopped beat 0", "Stopped web 1"]);
        assert_eq!(told(&change.undo), ["Running web 0"]);
    }

    #[test]
    fn timers_stop_first_and_start_last_and_their_jobs_are_waited_for() {
        let states = ALL.map(|(name, role, status)| match name {
            "beat" => (name, Role::Timer, status),
            _ => (name, role, status),
        });
        let stop = change(Want::Restart, &states);
        assert_eq!(told(&stop.actions[..3]), ["Stopped beat 1", "Stopped celery 1", "Stopped web 1"]);
        assert_eq!(told(&stop.undo), ["Running web 0", "Running celery 0", "Running beat 0"]);
        // Its timer was stopped before, and stays so.
        let (control, mut states) = control(Want::Restart, &with(states, "beat", Status::Stopped));
        states[3].jobs.push("its job `beat.service`".to_owned());
        let Check::Change(change) = control.decide(&states) else { panic!("nothing to do") };
        assert_eq!(told(&change.actions[..1]), ["Stopped beat 0"]);
        assert_eq!(told(&change.undo), ["Running web 0", "Running celery 0"]);
    }

    #[test]
    fn what_failed_has_nothing_to_stop() {
        let states = [("web", Role::Web, Status::Failed), ("redis", Role::Required, Status::Running)];
        assert_eq!(unchanged(Want::Stop, &states), "redis is running, web is failed");
        assert_eq!(unchanged(Want::Stop, &[]), "there are no services");
    }

    #[test]
    fn a_start_begins_with_what_others_rely_on_and_ends_with_watching() {
        let states = ALL.map(|(name, role, _)| (name, role, Status::Stopped));
        let states = with(states, "beat", Status::Failed);
        let change = change(Want::Start, &states);
        let order = ["redis", "web", "celery", "beat"];
        let expected: Vec<String> = ["Running", "StaysUp"]
            .iter()
            .flat_map(|goal| order.map(|name| format!("{goal} {name} 0")))
            .collect();
        assert_eq!(told(&change.actions), expected);
        assert_eq!(told(&change.undo), ["Stopped celery 0", "Stopped web 0"], "what failed was meant to run");
    }

    #[test]
    fn what_runs_is_not_started() {
        assert_eq!(
            unchanged(Want::Start, &ALL),
            "redis is running, web is running, celery is running, beat is running"
        );
        let change = change(Want::Start, &with(ALL, "web", Status::Starting));
        assert_eq!(told(&change.actions), ["Running web 0", "StaysUp web 0"]);
        assert!(change.undo.is_empty());
    }

    #[test]
    fn a_restart_leaves_stopped_services_stopped_and_wants_new_processes() {
        let states = with(with(ALL, "celery", Status::Stopped), "redis", Status::Stopped);
        let change = change(Want::Restart, &states);
        assert_eq!(
            told(&change.actions),
            [
                "Stopped beat 1",
                "Stopped web 1",
                "Running redis 0",
                "Running web 1",
                "Running beat 1",
                "StaysUp redis 0",
                "StaysUp web 0",
                "StaysUp beat 0"
            ]
        );
        assert_eq!(told(&change.undo), ["Running web 0", "Running beat 0"]);
    }

    #[test]
    fn a_service_that_cannot_be_stopped_is_named_before_anything_happens() {
        let manager = Manager::Command(CommandManager::default());
        let services = vec![Service::new("cron", Role::Worker, manager)];
        let error = ServiceControl { services, want: Want::Restart }.check(&Host::new()).unwrap_err();
        assert_eq!(error.to_string(), "service `cron` cannot be stopped: its `stop` is empty");
    }
}
