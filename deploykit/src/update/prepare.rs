//! The first half of an update: everything that can be done while the site serves.

mod bridge;
pub(crate) mod databases;
mod django;
mod early;
mod ending;
mod live_check;
mod outputs;
mod own_steps;
mod packages;
mod progress;
mod rehearsal;
mod settled;
mod site;
mod step_view;
mod twin;
mod written;

use std::error::Error;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use jiff::Timestamp;

use crate::bridge::Bridges;
use crate::django::{Collected, DjangoError, Mounted, Project};
use crate::error::warn;
use crate::event::{Event, Observer};
use crate::git::{Parked, StagedTree};
use crate::host::{Cancel, Host};
use crate::lock::Lock;
use crate::operations::git_update::{Move, Target};
use crate::operations::pip_install::Prepared as Packages;
use crate::plan::{Phase, Rehearsal, StepKind};
use crate::runner::Events;
use crate::site::{OwnStep, Site};
use crate::state::{Current, RunDirectory, Seen, State};
use crate::update::answers::{Facts, InDatabase};
use crate::update::beside::{Beside, Mark, sweep};
use crate::update::error::UpdateError;
use crate::update::migrate_command::MigrateCommand;
use crate::update::past;
use crate::update::written::{Apart, inside};
use crate::update::{Prepared, Request};

pub(super) use bridge::Beforehand;
pub(crate) use bridge::can_be_started;
pub(crate) use early::{shut_out, web_is_known};
pub(super) use ending::Ready;
use outputs::Seeded;
pub(super) use rehearsal::{Candidate, DatabaseRollback};
use settled::Look;
pub(crate) use site::{can_be_judged, secrets_found};

/// Any error of a step.
type Failed = Box<dyn Error + Send + Sync>;

/// A preparation under way.
pub(super) struct Preparation<'s, 'o> {
    pub(super) site: &'s Site,
    pub(super) request: Request,
    pub(super) host: Host,
    pub(super) state: State,
    /// From before the first change of anything; an update that finds nothing new changes nothing.
    pub(super) mark: Option<Mark>,
    pub(super) lock: Lock,
    pub(super) events: Events<'o>,
    pub(super) run: Option<RunDirectory>,
    /// Where every command with its output is.
    transcript: Option<PathBuf>,
    pub(super) started: Timestamp,
    pub(super) from: String,
    pub(super) to: String,
    /// The finished update that is to be rolled back; `None`: this is an update.
    pub(super) rolls_back: Option<String>,
    pub(super) notices: Vec<String>,
    /// What the last good update left.
    last: Current,
    /// What the staged tree links of the live checkout.
    seen: Option<Seen>,
    /// What was rehearsed; `None`: no rehearsal began.
    rehearsal: Option<Rehearsal>,
    /// Why the live version does not boot.
    live_fault: Option<DjangoError>,
}

impl<'s, 'o> Preparation<'s, 'o> {
    /// Takes the lock, and fails when an earlier run is unfinished.
    pub(super) fn begin(
        site: &'s Site,
        request: &Request,
        cancel: Option<Cancel>,
        purpose: &str,
        observer: impl Observer + 'o,
    ) -> Result<Self, UpdateError> {
        site.require_all()?;
        let state = site.state();
        let host = site.host(cancel);
        let lock = site.claim(purpose, request.lock_wait, &host)?;
        if let Some((run, entries)) = state.unfinished()? {
            return Err(UpdateError::unfinished(run.name, &entries));
        }
        sweep(site, &state, &host);
        Ok(Preparation {
            site,
            request: request.clone(),
            host,
            state,
            mark: None,
            transcript: None,
            lock,
            events: Events::new(observer),
            run: None,
            started: Timestamp::now(),
            from: String::new(),
            to: String::new(),
            rolls_back: None,
            notices: Vec::new(),
            last: Current::default(),
            seen: None,
            rehearsal: None,
            live_fault: None,
        })
    }

    /// Does it all, in this order.
    pub(super) fn go(mut self) -> Result<Prepared<'o>, UpdateError> {
        self.events.send(Event::PhaseStarted { phase: Phase::Prepare });
        let git = self.site.git_update(self.request.revision.as_deref());
        let (target, look) = self.step(StepKind::Fetch, |this| {
            let fetch = git.to_fetch();
            let (site, state, host) = (this.site, &this.state, &this.host);
            // Where nothing is new this is all that is left to do, and it does not wait for the remote.
            let (fetched, look) = thread::scope(|scope| {
                let look = scope.spawn(|| Look::at(site, state, host));
                (fetch.nothing_new(host), look.join().unwrap_or_else(|panic| resume_unwind(panic)))
            });
            if fetched?.is_none() {
                this.mark()?;
                fetch.perform(&this.host)?;
            }
            let target = git.target(&this.host)?;
            let found = match &target {
                Target::UpToDate { commit, .. } => format!("{} is the newest", crate::git::short(commit)),
                Target::Move(moved) => moved.reason(),
            };
            Ok(((target, look), found))
        })?;
        match &target {
            Target::UpToDate { commit, .. } => {
                self.from.clone_from(commit);
                self.to.clone_from(commit);
                if !self.request.clear && !self.request.look && self.is_settled(&look) {
                    let reason = self.what_was_compared(&look);
                    return Ok(self.unchanged(reason));
                }
            }
            Target::Move(moved) => {
                moved.from().clone_into(&mut self.from);
                moved.to().clone_into(&mut self.to);
                for notice in &moved.notices {
                    self.notice(notice.to_string());
                }
            }
        }
        self.last = look.current;
        if let Some(notice) = past::rolled_back(&self.state, &self.to) {
            self.notice(notice);
        }
        self.refuse_too_soon()?;
        self.record()?;
        let facts = self.facts(target.moved())?;
        self.assemble(&target, facts)
    }

    /// Finds out everything that the plan is made of.
    fn facts(&mut self, moved: Option<&Move>) -> Result<Facts, UpdateError> {
        let config = self.site.config();
        // What can be known in the first second is refused in the first second.
        let states = self.step(StepKind::Services, |this| this.services())?;
        for need in config.steps.iter().filter_map(OwnStep::memory) {
            let enough = need.check().map_err(Into::into);
            self.or_fail(StepKind::Own(need.step), enough)?;
        }
        let baseline = self.step(StepKind::Pages, |this| this.pages(&states))?;
        let (mut beside, tree, seeded) = self.ground(moved)?;
        let packages = self.step(StepKind::StagedVirtualenv, |this| this.packages(&tree, &states))?;
        let virtualenv = self.site.virtualenv()?;
        let environment = packages.goes_live().map_or(virtualenv, |ready| &ready.staged);
        let live = self.site.project()?;
        let project = Project {
            python: environment.join("bin/python"),
            directory: self.site.in_tree(&config.site.project, &tree.path),
            ..live.clone()
        };
        self.own_steps(StepKind::StagedVirtualenv, &tree, Some(&project))?;
        // Otherwise `check` boots the same.
        let differs = moved.is_some() || packages.goes_live().is_some();
        let is_restarted = differs && self.may_start_again(&states);
        let begins = is_restarted && !self.may_rehearse();
        let mut live_version = begins.then(|| self.begin_live_check(&live));
        let (mut session, site, bytecode) = self.step(StepKind::Check, |this| {
            let (mut session, site, found) = this.boot(&project, &tree, &packages)?;
            let bytecode = this.compile(&mut session, moved, &tree)?;
            Ok(((session, site, bytecode), found))
        })?;
        if is_restarted && !begins {
            let has_sandbox = self.has_sandbox(&mut session);
            // Where it can be rehearsed, it boots on a copy instead.
            if !self.or_fail(StepKind::LiveCheck, has_sandbox)? {
                live_version = Some(self.begin_live_check(&live));
            }
        }
        let apart = Apart::of(&site, &tree, &config.database.migrate);
        let static_root = site.static_files.root.as_deref().and_then(|root| inside(root, &tree.path));
        self.own_steps(StepKind::Check, &tree, Some(&project))?;
        let packages_stay = matches!(packages, Packages::Unchanged { .. });
        if packages_stay {
            let kept = self.keep_outputs(&tree, &seeded);
            self.or_fail(StepKind::Outputs, kept)?;
        }
        // Django collects beside what follows, which has nothing to do with static files.
        let collect = self.begin_step(StepKind::Collect);
        let collecting = self.begin_collect(&mut session, &site, moved, &tree, &mut beside);
        let collecting = self.or_fail(StepKind::Collect, collecting)?;
        let (databases, command) =
            self.step(StepKind::Migrations, |this| this.migrations(&project, &mut session, &site, &apart))?;
        let collected = self.collect(&mut session, collecting);
        let collected = self.end_step(collect, collected)?;
        self.own_steps(StepKind::Collect, &tree, Some(&project))?;
        let is_tried = live_version.is_some();
        if let Some(version) = live_version {
            self.step(StepKind::LiveCheck, |this| this.end_live_check(version))?;
        }
        let kept = if packages_stay { self.keep_outputs(&tree, &seeded) } else { Ok(()) };
        let outputs = kept.and_then(|()| self.made_outputs(&tree, &seeded, &site));
        let outputs = self.or_fail(StepKind::Outputs, outputs)?;
        let by_command = command.as_ref().is_some_and(MigrateCommand::runs);
        let migrates = by_command || databases.iter().any(InDatabase::is_pending);
        let is_due = by_command || databases.iter().any(|database| database.migrations.plan.is_due());
        // It has loaded all migrations by now, and does not load them in the window.
        let unforked = self.begin_twin(&mut session, &site, &project, &tree, is_due);
        let unforked = self.or_fail(StepKind::Migrations, unforked)?;
        let mut databases = databases;
        let changes = moved.is_some() || !packages_stay || !outputs.is_empty();
        let is_needed = changes || migrates || changes_static(&collected);
        let rehearsed = if is_needed {
            let live = self.site.project()?;
            let candidate = Candidate {
                staged: &project,
                project: Project { python: project.python.clone(), ..live },
                tree: &tree,
                site: &site,
                static_files: collected.as_ref().ok().and_then(Mounted::of),
                baseline: &baseline,
                command: command.as_ref().filter(|command| command.runs()),
                apart: &apart,
                states: &states,
                is_restarted: is_restarted && !is_tried,
                check: self.site.smoke_check(),
                changes: rehearsal::changing(&databases, by_command),
                own: rehearsal::left_out(&config.steps),
            };
            self.rehearse(&mut session, &candidate, &mut databases)?
        } else {
            None
        };
        let new = Beforehand {
            python: &project.python,
            tree: &tree,
            packages: &packages,
            static_files: collected.as_ref().ok().and_then(Mounted::of),
            places_files: collected.as_ref().is_ok_and(|collected| collected.placed.is_some()),
            states: &states,
            baseline: &baseline,
        };
        let bridges = if is_needed { self.boot_bridges(&new)? } else { Bridges::default() };
        let carrying = self.written(&tree, apart, &outputs, static_root, migrates);
        let carrying = self.or_fail(StepKind::Plan, carrying)?;
        let unforked = self.end_twin(&mut session, unforked);
        let unforked = self.or_fail(StepKind::Plan, unforked)?;
        let project = match carrying.migrates_live() {
            true => self.site.project()?,
            false => {
                session.also_stands_for(self.site.project()?);
                project
            }
        };
        let databases = databases.into_iter().map(|database| database.within(&project, by_command)).collect();
        if let Some(moved) = moved {
            beside.keep_open(&config.site.repository, &moved.changes);
        }
        Ok(Facts {
            packages,
            session,
            site,
            bytecode,
            databases,
            command,
            collected,
            states,
            baseline,
            beside,
            carrying,
            outputs,
            unforked,
            rehearsed,
            bridges,
        })
    }

    /// Checks the target out beside the live checkout, and looks at what needs no environment.
    fn ground(&mut self, moved: Option<&Move>) -> Result<(Beside, StagedTree, Seeded), UpdateError> {
        let config = self.site.config();
        let (beside, tree, seeded) = self.step(StepKind::StagedTree, |this| {
            let caches: Vec<PathBuf> =
                config.steps.iter().flat_map(|step| step.cache.iter().cloned()).collect();
            this.caches_are_not_tracked(&caches)?;
            // Neither is linked, and neither is a name of the live site.
            let made = [this.declared_outputs(), caches.clone()].concat();
            let mut exclude = made.clone();
            exclude.push(this.state.directory().to_owned());
            let (repository, path, commit) =
                (config.site.repository.clone(), this.site.staged_tree(), this.to.clone());
            // Before there is anything: half a tree goes, too.
            let tree = StagedTree { repository, path, commit };
            let parked = this.state.staged_tree();
            let beside = Beside::new(tree.clone(), parked.clone());
            let StagedTree { repository, path, commit } = &tree;
            let parked = Parked { place: &parked, keep: &caches };
            let tree = StagedTree::prepare(&this.host, repository, path, commit, &exclude, Some(parked))?;
            this.has_files(&tree)?;
            this.filters(&tree)?;
            let seeded = this.seed_outputs(&tree)?;
            // Before anything reads them: what is edited from here on was not seen.
            this.seen = Some(Seen::look(&tree, &made));
            Ok(((beside, tree, seeded), String::new()))
        })?;
        if config.secrets.file.is_some() || !config.secrets.required.is_empty() {
            self.step(StepKind::Secrets, |this| this.secrets(moved))?;
        }
        self.own_steps(StepKind::StagedTree, &tree, None)?;
        Ok((beside, tree, seeded))
    }

    /// Refuses a time of which it is known beforehand that it is too soon.
    pub(super) fn refuse_too_soon(&mut self) -> Result<(), UpdateError> {
        let refused = super::announcement::refuse_too_soon(self.site, self.request.start, &self.to);
        self.or_fail(StepKind::Announce, refused)
    }

    /// Makes the plan of what was found.
    fn assemble(mut self, target: &Target, facts: Facts) -> Result<Prepared<'o>, UpdateError> {
        let mut current = Current {
            commit: self.to.clone(),
            settings: self.site.fingerprint().to_owned(),
            seen: self.seen(&facts),
            packages: Some(facts.packages.record().clone()),
            static_files: facts.collected.as_ref().ok().map(|collected| collected.record.clone()),
        };
        let commits = [self.from.clone(), self.to.clone()];
        let planned = facts.plan(self.site, &self.request, target, commits, &self.host);
        let planned = self.or_fail(StepKind::Plan, planned)?;
        let minded = self.mind_live_fault(planned.as_ref().map(|planned| &planned.plan));
        self.or_fail(StepKind::LiveCheck, minded)?;
        let Facts { session, beside, states, collected, bridges, .. } = facts;
        let added = collected.map(|collected| collected.added).unwrap_or_default();
        let Some(planned) = planned else {
            session.close(&self.host);
            current.settle();
            // What the services have not read yet stays unread: nothing starts them.
            let started = self.started(current.seen.as_ref());
            let written = self.state.set_current(&current).and_then(|()| self.state.set_started(&started));
            warn(written);
            let reason = "Nothing to do: the code, the packages, the static files and the database are as they must be.";
            return Ok(self.unchanged(reason.to_owned()));
        };
        let ready = Ready { planned, session, current, beside, bridges, added };
        Ok(Prepared::Ready(self.ready(&states, ready)))
    }
}

/// Tells whether the update brings other static files.
fn changes_static(collected: &Result<Collected, String>) -> bool {
    collected.as_ref().is_ok_and(|collected| !collected.is_unchanged())
}
