//! What differs between two commits.

use std::path::{Path, PathBuf};

use git2::{Delta, DiffFindOptions, DiffOptions, FileMode, Oid};
use serde::{Deserialize, Serialize};

use super::error::{GitError, Reading};
use super::repository::Repository;

/// A path that differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathChange {
    /// The path in the new commit, or in the old one when it is deleted; from the top of the checkout.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// How it differs.
    pub status: ChangeStatus,
    /// Whether it is a submodule in either commit.
    pub submodule: bool,
}

/// How a path differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStatus {
    /// It is new.
    Added,
    /// Its contents, mode or kind are others.
    Modified,
    /// It is gone.
    Deleted,
    /// It had another name.
    Renamed {
        /// The path in the old commit.
        #[serde(with = "crate::names::one")]
        from: PathBuf,
    },
}

impl PathChange {
    /// Returns the path that the new commit brings, when the old one has nothing there.
    #[must_use]
    pub fn added(&self) -> Option<&Path> {
        matches!(self.status, ChangeStatus::Added | ChangeStatus::Renamed { .. }).then_some(&self.path)
    }

    /// Returns the path that the old commit has, when the new one has nothing there.
    #[must_use]
    pub fn deleted(&self) -> Option<&Path> {
        match &self.status {
            ChangeStatus::Deleted => Some(&self.path),
            ChangeStatus::Renamed { from } => Some(from),
            _ => None,
        }
    }

    /// Returns every path that is concerned.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let from = match &self.status {
            ChangeStatus::Renamed { from } => Some(from.as_path()),
            _ => None,
        };
        std::iter::once(self.path.as_path()).chain(from)
    }
}

/// Compares the trees of two commits; `renames` pairs a deleted and an added path of similar contents.
pub(crate) fn changes(
    repository: &Repository,
    from: Oid,
    to: Oid,
    renames: bool,
) -> Result<Vec<PathChange>, GitError> {
    if from == to {
        return Ok(Vec::new());
    }
    let (old, new) = (repository.tree(from)?, repository.tree(to)?);
    let mut options = DiffOptions::new();
    options.include_typechange(true).skip_binary_check(true);
    let mut diff = repository
        .git2
        .diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))
        .reading(format!("what differs between `{from}` and `{to}`"))?;
    if renames {
        // Contents may be missing (a partial clone): then a rename is shown as what it is made of.
        let _ = diff.find_similar(Some(DiffFindOptions::new().renames(true)));
    }
    Ok(diff.deltas().filter_map(|delta| path_change(&delta)).collect())
}

fn path_change(delta: &git2::DiffDelta<'_>) -> Option<PathChange> {
    let (old, new) = (delta.old_file(), delta.new_file());
    let status = match delta.status() {
        Delta::Added | Delta::Copied => ChangeStatus::Added,
        Delta::Deleted => ChangeStatus::Deleted,
        Delta::Renamed => ChangeStatus::Renamed { from: old.path()?.to_owned() },
        Delta::Modified | Delta::Typechange => ChangeStatus::Modified,
        _ => return None,
    };
    Some(PathChange {
        path: new.path().or(old.path())?.to_owned(),
        status,
        submodule: old.mode() == FileMode::Commit || new.mode() == FileMode::Commit,
    })
}
