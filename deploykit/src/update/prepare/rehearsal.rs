//! The rehearsal: the new version is tried on copies of the databases, in a world of its own, before anybody is told anything.

mod back;
mod migrations;
mod pages;
mod programs;
mod world;

use super::{Failed, Preparation};
use crate::django::{Appears, DjangoError, Project, Session, SiteFacts, When};
use crate::git::StagedTree;
use crate::operations::smoke_check::PageResult;
use crate::plan::StepKind;
use crate::services::ServiceState;
use crate::smoke::SmokeCheck;
use crate::update::answers::InDatabase;
use crate::update::error::{PreparationError, UpdateError};
use crate::update::migrate_command::MigrateCommand;
use crate::update::rehearsal::{Cannot, Rehearsed};
use crate::update::written::Apart;
pub(in crate::update) use back::Way;
use world::Scratch;

/// What the new version is made of.
pub(in crate::update) struct Stage<'s> {
    /// The project as it was booted beside the site.
    pub staged: &'s Project,
    /// The live project with the staged virtualenv.
    pub project: Project,
    pub tree: &'s StagedTree,
    pub site: &'s SiteFacts,
    /// The staged static files, with the directory whose place they take.
    pub static_files: Option<Appears>,
    /// What the pages answered in the live site.
    pub baseline: &'s [PageResult],
    /// What migrates in place of `migrate`.
    pub command: Option<&'s MigrateCommand>,
    pub apart: &'s Apart,
    /// The services, in the order of the configuration.
    pub states: &'s [ServiceState],
    /// What the pages are asked for, and how.
    pub check: Option<SmokeCheck>,
    /// The site's own steps of the window that pages may need and that are left out.
    pub own: Vec<&'s str>,
}

/// Why a rehearsal ends.
enum Ends {
    /// It cannot be done here; that says nothing about the new version.
    Cannot(Cannot),
    /// The new version fails.
    Fails(Failed),
}

impl From<Failed> for Ends {
    fn from(error: Failed) -> Self {
        Ends::Fails(error)
    }
}

impl From<DjangoError> for Ends {
    fn from(error: DjangoError) -> Self {
        match error {
            DjangoError::NoWorld { reason } => Ends::Cannot(Cannot { reason, help: None }),
            error => Ends::Fails(error.into()),
        }
    }
}

impl Preparation<'_, '_> {
    /// Rehearses what the update will do to the databases, and what the new version's pages answer.
    pub(super) fn rehearse(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        databases: &mut [InDatabase],
    ) -> Result<Option<Rehearsed>, UpdateError> {
        if self.rehearses() == When::Never {
            return Ok(None);
        }
        let scratch = Scratch(self.state.rehearsal());
        let step = self.begin_step(StepKind::RehearseMigrations);
        let rehearsed = self.rehearse_migrations(session, stage, databases, &scratch);
        let rehearsed = self.settled(rehearsed).map(|found| {
            let text = found
                .as_ref()
                .map_or_else(|| "not rehearsed".to_owned(), |(_, rehearsed)| rehearsed.to_string());
            (found, text)
        });
        let Some((mut tried, mut rehearsed)) = self.end_step(step, rehearsed)? else { return Ok(None) };
        let step = self.begin_step(StepKind::RehearsePages);
        // First, for the pages of a broken version cost this world.
        let own = self.rehearse_steps(&mut tried, stage);
        let workers = own.and_then(|()| self.rehearse_workers(&mut tried, stage));
        let pages = workers.and_then(|loaded| {
            let pages = self.rehearse_pages(session, &mut tried, stage, &scratch)?;
            Ok([Some(pages), loaded].into_iter().flatten().collect::<Vec<_>>().join("; "))
        });
        let pages = self.settled(pages).map(|text| {
            let said = text.clone().unwrap_or_else(|| "not rehearsed".to_owned());
            (text, said)
        });
        rehearsed.pages = self.end_step(step, pages)?;
        tried.session.close(&self.host);
        Ok(Some(rehearsed))
    }

    fn rehearses(&self) -> When {
        self.request.rehearsal.unwrap_or(self.site.config().rehearsal.when)
    }

    fn what(&self) -> &'static str {
        if self.rolls_back.is_some() { "rollback" } else { "update" }
    }

    /// Says which version is tried.
    fn version(&self) -> &'static str {
        if self.rolls_back.is_some() { "previous" } else { "new" }
    }

    /// Tells a person why nothing is rehearsed, or refuses where that is wanted always.
    fn settled<T>(&mut self, result: Result<T, Ends>) -> Result<Option<T>, Failed> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Ends::Fails(error)) => Err(error),
            Err(Ends::Cannot(cannot)) if self.rehearses() == When::Always => {
                let Cannot { reason, help } = cannot;
                Err(PreparationError::NotRehearsed { what: self.what(), reason, help }.into())
            }
            Err(Ends::Cannot(cannot)) => {
                self.notice(format!("the {} was {cannot}", self.what()));
                Ok(None)
            }
        }
    }
}
