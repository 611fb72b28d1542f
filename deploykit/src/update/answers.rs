//! The facts of a preparation, and the change of each operation that follows from them.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::action::Action;
use crate::bridge::Bridges;
use crate::digest::sha256;
use crate::django::{
    Collected, FollowMigrations, PendingMigration, Project, RestoreDatabase, Session, SiteFacts, When,
};
use crate::git::CarryWritten;
use crate::host::Host;
use crate::host::Swap;
use crate::names::shown_path;
use crate::operations::django_manage::{Migrations, Prepared, StaticSet};
use crate::operations::git_update::Target;
use crate::operations::pip_install::Prepared as Packages;
use crate::operations::smoke_check::PageResult;
use crate::operations::{Change, Check, of_databases};
use crate::plan::{LaterRollback, RollbackWay};
use crate::python::Bytecode;
use crate::services::{Service, ServiceState};
use crate::site::{Environment, HostRole, Site};
use crate::update::Request;
use crate::update::backup::{self, Backup};
use crate::update::beside::Beside;
use crate::update::forecast::Known;
use crate::update::migrate_command::MigrateCommand;
use crate::update::recipe::{Answers, Course, Planned, Recipe};
use crate::update::rehearsal::Rehearsed;
use crate::update::services::Services;
use crate::update::written::Carrying;

/// Why a follower leaves the databases alone.
const LEADER: &str = "the leader does that";

/// Tells whether another host changes the databases.
pub(super) fn follows(site: &Site) -> bool {
    site.config().site.role == HostRole::Follower
}

/// An output that differs from what is live, with the exchange and its undo.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// From the top of the checkout.
    pub path: PathBuf,
    /// The files that differ, from there.
    pub different: Vec<PathBuf>,
    pub swap: Swap,
    pub back: Swap,
}

/// Everything that the plan is made of.
pub(super) struct Facts {
    /// The staged virtualenv.
    pub packages: Packages,
    /// Django, booted from the staged tree with the staged virtualenv.
    pub session: Session,
    pub site: SiteFacts,
    /// Bytecode of the checkout, in the staged tree.
    pub bytecode: Option<Bytecode>,
    /// Each database that is migrated, in its order.
    pub databases: Vec<InDatabase>,
    /// What migrates in place of `migrate`.
    pub command: Option<MigrateCommand>,
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
    /// Why the waiting Django cannot be forked.
    pub unforked: Option<String>,
    /// What was seen on copies of the databases; `None`: nothing was tried there.
    pub rehearsed: Option<Rehearsed>,
    /// The web servers at their gates.
    pub bridges: Bridges,
}

/// The migrations of a database, and the copy that is made before them.
#[derive(Debug)]
pub(super) struct InDatabase {
    pub migrations: Migrations,
    pub backup: Option<Backup>,
}

impl InDatabase {
    /// Tells whether it has pending migrations.
    pub(super) fn is_pending(&self) -> bool {
        !self.migrations.plan.pending.is_empty()
    }
}

impl Facts {
    /// Tells whether anything about the site has to change.
    fn is_needed(&self, target: &Target) -> bool {
        matches!(target, Target::Move(_))
            || !matches!(self.packages, Packages::Unchanged { .. })
            || self.collected.as_ref().is_ok_and(|collected| !collected.is_unchanged())
            || self.databases.iter().any(|database| database.migrations.plan.is_due())
            || self.command.as_ref().is_some_and(MigrateCommand::is_due)
            || !self.outputs.is_empty()
    }

    /// Makes the plan; returns `None` when nothing is to do.
    pub(super) fn plan(
        &self,
        site: &Site,
        request: &Request,
        target: &Target,
        commits: [String; 2],
        host: &Host,
    ) -> Result<Option<Planned>, Box<dyn Error + Send + Sync>> {
        if !self.is_needed(target) {
            return Ok(None);
        }
        let boot = self.session.boot_time();
        let services = Services::new(site, &self.states, &self.baseline, boot, self.bridges.new.as_ref());
        let known = Known {
            boot,
            migrations: self.pending().count() + usize::from(self.runs_command()),
            boots: self.boots_to_migrate(),
            bridged: self.bridges.new.is_some(),
            rehearsed: self.rehearsed.as_ref().and_then(Rehearsed::expected),
            copy: self.backups().map(Backup::duration).sum(),
            ..Known::default()
        };
        let recipe = Recipe {
            site,
            request,
            host,
            facts: &self.site,
            services: &services,
            known,
            bridges: &self.bridges,
            answers: self.answers(site, target, &services),
            course: Course::Update { rollback: self.rollback(site), unforked: self.unforked.clone() },
            digest: Some(self.digest(&commits[1])),
            old_code_risk: self.old_code_risk(),
            commits,
            notices: self.notices(site),
        };
        recipe.plan().map(Some)
    }

    /// Returns a digest of what hosts that serve one site must have in common.
    fn digest(&self, to: &str) -> String {
        let record = self.packages.record();
        let pending: Vec<_> =
            self.databases.iter().map(|one| (one.migrations.alias(), one.migrations.plan.ids())).collect();
        let common = (to, &record.python, &record.packages, &record.source_state, pending);
        sha256(serde_json::to_string(&common).unwrap_or_default())
    }

    /// Returns the change of each operation, given the facts.
    fn answers(&self, site: &Site, target: &Target, services: &Services) -> Answers {
        let follows = follows(site);
        let mut code = target.change();
        if let (Target::Move(_), Some(bytecode)) = (target, &self.bytecode) {
            let remove = Action::RemoveBytecode(bytecode.clone());
            code = code.then(Action::PlaceBytecode(bytecode.clone()), remove);
        }
        if let Some(carry) = self.carrying.at_code() {
            code = carried(code, carry, self.carrying.details());
        }
        let mut static_files = match &self.collected {
            Err(reason) => Check::unchanged(reason),
            Ok(collected) => Prepared::Static(Box::new(StaticSet::of(collected))).change(),
        };
        if let Some(carry) = self.carrying.at_static() {
            static_files = carried(static_files, carry, Vec::new());
        }
        Answers {
            backup: if follows { Check::unchanged(LEADER) } else { self.backup(site) },
            code,
            outputs: self.outputs(site),
            virtualenv: self.packages.change_in_window(services.web_stops()),
            static_files,
            migrate: if follows { self.follow(site) } else { self.migrate(self.migrations()) },
            smoke_check: services.smoke_check(self.bridges.new.is_some()),
        }
    }

    fn backup(&self, site: &Site) -> Check {
        let changes = self.databases.iter().filter_map(|database| {
            let Migrations { plan, .. } = &database.migrations;
            let backup = database.backup.as_ref()?;
            let change = match &self.command {
                Some(command) => {
                    backup.change_for("only the copy can undo the migrations", vec![command.reason()])
                }
                None => backup.change(plan),
            };
            Some((database.migrations.alias(), change))
        });
        if let Some(change) = of_databases(self.are_several(), changes.collect()) {
            return Check::Change(change);
        }
        let is_old = |database: &InDatabase| !database.migrations.is_new;
        Check::unchanged(match site.config().database.backup {
            _ if self.pending().next().is_none() && !self.runs_command() => "no migrations are pending",
            _ if !self.databases.iter().any(is_old) => "the database is new",
            When::Never => "`database.backup` is `never`",
            _ => "the migrations can be reversed",
        })
    }

    /// Applies what is pending, or runs the site's own command.
    fn migrations(&self) -> Check {
        let migrations: Vec<&Migrations> = self.databases.iter().map(|one| &one.migrations).collect();
        let (Some(command), Some(first)) = (&self.command, migrations.first()) else {
            return Prepared::Migrations(migrations.into_iter().cloned().collect()).change().brief();
        };
        let old = || migrations.iter().filter(|one| !one.is_new);
        let undo = old().rev().map(|one| Action::RestoreDatabase(one.restore.clone())).collect();
        command.change(&first.migrate.project, undo, old().all(|one| one.has_copy()))
    }

    /// Tells whether the migrations run in a Django that boots for it in the window: nothing that is booted can write where they do.
    fn boots_to_migrate(&self) -> bool {
        self.carrying.migrates_live() && self.unforked.is_some()
    }

    /// Waits until the leader has migrated; the undo waits until it has undone that.
    fn follow(&self, site: &Site) -> Check {
        let change = match self.migrations() {
            Check::Change(change) => change,
            unchanged => return unchanged,
        };
        let limit = site.config().site.pause_limit;
        let follow = |undone| {
            let migrate = self.databases.iter().map(|one| one.migrations.migrate.clone());
            let migrate = migrate.filter(|migrate| !migrate.plan.is_empty());
            migrate
                .map(|migrate| Action::FollowMigrations(FollowMigrations { migrate, undone, limit }))
                .collect()
        };
        Check::Change(Change {
            reason: format!("the leader applies {}", change.reason),
            actions: follow(false),
            undo: follow(true),
            irreversible: None,
            ..change
        })
    }

    fn runs_command(&self) -> bool {
        self.command.as_ref().is_some_and(MigrateCommand::runs)
    }

    fn pending(&self) -> impl Iterator<Item = &PendingMigration> {
        self.databases.iter().flat_map(|database| &database.migrations.plan.pending)
    }

    fn backups(&self) -> impl Iterator<Item = &Backup> {
        self.databases.iter().filter_map(|database| database.backup.as_ref())
    }

    /// Tells whether messages say which database they are about.
    fn are_several(&self) -> bool {
        self.databases.len() > 1
    }

    /// Brings the outputs of the site's own steps live; `None` where they have none.
    fn outputs(&self, site: &Site) -> Option<Check> {
        let outputs = &self.outputs;
        let is_declared = site.config().steps.iter().any(|step| !step.outputs.is_empty());
        let names = outputs.iter().map(|output| output.path.display().to_string());
        let check = match outputs.len() {
            0 => Check::unchanged("the outputs of the site's own steps stay as they are"),
            _ => Check::Change(Change {
                reason: names.collect::<Vec<_>>().join(", "),
                details: outputs.iter().flat_map(Output::files).map(|path| shown_path(&path)).collect(),
                actions: outputs.iter().map(|output| Action::SwapOutput(output.swap.clone())).collect(),
                undo: outputs.iter().map(|output| Action::SwapOutput(output.back.clone())).collect(),
                ..Change::default()
            }),
        };
        is_declared.then_some(check)
    }

    /// Adds the files that the migrations write, to carry them over from the staged tree or to know them for an undo.
    fn migrate(&self, check: Check) -> Check {
        let Check::Change(mut change) = check else { return check };
        if let Some(reason) = self.unforked.as_ref().filter(|_| !self.carrying.migrates_live()) {
            change
                .details
                .push(format!("in the waiting Django, whose paths are those of the staged tree: {reason}"));
        }
        let carry = self.carrying.at_migrate();
        let (carry, take_out) = (Action::CarryWritten(carry.clone()), Action::TakeOutWritten(carry));
        // Once there is a new database, it is too late to say that there was none.
        if self.carrying.apart.new_files().next().is_some() {
            change.actions.insert(0, carry.clone());
        }
        change.actions.push(carry);
        change.undo.push(take_out);
        Check::Change(change)
    }

    /// Says whether the update can be rolled back once it is finished.
    fn rollback(&self, site: &Site) -> LaterRollback {
        if follows(site) && self.pending().next().is_some() {
            let reason = Some("the leader migrates the database".to_owned());
            return LaterRollback { way: RollbackWay::Impossible, reason };
        }
        let (mut way, mut reasons) = (RollbackWay::Possible, Vec::new());
        for InDatabase { migrations, .. } in &self.databases {
            let by_command = self.command.as_ref().filter(|command| command.runs());
            let by_command = by_command.map(MigrateCommand::reason);
            let Some(reason) = by_command.or_else(|| migrations.plan.irreversible()) else { continue };
            way = match (migrations.has_copy(), way) {
                (true, RollbackWay::Possible | RollbackWay::FromCopy) => RollbackWay::FromCopy,
                _ => RollbackWay::Impossible,
            };
            reasons.push(self.named(migrations.alias(), reason));
        }
        LaterRollback { way, reason: (!reasons.is_empty()).then(|| reasons.join("; ")) }
    }

    /// Says what the code of the old version could fail at once the migrations are applied.
    fn old_code_risk(&self) -> Option<String> {
        let by_command = self.command.as_ref().filter(|command| command.runs()).map(MigrateCommand::reason);
        let migrations = self.databases.iter().map(|one| &one.migrations);
        let risks = migrations.filter_map(|one| Some(self.named(one.alias(), one.plan.old_code_risk()?)));
        let risks: Vec<String> = by_command.into_iter().chain(risks).collect();
        (!risks.is_empty()).then(|| risks.join("; "))
    }

    fn named(&self, alias: &str, text: String) -> String {
        if self.are_several() { format!("`{alias}`: {text}") } else { text }
    }

    fn notices(&self, site: &Site) -> Vec<String> {
        let is_on = self.site.debug && site.config().environment == Environment::Production;
        let debug = is_on.then(|| "DEBUG is on in the new version's settings".to_owned());
        let boot = self.boots_to_migrate().then(|| self.session.boot_time());
        let apart = self.carrying.apart.notice(boot);
        let apart = apart.filter(|_| self.pending().next().is_some() || self.runs_command());
        let half = self.databases.iter().filter_map(|InDatabase { migrations, backup }| {
            let half = backup::warning(backup.as_ref(), &migrations.plan).filter(|_| !migrations.is_new)?;
            Some(self.named(migrations.alias(), half))
        });
        debug.into_iter().chain(apart).chain(half).collect()
    }
}

impl InDatabase {
    /// Lets them run in this project.
    pub(super) fn within(self, project: &Project, only_copy: bool) -> Self {
        let InDatabase { migrations, backup } = self;
        let Migrations { plan, migrate, is_new, .. } = migrations;
        let restore = backup.as_ref().map(|backup| RestoreDatabase {
            project: project.clone(),
            ..backup.restore(migrate.before.clone(), plan.is_reversed_first() && !only_copy)
        });
        let migrations = Migrations::new(plan, migrate.before, project.clone());
        let restore = restore.unwrap_or_else(|| migrations.restore.clone());
        let restore = RestoreDatabase { only_copy, ..restore };
        InDatabase { migrations: Migrations { restore, is_new, ..migrations }, backup }
    }
}

/// Adds what the preparation wrote into the staged tree.
fn carried(check: Check, carry: CarryWritten, details: Vec<String>) -> Check {
    let mut change = check.into_change();
    change.details.extend(details);
    Check::Change(change).then(Action::CarryWritten(carry.clone()), Action::TakeOutWritten(carry))
}

/// Returns a service that runs one of these programs in a directory, and the program.
pub(super) fn program_of(
    services: &[Service],
    states: &[ServiceState],
    bin: &Path,
    programs: &[String],
) -> Option<(String, String)> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let real_directory = real(bin);
    let is_one = |word: &str, directory: &Path| {
        let path = directory.join(word);
        let name = path.file_name()?.to_str()?.to_owned();
        let is_there = programs.contains(&name) && real(path.parent()?) == real_directory;
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
            service.manager.commands()[0].iter().find_map(|word| is_one(word, Path::new("/")))
        };
        Some((state.service.clone(), running.or_else(start)?))
    })
}
