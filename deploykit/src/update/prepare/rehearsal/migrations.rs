//! The pending migrations, and their way back, on copies of the databases.

use std::time::{Duration, Instant};

use super::sandbox::{Scratch, Trial};
use super::{Candidate, RehearsalError};
use crate::django::{
    Copies, DatabaseState, DjangoError, Migrate, MigrationOnCopy, PendingMigration, RowDigests, Session,
};
use crate::host::Host;
use crate::update::answers::InDatabase;
use crate::update::backup::{self, Asked};
use crate::update::error::PreparationError;
use crate::update::prepare::databases::is_pooled;
use crate::update::prepare::{Failed, Preparation};
use crate::update::rehearsal::{self, MigratedCopy, Rehearsed, Unavailable, mark_irreversible};

/// How long the rows of a database may take to be compared, each time.
const COMPARE: Duration = Duration::from_secs(30);

impl Trial {
    /// Changes copies; returns how that fails. What fails for want of the network is no fault of the code.
    pub(super) fn attempt(
        &mut self,
        host: &Host,
        change: impl FnOnce(&mut Session, &Host) -> Result<(), DjangoError>,
    ) -> Result<Result<(), DjangoError>, RehearsalError> {
        // What the site's code tried while it booted is another matter.
        self.session.network(host)?;
        let Err(error) = change(&mut self.session, host) else { return Ok(Ok(())) };
        if error.is_cancelled() {
            return Err(error.into());
        }
        if let Some(place) = self.session.network(host).unwrap_or_default().first() {
            return Err(RehearsalError::because(
                &format!("a migration tries to connect to {place}, which a rehearsal cannot reach"),
                error,
            ));
        }
        if let Some(lack) = rehearsal::lack(&error, self.copies.use_scratch()) {
            return Err(RehearsalError::because(lack, error));
        }
        Ok(Err(error))
    }

    /// Migrates.
    fn migrate(
        &mut self,
        host: &Host,
        migrate: impl FnOnce(&mut Session, &Host) -> Result<(), DjangoError>,
    ) -> Result<(), RehearsalError> {
        let migrated = self.attempt(host, migrate)?;
        migrated.map_err(|source| RehearsalError::Failed(PreparationError::MigrationsFail { source }.into()))
    }
}

impl Preparation<'_, '_> {
    /// Applies the pending migrations to copies, reverses them, compares, and applies them again. Returns no process if the copies are
    /// not left migrated. Decides which databases the window copies.
    pub(super) fn rehearse_migrations(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        databases: &mut [InDatabase],
        copies: Copies,
        scratch: &Scratch,
    ) -> Result<(Option<Trial>, Rehearsed), RehearsalError> {
        let found = self.migrate_copies(candidate, databases, copies, scratch);
        // What was seen before a rehearsal had to end counts, too.
        if !matches!(found, Err(RehearsalError::Failed(_))) {
            self.settle_backups(session, candidate, databases)?;
        }
        found
    }

    fn migrate_copies(
        &mut self,
        candidate: &Candidate<'_>,
        databases: &mut [InDatabase],
        copies: Copies,
        scratch: &Scratch,
    ) -> Result<(Option<Trial>, Rehearsed), RehearsalError> {
        if let Some(file) = candidate.apart.databases.iter().find(|file| !file.is_new) {
            let path = file.path.display();
            return Err(RehearsalError::unavailable(format!(
                "the database `{path}` is not linked into the staged tree"
            )));
        }
        let mut trial = self.boot_on(copies, candidate, Some(candidate.tree), scratch)?;
        let bytes = trial.copies.bytes;
        let missing = self.missing(&trial.copies);
        let mut rehearsed = Rehearsed { bytes, is_measured: true, missing, ..Rehearsed::default() };
        if let (Some(command), Some(first)) = (candidate.command, databases.first()) {
            let begun = Instant::now();
            let alias = first.migrations.alias();
            trial.migrate(&self.host, |session, host| session.on(alias).migrate_by(host, command.argv()))?;
            rehearsed.command = Some(begun.elapsed());
            self.rehearsed().command = rehearsed.command;
            let reached = trial.session.network(&self.host)?;
            self.rehearsed().reached(reached);
            rehearsed.is_measured = trial.copies.schema_only.is_empty();
        }
        let mut stay = true;
        for database in databases.iter_mut().filter(|one| one.is_pending()) {
            let (one, stays) = self.rehearse_database(&mut trial, database)?;
            stay &= stays;
            self.rehearsed().databases.push(one.planned());
            rehearsed.is_measured &= one.has_rows;
            rehearsed.databases.push(one);
        }
        if stay {
            return Ok((Some(trial), rehearsed));
        }
        trial.session.close(&self.host);
        Ok((None, rehearsed))
    }

    /// Migrates new copies: what a reversal left half done is no ground for the pages.
    pub(super) fn migrate_again(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        databases: &[InDatabase],
        scratch: &Scratch,
    ) -> Result<Trial, RehearsalError> {
        let mut trial = self.boot_on_new_copies(session, candidate, Some(candidate.tree), scratch)?;
        for InDatabase { migrations, .. } in databases.iter().filter(|one| one.is_pending()) {
            let Migrate { before, plan, .. } = &migrations.migrate;
            trial.migrate(&self.host, |session, host| {
                session.on(migrations.alias()).migrate(host, &before.applied, plan)
            })?;
        }
        Ok(trial)
    }

    /// Rehearses one database; also returns whether it is left migrated.
    fn rehearse_database(
        &mut self,
        trial: &mut Trial,
        database: &mut InDatabase,
    ) -> Result<(MigratedCopy, bool), RehearsalError> {
        let host = self.host.clone();
        let alias = database.migrations.alias().to_owned();
        let migrate = database.migrations.migrate.clone();
        let (before, rows) = self.state_and_rows(trial, &alias)?;
        let apply = |session: &mut Session, host: &Host| {
            session.on(&alias).migrate(host, &before.applied, &migrate.plan)
        };
        let begun = Instant::now();
        let progress = trial.session.progress().len();
        trial.migrate(&host, apply)?;
        let mut one =
            MigratedCopy { alias: alias.clone(), applied: begun.elapsed(), ..MigratedCopy::default() };
        let mut reached = trial.session.network(&host)?;
        self.rehearsed().reached(reached.iter().cloned());
        one.has_rows = !trial.copies.schema_only.contains(&alias);
        let seen = &trial.session.progress()[progress..];
        one.migrations = seen
            .iter()
            .filter_map(|seen| MigrationOnCopy::of(seen, &alias, one.has_rows, host.redactor()))
            .collect();
        let plan = &mut database.migrations.plan;
        for migration in &mut plan.pending {
            migration.on_copy = one.migrations.iter().find(|seen| seen.id == migration.id).cloned();
        }
        if plan.irreversible().is_some() {
            return Ok((one, true));
        }
        let begun = Instant::now();
        match trial.attempt(&host, |session, host| session.restore(host, &before)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                one.fault = Some(mark_irreversible(plan, &error));
                return Ok((one, false));
            }
            // That says nothing about the live database: it may be reversed, or not.
            Err(RehearsalError::Unavailable(Unavailable { reason, .. })) => {
                if let Some(last) = plan.pending.last_mut() {
                    last.by_code.push(format!("its reversal could not be rehearsed: {reason}"));
                }
                one.fault = Some(reason);
                return Ok((one, false));
            }
            Err(ends) => return Err(ends),
        }
        one.reversed = Some(begun.elapsed());
        reached.extend(trial.session.network(&host)?);
        self.rehearsed().reached(reached.iter().cloned());
        let now = trial.session.on(&alias).digests(&host, COMPARE)?;
        one.lost = now.since(&rows);
        one.compared = rows.left.is_empty() && now.left.is_empty();
        if let (false, Some(last)) = (one.lost.is_empty(), plan.pending.last_mut()) {
            last.losses.push(format!("everything: on a copy, {}", one.lost.join(", ")));
            // Rows that stayed may be in the way of the same migrations.
            return Ok((one, false));
        }
        // With the network, its code may do something else.
        if one.compared && one.has_rows && reached.is_empty() {
            plan.pending.iter_mut().for_each(PendingMigration::set_proven);
        }
        match trial.attempt(&host, apply) {
            Err(RehearsalError::Failed(error)) => Err(RehearsalError::Failed(error)),
            applied => Ok((one, matches!(applied, Ok(Ok(()))))),
        }
    }

    fn state_and_rows(
        &self,
        trial: &mut Trial,
        alias: &str,
    ) -> Result<(DatabaseState, RowDigests), RehearsalError> {
        let state = trial.session.on(alias).state(&self.host)?;
        let rows = trial.session.on(alias).digests(&self.host, COMPARE)?;
        Ok((state, rows))
    }

    /// Makes the copies that the window needs after what was seen, and none that it does not.
    fn settle_backups(
        &self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        databases: &mut [InDatabase],
    ) -> Result<(), Failed> {
        let config = self.site.config().database.backup;
        let mut taken = 0;
        for database in databases.iter_mut().filter(|one| one.is_pending()) {
            let InDatabase { migrations, backup } = database;
            let wanted = !migrations.is_new && backup::is_wanted(config, &migrations.plan);
            if !wanted {
                *backup = None;
            } else if backup.is_none() {
                let reasons = migrations.plan.backup_reasons();
                let alias = migrations.migrate.before.database.clone();
                let pooled = is_pooled(&candidate.staged.databases, &alias, session, &self.host)?;
                let asked =
                    Asked { project: candidate.staged, alias: &alias, reasons: &reasons, taken, pooled };
                *backup = Some(self.backup(&asked, session)?);
            }
            taken += backup.as_ref().map_or(0, backup::Backup::file_bytes);
        }
        Ok(())
    }
}
