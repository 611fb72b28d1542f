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
mod databases;
mod done;
mod rehearsal;
mod static_way;

use std::error::Error;
use std::time::Duration;

use crate::bridge::Bridges;
use crate::django::{Project, Session, SiteFacts};
use crate::event::Event;
use crate::git::{self, GitError, Head, counted, short};
use crate::operations::git_update::{Move, Target};
use crate::operations::pip_install::{self, Prepared as Packages, Ready as StagedVirtualenv, Record};
use crate::operations::smoke_check::PageResult;
use crate::plan::{Phase, StepKind};
use crate::python::{OwnFiles, Virtualenv};
use crate::services::ServiceState;
use crate::state::State;
use crate::update::Update;
use crate::update::beside::Beside;
use crate::update::error::{RollbackError, UpdateError};
use crate::update::forecast::Known;
use crate::update::inserted::Inserted;
use crate::update::past::{self, Past};
use crate::update::prepare::{Preparation, Ready};
use crate::update::recipe::{Course, Planned, Recipe};
use crate::update::services::Services;

use databases::Database;
use done::Done;
use static_way::StaticWay;

type Failed = Box<dyn Error + Send + Sync>;

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
            digest: None,
            old_code_risk: None,
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
