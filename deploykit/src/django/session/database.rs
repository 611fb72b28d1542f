//! What a booted Django is asked of its database, and does with it.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{DATABASE, READ, Session};
use crate::django::migrations::Observed;
use crate::django::{BackupFacts, DatabaseState, DjangoError, MigrationId, MigrationPlan, ReversedMigration};
use crate::host::Host;
use crate::names;

impl Session {
    /// Says which migrations wait, in their order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or the migrations contradict it or each other.
    pub fn migrations(&mut self, host: &Host) -> Result<MigrationPlan, DjangoError> {
        self.ask(host, "migration plan", json!({ "do": "migrations", "database": DATABASE }), Some(READ))
    }

    /// Looks at the applied migrations and the schema.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn state(&mut self, host: &Host) -> Result<DatabaseState, DjangoError> {
        let request = json!({ "do": "state", "database": DATABASE });
        self.ask::<Observed>(host, "database state", request, Some(READ)).map(DatabaseState::from)
    }

    /// Applies these migrations, which must be what waits; those of them that are applied already are left out.
    ///
    /// # Errors
    ///
    /// [`DjangoError::StateMoved`] when the database or the code is not what was planned with; then nothing was done.
    /// [`DjangoError::MigrationFailed`] when one fails.
    pub fn migrate(
        &mut self,
        host: &Host,
        before: &[MigrationId],
        plan: &[MigrationId],
    ) -> Result<(), DjangoError> {
        let request = json!({ "do": "migrate", "database": DATABASE, "applied": before, "plan": plan });
        self.tell(host, "migrate", request, None)
    }

    /// Says what [`restore`](Session::restore) would reverse, newest first; changes nothing.
    ///
    /// # Errors
    ///
    /// [`DjangoError::StateMoved`] when a migration of `before` is not applied any more, or the code lacks one that is.
    pub fn reversal(
        &mut self,
        host: &Host,
        before: &[MigrationId],
    ) -> Result<Vec<ReversedMigration>, DjangoError> {
        #[derive(Deserialize)]
        struct Reversal {
            migrations: Vec<ReversedMigration>,
        }
        let request = json!({ "do": "reversal", "database": DATABASE, "applied": before });
        self.ask::<Reversal>(host, "reversal plan", request, Some(READ)).map(|answer| answer.migrations)
    }

    /// Restores the database: reverses what was applied since, and compares migrations and schema with `before`.
    ///
    /// # Errors
    ///
    /// [`DjangoError::Irreversible`] when that would lose something; then nothing was done.
    /// [`DjangoError::SchemaDiffers`] when the schema is not what it was.
    pub fn restore(&mut self, host: &Host, before: &DatabaseState) -> Result<(), DjangoError> {
        if self.state(host)? == *before {
            return Ok(());
        }
        let request = json!({ "do": "reverse", "database": DATABASE, "applied": before.applied });
        self.tell(host, "reverse migrations", request, None)?;
        self.compare(host, before)
    }

    /// Waits for a database that restarts, and ends what a killed process left running in it: the server would go on with it
    /// unexpectedly once a lock is free.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or what is running in it does not end.
    pub fn settle(&mut self, host: &Host) -> Result<(), DjangoError> {
        self.tell(host, "connect", json!({ "do": "settle", "database": DATABASE }), Some(READ))
    }

    /// Returns what must be known before the database is copied, such as its size.
    ///
    /// # Errors
    ///
    /// When no copy could be made or restored: [`DjangoError::Unsupported`] for other engines than SQLite,
    /// PostgreSQL and MariaDB, [`DjangoError::ToolMissing`], [`DjangoError::ToolTooOld`],
    /// [`DjangoError::NotOwned`], [`DjangoError::RightsMissing`].
    pub fn backup_facts(&mut self, host: &Host) -> Result<BackupFacts, DjangoError> {
        self.ask(host, "backup", json!({ "do": "backup_facts", "database": DATABASE }), Some(READ))
    }

    /// Copies the database into a file that only its owner can read. A file that is there already is kept.
    ///
    /// # Errors
    ///
    /// Like [`backup_facts`](Session::backup_facts), and [`DjangoError::Tool`] when the database's own program fails.
    pub fn backup(&mut self, host: &Host, path: &Path) -> Result<(), DjangoError> {
        let request = json!({ "do": "backup", "database": DATABASE, "path": names::text(path) });
        self.tell(host, "backup", request, None)
    }

    /// Restores the database from a copy, and compares migrations and schema with `before`.
    ///
    /// # Errors
    ///
    /// Like [`backup`](Session::backup), and when the copy holds something else.
    pub fn restore_backup(
        &mut self,
        host: &Host,
        before: &DatabaseState,
        path: &Path,
    ) -> Result<(), DjangoError> {
        let request = json!({ "do": "restore_backup", "database": DATABASE, "path": names::text(path) });
        self.tell(host, "restore", request, None)?;
        self.compare(host, before)
    }

    /// Fails where migrations and schema are not what they were.
    pub(in crate::django) fn compare(
        &mut self,
        host: &Host,
        before: &DatabaseState,
    ) -> Result<(), DjangoError> {
        let now = self.state(host)?;
        if now == *before {
            return Ok(());
        }
        Err(DjangoError::SchemaDiffers { lines: before.differences(&now) })
    }
}
