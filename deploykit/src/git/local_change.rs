//! A tracked file with local changes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A tracked file that is not as HEAD has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalChange {
    /// The path from the top of the checkout.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// What was done to it.
    pub kind: LocalChangeKind,
}

/// What was done to a tracked file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalChangeKind {
    /// The file is another than the one in the index.
    Modified,
    /// The file is gone.
    Deleted,
    /// The index has something else than HEAD; the file itself may be as in HEAD.
    Staged,
    /// A merge left it in conflict.
    Unmerged,
    /// A submodule has changes, or another commit.
    Submodule,
    /// The file is another than the one in the index, and git was told not to look: `git update-index --assume-unchanged`.
    AssumeUnchanged,
    /// The same: `git update-index --skip-worktree`.
    SkipWorktree,
}

impl fmt::Display for LocalChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::names::shown_path(&self.path);
        match self.kind {
            LocalChangeKind::Modified => write!(f, "`{path}`"),
            LocalChangeKind::Deleted => write!(f, "`{path}` (deleted)"),
            LocalChangeKind::Staged => write!(f, "`{path}` (staged)"),
            LocalChangeKind::Unmerged => write!(f, "`{path}` (in conflict)"),
            LocalChangeKind::Submodule => write!(f, "`{path}` (submodule)"),
            LocalChangeKind::AssumeUnchanged => write!(f, "`{path}` (hidden by `assume-unchanged`)"),
            LocalChangeKind::SkipWorktree => write!(f, "`{path}` (hidden by `skip-worktree`)"),
        }
    }
}
