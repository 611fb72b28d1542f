//! Where HEAD is, and a move of it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::short;

/// Where HEAD is, and where the branch that an update moves is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The branch that HEAD is attached to; `None`: HEAD is detached.
    pub branch: Option<String>,
    /// The commit that is checked out.
    pub commit: String,
    /// The commit of the branch that the update moves, which need not be the one that HEAD is attached to; `None`:
    /// there is no such branch.
    pub branch_commit: Option<String>,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.branch {
            Some(branch) => write!(f, "`{branch}` ({})", short(&self.commit)),
            None => write!(f, "{} (detached)", short(&self.commit)),
        }
    }
}

/// Moves a checkout with HEAD and the branch from one state to another; local changes of other files and everything
/// untracked stay as they are.
///
/// It can be performed twice, and after a checkout that was killed half way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The top of the checkout.
    #[serde(with = "crate::names::one")]
    pub repository: PathBuf,
    /// The branch that the update moves.
    pub branch: String,
    /// What is there.
    pub from: Head,
    /// What is to be there.
    pub to: Head,
    /// Whether this undoes an update: then later changes in the files that the update brought do not stop it, but are kept
    /// in a commit under `refs/deploykit/kept`.
    pub restore: bool,
}

impl Checkout {
    /// Returns the checkout that undoes this one.
    #[must_use]
    pub fn reverse(&self) -> Checkout {
        Checkout {
            repository: self.repository.clone(),
            branch: self.branch.clone(),
            from: self.to.clone(),
            to: self.from.clone(),
            restore: true,
        }
    }
}
