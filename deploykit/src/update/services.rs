//! The steps that stop the services, start them and look at the pages: those of an update and those of a rollback.

use std::time::Duration;

use crate::action::Action;
use crate::git::counted;
use crate::operations::service_control::{Restart, Want, action};
use crate::operations::smoke_check::PageResult;
use crate::operations::{Change, Check};
use crate::plan::{Forecast, Step, StepKind};
use crate::services::{Goal, Role, STAY_UP, ServiceAction, ServiceState};
use crate::site::{EnvironmentName, Site};

/// Why nothing is done about services in development.
const UNMANAGED: &str = "no services are managed in development";

/// In how many times the boot of Django, whatever else a service does at its start, it has shown whether it lives.
const BOOTS: u32 = 3;

const ROLES: [Role; 3] = [Role::Web, Role::Worker, Role::Required];

/// The makers of these steps.
pub(super) struct Services<'p> {
    site: &'p Site,
    states: &'p [ServiceState],
    baseline: &'p [PageResult],
    restart: Restart,
}

impl<'p> Services<'p> {
    /// Takes the services and the pages as they are while the site still serves, and how long Django takes to boot.
    pub(super) fn new(
        site: &'p Site,
        states: &'p [ServiceState],
        baseline: &'p [PageResult],
        boot: Duration,
    ) -> Self {
        let mut control = site.service_control(&ROLES, Want::Restart);
        for service in &mut control.services {
            service.stay_up.get_or_insert_with(|| STAY_UP.max(boot * BOOTS));
        }
        let restart = control.restart(states);
        Services { site, states, baseline, restart }
    }

    /// Tells whether the web goes down.
    pub(super) fn web_stops(&self) -> bool {
        self.restart.stop.iter().any(|action| action.service.role == Role::Web)
    }

    /// Tells whether nobody needs to be told of a window that is expected to be like this.
    pub(super) fn is_short(&self, forecast: Forecast) -> bool {
        let config = self.site.config();
        let mut web = self.restart.stop.iter().filter(|action| action.service.role == Role::Web).peekable();
        config.when_needed
            && web.peek().is_some()
            && web.all(|action| action.socket.holder.is_some())
            && forecast.window() <= config.hold
    }

    /// Returns the actions for the services of one role.
    fn actions(&self, all: &[ServiceAction], role: Role) -> Vec<Action> {
        all.iter().filter(|action| action.service.role == role).cloned().map(Action::Service).collect()
    }

    /// Stops the services of one role, if they run.
    pub(super) fn stop(&self, id: StepKind, role: Role) -> Step {
        let actions = self.actions(&self.restart.stop, role);
        let mut undo = self.actions(&self.restart.undo, role);
        if role == Role::Web
            && !undo.is_empty()
            && let Some(check) = self.site.smoke_check()
        {
            // The old pages are asked for before the page goes down.
            let check = check.like(self.baseline);
            if !check.pages.is_empty() {
                undo.push(Action::SmokeCheck(check));
            }
        }
        // On the way back the workers come last. The page does not wait until it is sure that all stay up.
        if role == Role::Worker || self.actions(&self.restart.stop, Role::Worker).is_empty() {
            let stays = |action: &ServiceAction| ServiceAction { goal: Goal::StaysUp, ..action.clone() };
            undo.extend(self.restart.undo.iter().map(stays).map(Action::Service));
        }
        let reason = self.names(&actions, "none runs");
        let details = actions.iter().filter_map(|action| match action {
            Action::Service(action) => held(action),
            _ => None,
        });
        let details = details.collect();
        Step::new(id, Check::Change(Change { reason, details, actions, undo, ..Change::default() }))
    }

    /// Starts the services of one role that are to run.
    pub(super) fn start(&self, id: StepKind, role: Role) -> Step {
        let actions = self.actions(&self.restart.start, role);
        // Exactly what is started here is stopped again; what ran before is started by the undo of its stop.
        let undo = actions
            .iter()
            .filter_map(|action| match action {
                Action::Service(action) if role != Role::Required => Some(Action::Service(ServiceAction {
                    goal: Goal::Stopped,
                    old: Vec::new(),
                    ..action.clone()
                })),
                _ => None,
            })
            .collect();
        let reason = self.names(&actions, if role == Role::Required { "all run" } else { "none ran" });
        Step::new(id, Check::Change(Change { reason, actions, undo, ..Change::default() }))
    }

    /// Looks whether what was started still runs after its time.
    pub(super) fn stay_up(&self) -> Step {
        let actions: Vec<Action> = self.restart.stay_up.iter().cloned().map(Action::Service).collect();
        let reason = self.names(&actions, "nothing was started");
        Step::new(StepKind::StayUp, Check::Change(Change { reason, actions, ..Change::default() }))
    }

    /// Asks for the pages as they are configured.
    pub(super) fn smoke_check(&self) -> Step {
        let nothing =
            |reason: &str| Step::new(StepKind::SmokeCheck, Check::Unchanged { reason: reason.to_owned() });
        let config = self.site.config();
        let Some(check) = self.site.smoke_check() else { return nothing("no pages are configured") };
        let has_web = config.services.iter().any(|service| service.role == Role::Web);
        let is_development = config.environment == EnvironmentName::Development;
        if is_development && self.baseline.iter().all(|page| page.status.is_none()) {
            return nothing("nothing answered before, and no services are managed in development");
        }
        if !is_development && has_web && self.actions(&self.restart.start, Role::Web).is_empty() {
            return nothing("the web did not run before, so it is not started");
        }
        let pages: Vec<&str> = check.pages.iter().map(|page| page.path.as_str()).collect();
        let mut reason = pages.join(", ");
        if !check.commands.is_empty() {
            let commands = counted(check.commands.len(), "command");
            reason = if reason.is_empty() { commands } else { format!("{reason} and {commands}") };
        }
        let actions = vec![Action::SmokeCheck(check)];
        Step::new(StepKind::SmokeCheck, Check::Change(Change { reason, actions, ..Change::default() }))
    }

    /// Returns what keeps the site in maintenance: the page first, then nothing serves.
    pub(super) fn hold(&self, page: Option<Action>) -> Vec<Action> {
        let stop = |role| {
            let services = self.site.config().services.iter().zip(self.states);
            services
                .filter(move |(service, _)| service.role == role)
                .map(|(service, state)| Action::Service(action(service, state, Goal::Stopped)))
        };
        page.into_iter().chain(stop(Role::Web)).chain(stop(Role::Worker)).collect()
    }

    fn names(&self, actions: &[Action], none: &str) -> String {
        let names: Vec<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Service(action) => Some(action.service.name.as_str()),
                _ => None,
            })
            .collect();
        let is_development = self.site.config().environment == EnvironmentName::Development;
        match names.is_empty() {
            true if is_development => UNMANAGED.to_owned(),
            true => none.to_owned(),
            false => names.join(", "),
        }
    }

    /// Says which services do not run, and will not, and which may not end as they should.
    pub(super) fn notices(&self) -> Vec<String> {
        let services = &self.site.config().services;
        let stopped = services.iter().zip(self.states).filter(|(service, state)| {
            service.role != Role::Required
                && !self.restart.start.iter().any(|action| action.service.name == state.service)
        });
        let stopped = stopped
            .map(|(service, state)| format!("`{}` is {} and will stay so", service.name, state.status));
        let cautions = self.states.iter().flat_map(|state| {
            state.cautions.iter().map(|caution| format!("stop of `{}`: {caution}", state.service))
        });
        stopped.chain(cautions).collect()
    }
}

/// Says what becomes of a service's socket, where that is known.
fn held(stop: &ServiceAction) -> Option<String> {
    let name = &stop.service.name;
    match (&stop.socket.holder, stop.socket.units.as_slice()) {
        (Some(holder), _) => Some(format!("{holder} keeps the socket of `{name}`")),
        (None, []) => None,
        (None, units) => Some(format!(
            "`{}` would start `{name}` again and is stopped as well: its unit waits for nothing",
            units.join("`, `")
        )),
    }
}
