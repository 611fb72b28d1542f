//! A migration that was applied to a copy of its database: its duration, its locks and its statements.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MigrationId, MigrationProgress};
use crate::host::Redactor;

/// Maximum number of tables that are named: those locked longest.
const NAMED: usize = 3;

/// A statement that takes longer is shown, in milliseconds.
const LONG_MS: u64 = 1000;

/// How many characters of it are shown.
const SHOWN: usize = 60;

/// A migration that was applied to a copy of its database. Its `Display` is a fragment: `` 0.12 s on a copy; locks `shop_item` for 0.11 s
/// (ACCESS EXCLUSIVE) ``.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationOnCopy {
    /// The migration.
    #[serde(flatten)]
    pub id: MigrationId,
    /// The alias of the database.
    pub database: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Whether the copy had the rows of the site's own tables.
    pub rows: bool,
    /// The tables that it locks so that readers or writers wait; recorded on PostgreSQL only.
    pub locks: Vec<TableLock>,
    /// The twenty different statements that took longest, the longest first.
    #[serde(default)]
    pub statements: Vec<MigrationStatement>,
}

/// An SQL statement of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStatement {
    /// Its text, cut after 300 characters. Parameters are `%s`, strings in it `'…'`.
    pub sql: String,
    /// How often it was executed.
    pub count: u64,
    /// How long it took in total, in milliseconds.
    pub duration_ms: u64,
}

/// A lock of a table, from the statement that takes it to the end of its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLock {
    /// The table, as SQL names it.
    pub table: String,
    /// The strongest mode: `SHARE`, `SHARE ROW EXCLUSIVE`, `EXCLUSIVE` or `ACCESS EXCLUSIVE`.
    pub mode: String,
    /// How long it is held, in milliseconds.
    pub duration_ms: u64,
}

impl MigrationOnCopy {
    /// Returns the record of a finished migration; `None`: it has only begun.
    pub(crate) fn of(
        progress: &MigrationProgress,
        database: &str,
        rows: bool,
        redactor: &Redactor,
    ) -> Option<Self> {
        let taken = Duration::try_from_secs_f64(progress.seconds?).ok()?;
        let mut locks = progress.locks.clone();
        locks.sort_by_key(|lock| std::cmp::Reverse(lock.duration_ms));
        let (id, database) = (progress.migration.clone(), database.to_owned());
        let mut statements = progress.statements.clone();
        for statement in &mut statements {
            statement.sql = redactor.redact(&statement.sql).into_owned();
        }
        Some(MigrationOnCopy { id, database, duration_ms: crate::millis::of(taken), rows, locks, statements })
    }
}

impl fmt::Display for MigrationOnCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |millis| Duration::from_millis(millis).as_secs_f64();
        write!(f, "{:.2} s on a copy", seconds(self.duration_ms))?;
        if !self.rows {
            f.write_str(" without rows")?;
        }
        for (number, lock) in self.locks.iter().take(NAMED).enumerate() {
            let begins = if number == 0 { "; locks" } else { "," };
            let (table, held) = (lock.table.trim_matches('"'), seconds(lock.duration_ms));
            write!(f, "{begins} `{table}` for {held:.2} s ({})", lock.mode)?;
        }
        match self.locks.len().saturating_sub(NAMED) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        let Some(longest) = self.statements.first().filter(|one| one.duration_ms > LONG_MS) else {
            return Ok(());
        };
        let cut = longest.sql.char_indices().nth(SHOWN).map(|(at, _)| format!("{}…", &longest.sql[..at]));
        let times = if longest.count > 1 { format!(" {} times,", longest.count) } else { String::new() };
        let (sql, took) = (cut.as_deref().unwrap_or(&longest.sql), seconds(longest.duration_ms));
        write!(f, "; longest statement:{times} {took:.2} s: {sql}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::Phase;

    #[test]
    fn a_line_has_the_duration_and_the_locks() {
        let lock = |table: &str, duration_ms| TableLock {
            table: table.to_owned(),
            mode: "ACCESS EXCLUSIVE".to_owned(),
            duration_ms,
        };
        let progress = |seconds, locks| MigrationProgress {
            migration: MigrationId { app: "shop".to_owned(), name: "0002".to_owned() },
            phase: Phase::Finished,
            backwards: false,
            seconds,
            database: None,
            locks,
            statements: Vec::new(),
        };
        let redactor = Redactor::default();
        let said = |locks, rows| {
            let progress = progress(Some(0.121), locks);
            MigrationOnCopy::of(&progress, "default", rows, &redactor).unwrap().to_string()
        };
        assert_eq!(said(Vec::new(), true), "0.12 s on a copy");
        assert_eq!(
            said(vec![lock("shop_a", 5), lock("\"Shop\"", 110)], false),
            "0.12 s on a copy without rows; locks `Shop` for 0.11 s (ACCESS EXCLUSIVE), `shop_a` for 0.01 s (ACCESS EXCLUSIVE)"
        );
        let many = vec![lock("a", 9), lock("b", 8), lock("c", 7), lock("d", 6), lock("e", 5)];
        assert!(said(many, true).ends_with("`c` for 0.01 s (ACCESS EXCLUSIVE) and 2 more"));
        assert_eq!(MigrationOnCopy::of(&progress(None, Vec::new()), "default", true, &redactor), None);
        let statement = |sql: &str, count, duration_ms| {
            let statements = vec![MigrationStatement { sql: sql.to_owned(), count, duration_ms }];
            let progress = MigrationProgress { statements, ..progress(Some(2.0), Vec::new()) };
            MigrationOnCopy::of(&progress, "default", true, &redactor).unwrap().to_string()
        };
        assert_eq!(statement("UPDATE a", 1, 1000), "2.00 s on a copy");
        assert_eq!(statement("UPDATE a", 1, 1001), "2.00 s on a copy; longest statement: 1.00 s: UPDATE a");
        let long = statement(&"ä".repeat(61), 20, 1500);
        assert_eq!(
            long,
            format!("2.00 s on a copy; longest statement: 20 times, 1.50 s: {}…", "ä".repeat(60))
        );
    }
}
