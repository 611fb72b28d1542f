//! The rehearsal: the new version is tried on copies of the databases, in a sandbox of its own, before anybody is told anything.

mod back;
mod live;
mod migrations;
mod pages;
mod programs;
mod sandbox;

use super::progress::Running;
use super::{Failed, Preparation};
use crate::django::{DjangoError, Mounted, Project, Session, SiteFacts, When};
use crate::error::error_chain;
use crate::event::Event;
use crate::git::StagedTree;
use crate::operations::smoke_check::PageResult;
use crate::plan::{NotRehearsed, Phase, Rehearsal, StepKind};
use crate::services::ServiceState;
use crate::site::{HostRole, OwnStep};
use crate::smoke::SmokeCheck;
use crate::update::answers::InDatabase;
use crate::update::error::{PreparationError, UpdateError};
use crate::update::migrate_command::MigrateCommand;
use crate::update::rehearsal::{Rehearsed, Unavailable};
use crate::update::written::Apart;
pub(in crate::update) use back::DatabaseRollback;
use live::Live;
use sandbox::{Scratch, Trial};

/// What the new version is made of.
pub(in crate::update) struct Candidate<'s> {
    /// The project as it was booted beside the site.
    pub staged: &'s Project,
    /// The live project with the staged virtualenv.
    pub project: Project,
    pub tree: &'s StagedTree,
    pub site: &'s SiteFacts,
    /// The staged static files, with the directory whose place they take.
    pub static_files: Option<Mounted>,
    /// What the pages answered in the live site.
    pub baseline: &'s [PageResult],
    /// What migrates in place of `migrate`.
    pub command: Option<&'s MigrateCommand>,
    pub apart: &'s Apart,
    /// The services, in the order of the configuration.
    pub states: &'s [ServiceState],
    /// The undo of a failed update starts the live version again, which was not tried yet.
    pub is_restarted: bool,
    /// What the pages are asked for, and how.
    pub check: Option<SmokeCheck>,
    /// The site's own steps of the window that pages may need and that are left out.
    pub own: Vec<&'s str>,
    /// The aliases of the databases that change.
    pub changes: Vec<String>,
}

/// Why a rehearsal ends.
enum RehearsalError {
    /// It cannot be done here; that says nothing about the new version.
    Unavailable(Unavailable),
    /// The new version fails.
    Failed(Failed),
}

impl RehearsalError {
    /// Ends a rehearsal that cannot be done here, for a reason that is a fragment.
    fn unavailable(reason: impl Into<String>) -> Self {
        RehearsalError::Unavailable(Unavailable { reason: reason.into(), help: None })
    }

    /// Ends a rehearsal that lacks something of the machine; `what` fails for want of that. An interruption is no such thing.
    fn because(what: &str, error: DjangoError) -> Self {
        match error {
            error if error.is_cancelled() => RehearsalError::Failed(error.into()),
            DjangoError::NoSandbox { reason } => RehearsalError::unavailable(reason),
            error => RehearsalError::unavailable(format!("{what}: {}", error_chain(&error))),
        }
    }

    /// Ends a rehearsal in which these databases are missing: a failure says nothing about the new version then.
    fn without(self, missing: &[String]) -> Self {
        match self {
            RehearsalError::Failed(error) if !missing.is_empty() => {
                let names: Vec<String> = missing.iter().map(|alias| format!("`{alias}`")).collect();
                RehearsalError::unavailable(format!(
                    "without database {}: {}",
                    names.join(", "),
                    error_chain(&*error)
                ))
            }
            other => other,
        }
    }
}

impl From<Failed> for RehearsalError {
    fn from(error: Failed) -> Self {
        RehearsalError::Failed(error)
    }
}

/// What the rehearsal itself asks for is no fault of the new version.
impl From<DjangoError> for RehearsalError {
    fn from(error: DjangoError) -> Self {
        RehearsalError::because("its process failed", error)
    }
}

/// Returns the aliases of the databases that change; `by_command`: a command of the site's own changes any.
pub(super) fn changing(databases: &[InDatabase], by_command: bool) -> Vec<String> {
    let changing = databases.iter().filter(|one| by_command || one.is_pending());
    changing.map(|one| one.migrations.alias().to_owned()).collect()
}

/// Returns the steps of the window that a rehearsal leaves out, although pages may need what they do.
pub(super) fn left_out(steps: &[OwnStep]) -> Vec<&str> {
    let steps = steps.iter().filter(|own| own.precedes_pages() && !own.rehearse);
    steps.map(|own| own.name.as_str()).collect()
}

impl Preparation<'_, '_> {
    /// Rehearses what the update will do to the databases, and what the new version's pages answer.
    pub(super) fn rehearse(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        databases: &mut [InDatabase],
    ) -> Result<Option<Rehearsed>, UpdateError> {
        if self.rehearses() == When::Never {
            return Ok(None);
        }
        let scratch = Scratch::at(self.state.rehearsal());
        let found = self.rehearse_both(session, candidate, databases, &scratch);
        self.empty_database(session, &scratch);
        self.tell_rehearsed();
        found
    }

    /// Rehearses the migrations, and then the pages.
    fn rehearse_both(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        databases: &mut [InDatabase],
        scratch: &Scratch,
    ) -> Result<Option<Rehearsed>, UpdateError> {
        let (copies, mut live) = match candidate.is_restarted {
            true => {
                self.check_live(session, candidate, scratch).map(|(copies, live)| (Some(copies), live))?
            }
            false => (None, None),
        };
        let step = self.begin_step(StepKind::RehearseMigrations);
        let found = copies.unwrap_or_else(|| self.copies(session, candidate, scratch));
        let found = found
            .and_then(|copies| self.rehearse_migrations(session, candidate, databases, copies, scratch))
            .map(|(trial, rehearsed)| {
                let text = rehearsed.to_string();
                ((trial, rehearsed), text)
            });
        let migrated = self.end_rehearsal(step, found)?;
        let rehearsed = match migrated {
            None => None,
            Some((trial, rehearsed)) => {
                let step = self.begin_step(StepKind::RehearsePages);
                let pages = self.rehearse_version(session, trial, candidate, databases, &mut live, scratch);
                let pages = self.judged_without(&rehearsed.missing, pages);
                self.end_rehearsal(step, pages.map(|text| ((), text)))?;
                Some(rehearsed)
            }
        };
        self.warn_of_live_pages(live, candidate);
        Ok(rehearsed)
    }

    /// Says what the live version would not do once it is started again, unless that was said already.
    fn warn_of_live_pages(&mut self, live: Option<Live>, candidate: &Candidate<'_>) {
        if let Some(text) = live.and_then(|live| live.open_point(candidate.baseline, &[], self.what())) {
            self.notice(text);
        }
    }

    /// Rehearses what the new version does once the databases are migrated.
    fn rehearse_version(
        &mut self,
        session: &mut Session,
        trial: Option<Trial>,
        candidate: &Candidate<'_>,
        databases: &[InDatabase],
        live: &mut Option<Live>,
        scratch: &Scratch,
    ) -> Result<String, RehearsalError> {
        let mut trial = match trial {
            Some(trial) => trial,
            None => self.migrate_again(session, candidate, databases, scratch)?,
        };
        trial.session.lower_priority(&self.host)?;
        self.rehearse_steps(&mut trial, candidate)?;
        self.rehearse_serving(session, trial, candidate, live, scratch)
    }

    /// Loads the workers and asks for the pages.
    fn rehearse_serving(
        &mut self,
        session: &mut Session,
        mut trial: Trial,
        candidate: &Candidate<'_>,
        live: &mut Option<Live>,
        scratch: &Scratch,
    ) -> Result<String, RehearsalError> {
        // First, for the pages of a broken version cost this sandbox.
        let loaded = self.rehearse_workers(&mut trial, candidate)?;
        let pages = self.rehearse_pages(session, trial, candidate, live, scratch)?;
        Ok([Some(pages), loaded].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Refuses nothing because of a failure where databases are missing.
    fn judged_without<T>(
        &self,
        missing: &[String],
        result: Result<T, RehearsalError>,
    ) -> Result<T, RehearsalError> {
        if self.host.is_cancelled() { result } else { result.map_err(|error| error.without(missing)) }
    }

    /// Tells whether a rehearsal is wanted, if it is possible.
    pub(super) fn may_rehearse(&self) -> bool {
        self.rehearses() != When::Never
    }

    /// Tells whether the kernel lets the site have namespaces.
    pub(super) fn has_sandbox(&self, session: &mut Session) -> Result<bool, Failed> {
        let scratch = Scratch::new(&self.state)?;
        Ok(session.sandbox_unavailable(&self.host, &scratch.path)?.is_none())
    }

    /// Returns what was seen in the rehearsal so far.
    fn rehearsed(&mut self) -> &mut Rehearsal {
        self.rehearsal.get_or_insert_default()
    }

    /// Tells what the rehearsal came to.
    fn tell_rehearsed(&mut self) {
        let rehearsal = Box::new(self.rehearsed().clone());
        self.events.send(Event::Rehearsed { rehearsal });
    }

    fn rehearses(&self) -> When {
        let config = self.site.config();
        match (config.site.role, config.rehearsal.when) {
            // The leader's rehearsal is about the same databases.
            (HostRole::Follower, When::Auto) => self.request.rehearsal.unwrap_or(When::Never),
            (_, when) => self.request.rehearsal.unwrap_or(when),
        }
    }

    fn what(&self) -> &'static str {
        if self.rolls_back.is_some() { "rollback" } else { "update" }
    }

    /// Says which version is tried.
    fn version(&self) -> &'static str {
        if self.rolls_back.is_some() { "previous" } else { "new" }
    }

    /// Ends a step of the rehearsal. Tells a person why nothing is rehearsed, or refuses where that is wanted always.
    fn end_rehearsal<T>(
        &mut self,
        step: Running,
        result: Result<(T, String), RehearsalError>,
    ) -> Result<Option<T>, UpdateError> {
        if let Err(RehearsalError::Unavailable(cannot)) = &result {
            let (reason, help) = (cannot.reason.clone(), cannot.help.clone());
            self.rehearsed().skipped.push(NotRehearsed { what: step.step.to_string(), reason, help });
        }
        let settled = match result {
            Ok((value, text)) => Ok((Some(value), text)),
            Err(RehearsalError::Failed(error)) => Err(error),
            Err(RehearsalError::Unavailable(Unavailable { reason, help }))
                if self.rehearses() == When::Always =>
            {
                Err(PreparationError::NotRehearsed { what: self.what(), reason, help }.into())
            }
            Err(RehearsalError::Unavailable(cannot)) => {
                let (phase, reason) = (Phase::Prepare, "not rehearsed".to_owned());
                self.events.send(Event::StepSkipped { phase, step: step.step, reason });
                self.notice(format!("the {} was {cannot}", self.what()));
                return Ok(None);
            }
        };
        self.end_step(step, settled)
    }
}
