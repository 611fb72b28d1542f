//! How many rows a database has, to say what would be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::session::READ;
use super::{DjangoError, Session};
use crate::host::Host;

/// The rows of each table, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// The tables with their rows, without `django_migrations`.
    pub counts: BTreeMap<String, u64>,
    /// Tables that were not counted: they are too large, or the time was up.
    pub left: Vec<String>,
}

impl RowCounts {
    /// Describes how many rows each table has more or fewer than it had, a fragment for each that differs.
    #[must_use]
    pub fn since(&self, before: &RowCounts) -> Vec<String> {
        let differs = |(table, now): (&String, &u64)| {
            let before = before.counts.get(table)?;
            let (difference, word) = match now.checked_sub(*before) {
                Some(0) => return None,
                Some(more) => (more, "more"),
                None => (before - now, "fewer"),
            };
            let rows = if difference == 1 { "row" } else { "rows" };
            Some(format!("`{table}` has {difference} {rows} {word}"))
        };
        self.counts.iter().filter_map(differs).collect()
    }
}

impl Session {
    /// Counts the rows of each table, small tables first, for about this long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn rows(&mut self, host: &Host, limit: Duration) -> Result<RowCounts, DjangoError> {
        let mut request = self.about("rows");
        request["seconds"] = json!(limit.as_secs_f64());
        self.ask(host, "count rows", request, Some(READ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_with_other_numbers_of_rows_are_named() {
        let counts = |counts: &[(&str, u64)]| RowCounts {
            counts: counts.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect(),
            left: Vec::new(),
        };
        let before = counts(&[("a", 3), ("b", 3), ("c", 3), ("gone", 1)]);
        let now = counts(&[("a", 3), ("b", 4), ("c", 1), ("new", 9)]);
        assert_eq!(now.since(&before), ["`b` has 1 row more", "`c` has 2 rows fewer"]);
    }
}
