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

/// The number of rows of each table, with a digest of their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RowDigests {
    /// By table, without those that `migrate` itself writes to.
    pub digests: BTreeMap<String, (u64, String)>,
    /// Tables that were not read: too large, or past the deadline.
    pub left: Vec<String>,
}

impl RowDigests {
    /// Describes how the rows differ, a fragment for each table. Tables that were not read, then or now, are not compared.
    #[must_use]
    pub fn since(&self, before: &RowDigests) -> Vec<String> {
        let differs = |(table, (rows, digest)): (&String, &(u64, String))| match self.digests.get(table) {
            Some((now, _)) if now < rows => Some(format!("`{table}` has lost {} of {rows} rows", rows - now)),
            Some((now, _)) if now > rows => Some(format!("`{table}` has {now} rows instead of {rows}")),
            Some((_, now)) if now != digest => Some(format!("`{table}` has different values")),
            Some(_) => None,
            None if self.left.contains(table) => None,
            None => Some(format!("`{table}` is gone")),
        };
        before.digests.iter().filter_map(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_whose_rows_differ_are_named() {
        let digests = |digests: &[(&str, u64, &str)], left: &[&str]| RowDigests {
            digests: digests
                .iter()
                .map(|(name, rows, sum)| ((*name).to_owned(), (*rows, (*sum).to_owned())))
                .collect(),
            left: left.iter().map(|name| (*name).to_owned()).collect(),
        };
        let before = digests(
            &[("a", 3, "1"), ("b", 3, "2"), ("c", 3, "3"), ("d", 1, "4"), ("e", 1, "5"), ("f", 9, "6")],
            &["z"],
        );
        let now =
            digests(&[("a", 3, "1"), ("b", 2, "7"), ("c", 3, "8"), ("d", 2, "9"), ("z", 1, "1")], &["f"]);
        assert_eq!(
            now.since(&before),
            [
                "`b` has lost 1 of 3 rows",
                "`c` has different values",
                "`d` has 2 rows instead of 1",
                "`e` is gone"
            ]
        );
        assert_eq!(before.since(&before), Vec::<String>::new());
    }

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
