//! The recipe: what was found out becomes the steps of the plan.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::action::Action;
use crate::command::Command;
use crate::django::{
    Collected, DatabaseState, Migrate, MigrationPlan, Project, PutBack, RestoreDatabase, Session, SiteFacts,
    When,
};
use crate::git::counted;
use crate::host::Host;
use crate::names::shown_path;
use crate::operations::django_manage::static_actions;
use crate::operations::git_update::Move;
use crate::operations::pip_install::{Prepared as Packages, Record};
use crate::operations::smoke_check::PageResult;
use crate::operations::{Change, Check, hide};
use crate::plan::{LaterRollback, Plan, RollbackWay, Step, StepKind};
use crate::python::ByteCode;
use crate::services::{Role, Service, ServiceState};
use crate::site::{EnvironmentName, OwnTask, Site};
use crate::update::Request;
use crate::update::announcement::Announcement;
use crate::update::backup::{self, Backup};
use crate::update::beside::Beside;
use crate::update::forecast::{Known, forecast};
use crate::update::past;
use crate::update::prepare::Output;
use crate::update::services::Services;
use crate::update::summary::{package_summary, static_details, static_summary};
use crate::update::written::Carrying;

/// Everything that the plan is made of.
pub(super) struct Facts {
    /// The next environment.
    pub packages: Packages,
    /// The project in the next tree, with the next environment.
    pub project: Project,
    /// Django, booted from there.
    pub session: Session,
    pub site: SiteFacts,
    /// Byte code of the checkout, in the next tree.
    pub byte_code: Option<ByteCode>,
    pub migrations: MigrationPlan,
    pub before: DatabaseState,
    pub backup: Option<Backup>,
    /// The static files beside the live ones, or why there are none.
    pub collected: Result<Collected, String>,
    /// The services, in the order of the configuration.
    pub states: Vec<ServiceState>,
    pub baseline: Vec<PageResult>,
    pub beside: Beside,
    /// What the new version's code wrote beside the live checkout.
    pub carrying: Carrying,
    /// What the site's own steps made.
    pub outputs: Vec<Output>,
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
            || self.collected.as_ref().is_ok_and(|collected| !collected.unchanged)
            || self.migrations.is_due()
            || !self.outputs.is_empty()
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
    let services = Services::new(site, &facts.states, &facts.baseline, facts.session.boot_time());
    let part = Parts { site, facts, host };
    let own = |step| part.with_own(step);
    let window = [
        services.stop(StepKind::StopWeb, Role::Web),
        part.backup(),
        part.code(moved),
        part.environment(),
        part.static_files(),
        part.migrate(),
        services.start(StepKind::StartRequired, Role::Required),
        services.start(StepKind::StartWeb, Role::Web),
        services.smoke_check(),
    ];
    let mut window = Vec::from(window);
    let behind_code = window.iter().position(|step| step.id == StepKind::Code).map_or(0, |code| code + 1);
    window.splice(behind_code..behind_code, part.outputs());
    let mut window: Vec<Step> = window.into_iter().flat_map(own).collect();
    mind_own_steps(&mut window);
    let known = Known {
        boot: facts.session.boot_time(),
        migrations: facts.migrations.pending.len(),
        boots: facts.carrying.migrates_live(),
        copy: facts.backup.as_ref().map(Backup::duration).unwrap_or_default(),
        is_rollback: false,
        put_back: Duration::ZERO,
    };
    let forecast = forecast(site, &window, known);
    let announcement = Announcement::new(site, request, &facts.site, host, services.is_short(forecast))?;
    let [announce, wait] = announcement.steps()?;
    let (page_up, page) = announcement.page_up(services.web_stops())?;
    let page_down = announcement.page_down(&page_up);
    let maintenance_off = Announcement::off(&announce);

    let stop_workers = services.stop(StepKind::StopWorkers, Role::Worker);
    let start_workers = services.start(StepKind::StartWorkers, Role::Worker);
    let before = [announce, wait, stop_workers, page_up].into_iter().flat_map(own);
    let after = [page_down, start_workers, services.stay_up(), maintenance_off].into_iter().flat_map(own);
    let plan = Plan {
        environment: config.environment.as_str().to_owned(),
        from: String::new(),
        to: String::new(),
        rolls_back: None,
        rollback: Some(part.rollback()),
        starts: announcement.starts()?,
        forecast,
        steps: before.chain(window).chain(after).collect(),
        notices: services.notices().into_iter().chain(part.notices()).collect(),
        hold: services.hold(page),
    };
    Ok(Some(Planned { plan, announcement }))
}

/// The way back of the static files brings no file that a step of the site's own wrote since: an old version would be served with
/// the new one's manifest of compressed files.
fn mind_own_steps(window: &mut [Step]) {
    let Some(at) = window.iter().position(|step| step.id == StepKind::Static) else { return };
    let (static_files, after) = window.split_at_mut(at + 1);
    if after.iter().any(|step| past::has_own(&step.change.actions)) {
        for action in static_files.iter_mut().skip(at).flat_map(|step| &mut step.change.undo) {
            if let Action::LinkLateFiles(late) = action {
                late.steps_until = Some(Timestamp::MAX);
            }
        }
    }
}

/// The makers of single steps.
struct Parts<'p> {
    site: &'p Site,
    facts: &'p Facts,
    host: &'p Host,
}

impl Parts<'_> {
    fn backup(&self) -> Step {
        let migrations = &self.facts.migrations;
        let Some(backup) = &self.facts.backup else {
            let reason = match (migrations.pending.is_empty(), self.site.config().backup) {
                (true, _) => "no migrations are pending",
                _ if self.facts.carrying.apart.is_new => "the database is new",
                (_, When::Never) => "`database.backup` is `never`",
                _ => "the migrations can be reversed",
            };
            return Step::new(StepKind::Backup, Check::Unchanged { reason: reason.to_owned() });
        };
        Step::new(StepKind::Backup, Check::Change(backup.change(migrations)))
    }

    fn code(&self, moved: Option<&Move>) -> Step {
        let reason = "no new commits".to_owned();
        let mut change = moved.map_or_else(|| Change { reason, ..Change::default() }, |moved| moved.change());
        if let (Some(_), Some(code)) = (moved, &self.facts.byte_code) {
            change.actions.push(Action::PlaceByteCode(code.clone()));
            change.undo.insert(0, Action::RemoveByteCode(code.clone()));
        }
        if let Some(carry) = self.facts.carrying.at_code() {
            change.details.extend(self.facts.carrying.details());
            change.actions.push(Action::CarryWritten(carry.clone()));
            change.undo.insert(0, Action::TakeOutWritten(carry));
        }
        Step::new(StepKind::Code, Check::Change(change))
    }

    /// Returns the step that brings what the site's own steps made; none where they make nothing.
    fn outputs(&self) -> Option<Step> {
        let outputs = &self.facts.outputs;
        let is_declared = self.site.config().steps.iter().any(|step| !step.outputs.is_empty());
        let check = match outputs.len() {
            0 => {
                Check::Unchanged { reason: "the outputs of the site's own steps stay as they are".to_owned() }
            }
            _ => Check::Change(Change {
                reason: outputs
                    .iter()
                    .map(|output| output.path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                details: outputs.iter().flat_map(Output::files).map(|path| shown_path(&path)).collect(),
                actions: outputs.iter().map(|output| Action::SwapOutput(output.swap.clone())).collect(),
                undo: outputs.iter().map(|output| Action::SwapOutput(output.back.clone())).collect(),
                ..Change::default()
            }),
        };
        is_declared.then(|| Step::new(StepKind::Outputs, check))
    }

    fn environment(&self) -> Step {
        let check = match &self.facts.packages {
            Packages::Unchanged { reason, .. } => Check::Unchanged { reason: reason.clone() },
            Packages::Ready(ready) => {
                let mut change = Change {
                    reason: package_summary(&ready.changes),
                    details: ready.changes.iter().map(ToString::to_string).collect(),
                    actions: vec![Action::SwitchEnvironment(ready.switch.clone())],
                    undo: vec![Action::SwitchEnvironment(ready.back.clone())],
                    ..Change::default()
                };
                hide(&mut change, &ready.switch.makes());
                Check::Change(change)
            }
        };
        Step::new(StepKind::Environment, check)
    }

    fn static_files(&self) -> Step {
        let check = match &self.facts.collected {
            Err(reason) => Check::Unchanged { reason: reason.clone() },
            Ok(collected) => match static_actions(collected) {
                Some((actions, undo)) => {
                    let (reason, details) = (static_summary(collected), static_details(collected));
                    let mut change = Change { reason, details, actions, undo, ..Change::default() };
                    hide(&mut change, &collected.makes());
                    Check::Change(change)
                }
                None => {
                    Check::Unchanged { reason: "no static file was added, changed or removed".to_owned() }
                }
            },
        };
        let mut step = Step::new(StepKind::Static, check);
        if let Some(carry) = self.facts.carrying.at_static() {
            step.change.actions.push(Action::CarryWritten(carry.clone()));
            step.change.undo.insert(0, Action::TakeOutWritten(carry));
        }
        step
    }

    /// Says whether the update can be rolled back once it is finished.
    fn rollback(&self) -> LaterRollback {
        let copy = self.facts.backup.as_ref().filter(|backup| backup.put_back != PutBack::ByHand);
        let reason = self.facts.migrations.irreversible();
        let way = match (&reason, copy) {
            (None, _) => RollbackWay::Possible,
            (Some(_), Some(_)) => RollbackWay::FromCopy,
            (Some(_), None) => RollbackWay::Impossible,
        };
        LaterRollback { way, reason }
    }

    fn migrate(&self) -> Step {
        let facts = self.facts;
        if !facts.migrations.is_due() {
            let reason = "no migrations are pending in the database".to_owned();
            return Step::new(StepKind::Migrate, Check::Unchanged { reason });
        }
        let carrying = &facts.carrying;
        let project = if carrying.migrates_live() { self.site.project() } else { facts.project.clone() };
        let before = facts.before.clone();
        let migrate =
            Migrate { project: project.clone(), before: before.clone(), plan: facts.migrations.ids() };
        let backup = facts.backup.as_ref();
        let has_way_back = backup.is_some_and(|backup| backup.put_back != PutBack::ByHand);
        let restore = match backup {
            Some(backup) => {
                RestoreDatabase { project, ..backup.restore(before, facts.migrations.is_reversed_first()) }
            }
            None => RestoreDatabase::new(project, before, None),
        };
        let carry = carrying.at_migrate();
        let (take_out, carry) = (Action::TakeOutWritten(carry.clone()), Action::CarryWritten(carry));
        let (migrate, restore) = (Action::Migrate(migrate), Action::RestoreDatabase(restore));
        let is_new = carrying.apart.is_new;
        let (actions, undo) = match (is_new, carrying.migrates_live()) {
            (true, _) => (vec![carry, migrate], vec![take_out]),
            (false, true) => (vec![migrate], vec![restore]),
            (false, false) => (vec![migrate, carry], vec![restore, take_out]),
        };
        let details = facts
            .migrations
            .pending
            .iter()
            .map(|migration| format!("{}: {}", migration.id, migration.operations.join(", ")))
            .chain(facts.migrations.unrecorded.iter().map(|id| format!("{id}: only recorded")));
        let reason = match facts.migrations.pending.len() {
            0 => format!("{} to record", counted(facts.migrations.unrecorded.len(), "squashed migration")),
            count => counted(count, "migration"),
        };
        Step::new(
            StepKind::Migrate,
            Check::Change(Change {
                reason,
                details: details.collect(),
                actions,
                undo,
                irreversible: if has_way_back || is_new { None } else { facts.migrations.irreversible() },
                ..Change::default()
            }),
        )
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
                OwnTask::Run(argv) => {
                    let project = self.site.project();
                    (own_command(argv, &config.repository, &project, self.host), argv.join(" "))
                }
            };
            let change = Change { reason, actions: vec![Action::Run { command }], ..Change::default() };
            Step { id: StepKind::Own(own.name.clone()), phase, change }
        });
        let own: Vec<Step> = own.collect();
        std::iter::once(step).chain(own).collect()
    }

    fn notices(&self) -> Vec<String> {
        let is_on = self.facts.site.debug && self.site.config().environment == EnvironmentName::Production;
        let debug = is_on.then(|| "DEBUG is on in the new version's settings".to_owned());
        let (carrying, migrations) = (&self.facts.carrying, &self.facts.migrations);
        let boots = carrying.apart.notice(self.facts.session.boot_time());
        let boots = boots.filter(|_| !migrations.pending.is_empty());
        let half = backup::warning(self.facts.backup.as_ref(), migrations);
        let half = half.filter(|_| !carrying.apart.is_new);
        debug.into_iter().chain(boots).chain(half).collect()
    }
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

/// Makes a program of the site's own, run in a tree, as in the project's activated virtualenv; `./name` is a file of that
/// tree.
pub(super) fn own_command(argv: &[String], tree: &Path, project: &Project, host: &Host) -> Command {
    let program = argv.first().map_or("", String::as_str);
    let program = match program.strip_prefix("./") {
        Some(rest) => tree.join(rest),
        None => PathBuf::from(program),
    };
    let command = Command::new(program).args(argv.iter().skip(1)).directory(tree).in_site_environment();
    let path = host.environment().get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"));
    project.activate(command, path)
}
