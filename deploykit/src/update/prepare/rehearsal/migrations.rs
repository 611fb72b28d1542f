//! The pending migrations, and their way back, on copies of the databases.

use std::time::{Duration, Instant};

use super::world::{Scratch, Tried};
use super::{Ends, Stage};
use crate::django::{DatabaseState, DjangoError, MigrationOnCopy, RowDigests, Session};
use crate::host::Host;
use crate::update::answers::InDatabase;
use crate::update::backup::{self, Asked};
use crate::update::error::PreparationError;
use crate::update::prepare::databases::is_pooled;
use crate::update::prepare::{Failed, Preparation};
use crate::update::rehearsal::{self, Cannot, InWorld, Rehearsed, unfit};

/// How long the rows of a database may take to be compared, each time.
const COMPARE: Duration = Duration::from_secs(30);

impl Tried {
    /// Changes copies; returns how that fails. What fails for want of the network is no fault of the code.
    pub(super) fn attempt(
        &mut self,
        host: &Host,
        change: impl FnOnce(&mut Session, &Host) -> Result<(), DjangoError>,
    ) -> Result<Result<(), DjangoError>, Ends> {
        // What the site's code tried while it booted is another matter.
        self.session.network(host)?;
        let Err(error) = change(&mut self.session, host) else { return Ok(Ok(())) };
        if error.is_cancelled() {
            return Err(error.into());
        }
        if let Some(place) = self.session.network(host).unwrap_or_default().first() {
            let what = format!("a migration tries to connect to {place}, which a rehearsal cannot reach");
            return Err(Ends::Cannot(Cannot::because(&what, &error)));
        }
        if rehearsal::lacks_rights(&error) {
            return Err(Ends::Cannot(Cannot::because("a migration needs the rights of a superuser", &error)));
        }
        Ok(Err(error))
    }

    /// Migrates.
    fn migrate(
        &mut self,
        host: &Host,
        migrate: impl FnOnce(&mut Session, &Host) -> Result<(), DjangoError>,
    ) -> Result<(), Ends> {
        let migrated = self.attempt(host, migrate)?;
        migrated.map_err(|source| Ends::Fails(PreparationError::MigrationsFail { source }.into()))
    }
}

impl Preparation<'_, '_> {
    /// Applies the pending migrations to copies, reverses them, compares, and applies them again.
    pub(super) fn rehearse_migrations(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        databases: &mut [InDatabase],
        scratch: &Scratch,
    ) -> Result<(Tried, Rehearsed), Ends> {
        if let Some(file) = stage.apart.databases.iter().find(|file| !file.is_new) {
            let reason = format!("the database `{}` is not linked into the staged tree", file.path.display());
            return Err(Ends::Cannot(Cannot { reason, help: None }));
        }
        let mut tried = self.try_out(session, stage, Some(stage.tree), scratch)?;
        if let (Some(command), Some(first)) = (stage.command, databases.first()) {
            let alias = first.migrations.alias().to_owned();
            tried.migrate(&self.host, |session, host| session.on(&alias).migrate_by(host, command.argv()))?;
        }
        let mut rehearsed = Rehearsed { bytes: tried.copies.bytes, ..Rehearsed::default() };
        let mut again = false;
        for database in databases.iter_mut() {
            if database.migrations.plan.pending.is_empty() {
                continue;
            }
            let (one, stays) = self.rehearse_database(&mut tried, database)?;
            again |= !stays;
            rehearsed.databases.push(one);
        }
        if again {
            // What a reversal left half done is no ground for the pages.
            tried.session.close(&self.host);
            tried = self.try_out(session, stage, Some(stage.tree), scratch)?;
            for InDatabase { migrations, .. } in
                databases.iter().filter(|one| !one.migrations.plan.pending.is_empty())
            {
                let on = &mut tried.session.on(migrations.alias());
                on.migrate(&self.host, &migrations.migrate.before.applied, &migrations.migrate.plan)?;
            }
        }
        self.settle_backups(session, stage, databases)?;
        Ok((tried, rehearsed))
    }

    /// Rehearses one database; also returns whether it is left migrated.
    fn rehearse_database(
        &mut self,
        tried: &mut Tried,
        database: &mut InDatabase,
    ) -> Result<(InWorld, bool), Ends> {
        let host = self.host.clone();
        let alias = database.migrations.alias().to_owned();
        let migrate = database.migrations.migrate.clone();
        let (before, rows) = self.looked_at(tried, &alias)?;
        let begun = Instant::now();
        let progress = tried.session.progress().len();
        tried.migrate(&host, |session, host| {
            session.on(&alias).migrate(host, &before.applied, &migrate.plan)
        })?;
        let mut one = InWorld { alias: alias.clone(), applied: begun.elapsed(), ..InWorld::default() };
        one.has_rows = !tried.copies.schema_only.contains(&alias);
        let seen = &tried.session.progress()[progress..];
        one.migrations =
            seen.iter().filter_map(|seen| MigrationOnCopy::of(seen, &alias, one.has_rows)).collect();
        let plan = &mut database.migrations.plan;
        for migration in &mut plan.pending {
            migration.on_copy = one.migrations.iter().find(|seen| seen.id == migration.id).cloned();
        }
        if plan.irreversible().is_some() {
            return Ok((one, true));
        }
        let begun = Instant::now();
        match tried.session.restore(&host, &before) {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => return Err(error.into()),
            Err(error) => {
                one.fault = Some(unfit(plan, &error));
                return Ok((one, false));
            }
        }
        one.reversed = Some(begun.elapsed());
        let now = tried.session.on(&alias).digests(&host, COMPARE)?;
        let lost = now.since(&rows);
        one.compared = rows.left.is_empty() && now.left.is_empty();
        if lost.is_empty() && one.compared && one.has_rows {
            // What code does was seen to be reversed whole.
            plan.pending.iter_mut().for_each(|one| one.set_proven());
        } else if let Some(last) = plan.pending.last_mut() {
            one.lost.clone_from(&lost);
            last.losses.extend(lost.into_iter().map(|text| format!("everything: on a copy, {text}")));
        }
        tried.migrate(&host, |session, host| {
            session.on(&alias).migrate(host, &before.applied, &migrate.plan)
        })?;
        Ok((one, true))
    }

    fn looked_at(&self, tried: &mut Tried, alias: &str) -> Result<(DatabaseState, RowDigests), Ends> {
        let state = tried.session.on(alias).state(&self.host)?;
        let rows = tried.session.on(alias).digests(&self.host, COMPARE)?;
        Ok((state, rows))
    }

    /// Makes the copies that the window needs after what was seen, and none that it does not.
    fn settle_backups(
        &self,
        session: &mut Session,
        stage: &Stage<'_>,
        databases: &mut [InDatabase],
    ) -> Result<(), Failed> {
        let config = self.site.config().database.backup;
        let mut taken = 0;
        for InDatabase { migrations, backup } in
            databases.iter_mut().filter(|one| !one.migrations.plan.pending.is_empty())
        {
            let wanted = !migrations.is_new && backup::is_wanted(config, &migrations.plan);
            if !wanted {
                *backup = None;
            } else if backup.is_none() {
                let reasons = migrations.plan.backup_reasons();
                let alias = migrations.migrate.before.database.clone();
                let pooled = is_pooled(&stage.staged.databases, &alias, session, &self.host)?;
                let asked = Asked { project: stage.staged, alias: &alias, reasons: &reasons, taken, pooled };
                *backup = Some(self.backup(&asked, session)?);
            }
            taken += backup.as_ref().map_or(0, backup::Backup::file_bytes);
        }
        Ok(())
    }
}
