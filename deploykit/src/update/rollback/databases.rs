//! How each database is restored: its migrations are reversed, or a copy takes its place.

use crate::django::reasons::{grouped, reasons};
use crate::django::{DatabaseState, Project, ReversedMigration, Session};
use crate::update::backup::{Asked, Backup};
use crate::update::error::RollbackError;
use crate::update::migrate_command;
use crate::update::prepare::Preparation;
use crate::update::prepare::databases::{is_pooled, pooled};

use super::copy::{self, FromCopy};
use super::done::{Done, DoneDatabase};
use super::{Failed, answers};

/// How a database is restored.
pub(super) struct Database {
    pub(super) done: DoneDatabase,
    /// The migrations to be reversed, newest first.
    pub(super) reversed: Vec<ReversedMigration>,
    /// The copy of the update that is restored instead.
    pub(super) copy: Option<FromCopy>,
    /// The copy that is made before.
    pub(super) backup: Option<Backup>,
}

/// What a database is looked at for.
pub(super) struct Looked<'a> {
    pub(super) run: &'a str,
    pub(super) command: Option<&'a [String]>,
    /// The databases that the leader migrated, as they were before.
    pub(super) followed: &'a [DatabaseState],
    pub(super) project: &'a Project,
    /// How many bytes the copies of other databases take before.
    pub(super) taken: u64,
    pub(super) several: bool,
}

impl<'a> Looked<'a> {
    /// Names the database in lines about it, where there are several.
    pub(super) fn named(&self, alias: &str, lines: Vec<String>) -> Vec<String> {
        let named = |line| if self.several { format!("`{alias}`: {line}") } else { line };
        lines.into_iter().map(named).collect()
    }

    pub(super) fn asked(&self, alias: &'a str, reasons: &'a [String], pooled: bool) -> Asked<'a> {
        Asked { project: self.project, alias, reasons, taken: self.taken, pooled }
    }
}

impl Preparation<'_, '_> {
    /// Finds out how each database is restored.
    pub(super) fn databases(
        &mut self,
        done: &Done,
        databases: Vec<DoneDatabase>,
        project: &Project,
        session: &mut Session,
    ) -> Result<(Vec<Database>, String), Failed> {
        // Those that the update did not copy can only be reversed.
        let (run, command) = (done.run.as_str(), done.command.as_deref());
        let is_copied = |done: &DoneDatabase| done.restore.as_ref().is_some_and(|one| one.backup.is_some());
        let followed = done.followed.as_slice();
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
            let looked = Looked { run, command, followed, project, taken, several };
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
        if let Some(before) = looked.followed.iter().find(|before| before.database == alias) {
            // Only the leader reverses what it migrated.
            if !before.differences(&now).is_empty() {
                return Err(RollbackError::Follower { run: looked.run.to_owned() }.into());
            }
            let database = Database { done, reversed: Vec::new(), copy: None, backup: None };
            return Ok((database, "the leader has reversed them".to_owned()));
        }
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
}
