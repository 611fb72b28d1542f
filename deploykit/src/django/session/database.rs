//! What a booted Django is asked of its database, and does with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{READ, Session};
use crate::django::migrations::Observed;
use crate::django::{
    BackupFacts, DatabaseState, DjangoError, MigrationId, MigrationPlan, NoCopy, ReversedMigration,
    RowCounts, RowDigests,
};
use crate::host::Host;
use crate::names;

/// What a server reports about a database, and whether a pooler is in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pooling {
    /// A pooler gives each transaction another session of the server: settings and locks of a session do not hold.
    pub shares: bool,
    /// What tells the database from any other one.
    pub place: Vec<String>,
}

/// A database of a booted Django.
#[derive(Debug)]
pub struct OnDatabase<'s> {
    session: &'s mut Session,
    alias: &'s str,
}

impl OnDatabase<'_> {
    /// Makes a request about it.
    fn about(&self, what: &'static str) -> Value {
        let direct: BTreeMap<_, _> =
            self.session.project.databases.direct.get_key_value(self.alias).into_iter().collect();
        json!({ "do": what, "direct": direct, "database": self.alias })
    }

    /// Says whether a pooler stands before the database, and which database of which server it is; `direct`: as it is migrated,
    /// otherwise as the site reaches it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn pooling(&mut self, host: &Host, direct: bool) -> Result<Pooling, DjangoError> {
        let mut request = self.about("pooling");
        if !direct {
            request["direct"] = Value::Null;
        }
        self.session.ask(host, "connection", request, Some(READ))
    }

    /// Says which migrations wait, in their order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or the migrations contradict it or each other.
    pub fn migrations(&mut self, host: &Host) -> Result<MigrationPlan, DjangoError> {
        let mut request = self.about("migrations");
        let databases = &self.session.project.databases;
        request["migrated"] = databases.migrate.iter().chain(databases.direct.values()).cloned().collect();
        self.session.ask(host, "migration plan", request, Some(READ))
    }

    /// Looks at the applied migrations and the schema.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn state(&mut self, host: &Host) -> Result<DatabaseState, DjangoError> {
        let mut request = self.about("state");
        request["everywhere"] = json!(self.session.project.databases.command.is_some());
        self.session.ask::<Observed>(host, "database state", request, Some(READ)).map(DatabaseState::from)
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
        let mut request = self.about("migrate");
        request["applied"] = json!(before);
        request["plan"] = json!(plan);
        self.session.tell(host, "migrate", request, self.session.limit)
    }

    /// Runs a command that migrates. Every alias is led past its pooler.
    ///
    /// # Errors
    ///
    /// [`DjangoError::MigrateCommand`] when it fails.
    pub fn migrate_by(&mut self, host: &Host, argv: &[String]) -> Result<(), DjangoError> {
        let mut request = self.about("migrate_by_command");
        request["direct"] = json!(self.session.project.databases.direct);
        request["argv"] = json!(argv);
        self.session.tell(host, "migrate", request, self.session.limit)
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
        let mut request = self.about("reversal");
        request["applied"] = json!(before);
        self.session
            .ask::<Reversal>(host, "reversal plan", request, Some(READ))
            .map(|answer| answer.migrations)
    }

    /// Waits for a database that restarts, and ends what a killed process left running in it: the server would go on with it
    /// unexpectedly once a lock is free.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or what is running in it does not end.
    pub fn settle(&mut self, host: &Host) -> Result<(), DjangoError> {
        let request = self.about("settle");
        self.session.tell(host, "connect", request, Some(READ))
    }

    /// Returns what must be known before the database is copied, such as its size.
    ///
    /// # Errors
    ///
    /// When no copy could be made or restored: [`DjangoError::Unsupported`] for other engines than SQLite,
    /// PostgreSQL and MariaDB, [`DjangoError::ToolMissing`], [`DjangoError::ToolTooOld`],
    /// [`DjangoError::NotOwned`], [`DjangoError::RightsMissing`].
    pub fn backup_facts(&mut self, host: &Host) -> Result<BackupFacts, DjangoError> {
        let request = self.about("backup_facts");
        self.session.ask(host, "backup", request, Some(READ))
    }

    /// Says why the database would have no copy in a rehearsal, as far as that is known before one is made; `None`: it would.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn no_copy(&mut self, host: &Host) -> Result<Option<NoCopy>, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            cannot: Option<NoCopy>,
        }
        let request = self.about("can_copy");
        self.session.ask::<Answer>(host, "copy databases", request, Some(READ)).map(|answer| answer.cannot)
    }

    /// Copies the database into a file that only its owner can read. A file that is there already is kept.
    ///
    /// # Errors
    ///
    /// Like [`backup_facts`](Self::backup_facts), and [`DjangoError::Tool`] when the database's own program fails.
    pub fn backup(&mut self, host: &Host, path: &Path) -> Result<(), DjangoError> {
        let mut request = self.about("backup");
        request["path"] = json!(names::text(path));
        self.session.tell(host, "backup", request, None)
    }

    /// Counts the rows of each table, small tables first, for about this long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn rows(&mut self, host: &Host, limit: Duration) -> Result<RowCounts, DjangoError> {
        let mut request = self.about("rows");
        request["seconds"] = json!(limit.as_secs_f64());
        self.session.ask(host, "count rows", request, Some(READ))
    }

    /// Digests the rows of each table, small tables first, for about this long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn digests(&mut self, host: &Host, limit: Duration) -> Result<RowDigests, DjangoError> {
        let mut request = self.about("digests");
        request["seconds"] = json!(limit.as_secs_f64());
        self.session.ask(host, "compare rows", request, Some(READ))
    }
}

impl Session {
    /// Returns the database of an alias, to be asked or changed.
    pub fn on<'s>(&'s mut self, alias: &'s str) -> OnDatabase<'s> {
        OnDatabase { session: self, alias }
    }

    /// Tells whether the `--plan` of a command that migrates can be asked what is pending.
    ///
    /// # Errors
    ///
    /// [`DjangoError::NoCommand`]; when it does not take its arguments.
    pub fn plans(&mut self, host: &Host, argv: &[String]) -> Result<bool, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            plans: bool,
        }
        let request = json!({ "do": "own_command", "argv": argv });
        self.ask::<Answer>(host, "migrate command", request, Some(READ)).map(|answer| answer.plans)
    }

    /// Restores the database: reverses what was applied since, and compares migrations and schema with `before`.
    ///
    /// # Errors
    ///
    /// [`DjangoError::Irreversible`] when that would lose something; then nothing was done.
    /// [`DjangoError::SchemaDiffers`] when the schema is not what it was.
    pub fn restore(&mut self, host: &Host, before: &DatabaseState) -> Result<(), DjangoError> {
        if self.on(&before.database).state(host)? == *before {
            return Ok(());
        }
        let mut request = self.on(&before.database).about("reverse");
        request["applied"] = json!(before.applied);
        self.tell(host, "reverse migrations", request, self.limit)?;
        self.compare(host, before)
    }

    /// Restores the database from a copy, and compares migrations and schema with `before`.
    ///
    /// # Errors
    ///
    /// Like [`backup`](OnDatabase::backup), and when the copy holds something else.
    pub fn restore_backup(
        &mut self,
        host: &Host,
        before: &DatabaseState,
        path: &Path,
    ) -> Result<(), DjangoError> {
        let mut request = self.on(&before.database).about("restore_backup");
        request["path"] = json!(names::text(path));
        self.tell(host, "restore", request, self.limit)?;
        self.compare(host, before)
    }

    /// Fails where migrations and schema are not what they were.
    pub(in crate::django) fn compare(
        &mut self,
        host: &Host,
        before: &DatabaseState,
    ) -> Result<(), DjangoError> {
        let now = self.on(&before.database).state(host)?;
        if now == *before {
            return Ok(());
        }
        Err(DjangoError::SchemaDiffers { lines: before.differences(&now) })
    }
}
