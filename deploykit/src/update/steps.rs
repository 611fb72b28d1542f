//! The recipe: what was found out becomes the steps of the plan.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::action::Action;
use crate::command::Command;
use crate::django::{
    Collected, DatabaseState, Migrate, MigrationPlan, Project, PutBack, RestoreDatabase, Session, SiteFacts,
    When,
};
use crate::event::{Outcome, milliseconds};
use crate::git::counted;
use crate::host::Host;
use crate::operations::git_update::Move;
use crate::operations::pip_install::{Prepared as Packages, Record};
use crate::operations::service_control::{Restart, Want};
use crate::operations::smoke_check::PageResult;
use crate::operations::{Change, Check};
use crate::plan::{Forecast, Phase, Plan, Step};
use crate::services::{Goal, ProcessId, Role, Service, ServiceAction, ServiceState};
use crate::site::{EnvironmentName, OwnTask, Site};
use crate::update::Request;
use crate::update::announcement::Announcement;
use crate::update::backup::{self, Backup};
use crate::update::beside::Beside;
use crate::update::summary::{package_summary, static_details, static_summary};

/// How many earlier updates a forecast looks at.
const FORECAST_RUNS: usize = 5;

/// Everything that the plan is made of.
pub(super) struct Facts {
    /// The next environment.
    pub packages: Packages,
    /// The project in the next tree, with the next environment.
    pub project: Project,
    /// Django, booted from there.
    pub session: Session,
    pub site: SiteFacts,
    pub migrations: MigrationPlan,
    pub before: DatabaseState,
    pub backup: Option<Backup>,
    /// The static files beside the live ones, or why there are none.
    pub collected: Result<Collected, String>,
    /// The services, in the order of the configuration.
    pub states: Vec<ServiceState>,
    pub baseline: Vec<PageResult>,
    pub beside: Beside,
}

impl Facts {
    pub(super) fn record(&self) -> &Record {
        match &self.packages {
            Packages::Unchanged { record, .. } => record,
            Packages::Ready(ready) => &ready.record,
        }
    }

    /// Tells whether anything about the site has to change.
    fn is_needed(&self, moved: Option<&Move>) -> bool {
        moved.is_some()
            || matches!(self.packages, Packages::Ready(_))
            || self.collected.as_ref().is_ok_and(|collected| collected.swap.is_some())
            || !self.migrations.pending.is_empty()
    }
}

/// A plan with what its announcement can be made anew of.
pub(super) struct Planned {
    pub plan: Plan,
    pub announcement: Announcement,
}

/// Makes the plan; none when there is nothing to do.
pub(super) fn plan(
    site: &Site,
    request: &Request,
    moved: Option<&Move>,
    facts: &Facts,
    host: &Host,
) -> Result<Option<Planned>, Box<dyn Error + Send + Sync>> {
    if !facts.is_needed(moved) {
        return Ok(None);
    }
    let config = site.config();
    let announcement = Announcement::new(site, request, &facts.site, host)?;
    let restart = site.service_control(&ROLES, Want::Restart).restart(&facts.states);
    let part = Parts { site, facts, restart: &restart };
    let [announce, wait] = announcement.steps()?;
    let page_up = announcement.page_up(restart.stop.iter().any(|action| action.service.role == Role::Web))?;
    let page_down = announcement.page_down(&page_up);
    let maintenance_off = Announcement::off(&announce);
    let hold = part.hold(page_up.change.actions.first().cloned());

    let steps = [
        announce,
        wait,
        part.stop("stop-workers", Phase::Announce, Role::Worker),
        page_up,
        part.stop("stop-web", Phase::Window, Role::Web),
        part.backup(),
        part.code(moved),
        part.environment(),
        part.static_files(),
        part.migrate(),
        part.start("start-required", Phase::Window, Role::Required),
        part.start("start-web", Phase::Window, Role::Web),
        part.smoke_check(),
        page_down,
        part.start("start-workers", Phase::Finish, Role::Worker),
        part.stay_up(),
        maintenance_off,
    ];
    let steps = steps.into_iter().flat_map(|step| part.with_own(step)).collect();
    let plan = Plan {
        environment: config.environment.as_str().to_owned(),
        from: String::new(),
        to: String::new(),
        starts: announcement.starts()?,
        steps,
        notices: part.notices(),
        forecast: forecast(site, facts),
        hold,
    };
    Ok(Some(Planned { plan, announcement }))
}

/// Why nothing is done about services in development.
const UNMANAGED: &str = "no services are managed in development";

const ROLES: [Role; 3] = [Role::Web, Role::Worker, Role::Required];

/// The makers of single steps.
struct Parts<'p> {
    site: &'p Site,
    facts: &'p Facts,
    restart: &'p Restart,
}

impl Parts<'_> {
    fn is_development(&self) -> bool {
        self.site.config().environment == EnvironmentName::Development
    }

    /// Returns the actions for the services of one role.
    fn actions(&self, all: &[ServiceAction], role: Role) -> Vec<Action> {
        all.iter().filter(|action| action.service.role == role).cloned().map(Action::Service).collect()
    }

    fn stop(&self, id: &str, phase: Phase, role: Role) -> Step {
        let actions = self.actions(&self.restart.stop, role);
        let mut undo = self.actions(&self.restart.undo, role);
        if role == Role::Web
            && !undo.is_empty()
            && let Some(check) = self.site.smoke_check()
        {
            // The old pages are asked for before the page goes down.
            let check = check.like(&self.facts.baseline);
            if !check.pages.is_empty() {
                undo.push(Action::SmokeCheck(check));
            }
        }
        // On the way back the workers come last. The page does not wait until it is sure that all stay up.
        if role == Role::Worker || self.actions(&self.restart.stop, Role::Worker).is_empty() {
            let stays = |action: &ServiceAction| ServiceAction { goal: Goal::StaysUp, ..action.clone() };
            undo.extend(self.restart.undo.iter().map(stays).map(Action::Service));
        }
        let none = if self.is_development() { UNMANAGED } else { "none runs" };
        let reason = names(&actions, none);
        Step::with_actions(id, phase, &reason, actions, undo)
    }

    fn start(&self, id: &str, phase: Phase, role: Role) -> Step {
        let actions = self.actions(&self.restart.start, role);
        // Exactly what is started here is stopped again; what ran before is started by the undo of its stop.
        let undo = actions
            .iter()
            .filter_map(|action| match action {
                Action::Service(action) if role != Role::Required => {
                    let service = action.service.clone();
                    Some(Action::Service(ServiceAction { service, goal: Goal::Stopped, old: Vec::new() }))
                }
                _ => None,
            })
            .collect();
        let none = match role {
            _ if self.is_development() => UNMANAGED,
            Role::Required => "all run",
            _ => "none ran",
        };
        let reason = names(&actions, none);
        Step::with_actions(id, phase, &reason, actions, undo)
    }

    fn stay_up(&self) -> Step {
        let actions: Vec<Action> = self.restart.stay_up.iter().cloned().map(Action::Service).collect();
        let none = if self.is_development() { UNMANAGED } else { "nothing was started" };
        let reason = names(&actions, none);
        Step::with_actions("stay-up", Phase::Finish, &reason, actions, Vec::new())
    }

    fn backup(&self) -> Step {
        let migrations = &self.facts.migrations;
        let Some(backup) = &self.facts.backup else {
            let reason = match (migrations.pending.is_empty(), self.site.config().backup) {
                (true, _) => "no migrations are pending",
                (_, When::Never) => "`database.backup` is `never`",
                _ => "the migrations can be reversed",
            };
            return Step::with_actions("backup", Phase::Window, reason, Vec::new(), Vec::new());
        };
        Step::new("backup", Phase::Window, Check::Change(backup.change(migrations)))
    }

    fn code(&self, moved: Option<&Move>) -> Step {
        let check = match moved {
            Some(moved) => Check::Change(moved.change()),
            None => Check::Unchanged { reason: "no new commits".to_owned() },
        };
        Step::new("code", Phase::Window, check)
    }

    fn environment(&self) -> Step {
        let check = match &self.facts.packages {
            Packages::Unchanged { reason, .. } => Check::Unchanged { reason: reason.clone() },
            Packages::Ready(ready) => Check::Change(Change {
                reason: package_summary(&ready.changes),
                details: ready.changes.iter().map(ToString::to_string).collect(),
                actions: vec![Action::SwitchEnvironment(ready.switch.clone())],
                undo: vec![Action::SwitchEnvironment(ready.back.clone())],
                ..Change::default()
            }),
        };
        Step::new("environment", Phase::Window, check)
    }

    fn static_files(&self) -> Step {
        let check = match &self.facts.collected {
            Err(reason) => Check::Unchanged { reason: reason.clone() },
            Ok(collected) => match (&collected.swap, &collected.back) {
                (Some(swap), Some(back)) => Check::Change(Change {
                    reason: static_summary(collected),
                    details: static_details(collected),
                    actions: collected
                        .late_files()
                        .map(Action::LinkLateFiles)
                        .into_iter()
                        .chain([Action::Swap(swap.clone())])
                        .collect(),
                    undo: vec![Action::Swap(back.clone())],
                    ..Change::default()
                }),
                _ => Check::Unchanged { reason: "no static file was added, changed or removed".to_owned() },
            },
        };
        Step::new("static", Phase::Window, check)
    }

    fn migrate(&self) -> Step {
        let facts = self.facts;
        if facts.migrations.pending.is_empty() {
            let reason = "no migrations are pending in the database".to_owned();
            return Step::new("migrate", Phase::Window, Check::Unchanged { reason });
        }
        let (project, before) = (facts.project.clone(), facts.before.clone());
        let migrate =
            Migrate { project: project.clone(), before: before.clone(), plan: facts.migrations.ids() };
        let backup = facts.backup.as_ref();
        let put_back = backup.map(|backup| backup.put_back.clone()).unwrap_or_default();
        let has_way_back = backup.is_some() && put_back != PutBack::ByHand;
        let backup = backup.map(|backup| backup.action.path.clone());
        let restore = RestoreDatabase { project, before, backup, put_back };
        let details = facts
            .migrations
            .pending
            .iter()
            .map(|migration| format!("{}: {}", migration.id, migration.operations.join(", ")));
        Step::new(
            "migrate",
            Phase::Window,
            Check::Change(Change {
                reason: counted(facts.migrations.pending.len(), "migration"),
                details: details.collect(),
                actions: vec![Action::Migrate(migrate)],
                undo: vec![Action::RestoreDatabase(restore)],
                irreversible: if has_way_back { None } else { facts.migrations.irreversible() },
                ..Change::default()
            }),
        )
    }

    fn smoke_check(&self) -> Step {
        let nothing =
            |reason: &str| Step::with_actions("smoke-check", Phase::Window, reason, Vec::new(), Vec::new());
        let config = self.site.config();
        let Some(check) = self.site.smoke_check() else { return nothing("no pages are configured") };
        let has_web = config.services.iter().any(|service| service.role == Role::Web);
        if self.is_development() {
            return nothing(UNMANAGED);
        }
        if has_web && self.actions(&self.restart.start, Role::Web).is_empty() {
            return nothing("the web did not run before, so it is not started");
        }
        let pages: Vec<&str> = check.pages.iter().map(|page| page.path.as_str()).collect();
        let mut reason = pages.join(", ");
        if !check.commands.is_empty() {
            let commands = counted(check.commands.len(), "command");
            reason = if reason.is_empty() { commands } else { format!("{reason} and {commands}") };
        }
        Step::with_actions("smoke-check", Phase::Window, &reason, vec![Action::SmokeCheck(check)], Vec::new())
    }

    /// Puts the site's own steps behind the one that they follow.
    fn with_own(&self, step: Step) -> Vec<Step> {
        let config = self.site.config();
        let (anchor, phase) = (step.id.clone(), step.phase);
        let own = config.steps.iter().filter(|own| own.after == anchor).map(|own| {
            let (command, reason) = match &own.task {
                OwnTask::Manage(args) => {
                    let command = self.site.project().manage(args.iter().map(String::as_str));
                    (command, format!("manage.py {}", args.join(" ")))
                }
                OwnTask::Run(argv) => (own_command(argv, &config.repository), argv.join(" ")),
            };
            Step::with_actions(&own.name, phase, &reason, vec![Action::Run { command }], Vec::new())
        });
        let own: Vec<Step> = own.collect();
        std::iter::once(step).chain(own).collect()
    }

    fn notices(&self) -> Vec<String> {
        let facts = self.facts;
        let services = &self.site.config().services;
        let stopped = services.iter().zip(&facts.states).filter(|(service, state)| {
            service.role != Role::Required
                && !self.restart.start.iter().any(|action| action.service.name == state.service)
        });
        let mut notices: Vec<String> = stopped
            .map(|(service, state)| format!("`{}` is {} and will stay so", service.name, state.status))
            .collect();
        if facts.site.debug && self.site.config().environment == EnvironmentName::Production {
            notices.push("DEBUG is on in the new version's settings".to_owned());
        }
        notices.extend(backup::warning(facts.backup.as_ref(), &facts.migrations));
        notices
    }

    /// Returns what keeps the site in maintenance: the page first, then nothing serves.
    fn hold(&self, page: Option<Action>) -> Vec<Action> {
        let stop = |role| {
            let services = self.site.config().services.iter().filter(move |service| service.role == role);
            services.map(|service| {
                let service = service.clone();
                Action::Service(ServiceAction { service, goal: Goal::Stopped, old: Vec::new() })
            })
        };
        page.into_iter().chain(stop(Role::Web)).chain(stop(Role::Worker)).collect()
    }
}

/// Expects what the last updates took; without any, a rule of thumb for a site of middling size.
fn forecast(site: &Site, facts: &Facts) -> Forecast {
    let runs = site.state().runs().unwrap_or_default();
    let mut windows: Vec<u64> = runs
        .iter()
        .rev()
        .filter_map(crate::state::RunFolder::report)
        .filter(|report| report.outcome == Outcome::Updated)
        .filter_map(|report| report.window_ms)
        .take(FORECAST_RUNS)
        .collect();
    windows.sort_unstable();
    let copy = facts.backup.as_ref().map(Backup::duration).unwrap_or_default();
    match windows.get(windows.len() / 2) {
        // Earlier windows may have been without a copy of the database.
        Some(median) => Forecast { window_ms: milliseconds(copy).max(*median), runs: windows.len() },
        None => {
            let migrations = u32::try_from(facts.migrations.pending.len()).unwrap_or(u32::MAX);
            let guess = Duration::from_millis(1500) + Duration::from_millis(100) * migrations + copy;
            Forecast { window_ms: milliseconds(guess), runs: 0 }
        }
    }
}

/// Returns a service that runs as another user than we and root, with the user's number.
pub(super) fn stranger(states: &[ServiceState]) -> Option<(String, u32)> {
    let own = rustix::process::geteuid().as_raw();
    states.iter().find_map(|state| {
        let user = state.pids.iter().filter_map(ProcessId::user).find(|user| *user != own && *user != 0)?;
        Some((state.service.clone(), user))
    })
}

/// Returns a service that runs one of these programs of a folder, and which one.
pub(super) fn program_of(
    services: &[Service],
    states: &[ServiceState],
    folder: &Path,
    programs: &[String],
) -> Option<(String, String)> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let real_folder = real(folder);
    let is_one = |word: &str, directory: &Path| {
        let path = directory.join(word);
        let name = path.file_name()?.to_str()?.to_owned();
        let is_there = programs.contains(&name) && real(path.parent()?) == real_folder;
        is_there.then_some(name)
    };
    let up = states.iter().filter(|state| state.status.is_up());
    up.into_iter().find_map(|state| {
        let running = state.pids.iter().find_map(|process| {
            let directory = process.directory().unwrap_or_default();
            process.words().iter().find_map(|word| is_one(word, &directory))
        });
        let start = || {
            let service = services.iter().find(|service| service.name == state.service)?;
            // A program may show another command line than it was started with.
            service.manager.start_command().iter().find_map(|word| is_one(word, Path::new("/")))
        };
        Some((state.service.clone(), running.or_else(start)?))
    })
}

/// Makes a program of the site's own, run in a tree; `./name` is a file of that tree.
pub(super) fn own_command(argv: &[String], tree: &Path) -> Command {
    let program = argv.first().map_or("", String::as_str);
    let program = match program.strip_prefix("./") {
        Some(rest) => tree.join(rest),
        None => PathBuf::from(program),
    };
    Command::new(program).args(argv.iter().skip(1)).directory(tree).in_site_environment()
}

fn names(actions: &[Action], none: &str) -> String {
    let names: Vec<&str> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Service(action) => Some(action.service.name.as_str()),
            _ => None,
        })
        .collect();
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}
