//! The recipe: what was found out becomes the steps of the plan.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::action::Action;
use crate::command::Command;
use crate::django::{
    BackupDatabase, Collected, DatabaseState, Migrate, MigrationPlan, Project, RestoreDatabase, Session,
    SiteFacts, When,
};
use crate::git::counted;
use crate::host::Host;
use crate::operations::git_update::Move;
use crate::operations::pip_install::{Prepared as Packages, Record};
use crate::operations::smoke_check::PageResult;
use crate::operations::{Change, Check};
use crate::plan::{Phase, Plan, Step};
use crate::python::PackageChange;
use crate::services::{ProcessId, Role, Service, ServiceState};
use crate::site::{Config, EnvironmentName, OwnTask, Site};
use crate::update::Request;
use crate::update::announcement::Announcement;
use crate::update::beside::Beside;
use crate::update::error::PreparationError;
use crate::update::services::{Services, forecast};

/// Why a copy is wanted of a database whose migrations can all be reversed.
const HALF_DONE: &str = "one may stay half done";

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
    run: &Path,
    host: &Host,
) -> Result<Option<Planned>, Box<dyn Error + Send + Sync>> {
    if !facts.is_needed(moved) {
        return Ok(None);
    }
    let config = site.config();
    let backup = match facts.migrations.pending.is_empty() {
        true => None,
        false => {
            let reason = || facts.migrations.irreversible().unwrap_or_else(|| HALF_DONE.to_owned());
            let wanted = facts.migrations.wants_backup().then(reason);
            backup(config, &facts.site, &facts.project, run, wanted)?
        }
    };
    let announcement = Announcement::new(site, request, &facts.site, host)?;
    let services = Services::new(site, &facts.states, &facts.baseline);
    let part = Parts { site, facts, backup: backup.as_ref() };
    let [announce, wait] = announcement.steps()?;
    let page_up = announcement.page_up(services.web_stops())?;
    let page_down = announcement.page_down(&page_up);
    let maintenance_off = Announcement::off(&announce);
    let hold = services.hold(page_up.change.actions.first().cloned());

    let steps = [
        announce,
        wait,
        services.stop("stop-workers", Phase::Announce, Role::Worker),
        page_up,
        services.stop("stop-web", Phase::Window, Role::Web),
        part.backup(),
        part.code(moved),
        part.environment(),
        part.static_files(),
        part.migrate(),
        services.start("start-required", Phase::Window, Role::Required),
        services.start("start-web", Phase::Window, Role::Web),
        services.smoke_check(),
        page_down,
        services.start("start-workers", Phase::Finish, Role::Worker),
        services.stay_up(),
        maintenance_off,
    ];
    let steps = steps.into_iter().flat_map(|step| part.with_own(step)).collect();
    let plan = Plan {
        environment: config.environment.as_str().to_owned(),
        from: String::new(),
        to: String::new(),
        rolls_back: None,
        starts: announcement.starts()?,
        steps,
        notices: services.notices().into_iter().chain(part.debug()).collect(),
        forecast: forecast(site, facts.migrations.pending.len()),
        hold,
    };
    Ok(Some(Planned { plan, announcement }))
}

/// The makers of single steps.
struct Parts<'p> {
    site: &'p Site,
    facts: &'p Facts,
    backup: Option<&'p BackupDatabase>,
}

impl Parts<'_> {
    fn backup(&self) -> Step {
        let Some(backup) = self.backup else {
            let reason = match (self.facts.migrations.pending.is_empty(), self.site.config().backup) {
                (true, _) => "no migrations are pending",
                (_, When::Never) => "`database.backup` is `never`",
                _ => "the migrations can be reversed",
            };
            return Step::with_actions("backup", Phase::Window, reason, Vec::new(), Vec::new());
        };
        let reason = match self.facts.migrations.irreversible() {
            Some(reason) => format!("there is no other way back: {reason}"),
            None => "before the migrations".to_owned(),
        };
        Step::with_actions(
            "backup",
            Phase::Window,
            &reason,
            vec![Action::BackupDatabase(backup.clone())],
            Vec::new(),
        )
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
        let restore =
            RestoreDatabase { project, before, backup: self.backup.map(|backup| backup.path.clone()) };
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
                irreversible: if self.backup.is_some() { None } else { facts.migrations.irreversible() },
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
                OwnTask::Run(argv) => (own_command(argv, &config.repository), argv.join(" ")),
            };
            Step::with_actions(&own.name, phase, &reason, vec![Action::Run { command }], Vec::new())
        });
        let own: Vec<Step> = own.collect();
        std::iter::once(step).chain(own).collect()
    }

    fn debug(&self) -> Option<String> {
        let is_on = self.facts.site.debug && self.site.config().environment == EnvironmentName::Production;
        is_on.then(|| "DEBUG is on in the new version's settings".to_owned())
    }
}

/// Decides whether a copy of the database is made, and where; `wanted`: why there is no other way back.
pub(super) fn backup(
    config: &Config,
    site: &SiteFacts,
    project: &Project,
    run: &Path,
    wanted: Option<String>,
) -> Result<Option<BackupDatabase>, PreparationError> {
    let is_made = match config.backup {
        When::Never => false,
        When::Always => true,
        When::Auto => wanted.is_some(),
    };
    if !is_made {
        return Ok(None);
    }
    let default = site.databases.iter().find(|database| database.alias == "default");
    if let Some(database) = default
        && database.vendor != "sqlite"
    {
        let reason = wanted.unwrap_or_else(|| HALF_DONE.to_owned());
        return Err(PreparationError::BackupUnsupported { engine: database.vendor.clone(), reason });
    }
    Ok(Some(BackupDatabase { project: project.clone(), path: run.join("backup.sqlite3") }))
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

/// Says in a few words which packages change.
pub(super) fn package_summary(changes: &[PackageChange]) -> String {
    match changes {
        [] => "the same packages".to_owned(),
        [one] => one.to_string(),
        many => format!("{} change", counted(many.len(), "package")),
    }
}

/// Says in a few words which static files change.
pub(super) fn static_summary(collected: &Collected) -> String {
    let parts =
        [(&collected.added, "added"), (&collected.changed, "changed"), (&collected.removed, "removed")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{} {what}", names.len()))
        .collect();
    if parts.is_empty() { "nothing changes".to_owned() } else { format!("files: {}", parts.join(", ")) }
}

fn static_details(collected: &Collected) -> Vec<String> {
    // A copy under a name with a hash says nothing that the file itself does not say.
    let all: Vec<&String> =
        collected.removed.iter().chain(&collected.added).chain(&collected.changed).collect();
    let is_copy = |name: &str| without_hash(name).is_some_and(|plain| all.contains(&&plain));
    let marked = |names: &[String], mark: char| {
        let own = names.iter().filter(|name| !is_copy(name));
        own.map(|name| format!("{mark} {name}")).collect::<Vec<_>>()
    };
    let mut lines = marked(&collected.removed, '-');
    lines.extend(marked(&collected.added, '+'));
    lines.extend(marked(&collected.changed, '~'));
    lines.truncate(40);
    lines
}

/// Returns the name of the file that a manifest storage made a copy of: `site.css` of `site.0123456789ab.css`.
fn without_hash(name: &str) -> Option<String> {
    let (rest, extension) = name.rsplit_once('.')?;
    let (stem, hash) = rest.rsplit_once('.')?;
    let is_hash = hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("{stem}.{extension}"))
}
