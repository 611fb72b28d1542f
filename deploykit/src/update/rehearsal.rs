//! What a rehearsal comes to: whether it says anything, and what.

mod limits;
mod pages;

use std::fmt;
use std::time::Duration;

use crate::django::{DjangoError, MigrationOnCopy, MigrationPlan};
use crate::error::error_chain;
use crate::plan::RehearsedDatabase;

pub(super) use limits::{most, without_rows};
pub(super) use pages::{answered, fits, judge, note_exceptions};

/// Why something is not rehearsed; that says nothing about the new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unavailable {
    pub reason: String,
    /// What would allow it.
    pub help: Option<String>,
}

/// What was seen on the copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rehearsed {
    /// What was copied, in bytes.
    pub bytes: u64,
    /// How long the command took that migrates in place of `migrate`; `None`: none runs.
    pub command: Option<Duration>,
    /// All copies that were migrated had all their rows, so the live databases take as long.
    pub is_measured: bool,
    /// The databases with pending migrations.
    pub databases: Vec<MigratedCopy>,
    /// The aliases without a copy.
    pub missing: Vec<String>,
}

/// What was seen on the copy of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MigratedCopy {
    pub alias: String,
    /// How each migration went.
    pub migrations: Vec<MigrationOnCopy>,
    /// How long all of them took.
    pub applied: Duration,
    /// How long their way back took; `None`: it was not tried, or failed.
    pub reversed: Option<Duration>,
    /// Why the way back fails.
    pub fault: Option<String>,
    /// The rows that are not as before after the way back.
    pub lost: Vec<String>,
    /// All rows were compared.
    pub compared: bool,
    /// The copy has the rows of the site's own tables.
    pub has_rows: bool,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not rehearsed on a copy: {}", self.reason)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl MigratedCopy {
    /// Returns it for the plan.
    pub(super) fn planned(&self) -> RehearsedDatabase {
        RehearsedDatabase {
            database: self.alias.clone(),
            migrations: self.migrations.clone(),
            applied: Some(self.applied),
            reversed: self.reversed,
            restored: None,
            fault: self.fault.clone(),
            lost: self.lost.clone(),
            all_rows: self.compared && self.has_rows,
        }
    }
}

impl Rehearsed {
    /// Returns how long the live databases will take to migrate; `None`: that was not seen.
    pub(super) fn expected(&self) -> Option<Duration> {
        self.applied().filter(|_| self.is_measured)
    }

    /// Returns how long the copies took; `None`: there was nothing to migrate.
    fn applied(&self) -> Option<Duration> {
        let all = self.databases.iter().map(|one| one.applied).chain(self.command);
        all.reduce(|sum, one| sum + one)
    }
}

impl fmt::Display for Rehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.databases.iter().map(|one| one.migrations.len()).sum();
        let Some(applied) = self.applied() else {
            return write!(f, "none pending; {} copied for the pages", size(self.bytes));
        };
        let what = if self.command.is_some() { "the command".to_owned() } else { count.to_string() };
        write!(f, "{what} on a copy ({}): {:.2} s", size(self.bytes), applied.as_secs_f64())?;
        for one in &self.databases {
            let name = if self.databases.len() > 1 { format!("`{}` ", one.alias) } else { String::new() };
            match (one.reversed, &one.fault) {
                (Some(time), _) if !one.lost.is_empty() => {
                    write!(f, "; {name}reversed: {:.2} s, {}", time.as_secs_f64(), one.lost.join(", "))?;
                }
                (Some(time), _) => {
                    let rows = if !one.has_rows {
                        "the schema is as before"
                    } else if one.compared {
                        "all rows there"
                    } else {
                        "the compared rows are there"
                    };
                    write!(f, "; {name}reversed: {:.2} s, {rows}", time.as_secs_f64())?;
                }
                (None, Some(fault)) => write!(f, "; {name}cannot be reversed: {fault}")?,
                (None, None) => write!(f, "; {name}only a copy can restore the database")?,
            }
        }
        Ok(())
    }
}

/// What a rollback did to copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CopiesRolledBack {
    /// What was copied, in bytes.
    pub bytes: u64,
    /// The migrations that were reversed.
    pub reversed: usize,
    /// The databases whose copy of the update was restored.
    pub restored: usize,
    /// How long that took; `None`: there was nothing to do.
    pub took: Option<Duration>,
    /// The rows that tables have fewer or more afterwards, a fragment each.
    pub lost: Vec<String>,
    /// All copies had all their rows, so the live databases take as long.
    pub is_measured: bool,
}

impl CopiesRolledBack {
    /// Returns how long the live databases will take; `None`: that was not seen.
    pub(super) fn expected(&self) -> Option<Duration> {
        self.took.filter(|_| self.is_measured)
    }
}

impl fmt::Display for CopiesRolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(took) = self.took else {
            return write!(f, "none to reverse; {} copied for the pages", size(self.bytes));
        };
        let restored = match self.restored {
            0 => format!("{} reversed", self.reversed),
            _ if self.reversed == 0 => "restored".to_owned(),
            _ => format!("restored, and {} reversed", self.reversed),
        };
        let (size, took) = (size(self.bytes), took.as_secs_f64());
        write!(f, "{restored} on a copy ({size}): {took:.2} s; the schema is as before the update")
    }
}

fn size(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{} kB", bytes.div_ceil(1000))
    } else {
        format!("{} MB", bytes / 1_000_000)
    }
}

/// Notes in the plan that its migrations cannot be reversed, as was seen; returns why, as a fragment.
pub(super) fn mark_irreversible(plan: &mut MigrationPlan, error: &DjangoError) -> String {
    let why = error_chain(error);
    let id = match error {
        DjangoError::ReversalFailed { migration: Some(id), .. } => Some(id.clone()),
        _ => None,
    };
    let at = plan.pending.iter().rposition(|one| id.as_ref().is_none_or(|id| one.id == *id));
    if let Some(one) = at.and_then(|at| plan.pending.get_mut(at)) {
        one.irreversible.push(format!("on a copy, {why}"));
    }
    why
}

/// What a migration fails for want of, as databases say it in lower case, and what is said of that. Sources: PostgreSQL's
/// `aclchk.c`, `commands/extension.c`, `guc.c`, `copy.c` and `md.c`; MariaDB's `errmsg-utf8.txt`; SQLite's `main.c`.
const LACKS: [(&[&str], &str); 3] = [
    (
        &[
            "must be superuser",
            "superuser attribute",
            "super privilege",
            "you need (at least one of) the",
            "permission denied to create extension",
            "permission denied to set parameter",
            "permission denied to copy",
            "is a system trigger",
        ],
        "a migration needs the rights of a superuser, which nobody has on a copy",
    ),
    (
        &["could not open extension control file", "could not access file \"$libdir"],
        "a migration needs an extension that the private server lacks",
    ),
    (
        &["no space left on device", "database or disk is full", "disk full", "(1114, "],
        "there is no room for what a migration writes",
    ),
];

/// What a server says where a role lacks rights that the role of the live database may have.
const RIGHTS: [&str; 7] = [
    "must be member of role",
    "must be able to set role",
    "must be owner of",
    "permission denied",
    "role \"",
    "command denied to user",
    "access denied for user",
];

/// Says what a migration failed for want of that a copy need not have; `None`: it failed by itself. `in_scratch`: another role owns
/// the copy.
pub(super) fn lack(error: &DjangoError, in_scratch: bool) -> Option<&'static str> {
    let (DjangoError::MigrationFailed { raised, .. }
    | DjangoError::ReversalFailed { raised, .. }
    | DjangoError::MigrateCommand { raised, .. }) = error
    else {
        return None;
    };
    let message = raised.message.to_lowercase();
    let lack = LACKS.iter().find(|(said, _)| said.iter().any(|said| message.contains(said)));
    let lack = lack.map(|(_, what)| *what);
    let rights = "a migration needs rights that the role of `rehearsal.database-url` lacks";
    lack.or_else(|| (in_scratch && lacks_rights(&raised.message)).then_some(rights))
}

/// Tells whether a server says that its role lacks rights.
fn lacks_rights(message: &str) -> bool {
    let message = message.to_lowercase();
    RIGHTS.iter().any(|said| message.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::{MigrationId, PendingMigration};

    #[test]
    fn what_was_seen_is_said_on_one_line() {
        let migration = |name: &str, duration_ms| MigrationOnCopy {
            id: MigrationId { app: "shop".to_owned(), name: name.to_owned() },
            database: "default".to_owned(),
            duration_ms,
            rows: true,
            locks: Vec::new(),
            statements: Vec::new(),
        };
        let one = MigratedCopy {
            alias: "default".to_owned(),
            migrations: vec![migration("0002", 100), migration("0003", 300)],
            applied: Duration::from_millis(410),
            reversed: Some(Duration::from_millis(220)),
            compared: true,
            has_rows: true,
            ..MigratedCopy::default()
        };
        let said = |one: MigratedCopy| {
            Rehearsed { bytes: 48_500_000, databases: vec![one], ..Rehearsed::default() }.to_string()
        };
        assert_eq!(said(one.clone()), "2 on a copy (48 MB): 0.41 s; reversed: 0.22 s, all rows there");
        let lost = vec!["`shop_item` has lost 1 of 3 rows".to_owned()];
        assert_eq!(
            said(MigratedCopy { lost, ..one.clone() }),
            "2 on a copy (48 MB): 0.41 s; reversed: 0.22 s, `shop_item` has lost 1 of 3 rows"
        );
        let schema = MigratedCopy { has_rows: false, ..one.clone() };
        assert_eq!(said(schema), "2 on a copy (48 MB): 0.41 s; reversed: 0.22 s, the schema is as before");
        let fault = Some("no".to_owned());
        let failed = MigratedCopy { fault, reversed: None, ..one.clone() };
        assert_eq!(said(failed), "2 on a copy (48 MB): 0.41 s; cannot be reversed: no");
        let copied = MigratedCopy { reversed: None, ..one };
        assert_eq!(said(copied), "2 on a copy (48 MB): 0.41 s; only a copy can restore the database");
        let nothing = Rehearsed { bytes: 1200, is_measured: true, ..Rehearsed::default() };
        assert_eq!(nothing.to_string(), "none pending; 2 kB copied for the pages");
        assert_eq!(nothing.expected(), None);
        let command = Rehearsed { command: Some(Duration::from_millis(1500)), ..nothing };
        assert_eq!(command.to_string(), "the command on a copy (2 kB): 1.50 s");
        assert_eq!(command.expected(), command.command);
        assert_eq!(Rehearsed { is_measured: false, ..command }.expected(), None);
    }

    #[test]
    fn what_no_copy_has_is_no_fault_of_the_version() {
        let failed = |message: &str| {
            let raised = crate::django::Raised {
                exception: "django.db.utils.ProgrammingError".to_owned(),
                message: message.to_owned(),
                traceback: Vec::new(),
            };
            lack(&DjangoError::MigrationFailed { migration: None, raised: Box::new(raised) }, false)
        };
        let rights = "a migration needs the rights of a superuser, which nobody has on a copy";
        let extension = "a migration needs an extension that the private server lacks";
        let room = "there is no room for what a migration writes";
        for (message, lack) in [
            (
                "permission denied to create extension \"postgis\"\nHINT:  Must be superuser to create this extension.",
                Some(rights),
            ),
            (
                "permission denied to create event trigger \"t\"\nHINT:  Must be superuser to create an event trigger.",
                Some(rights),
            ),
            ("permission denied to set parameter \"session_replication_role\"", Some(rights)),
            ("permission denied: \"RI_ConstraintTrigger_a_16415\" is a system trigger", Some(rights)),
            (
                "(1227, 'Access denied; you need (at least one of) the SUPER privilege(s) for this operation')",
                Some(rights),
            ),
            (
                "extension \"postgis\" is not available\nDETAIL:  Could not open extension control file \"/x\": No such file",
                Some(extension),
            ),
            ("could not extend file \"base/1/2\": No space left on device", Some(room)),
            ("database or disk is full", Some(room)),
            ("permission denied for table shop_item", None),
            ("extension \"hstore\" already exists", None),
        ] {
            assert_eq!(failed(message), lack, "{message}");
        }
        for message in [
            "permission denied for schema x",
            "(1142, \"SELECT command denied to user 'x'@'localhost' for table `live`.`t`\")",
            "(1044, \"Access denied for user 'x'@'localhost' to database 'live'\")",
        ] {
            assert!(lacks_rights(message), "{message}");
        }
    }

    #[test]
    fn what_a_rollback_does_to_a_copy_is_said_on_one_line() {
        let back = CopiesRolledBack { bytes: 1200, ..CopiesRolledBack::default() };
        assert_eq!(back.to_string(), "none to reverse; 2 kB copied for the pages");
        let took = Some(Duration::from_millis(220));
        let said =
            |reversed, restored| CopiesRolledBack { reversed, restored, took, ..back.clone() }.to_string();
        assert_eq!(said(2, 0), "2 reversed on a copy (2 kB): 0.22 s; the schema is as before the update");
        assert!(said(0, 1).starts_with("restored on a copy (2 kB)"), "{}", said(0, 1));
        assert!(said(2, 1).starts_with("restored, and 2 reversed on a copy"), "{}", said(2, 1));
    }

    #[test]
    fn a_way_back_that_fails_is_the_migration_s() {
        let ids = ["0002", "0003"].map(|name| MigrationId { app: "shop".to_owned(), name: name.to_owned() });
        let pending = ids.clone().map(|id| PendingMigration::new(id, "default")).to_vec();
        let plan = || MigrationPlan { pending: pending.clone(), ..MigrationPlan::default() };
        let raised = || {
            Box::new(crate::django::Raised {
                exception: "ValueError".to_owned(),
                message: "no".to_owned(),
                traceback: Vec::new(),
            })
        };
        let mut first = plan();
        mark_irreversible(
            &mut first,
            &DjangoError::ReversalFailed { migration: Some(ids[0].clone()), raised: raised() },
        );
        assert!(!first.pending[0].irreversible.is_empty() && first.pending[1].irreversible.is_empty());
        let mut last = plan();
        mark_irreversible(&mut last, &DjangoError::SchemaDiffers { lines: vec!["+ x".to_owned()] });
        assert!(last.pending[0].irreversible.is_empty() && !last.pending[1].irreversible.is_empty());
        assert!(last.wants_backup());
    }
}
