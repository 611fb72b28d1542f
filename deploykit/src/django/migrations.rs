//! Migrations as data, and the actions that apply and reverse them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Context;
use super::reasons::{Reason, grouped, reasons};
use super::{DjangoError, MigrationOnCopy, Project, Session};
use crate::host::Host;

/// A migration by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MigrationId {
    /// The app's label: `shop`.
    pub app: String,
    /// The migration's name: `0002_price`.
    pub name: String,
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.app, self.name)
    }
}

/// A migration that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMigration {
    /// Its names.
    #[serde(flatten)]
    pub id: MigrationId,
    /// The alias of the database.
    pub database: String,
    /// The migration itself asks for a transaction.
    pub atomic: bool,
    /// It runs in a transaction that holds its schema changes too: false where it is not atomic, and on MariaDB and
    /// Oracle always.
    pub transactional: bool,
    /// Why it cannot be reversed: "`RunSQL` without `reverse_sql`". Empty: it can.
    pub irreversible: Vec<String>,
    /// What reversing it would not restore, although it can be reversed: "the values of `item.price`".
    pub losses: Vec<String>,
    /// What it does that is not understood: "RunSQL: what its SQL changes is not known". Whether reversing it brings
    /// everything back is then not known either.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What it does by code that comes with a reverse of its author's: "RunPython: what its code changes is not known".
    #[serde(default)]
    pub by_code: Vec<String>,
    /// What the code of the old version could fail at once it is applied: "`item.price` has neither `null` nor `db_default`: the
    /// old code cannot insert rows". Empty: nothing, as far as Django itself reads and writes rows.
    #[serde(default)]
    pub old_code: Vec<String>,
    /// What it does, in Django's words.
    pub operations: Vec<String>,
    /// Its duration, locks and statements on a copy of the database; `None`: it was not rehearsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_copy: Option<MigrationOnCopy>,
}

impl PendingMigration {
    /// Makes a migration without operations, which runs in a transaction.
    #[must_use]
    pub fn new(id: MigrationId, database: impl Into<String>) -> Self {
        PendingMigration {
            id,
            database: database.into(),
            atomic: true,
            transactional: true,
            irreversible: Vec::new(),
            losses: Vec::new(),
            unknown: Vec::new(),
            by_code: Vec::new(),
            old_code: Vec::new(),
            operations: Vec::new(),
            on_copy: None,
        }
    }

    /// Tells whether reversing it is known to restore everything.
    #[must_use]
    pub fn is_reversible(&self) -> bool {
        self.is_understood() && self.by_code.is_empty()
    }

    /// Tells whether nothing but code that has a reverse speaks against reversing it.
    fn is_understood(&self) -> bool {
        self.irreversible.is_empty() && self.losses.is_empty() && self.unknown.is_empty()
    }

    /// Marks the reversal as proven: in the rehearsal it restored everything, whatever its code does.
    pub(crate) fn set_proven(&mut self) {
        self.unknown.clear();
        self.by_code.clear();
    }

    fn irreversible_reasons(&self) -> Vec<Reason> {
        let mut reasons = reasons(&self.id, &self.irreversible);
        if !self.losses.is_empty() {
            let lost = format!("reversing it would not restore {}", self.losses.join(", "));
            reasons.push((self.id.clone(), lost));
        }
        reasons
    }

    fn half(&self) -> Option<Reason> {
        Some((self.id.clone(), self.risk()?.to_owned()))
    }

    /// Tells whether half of it may stay when it fails.
    #[must_use]
    pub fn is_risky(&self) -> bool {
        !self.transactional
    }

    /// Says why half of it may stay when it fails; `None`: none may.
    #[must_use]
    pub fn risk(&self) -> Option<&'static str> {
        match (self.transactional, self.atomic) {
            (true, _) => None,
            (false, true) => Some("the database commits each change of the schema at once"),
            (false, false) => Some("`atomic = False`"),
        }
    }
}

/// A migration that would be reversed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReversedMigration {
    /// Its names.
    #[serde(flatten)]
    pub id: MigrationId,
    /// Its reversal runs in a transaction that holds its schema changes too.
    pub transactional: bool,
    /// Why it cannot be reversed, or what reversing it would not restore. Empty: it can.
    pub obstacles: Vec<String>,
    /// What it did that is not understood, as in [`PendingMigration::unknown`].
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What goes with it, since it was written after the migration was applied: "the rows of `Reply`".
    pub drops: Vec<String>,
}

/// An applied migration that the code does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LackingMigration {
    /// Its names.
    #[serde(flatten)]
    pub id: MigrationId,
    /// Its app is installed all the same.
    pub installed: bool,
}

/// The pending migrations of a database that deploykit does not migrate. Only databases that `migrate` ran on before, or that
/// routers keep models in, are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherDatabase {
    /// Its alias.
    pub database: String,
    /// Its pending migrations.
    pub pending: Vec<MigrationId>,
    /// The exception that kept it from being known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// The pending migrations, in the order in which they would be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// Those of the database.
    pub pending: Vec<PendingMigration>,
    /// What is applied there, sorted.
    pub applied: Vec<MigrationId>,
    /// Those of databases that are not migrated.
    pub others: Vec<OtherDatabase>,
    /// Squashed migrations that stand for applied ones and are not recorded yet: a run of `migrate` records them.
    #[serde(default)]
    pub unrecorded: Vec<MigrationId>,
    /// Applied migrations that the code does not have, sorted.
    #[serde(default)]
    pub lacking: Vec<LackingMigration>,
    /// Columns of the apps of [`lacking`](Self::lacking) that the code does not know, and without which the database takes no
    /// row: `shop_item.code`.
    #[serde(default)]
    pub required: Vec<String>,
    /// What seems to be there already that a migration creates, after code of the site's own: "`shop.0003` creates the table `x`".
    #[serde(default)]
    pub doubtful: Vec<String>,
}

impl MigrationPlan {
    /// Returns the names of what waits.
    #[must_use]
    pub fn ids(&self) -> Vec<MigrationId> {
        self.pending.iter().map(|migration| migration.id.clone()).collect()
    }

    /// Tells whether `migrate` has anything to do: it also records squashed migrations.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.pending.is_empty() || !self.unrecorded.is_empty()
    }

    /// Returns why the migrations could not be reversed completely once they are applied; `None`: as far as is known, they could.
    #[must_use]
    pub fn irreversible(&self) -> Option<String> {
        let reasons: Vec<Reason> =
            self.pending.iter().flat_map(PendingMigration::irreversible_reasons).collect();
        (!reasons.is_empty()).then(|| grouped(&reasons).join("; "))
    }

    /// Says what the code of the old version could fail at once the migrations are applied; `None`: nothing is known.
    #[must_use]
    pub fn old_code_risk(&self) -> Option<String> {
        let reasons: Vec<Reason> =
            self.pending.iter().flat_map(|migration| reasons(&migration.id, &migration.old_code)).collect();
        (!reasons.is_empty()).then(|| grouped(&reasons).join("; "))
    }

    /// Says of which migrations half may stay when they fail, and why; `None`: of none.
    #[must_use]
    pub fn risks(&self) -> Option<String> {
        let risks: Vec<Reason> = self.pending.iter().filter_map(PendingMigration::half).collect();
        (!risks.is_empty()).then(|| grouped(&risks).join("; "))
    }

    /// Says why a copy is needed, a line for each reason.
    #[must_use]
    pub fn backup_reasons(&self) -> Vec<String> {
        let all = self.pending.iter().flat_map(|migration| {
            let half = |(id, risk)| (id, format!("{risk}, so half of it may stay when it fails"));
            let mut all = migration.irreversible_reasons();
            all.extend(reasons(&migration.id, &migration.unknown));
            all.extend(reasons(&migration.id, &migration.by_code));
            all.extend(migration.half().map(half));
            all
        });
        grouped(&all.collect::<Vec<_>>())
    }

    /// Tells whether the migrations are reversed although there is a copy, which is restored only if that fails. Then
    /// nothing is lost that was written since the copy; what code has changed is what its own reverse makes of it.
    #[must_use]
    pub fn is_reversed_first(&self) -> bool {
        self.pending.iter().all(|migration| migration.is_understood() && !migration.is_risky())
    }

    /// Tells whether a copy of the database is needed to undo the migrations for sure: one of them cannot be reversed, is not
    /// understood, or may stay half done when it fails.
    #[must_use]
    pub fn wants_backup(&self) -> bool {
        self.pending.iter().any(|migration| !migration.is_reversible() || migration.is_risky())
    }
}

/// A database as it is: its applied migrations and its schema, told apart from another by a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// The alias.
    pub database: String,
    /// The applied migrations, sorted.
    pub applied: Vec<MigrationId>,
    /// The schema in sorted lines that do not depend on the order of columns or on generated names.
    pub schema: Vec<String>,
    /// SHA-256 of both, in hexadecimal.
    pub digest: String,
}

/// What the probe answers.
#[derive(Debug, Deserialize)]
pub(super) struct Observed {
    database: String,
    applied: Vec<MigrationId>,
    schema: Vec<String>,
}

impl From<Observed> for DatabaseState {
    fn from(observed: Observed) -> Self {
        let Observed { database, applied, mut schema } = observed;
        if applied.is_empty() {
            // Django makes this table when it first migrates, and never removes it: an empty one is as good as none.
            schema.retain(|line| line.split([':', ' ']).nth(1) != Some("django_migrations"));
        }
        let mut hash = Sha256::new();
        for id in &applied {
            hash.update(format!("{id}\n"));
        }
        for line in &schema {
            hash.update(format!("{line}\n"));
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        DatabaseState { database, applied, schema, digest }
    }
}

impl DatabaseState {
    /// Describes what another state has more (`+`) and less (`-`), a line each.
    #[must_use]
    pub fn differences(&self, after: &DatabaseState) -> Vec<String> {
        let lines = |state: &DatabaseState| -> BTreeSet<String> {
            let applied = state.applied.iter().map(|id| format!("migration {id}"));
            applied.chain(state.schema.iter().cloned()).collect()
        };
        let (old, new) = (lines(self), lines(after));
        let gone = old.difference(&new).map(|line| format!("- {line}"));
        gone.chain(new.difference(&old).map(|line| format!("+ {line}"))).collect()
    }
}

/// Does something with the waiting session of this project, or with a fresh one.
pub(crate) fn with_session<T, E: From<DjangoError>>(
    context: &mut Context,
    project: &Project,
    work: impl FnOnce(&mut Session, &Host) -> Result<T, E>,
) -> Result<T, E> {
    let host = context.host.clone();
    if let Some(session) = &mut context.django
        && session.stands_for(project)
        && session.responds(&host)
    {
        return work(session, &host);
    }
    let mut fresh = Session::boot(&host, project)?;
    let result = work(&mut fresh, &host);
    // One that stands for another project is not ours to replace.
    if context.django.as_ref().is_none_or(|session| session.stands_for(project)) {
        context.django = Some(fresh);
    }
    result
}

/// Applies migrations that were planned, if the database is still as it was then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migrate {
    /// The project that has them.
    pub project: Project,
    /// The database as it was when they were planned.
    pub before: DatabaseState,
    /// The migrations in their order.
    pub plan: Vec<MigrationId>,
}

impl Migrate {
    /// Applies those of them that are not applied yet.
    ///
    /// # Errors
    ///
    /// See [`Session::migrate`].
    pub fn perform(&self, context: &mut Context) -> Result<(), DjangoError> {
        let alias = &self.before.database;
        let migrated = with_session(context, &self.project, |session, host| {
            session.on(alias).migrate(host, &self.before.applied, &self.plan)
        });
        self.project.databases.named(alias, migrated)
    }
}

/// Migrates by a command of the site's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrateByCommand {
    /// The project that has it.
    pub project: Project,
    /// The command of `manage.py` with its arguments.
    pub argv: Vec<String>,
}

impl MigrateByCommand {
    /// Runs it in the waiting Django.
    ///
    /// # Errors
    ///
    /// See [`Session::migrate_by`].
    pub fn perform(&self, context: &mut Context) -> Result<(), DjangoError> {
        let first = self.project.databases.migrate.first().cloned().unwrap_or_default();
        with_session(context, &self.project, |session, host| session.on(&first).migrate_by(host, &self.argv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(app: &str, name: &str) -> MigrationId {
        MigrationId { app: app.into(), name: name.into() }
    }

    fn state(applied: &[(&str, &str)], schema: &[&str]) -> DatabaseState {
        DatabaseState::from(Observed {
            database: "default".into(),
            applied: applied.iter().map(|(app, name)| id(app, name)).collect(),
            schema: schema.iter().map(|line| (*line).to_owned()).collect(),
        })
    }

    fn pending(irreversible: &[&str], losses: &[&str], transactional: bool) -> PendingMigration {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        PendingMigration {
            transactional,
            irreversible: owned(irreversible),
            losses: owned(losses),
            ..PendingMigration::new(id("shop", "0002"), "default")
        }
    }

    fn plan(pending: Vec<PendingMigration>) -> MigrationPlan {
        MigrationPlan { pending, ..MigrationPlan::default() }
    }

    #[test]
    fn differences_are_lines() {
        let before = state(&[("a", "1")], &["table x", "table x: column i integer not null"]);
        let after = state(&[("a", "1"), ("a", "2")], &["table x", "table x: column i text not null"]);
        assert_eq!(
            before.differences(&after),
            ["- table x: column i integer not null", "+ migration a.2", "+ table x: column i text not null"]
        );
        assert_ne!(before.digest, after.digest);
        assert!(before.differences(&before).is_empty());
    }

    #[test]
    fn an_empty_table_of_migrations_is_as_good_as_none() {
        let made = state(&[], &["table django_migrations", "table django_migrations: column id", "table x"]);
        assert_eq!(made, state(&[], &["table x"]));
        assert_ne!(state(&[("a", "1")], &["table django_migrations"]), state(&[("a", "1")], &[]));
    }

    #[test]
    fn a_backup_is_wanted_where_reversing_is_not_sure() {
        assert!(!plan(vec![]).wants_backup());
        assert!(!plan(vec![pending(&[], &[], true)]).wants_backup());
        assert!(plan(vec![pending(&["RunPython"], &[], true)]).wants_backup());
        assert!(plan(vec![pending(&[], &["the rows of `Item`"], true)]).wants_backup());
        assert!(plan(vec![pending(&[], &[], false)]).wants_backup());
    }

    #[test]
    fn what_is_not_understood_is_copied_and_can_be_reversed() {
        let mut one = pending(&[], &[], true);
        one.by_code = vec!["RunPython: what its code changes is not known".to_owned()];
        let by_code = plan(vec![one.clone()]);
        assert!(by_code.wants_backup() && by_code.irreversible().is_none() && by_code.is_reversed_first());
        assert_eq!(by_code.backup_reasons(), ["`shop.0002`: RunPython: what its code changes is not known"]);
        one.unknown = vec!["RunSQL: what its SQL changes is not known".to_owned()];
        let unknown = plan(vec![one]);
        assert!(unknown.wants_backup() && unknown.irreversible().is_none() && !unknown.is_reversed_first());
        assert!(!plan(vec![pending(&[], &[], false)]).is_reversed_first());
    }

    #[test]
    fn a_squashed_migration_that_is_not_recorded_is_due() {
        assert!(!plan(vec![]).is_due());
        let unrecorded = vec![id("shop", "0001_squashed")];
        assert!(MigrationPlan { unrecorded, ..MigrationPlan::default() }.is_due());
    }

    #[test]
    fn what_cannot_be_taken_back_is_named() {
        assert_eq!(plan(vec![pending(&[], &[], false)]).irreversible(), None);
        assert_eq!(
            plan(vec![pending(&["RunSQL without `reverse_sql`"], &["the rows of `Item`"], true)])
                .irreversible()
                .unwrap(),
            "`shop.0002`: RunSQL without `reverse_sql`; `shop.0002`: reversing it would not restore the rows of `Item`"
        );
    }
}
