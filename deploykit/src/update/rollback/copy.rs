//! Rolls back the database from the copy that an update made.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use super::Failed;
use super::databases::{Database, Looked};
use super::done::DoneDatabase;
use crate::action::Action;
use crate::django::{DatabaseState, Project, PutBack, RestoreDatabase, RowCounts, Session};
use crate::host::files::{self, Found};
use crate::operations::django_manage::Reversal;
use crate::update::backup::Backup;
use crate::update::error::RollbackError;
use crate::update::past::COUNTING;
use crate::update::prepare::{Preparation, databases};

/// A copy that takes the place of the database.
pub(super) struct FromCopy {
    restore: RestoreDatabase,
    /// The present state of the database, which is restored if the rollback fails.
    now: DatabaseState,
    /// What is lost, a sentence each.
    pub losses: Vec<String>,
}

/// Returns the copy of an update, if deploykit can restore it.
pub(super) fn usable(restore: &RestoreDatabase) -> Option<&Path> {
    let copy = restore.backup.as_deref().filter(|copy| files::look(copy) != Found::Nothing);
    copy.filter(|_| restore.put_back != PutBack::ByHand)
}

/// Returns the action that restores the copy with this project's code; data written since the update is lost.
fn again(restore: &RestoreDatabase, project: &Project) -> RestoreDatabase {
    RestoreDatabase { project: project.clone(), reverse_first: false, ..restore.clone() }
}

impl Preparation<'_, '_> {
    /// Checks that the copy exists and that the present database can be copied too, and finds what would be lost.
    pub(super) fn by_copy(
        &self,
        looked: &Looked<'_>,
        done: DoneDatabase,
        session: &mut Session,
    ) -> Result<(Database, String), Failed> {
        let run = || looked.run.to_owned();
        let alias = done.left.database.as_str();
        let Some((restore, path)) =
            done.restore.as_ref().and_then(|restore| Some((restore, restore.backup.clone()?)))
        else {
            return Err(RollbackError::NoCopy { run: run() }.into());
        };
        if files::look(&path) == Found::Nothing {
            return Err(RollbackError::Gone { run: run(), what: path }.into());
        }
        if usable(restore).is_none() {
            return Err(RollbackError::CopyByHand { copy: path }.into());
        }
        let now = session.on(alias).state(&self.host)?;
        let reason = format!("the copy of run {} replaces the database", looked.run);
        let pooled = databases::is_pooled(&looked.project.databases, alias, session, &self.host)?;
        let backup = self.backup(&looked.asked(alias, &[reason], pooled), session)?;
        if backup.put_back == PutBack::ByHand {
            return Err(RollbackError::CopyByHand { copy: backup.action.path.clone() }.into());
        }
        let rows = session.on(alias).rows(&self.host, COUNTING)?;
        let losses = losses((looked.run, &done.rows), &path, &restore.before, &now, &rows);
        // The code that is live does it: the staged tree that the update migrated from is gone.
        let restore = again(restore, looked.project);
        let text = format!("the copy of run {} exists", looked.run);
        let copy = Some(FromCopy { restore, now, losses });
        Ok((Database { done, copy, backup: Some(backup), reversed: Vec::new() }, text))
    }
}

impl FromCopy {
    /// Restores the copy; if the rollback fails, restores the present database.
    pub(super) fn reversal(&self, run: &str, backup: &Backup) -> Reversal {
        Reversal {
            reason: format!("the copy of run {run} is restored"),
            reversed: Vec::new(),
            restore: self.restore.clone(),
            undo: Action::RestoreDatabase(backup.restore(self.now.clone(), false)),
        }
    }
}

/// Says what was written since the copy, as far as the database tells.
fn losses(
    (run, before_rows): (&str, &Option<RowCounts>),
    copy: &Path,
    before: &DatabaseState,
    now: &DatabaseState,
    rows: &RowCounts,
) -> Vec<String> {
    let since = std::fs::metadata(copy).and_then(|found| found.modified()).ok();
    let since = since.and_then(|time| Timestamp::try_from(time).ok());
    let since = since.map_or_else(|| "from before the update".to_owned(), |time| format!("of {time:.0}"));
    let mut losses = vec![format!(
        "the copy of the database is {since}; what was written to the database since then is lost"
    )];
    let tables = |state: &DatabaseState| -> BTreeSet<String> {
        let names = state.schema.iter().filter_map(|line| line.strip_prefix("table "));
        names.filter(|name| !name.contains(": ")).map(ToOwned::to_owned).collect()
    };
    let rows_of = |table: &String| match rows.counts.get(table) {
        Some(1) => format!("`{table}` (1 row)"),
        Some(count) => format!("`{table}` ({count} rows)"),
        None => format!("`{table}`"),
    };
    let new: Vec<String> = tables(now).difference(&tables(before)).map(rows_of).collect();
    if !new.is_empty() {
        losses.push(format!("tables that the copy does not have are lost: {}", new.join(", ")));
    }
    match before_rows {
        Some(then) => {
            let changed = rows.since(then);
            losses.push(match changed.as_slice() {
                [] => format!(
                    "since run {run} ended, no table gained or lost rows; rows that were changed are not counted"
                ),
                _ => format!(
                    "since run {run} ended: {}; rows that were changed are not counted",
                    changed.join(", ")
                ),
            });
        }
        None => losses.push("how many rows were written since is not known".to_owned()),
    }
    if !rows.left.is_empty() {
        let left: Vec<String> = rows.left.iter().map(|table| format!("`{table}`")).collect();
        losses.push(format!("not counted, since they are too large: {}", left.join(", ")));
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_copy_undoes_is_not_reversed_when_it_is_gone() {
        let before =
            DatabaseState { database: "default".into(), applied: vec![], schema: vec![], digest: "d".into() };
        let copy = Some("/s/backup.dump".into());
        let of_update = RestoreDatabase {
            only_copy: true,
            reverse_first: true,
            put_back: PutBack::ByHand,
            ..RestoreDatabase::new(Project::new("/staged/python", "/staged", "s"), before, copy)
        };
        let project = Project::new("/live/python", "/live", "s");
        let restore = again(&of_update, &project);
        assert_eq!(restore, RestoreDatabase { project, reverse_first: false, ..of_update });
    }
}
