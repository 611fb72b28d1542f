//! A rollback on copies of the databases: its migrations, and then the previous version's pages.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::live::Live;
use super::sandbox::{Scratch, Trial};
use super::{Candidate, RehearsalError};
use crate::django::{Copies, DatabaseState, DjangoError, PutBack, RestoreDatabase, RowCounts, Session, When};
use crate::git::{Parked, StagedTree};
use crate::host::{Swap, copies, files};
use crate::plan::{RehearsedDatabase, StepKind};
use crate::update::beside::Beside;
use crate::update::error::{RollbackError, UpdateError};
use crate::update::past::COUNTING;
use crate::update::prepare::{Failed, Preparation};
use crate::update::rehearsal::CopiesRolledBack;

/// Tables into which Django itself writes when migrations are reversed.
const DJANGO_S: [&str; 2] = ["auth_permission", "django_content_type"];

/// What a rollback does to a database.
pub(in crate::update) struct DatabaseRollback {
    pub restore: RestoreDatabase,
    /// The database as it is now.
    pub now: DatabaseState,
    /// How many migrations are reversed.
    pub reversed: usize,
    /// The copy of the update, if deploykit can restore it.
    pub copy: Option<PathBuf>,
}

impl Preparation<'_, '_> {
    /// Rehearses what a rollback will do to the databases, and what the previous version's pages answer then. Returns how long the
    /// databases took, if the copies had all rows. `outputs` bring the previous outputs of the site's own steps back.
    pub(in crate::update) fn rehearse_back(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        rollbacks: &[DatabaseRollback],
        outputs: &[Swap],
    ) -> Result<Option<Duration>, UpdateError> {
        if self.rehearses() == When::Never {
            return Ok(None);
        }
        let scratch = Scratch::at(self.state.rehearsal());
        let found = self.rehearse_both_back(session, candidate, rollbacks, outputs, &scratch);
        self.empty_database(session, &scratch);
        self.tell_rehearsed();
        found
    }

    /// Rehearses what happens to the databases, and then the pages.
    fn rehearse_both_back(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        rollbacks: &[DatabaseRollback],
        outputs: &[Swap],
        scratch: &Scratch,
    ) -> Result<Option<Duration>, UpdateError> {
        let step = self.begin_step(StepKind::RehearseMigrations);
        let rolled_back =
            self.roll_back_copies(session, candidate, rollbacks, scratch).map(|(copies, live, back)| {
                let text = back.to_string();
                ((copies, live, back), text)
            });
        let Some((copies, live, back)) = self.end_rehearsal(step, rolled_back)? else { return Ok(None) };
        for text in &back.lost {
            self.notice(format!("after the rollback on a copy of the database, {text}"));
        }
        let step = self.begin_step(StepKind::RehearsePages);
        let missing: Vec<String> = copies.skipped.keys().cloned().collect();
        let mut live = Some(live);
        let pages = self.previous_version(session, copies, candidate, outputs, &mut live, scratch);
        let pages = self.judged_without(&missing, pages);
        self.end_rehearsal(step, pages.map(|text| ((), text)))?;
        self.warn_of_live_pages(live, candidate);
        Ok(back.expected())
    }

    /// Asks the live version for its pages on copies: it is what a failed rollback starts again. Then restores the copies with it, as
    /// the window will restore the databases.
    fn roll_back_copies(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        rollbacks: &[DatabaseRollback],
        scratch: &Scratch,
    ) -> Result<(Copies, Live, CopiesRolledBack), RehearsalError> {
        let host = self.host.clone();
        let mut trial = self.boot_on_new_copies(session, candidate, None, scratch)?;
        self.missing(&trial.copies);
        let live = self.ask_live(&mut trial, candidate, scratch)?;
        let mut back = CopiesRolledBack { bytes: trial.copies.bytes, ..CopiesRolledBack::default() };
        let begun = Instant::now();
        let mut counting = Duration::ZERO;
        for rollback in rollbacks {
            let alias = rollback.restore.before.database.as_str();
            let since = Instant::now();
            let is_alike = trial.session.on(alias).state(&host)? == rollback.now;
            let rows = self.rows_of(&mut trial, alias)?;
            counting += since.elapsed();
            let since = Instant::now();
            self.restore(&mut trial, rollback, is_alike)?;
            let took = Some(since.elapsed());
            let since = Instant::now();
            let mut one = RehearsedDatabase { database: alias.to_owned(), ..RehearsedDatabase::default() };
            if rollback.restore.backup.is_some() {
                back.restored += 1;
                one.restored = took;
            } else {
                back.reversed += rollback.reversed;
                one.reversed = took;
                one.lost = self.rows_of(&mut trial, alias)?.since(&rows);
                back.lost.extend(one.lost.iter().cloned());
            }
            self.rehearsed().databases.push(one);
            counting += since.elapsed();
        }
        back.took = (!rollbacks.is_empty()).then(|| begun.elapsed().saturating_sub(counting));
        back.is_measured = trial.copies.schema_only.is_empty();
        trial.session.stop_servers(&host)?;
        let Trial { session, copies, .. } = trial;
        session.close(&host);
        Ok((copies, live, back))
    }

    /// Restores a copy; `is_alike`: its schema is described as the live one's is.
    fn restore(
        &self,
        trial: &mut Trial,
        rollback: &DatabaseRollback,
        is_alike: bool,
    ) -> Result<(), RehearsalError> {
        let before = &rollback.restore.before;
        if let Some(backup) = &rollback.restore.backup {
            if rollback.restore.put_back != PutBack::Itself {
                return Err(RehearsalError::unavailable(
                    "only `database.restore-command` can restore the copy of the update",
                ));
            }
            let restored =
                trial.attempt(&self.host, |session, host| session.restore_backup(host, before, backup))?;
            // It may need rights that nobody has in a private server.
            let what = "the copy of the update cannot be restored in the rehearsal";
            return restored.map_err(|error| RehearsalError::because(what, error));
        }
        match trial.attempt(&self.host, |session, host| session.restore(host, before))? {
            Ok(()) => Ok(()),
            Err(DjangoError::SchemaDiffers { .. }) if !is_alike => {
                let alias = &before.database;
                let what = format!("the copy of database `{alias}` has another schema than the original");
                Err(RehearsalError::unavailable(what))
            }
            Err(source) => Err(RehearsalError::Failed(
                RollbackError::ReversalFails { source, copy: rollback.copy.clone() }.into(),
            )),
        }
    }

    fn rows_of(&self, trial: &mut Trial, alias: &str) -> Result<RowCounts, RehearsalError> {
        let mut rows = trial.session.on(alias).rows(&self.host, COUNTING)?;
        rows.counts.retain(|table, _| !DJANGO_S.contains(&table.as_str()));
        Ok(rows)
    }

    /// Boots the previous version on these copies, and asks it for its pages.
    fn previous_version(
        &mut self,
        session: &mut Session,
        copies: Copies,
        candidate: &Candidate<'_>,
        outputs: &[Swap],
        live: &mut Option<Live>,
        scratch: &Scratch,
    ) -> Result<String, RehearsalError> {
        if !candidate.project.python.exists() {
            let python = candidate.project.python.display();
            return Err(RehearsalError::unavailable(format!(
                "`{python}` of the previous version is missing"
            )));
        }
        // It goes with this value.
        let _beside = Beside::new(candidate.tree.clone(), self.state.staged_tree());
        let tree = self.previous_tree(candidate.tree, outputs).map_err(RehearsalError::Failed)?;
        // The present version boots there: what this one lacks is its own.
        let trial = self
            .try_boot_on(&self.host, copies, candidate, Some(&tree), scratch)?
            .map_err(|source| RehearsalError::Failed(RollbackError::NoBoot { source }.into()))?;
        self.rehearse_serving(session, trial, candidate, live, scratch)
    }

    /// Checks the previous version out beside the site, with its outputs of the site's own steps.
    pub(in crate::update) fn previous_tree(
        &self,
        tree: &StagedTree,
        outputs: &[Swap],
    ) -> Result<StagedTree, Failed> {
        let steps = self.site.config().steps.iter();
        let caches: Vec<PathBuf> = steps.flat_map(|step| step.cache.iter().cloned()).collect();
        let made = outputs.iter().map(|swap| swap.live.clone());
        let mut exclude: Vec<PathBuf> = caches.iter().cloned().chain(made).collect();
        exclude.push(self.state.directory().to_owned());
        let place = self.state.staged_tree();
        let parked = Some(Parked { place: &place, keep: &caches });
        let StagedTree { repository, path, commit } = tree;
        let tree = StagedTree::prepare(&self.host, repository, path, commit, &exclude, parked)?;
        for swap in outputs.iter().filter(|swap| swap.wanted.is_some()) {
            let Ok(inside) = swap.live.strip_prefix(repository) else { continue };
            let target = tree.path.join(inside);
            files::remove_tree(&target)?;
            copies::copy(&self.host, &swap.aside, &target)?;
        }
        Ok(tree)
    }
}
