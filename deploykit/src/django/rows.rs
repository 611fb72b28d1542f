//! How many rows a database has, to say what would be lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
