//! Rolls back a finished update: another way to a plan, for the same runner.
//!
//! ```text
//! PREPARE   run · code · packages · secrets · services · pages · check · migrations · rehearse-migrations · rehearse-pages
//!           · boot-bridge · boot-old-bridge
//! ANNOUNCE  announce · wait · jobs · stop-workers
//! WINDOW    page-up → stop-web → backup → migrate → static → virtualenv → code → start-required → start-web
//!           → smoke-check → page-down
//! FINISH    start-workers · stay-up · maintenance-off
//! ```
//!
//! The changes come in the order in which the update's own undo would make them. Migrations are reversed while the code
//! that brought them is still live. If the rollback fails, its undo restores that code first and its migrations last.

mod answers;
mod bridge;
mod copy;
mod rehearsal;
mod static_way;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::action::{Action, held_by};
use crate::bridge::Bridges;
use crate::django::reasons::{grouped, reasons};
use crate::django::{
    DatabaseState, Migrate, Project, RestoreDatabase, ReversedMigration, RowCounts, Session, SiteFacts,
};
use crate::event::Event;
use crate::git::{self, CarryWritten, Checkout, Exclude, GitError, Head, counted, short};
use crate::host::Swap;
use crate::host::files;
use crate::operations::git_update::{Move, Target};
use crate::operations::pip_install::{self, Prepared as Packages, Ready as StagedVirtualenv, Record};
use crate::operations::smoke_check::PageResult;
use crate::plan::{Phase, StepKind};
use crate::python::{OwnFiles, Switch, Virtualenv};
use crate::services::ServiceState;
use crate::smoke::SmokeCheck;
use crate::state::{Kept, KeptDatabase, State};
use crate::update::Update;
use crate::update::backup::{Asked, Backup};
use crate::update::beside::Beside;
use crate::update::error::{RollbackError, UpdateError};
use crate::update::forecast::Known;
use crate::update::inserted::Inserted;
use crate::update::migrate_command;
use crate::update::past::{self, Past};
use crate::update::prepare::databases::{is_pooled, pooled};
use crate::update::prepare::{Preparation, Ready};
use crate::update::recipe::{Course, Planned, Recipe};
use crate::update::services::Services;
use static_way::StaticWay;

use copy::FromCopy;

type Failed = Box<dyn Error + Send + Sync>;

/// What a finished update did, and what it kept.
struct Done {
    run: String,
    kept: Kept,
    code: Option<Checkout>,
    /// There and back.
    environment: Option<(Switch, Switch)>,
    /// Back, and there again.
    static_files: Option<StaticWay>,
    /// What the update hid from git.
    hidden: Vec<Exclude>,
    /// The same of what the site's own steps made.
    outputs: Vec<(Swap, Swap)>,
    /// The databases that it migrates, in their order.
    databases: Vec<DoneDatabase>,
    /// The command of the site's own that migrated.
    command: Option<Vec<String>>,
    /// What was carried over to the live checkout.
    written: Vec<CarryWritten>,
    /// The pages as they were before the update.
    pages: Option<SmokeCheck>,
    /// The steps of a tool.
    inserted: Inserted,
}

/// What an update did to a database.
struct DoneDatabase {
    /// The database as the update left it.
    left: DatabaseState,
    /// The rows that it had then, where a copy of it was made.
    rows: Option<RowCounts>,
    migrate: Option<Migrate>,
    /// What would have restored it if the update had failed.
    restore: Option<RestoreDatabase>,
}

/// How a database is restored.
struct Database {
    done: DoneDatabase,
    /// The migrations to be reversed, newest first.
    reversed: Vec<ReversedMigration>,
    /// The copy of the update that is restored instead.
    copy: Option<FromCopy>,
    /// The copy that is made before.
    backup: Option<Backup>,
}

/// What a database is looked at for.
struct Looked<'a> {
    run: &'a str,
    command: Option<&'a [String]>,
    project: &'a Project,
    /// How many bytes the copies of other databases take before.
    taken: u64,
    several: bool,
}

impl<'a> Looked<'a> {
    /// Names the database in lines about it, where there are several.
    fn named(&self, alias: &str, lines: Vec<String>) -> Vec<String> {
        let named = |line| if self.several { format!("`{alias}`: {line}") } else { line };
        lines.into_iter().map(named).collect()
    }

    fn asked(&self, alias: &'a str, reasons: &'a [String], pooled: bool) -> Asked<'a> {
        Asked { project: self.project, alias, reasons, taken: self.taken, pooled }
    }
}

/// Everything that the plan is made of.
struct Facts {
    done: Done,
    /// `None`: the update brought no commits.
    target: Option<Target>,
    packages: Packages,
    project: Project,
    site: SiteFacts,
    /// In the order of the update.
    databases: Vec<Database>,
    states: Vec<ServiceState>,
    baseline: Vec<PageResult>,
    /// How long the databases took in the rehearsal; `None`: not rehearsed, or nothing to do.
    rehearsed: Option<Duration>,
    /// The web servers at their gates.
    bridges: Bridges,
}

impl<'o> Preparation<'_, 'o> {
    /// Checks that a rollback is possible, and makes its plan.
    pub(super) fn roll_back(mut self, wanted: Option<&str>) -> Result<Box<Update<'o>>, UpdateError> {
        self.events.send(Event::PhaseStarted { phase: Phase::Prepare });
        let mut done = self.step(StepKind::Run, |this| {
            let past = choose(&this.state, wanted)?;
            (this.to, this.from) = past.commits();
            let own = &this.site.config().steps;
            let inserted = Inserted::of(&past, |step| own.iter().any(|own| own.name == step.as_str()));
            let done = Done { inserted, ..Done::of(&past, &past.later_steps(&this.state)?)? };
            let text = format!("{}: {} → {}", done.run, short(&this.to), short(&this.from));
            Ok((done, text))
        })?;
        self.rolls_back = Some(done.run.clone());
        self.refuse_too_soon()?;
        self.record()?;
        let moved = self.step(StepKind::Code, |this| this.code(&done))?;
        let packages = self.step(StepKind::Packages, |this| this.environment(&done))?;
        let config = self.site.config();
        if moved.is_some() && (config.secrets.file.is_some() || !config.secrets.required.is_empty()) {
            self.step(StepKind::Secrets, |this| this.secrets(moved.as_ref()))?;
        }
        let states = self.step(StepKind::Services, |this| {
            // What the window does with the static files is tried before anything stops, too.
            if let Some(place) = done.static_files.as_ref().and_then(StaticWay::moves) {
                this.try_to_move(&place)?;
            }
            this.services()
        })?;
        let baseline = self.step(StepKind::Pages, |this| this.pages(&states))?;
        let project = self.site.project()?;
        let (mut session, site) = self.step(StepKind::Check, |this| {
            let mut session = Session::boot(&this.host.with_low_priority(false), &project)?;
            let facts = session.facts(&this.host)?;
            this.site.remember(&facts);
            let text = format!("Django {} boots", facts.django);
            Ok(((session, facts), text))
        })?;
        let databases = std::mem::take(&mut done.databases);
        let databases =
            self.step(StepKind::Migrations, |this| this.databases(&done, databases, &project, &mut session))?;
        let target = moved.map(|moved| Target::Move(Box::new(moved)));
        let mut facts = Facts {
            done,
            target,
            packages,
            project,
            site,
            databases,
            states,
            baseline,
            rehearsed: None,
            bridges: Bridges::default(),
        };
        facts.rehearsed = self.rehearse_rollback(&facts, &mut session)?;
        let beside = self.boot_previous(&mut facts)?;
        self.assemble_rollback(facts, session, beside)
    }

    /// The checkout must be where the update left it, with nothing in the way.
    fn code(&mut self, done: &Done) -> Result<(Option<Move>, String), Failed> {
        let Some(made) = &done.code else {
            let found = git::head(&self.site.config().site.repository)?;
            if found.commit != self.from {
                let left = Box::new(Head { commit: self.from.clone(), ..found.clone() });
                let (run, found) = (done.run.clone(), Box::new(found));
                return Err(RollbackError::HeadMoved { run, found, left }.into());
            }
            return Ok((None, "the update brought no commits".to_owned()));
        };
        let moved = match self.site.git_update(None).back(&self.host, made) {
            Err(GitError::HeadMoved { found, expected, .. }) => {
                let run = done.run.clone();
                return Err(RollbackError::HeadMoved { run, found, left: expected }.into());
            }
            other => other?,
        };
        let text = format!("{} to roll back", counted(moved.commit_count, "commit"));
        Ok((Some(moved), text))
    }

    /// The environment must be the one that the update left, and the one before it whole.
    fn environment(&mut self, done: &Done) -> Result<(Packages, String), Failed> {
        let config = self.site.config();
        let virtualenv = self.site.virtualenv()?;
        let run = || done.run.clone();
        if let Some((there, back)) = &done.environment {
            if !there.is_done() {
                let virtualenv = virtualenv.to_owned();
                return Err(RollbackError::VirtualenvMoved { virtualenv, run: run() }.into());
            }
            back.look()?;
        }
        if let Some(record) = self.state.current().packages.filter(|_| !config.python.wanted().is_empty()) {
            let live = Virtualenv::installed(virtualenv);
            let changes = record.changes_since(&live, &config.site.repository);
            if !changes.is_empty() {
                let changes = changes.iter().map(ToString::to_string).collect();
                return Err(RollbackError::PackagesChanged { run: run(), changes }.into());
            }
        }
        let Some((there, back)) = &done.environment else {
            let reason = "the update changed no packages".to_owned();
            return Ok((Packages::Unchanged { reason: reason.clone(), record: Record::default() }, reason));
        };
        for path in back.replaces() {
            self.try_to_move(&path)?;
        }
        let place = back.staged().unwrap_or_else(|| back.kept.clone());
        let changes = Virtualenv::installed(virtualenv).changes_to(&Virtualenv::installed(&place));
        let text = pip_install::summary(&changes);
        let own = match back.is_in_place() {
            true => Vec::new(),
            false => OwnFiles::read(virtualenv)?.differences(&OwnFiles::read_at(&place, virtualenv)?),
        };
        if !own.is_empty() {
            let names: Vec<String> = own.iter().map(|file| format!("`{}`", file.display())).collect();
            self.notice(format!(
                "changed in the virtualenv since the update, and not in the previous one: {}",
                names.join(", ")
            ));
        }
        let ready = StagedVirtualenv::new(place, changes, back.clone(), there.clone());
        Ok((Packages::Ready(Box::new(ready)), text))
    }

    /// Finds out how each database is restored.
    fn databases(
        &mut self,
        done: &Done,
        databases: Vec<DoneDatabase>,
        project: &Project,
        session: &mut Session,
    ) -> Result<(Vec<Database>, String), Failed> {
        // Those that the update did not copy can only be reversed.
        let (run, command) = (done.run.as_str(), done.command.as_deref());
        let is_copied = |done: &DoneDatabase| done.restore.as_ref().is_some_and(|one| one.backup.is_some());
        let from_copy = self.request.from_copy;
        if from_copy && !databases.iter().any(is_copied) {
            return Err(RollbackError::NoCopy { run: run.to_owned() }.into());
        }
        let several = databases.len() > 1;
        let (mut found, mut texts) = (Vec::new(), Vec::new());
        for done in databases {
            let alias = done.left.database.clone();
            let backups = found.iter().filter_map(|one: &Database| one.backup.as_ref());
            let taken = backups.map(Backup::file_bytes).sum();
            let looked = Looked { run, command, project, taken, several };
            let (database, text) = match from_copy && is_copied(&done) {
                true => self.by_copy(&looked, done, session)?,
                false => self.reversed(&looked, done, session)?,
            };
            texts.push(if several { format!("`{alias}`: {text}") } else { text });
            found.push(database);
        }
        Ok((found, texts.join(", ")))
    }

    /// Checks that a database is as the update left it, and that its migrations can be reversed.
    fn reversed(
        &mut self,
        looked: &Looked<'_>,
        done: DoneDatabase,
        session: &mut Session,
    ) -> Result<(Database, String), Failed> {
        let alias = done.left.database.as_str();
        let databases = &looked.project.databases;
        let now = databases.named(alias, session.on(alias).state(&self.host))?;
        // Without migrations to reverse, a table that another program created does not matter.
        if now.applied != done.left.applied || done.migrate.is_some() && now != done.left {
            let (run, lines) = (looked.run.to_owned(), looked.named(alias, done.left.differences(&now)));
            return Err(RollbackError::DatabaseMoved { run, lines }.into());
        }
        if let Some(argv) = looked.command
            && done.restore.as_ref().is_none_or(|restore| restore.before != done.left)
        {
            let copy = done.restore.as_ref().and_then(copy::usable).map(ToOwned::to_owned);
            let reasons = looked.named(alias, vec![migrate_command::reason(argv)]);
            return Err(RollbackError::Irreversible { reasons, copy }.into());
        }
        let Some(migrate) = &done.migrate else {
            let text = match looked.command {
                Some(_) => "the command changed neither migrations nor schema",
                None => "the update applied none",
            };
            let database = Database { done, reversed: Vec::new(), copy: None, backup: None };
            return Ok((database, text.to_owned()));
        };
        let reversal = session.on(alias).reversal(&self.host, &migrate.before.applied);
        let reversed = databases.named(alias, reversal)?;
        let obstacles = reversed.iter().flat_map(|one| reasons(&one.id, &one.obstacles));
        let obstacles = grouped(&obstacles.collect::<Vec<_>>());
        if !obstacles.is_empty() {
            let copy = done.restore.as_ref().and_then(copy::usable).map(ToOwned::to_owned);
            return Err(RollbackError::Irreversible { reasons: looked.named(alias, obstacles), copy }.into());
        }
        let reasons = answers::backup_reasons(&reversed);
        let wanted = self.site.config().database.backup.is_wanted(!reasons.is_empty());
        let wanted = wanted && !reversed.is_empty();
        let is_pooled = !reversed.is_empty() && is_pooled(databases, alias, session, &self.host)?;
        if is_pooled {
            self.notice(pooled(alias));
        }
        let asked = looked.asked(alias, &reasons, is_pooled);
        let backup = if wanted { Some(self.backup(&asked, session)?) } else { None };
        let text = format!("{} to reverse", reversed.len());
        Ok((Database { done, reversed, backup, copy: None }, text))
    }

    fn assemble_rollback(
        mut self,
        facts: Facts,
        session: Session,
        beside: Beside,
    ) -> Result<Box<Update<'o>>, UpdateError> {
        let planned = self.rollback_plan(&facts, session.boot_time());
        let planned = self.or_fail(StepKind::Plan, planned)?;
        let Facts { done, bridges, states, .. } = facts;
        let ready =
            Ready { planned, session, current: done.kept.current, beside, bridges, added: Vec::new() };
        Ok(self.ready(&states, ready))
    }

    fn rollback_plan(&self, facts: &Facts, boot: Duration) -> Result<Planned, Failed> {
        let (site, done) = (self.site, &facts.done);
        let services = Services::new(site, &facts.states, &facts.baseline, boot, facts.bridges.new.as_ref());
        let known = Known {
            boot,
            migrations: facts.databases.iter().map(|database| database.reversed.len()).sum(),
            copy: facts.backups().map(|(_, backup)| backup.duration()).sum(),
            put_back: facts.put_back(),
            rehearsed: facts.rehearsed,
            bridged: facts.bridges.new.is_some(),
            ..Known::default()
        };
        let own: Vec<String> = site.config().steps.iter().map(|step| format!("`{}`", step.name)).collect();
        let mut notices: Vec<String> = facts.losses().into_iter().chain(facts.taken_out()).collect();
        notices.extend(facts.left_by_command().map(|left| format!("{left}; its other changes stay")));
        notices.extend(done.inserted.notices.iter().cloned());
        if !own.is_empty() {
            let made = facts.made(&site.config().site.repository);
            notices.push(format!("the site's own steps are not run: {}{made}", own.join(", ")));
        }
        let recipe = Recipe {
            site,
            request: &self.request,
            host: &self.host,
            facts: &facts.site,
            services: &services,
            known,
            bridges: &facts.bridges,
            answers: facts.answers(&services),
            course: Course::Rollback { run: done.run.clone(), inserted: done.inserted.undone.clone() },
            commits: [self.from.clone(), self.to.clone()],
            notices,
        };
        recipe.plan()
    }
}

/// Finds the update to roll back: only the last finished one that was not rolled back yet.
fn choose(state: &State, wanted: Option<&str>) -> Result<Past, Failed> {
    let last = past::standing(state, 1)?.pop();
    let Some(wanted) = wanted else { return Ok(last.ok_or(RollbackError::Nothing)?) };
    let run = wanted.to_owned();
    match last {
        Some(last) if last.run.name == wanted => Ok(last),
        _ if !state.runs()?.iter().any(|run| run.name == wanted) => {
            Err(RollbackError::Unknown { run }.into())
        }
        Some(last) if past::standing(state, usize::MAX)?.iter().any(|past| past.run.name == wanted) => {
            Err(RollbackError::NotTheLast { run, last: last.run.name }.into())
        }
        _ => Err(RollbackError::NotStanding { run }.into()),
    }
}

impl Done {
    /// Reads what an update did from its journal, and checks that what it kept is still there.
    fn of(past: &Past, later_steps: &[[Timestamp; 2]]) -> Result<Done, RollbackError> {
        let run = past.run.name.clone();
        let gone = |what: PathBuf| RollbackError::Gone { run: run.clone(), what };
        let kept = past.run.kept().ok_or_else(|| gone(past.run.kept_file()))?;
        let static_files = match &kept.static_files {
            Some(kept) => {
                Some(StaticWay::of(past, kept, later_steps).ok_or_else(|| gone(kept.directory.clone()))?)
            }
            None => None,
        };
        let mut outputs = Vec::new();
        for (number, back) in past.undo().filter_map(held_by!(SwapOutput)).enumerate() {
            let directory = kept.outputs.as_ref().ok_or_else(|| gone(past.run.kept_file()))?;
            let place = past::kept_output(directory, number);
            if files::inode(&place) != back.wanted {
                return Err(gone(place));
            }
            let back = Swap { aside: place, ..back };
            let there = Swap { wanted: files::inode(&back.live), ..back.clone() };
            outputs.push((back, there));
        }
        let switch = held_by!(SwitchVirtualenv);
        Ok(Done {
            code: past.actions().find_map(held_by!(Checkout)),
            environment: past.actions().find_map(switch).zip(past.undo().find_map(switch)),
            static_files,
            hidden: past.undo().filter_map(held_by!(Exclude)).collect(),
            outputs,
            databases: DoneDatabase::of(past, &kept),
            command: past.actions().find_map(held_by!(MigrateByCommand)).map(|command| command.argv),
            written: past
                .actions()
                .filter_map(held_by!(CarryWritten))
                .filter_map(|carry| carry.again())
                .collect(),
            pages: past.undo().find_map(held_by!(SmokeCheck)).map(|served| served.check),
            inserted: Inserted::default(),
            run,
            kept,
        })
    }
}

impl DoneDatabase {
    /// Reads what an update did to each database.
    fn of(past: &Past, kept: &Kept) -> Vec<DoneDatabase> {
        let first = KeptDatabase { database: kept.database.clone(), rows: kept.rows.clone() };
        let all = [first].into_iter().chain(kept.others.iter().cloned());
        all.map(|KeptDatabase { database: left, rows }| DoneDatabase {
            migrate: past
                .actions()
                .filter_map(held_by!(Migrate))
                .find(|migrate| migrate.before.database == left.database),
            restore: past
                .undo()
                .filter_map(held_by!(RestoreDatabase))
                .find(|restore| restore.before.database == left.database),
            left,
            rows,
        })
        .collect()
    }
}
