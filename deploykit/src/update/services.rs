//! The steps that stop the services, start them and look at the pages: those of an update and those of a rollback.

use std::time::Duration;

use crate::action::{Action, HandOver, KeepEarly, OpenGate, ServedPages, StartEarly};
use crate::bridge::{Booted, Bridge, Bridges};
use crate::git::counted;
use crate::keys::{Size, written};
use crate::operations::service_control::{Restart, Want, action};
use crate::operations::smoke_check::{Page, PageResult, SmokeCheck};
use crate::operations::{Change, Check};
use crate::plan::{Forecast, StepKind};
use crate::services::{Goal, Role, STAY_UP, ServiceAction, ServiceState};
use crate::site::{AnnounceWhen, Environment, Site};

/// Why nothing is done about services in development.
const UNMANAGED: &str = "no services are managed in development";

/// In how many times the boot of Django, whatever else a service does at its start, it has shown whether it lives.
const BOOTS: u32 = 3;

/// How long the pages of a web server that was started beforehand may be wrong.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the server in front may take until it shows the page.
const SHOWN: Duration = Duration::from_secs(3);

/// The roles that stop before the window opens.
pub(super) const BACKGROUND: &[Role] = &[Role::Worker, Role::Timer];

/// The makers of these steps.
pub(super) struct Services<'p> {
    site: &'p Site,
    states: &'p [ServiceState],
    baseline: &'p [PageResult],
    restart: Restart,
}

impl<'p> Services<'p> {
    /// Takes the services and the pages as they are while the site still serves, how long Django takes to boot, and the web server at
    /// its gate.
    pub(super) fn new(
        site: &'p Site,
        states: &'p [ServiceState],
        baseline: &'p [PageResult],
        boot: Duration,
        bridge: Option<&Booted>,
    ) -> Self {
        let restart = |bridge: Option<&Booted>| {
            let mut control = site.service_control(Role::ALL, Want::Restart);
            for service in &mut control.services {
                let bridge = bridge.filter(|_| service.role == Role::Web).map(|booted| booted.boot);
                service.stay_up.get_or_insert(stay_up(boot, bridge));
            }
            control.restart(states)
        };
        // The shorter time is right only in `stay-up`, after the hand-over.
        let restart = Restart { stay_up: restart(bridge).stay_up, ..restart(None) };
        Services { site, states, baseline, restart }
    }

    /// Tells whether the web goes down.
    pub(super) fn web_stops(&self) -> bool {
        self.restart.stops(Role::Web)
    }

    /// Tells whether users need not be told of a window with this forecast.
    pub(super) fn is_short(&self, forecast: Forecast) -> bool {
        let config = self.site.config();
        let mut web = self.restart.stop.iter().filter(|action| action.service.role == Role::Web).peekable();
        config.maintenance.when == AnnounceWhen::Needed
            && web.peek().is_some()
            && web.all(|action| action.socket.holder.is_some())
            && forecast.window() <= config.maintenance.hold
    }

    /// Stops workers and timers, if they run. The undo starts them last, and then checks that all services stay up.
    pub(super) fn stop_background(&self) -> Check {
        match self.restart.stopping(BACKGROUND) {
            Check::Change(mut change) => {
                change.undo.extend(self.stay_up_again());
                Check::Change(change)
            }
            unchanged @ Check::Unchanged { .. } => self.unmanaged(unchanged),
        }
    }

    /// Stops the web. If the live version's web server was started a second time, the undo lets that one serve. The returned actions
    /// then start the web service and hand over to it; they belong after the removal of the maintenance page.
    pub(super) fn stop_web(&self, old: Option<&Booted>) -> (Check, Vec<Action>) {
        let mut change = match self.restart.stopping(&[Role::Web]) {
            Check::Change(change) => change,
            unchanged @ Check::Unchanged { .. } => return (self.unmanaged(unchanged), Vec::new()),
        };
        let starts = std::mem::take(&mut change.undo);
        // The old pages are asked for before the page goes down.
        let pages = self.old_pages().filter(|_| !starts.is_empty());
        let check = pages.clone().map(Action::SmokeCheck);
        // The page goes down before all services have proven to stay up.
        let has_background = BACKGROUND.iter().any(|role| self.restart.stops(*role));
        let stay_up = self.stay_up_again().filter(|_| !has_background);
        let Some(booted) = old else {
            change.undo = starts.into_iter().chain(check).chain(stay_up).collect();
            return (Check::Change(change), Vec::new());
        };
        change.details.push(format!(
            "if this is undone, a second web server of the old version serves at once; it takes {} of memory ({}) until the run ends",
            Size(booted.memory),
            counted(booted.workers, "worker")
        ));
        let bridge = &booted.bridge;
        let web = self.restart.undo.iter().filter(|start| start.service.role == Role::Web);
        let gate = OpenGate { bridge: bridge.clone(), start: web.cloned().collect(), is_undo: true };
        change.undo = [Action::OpenGate(gate)].into_iter().chain(check).collect();
        let hand_over = pages.map(|pages| Action::HandOver(HandOver { bridge: bridge.clone(), pages }));
        (Check::Change(change), starts.into_iter().chain(hand_over).chain(stay_up).collect())
    }

    /// Requests the pages that responded before, from the services that served them.
    fn old_pages(&self) -> Option<ServedPages> {
        let check = self.site.smoke_check()?.like(self.baseline);
        (!check.pages.is_empty()).then(|| Self::served(&self.restart.undo, check))
    }

    /// Checks that what an undo started stays up.
    fn stay_up_again(&self) -> impl Iterator<Item = Action> {
        let stays = |action: &ServiceAction| ServiceAction { goal: Goal::StaysUp, ..action.clone() };
        self.restart.undo.iter().map(stays).map(Action::Service)
    }

    /// Starts the services of these roles that are to run.
    pub(super) fn start(&self, roles: &[Role]) -> Check {
        let jobs = self.site.config().maintenance.wait_for_jobs;
        self.unmanaged(self.restart.starting(roles, jobs))
    }

    /// Lets the web server that was started beforehand serve.
    pub(super) fn open_gate(&self, booted: &Booted) -> Check {
        let jobs = self.site.config().maintenance.wait_for_jobs;
        let Check::Change(start) = self.restart.starting(&[Role::Web], jobs) else {
            return Check::unchanged("the web did not run before, so it is not started");
        };
        let web = self.restart.start.iter().filter(|action| action.service.role == Role::Web);
        let bridge = &booted.bridge;
        let gate = OpenGate { bridge: bridge.clone(), start: web.cloned().collect(), is_undo: false };
        let end = Action::EndBridge(bridge.clone());
        Check::Change(Change {
            reason: "the web server that was started beforehand serves".to_owned(),
            details: vec![format!(
                "it takes {} of memory ({}) in addition to the web service, until `{}`",
                Size(booted.memory),
                counted(booted.workers, "worker"),
                StepKind::HandOver
            )],
            actions: vec![Action::OpenGate(gate)],
            // The service's own may have been started instead.
            undo: [end].into_iter().chain(start.undo).collect(),
            ..Change::default()
        })
    }

    /// Lets the service's own web serve in its place.
    pub(super) fn hand_over(&self, bridge: &Bridge) -> Check {
        let Some(check) = self.site.smoke_check() else { return Check::unchanged("no pages are configured") };
        let pages = Self::served(&self.restart.start, check);
        Check::Change(Change {
            reason: "the web service serves, and the web server that was started beforehand ends".to_owned(),
            actions: vec![Action::HandOver(HandOver { bridge: bridge.clone(), pages })],
            ..Change::default()
        })
    }

    /// Starts the web before the migrations; `None` where the site does not want that.
    pub(super) fn start_early(&self, page_up: &Check) -> Option<Check> {
        let config = self.site.config();
        config.maintenance.start_early.then(|| match self.early(page_up) {
            Err(reason) => Check::unchanged(reason),
            Ok(early) => Check::Change(Change {
                reason: "the web boots while the migrations run".to_owned(),
                undo: self.stops_of_web().into_iter().map(Action::Service).collect(),
                actions: vec![Action::StartEarly(early)],
                ..Change::default()
            }),
        })
    }

    fn early(&self, page_up: &Check) -> Result<StartEarly, &'static str> {
        let of = |role| self.restart.start.iter().filter(move |start| start.service.role == role);
        if of(Role::Web).next().is_none() {
            return Err("the web did not run before, so it is not started");
        }
        if of(Role::Web).any(|start| start.socket.holder.is_some()) {
            return Err("the socket is held");
        }
        let shown = match page_up {
            Check::Change(change) => change.actions.iter().find_map(|action| match action {
                Action::WriteFile { contents, .. } => Some(contents.trim().to_owned()),
                _ => None,
            }),
            Check::Unchanged { .. } => None,
        };
        let shown =
            shown.ok_or("this update does not show the maintenance page, so visitors might reach the web")?;
        let check = self.site.smoke_check().unwrap_or_default();
        let pages = check.pages.iter().filter(|page| page.path.starts_with('/')).map(|page| Page {
            status: Some(503),
            contains: vec![shown.clone()],
            ..Page::new(&page.path)
        });
        let pages: Vec<Page> = pages.collect();
        if pages.is_empty() {
            return Err(
                "`smoke.pages` has no paths, so nothing tells whether everybody gets the maintenance page",
            );
        }
        let page = SmokeCheck {
            connect: None,
            pages,
            commands: Vec::new(),
            deadline: SHOWN,
            settle: Duration::ZERO,
            ..check
        };
        Ok(StartEarly { page, start: of(Role::Required).chain(of(Role::Web)).cloned().collect() })
    }

    /// Stops a web that was started before the migrations, unless it serves as expected after them.
    pub(super) fn keep_early(&self) -> Action {
        let check = SmokeCheck { commands: Vec::new(), ..self.site.smoke_check().unwrap_or_default() };
        let pages = Self::served(&self.restart.start, check);
        Action::KeepEarly(KeepEarly { pages, stop: self.stops_of_web() })
    }

    fn stops_of_web(&self) -> Vec<ServiceAction> {
        let web = self.restart.start.iter().filter(|start| start.service.role == Role::Web);
        web.map(ServiceAction::stop).collect()
    }

    /// Checks that the started services still run after their `stay-up` time.
    pub(super) fn stay_up(&self) -> Check {
        self.unmanaged(self.restart.staying_up())
    }

    /// Gives the reason why nothing is done about services in development.
    fn unmanaged(&self, check: Check) -> Check {
        match check {
            Check::Unchanged { .. } if self.is_development() => Check::unchanged(UNMANAGED),
            other => other,
        }
    }

    fn is_development(&self) -> bool {
        self.site.config().environment == Environment::Development
    }

    /// Checks these pages, which the web services among `starts` serve.
    fn served(starts: &[ServiceAction], check: SmokeCheck) -> ServedPages {
        let web = starts.iter().filter(|action| action.service.role == Role::Web);
        ServedPages { check, services: web.map(|action| action.service.clone()).collect() }
    }

    /// Asks for the pages as they are configured. `bridged`: a web server serves them that no manager knows.
    pub(super) fn smoke_check(&self, bridged: bool) -> Check {
        let config = self.site.config();
        let Some(check) = self.site.smoke_check() else {
            return Check::unchanged("no pages are configured");
        };
        let has_web = config.services.iter().any(|service| service.role == Role::Web);
        if self.is_development() && self.baseline.iter().all(|page| page.status.is_none()) {
            return Check::unchanged("nothing answered before, and no services are managed in development");
        }
        if !self.is_development() && has_web && !self.restart.starts(Role::Web) {
            return Check::unchanged("the web did not run before, so it is not started");
        }
        let pages: Vec<&str> = check.pages.iter().map(|page| page.path.as_str()).collect();
        let mut reason = pages.join(", ");
        if !check.commands.is_empty() {
            let commands = counted(check.commands.len(), "command");
            reason = if reason.is_empty() { commands } else { format!("{reason} and {commands}") };
        }
        let pages = if bridged {
            // It is not about to start: visitors would meet what is wrong for as long as it is asked again.
            SmokeCheck { settle: check.settle.min(SETTLE), ..check }.into()
        } else {
            Self::served(&self.restart.start, check)
        };
        Check::Change(Change { reason, actions: vec![Action::SmokeCheck(pages)], ..Change::default() })
    }

    /// Returns what keeps the site in maintenance: the page first, then nothing serves.
    pub(super) fn hold(&self, page: Option<Action>, bridges: &Bridges) -> Vec<Action> {
        let stop = |role| {
            let services = self.site.config().services.iter().zip(self.states);
            services
                .filter(move |(service, _)| service.role == role)
                .map(|(service, state)| Action::Service(action(service, state, Goal::Stopped)))
        };
        let stops = [Role::Web, Role::Timer, Role::Worker].into_iter().flat_map(stop);
        let bridges = [&bridges.new, &bridges.old].into_iter().flatten();
        let bridges = bridges.map(|booted| Action::EndBridge(booted.bridge.clone()));
        page.into_iter().chain(bridges).chain(stops).collect()
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
        let jobs = services.iter().zip(self.states).filter(|(_, state)| !state.jobs.is_empty());
        let jobs = jobs.map(|(service, state)| {
            let (jobs, timeout) = (state.jobs.join(", "), written(service.stop_timeout));
            format!("stop of `{}`: deploykit waits up to {timeout} for {jobs}, running now", service.name)
        });
        stopped.chain(cautions).chain(jobs).collect()
    }
}

/// Returns how long a service must run to count as started, if the site does not configure that.
///
/// `bridge` is the boot time of the bridge from which a web service takes over: once that has responded to its pages, its boot is over.
/// A process that replaced its first one must outlive a boot, too.
fn stay_up(boot: Duration, bridge: Option<Duration>) -> Duration {
    let boots = STAY_UP.max(boot * BOOTS);
    bridge.map_or(boots, |bridge| boots.min(bridge + STAY_UP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_that_took_over_is_watched_for_one_boot_and_others_for_three() {
        let seconds = Duration::from_secs;
        assert_eq!(stay_up(seconds(6), None), seconds(18));
        assert_eq!(stay_up(seconds(6), Some(seconds(7))), seconds(8));
        assert_eq!(stay_up(seconds(6), Some(seconds(30))), seconds(18), "it booted at low priority");
        assert_eq!(stay_up(Duration::from_millis(200), None), STAY_UP);
        assert_eq!(stay_up(Duration::from_millis(200), Some(seconds(1))), STAY_UP);
    }
}
