//! Migrations as data, and the actions that apply them and take them back.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Context;
use super::{DjangoError, Project, Session};
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
    /// What reversing it would not bring back, although it can be reversed: "the values of `item.price`".
    pub losses: Vec<String>,
    /// What it does, in Django's words.
    pub operations: Vec<String>,
}

impl PendingMigration {
    /// Tells whether reversing it brings everything back.
    #[must_use]
    pub fn is_reversible(&self) -> bool {
        self.irreversible.is_empty() && self.losses.is_empty()
    }

    fn irreversible_reasons(&self) -> Vec<String> {
        let id = &self.id;
        let losses =
            self.losses.iter().map(|what| format!("`{id}`: reversing it would not bring back {what}"));
        self.irreversible.iter().map(|why| format!("`{id}`: {why}")).chain(losses).collect()
    }

    fn described_risk(&self) -> Option<String> {
        Some(format!("`{}`: {}", self.id, self.risk()?))
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
    /// Why it cannot be reversed, or what reversing it would not bring back. Empty: it can.
    pub obstacles: Vec<String>,
    /// What goes with it, since it was written after the migration was applied: "the rows of `Reply`".
    pub drops: Vec<String>,
}

/// What waits in another database than the default one. Only databases that `migrate` was used on are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherDatabase {
    /// Its alias.
    pub database: String,
    /// What waits.
    pub pending: Vec<MigrationId>,
    /// The exception that kept it from being known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// What waits, in the order in which it would be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// What waits in the default database.
    pub pending: Vec<PendingMigration>,
    /// What is applied there, sorted.
    pub applied: Vec<MigrationId>,
    /// What waits elsewhere; `migrate` does not touch it.
    pub others: Vec<OtherDatabase>,
}

impl MigrationPlan {
    /// Returns the names of what waits.
    #[must_use]
    pub fn ids(&self) -> Vec<MigrationId> {
        self.pending.iter().map(|migration| migration.id.clone()).collect()
    }

    /// Says why the whole of it could not be taken back once it is applied; `None`: it could.
    #[must_use]
    pub fn irreversible(&self) -> Option<String> {
        let reasons: Vec<String> =
            self.pending.iter().flat_map(PendingMigration::irreversible_reasons).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Says of which migrations half may stay when they fail, and why; `None`: of none.
    #[must_use]
    pub fn risks(&self) -> Option<String> {
        let risks: Vec<String> = self.pending.iter().filter_map(PendingMigration::described_risk).collect();
        (!risks.is_empty()).then(|| risks.join("; "))
    }

    /// Says why a copy is needed, a line for each reason of each migration.
    #[must_use]
    pub fn backup_reasons(&self) -> Vec<String> {
        let reasons = |migration: &PendingMigration| {
            let mut reasons = migration.irreversible_reasons();
            let half = |risk| format!("{risk}, so half of it may stay when it fails");
            reasons.extend(migration.described_risk().map(half));
            reasons
        };
        self.pending.iter().flat_map(reasons).collect()
    }

    /// Tells whether a copy of the database is needed to be sure of a way back: something cannot be reversed, or may stay
    /// half done when it fails.
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
pub(super) fn with_session<T>(
    context: &mut Context,
    project: &Project,
    work: impl FnOnce(&mut Session, &Host) -> Result<T, DjangoError>,
) -> Result<T, DjangoError> {
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
        with_session(context, &self.project, |session, host| {
            session.migrate(host, &self.before.applied, &self.plan)
        })
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
            id: id("shop", "0002"),
            database: "default".into(),
            atomic: true,
            transactional,
            irreversible: owned(irreversible),
            losses: owned(losses),
            operations: Vec::new(),
        }
    }

    fn plan(pending: Vec<PendingMigration>) -> MigrationPlan {
        MigrationPlan { pending, applied: Vec::new(), others: Vec::new() }
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
    fn what_cannot_be_taken_back_is_named() {
        assert_eq!(plan(vec![pending(&[], &[], false)]).irreversible(), None);
        assert_eq!(
            plan(vec![pending(&["RunSQL without `reverse_sql`"], &["the rows of `Item`"], true)])
                .irreversible()
                .unwrap(),
            "`shop.0002`: RunSQL without `reverse_sql`; `shop.0002`: reversing it would not bring back the rows of `Item`"
        );
    }
}
