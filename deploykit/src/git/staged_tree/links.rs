//! The links of a staged tree to the live checkout: where they lead, and how they are recognized.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::StagedTree;
use crate::host::files::{FileError, InPath};

impl StagedTree {
    /// Returns the target of a link to a path of the live checkout. All paths here are relative to the top of either tree, except
    /// targets.
    pub(crate) fn link_to(&self, inside: &Path) -> PathBuf {
        self.repository.join(inside)
    }

    /// Links a path of this tree, where nothing is, to the same path of the live checkout.
    pub(crate) fn link(&self, inside: &Path) -> Result<(), FileError> {
        let link = self.path.join(inside);
        symlink(self.link_to(inside), &link).at("link", &link)
    }

    /// Returns the path of the live checkout that a link leads to; `None`: it leads elsewhere.
    pub(crate) fn linked<'t>(&self, target: &'t Path) -> Option<&'t Path> {
        target.strip_prefix(&self.repository).ok()
    }

    /// Tells whether a link at this path leads to the same path of the live checkout.
    pub(crate) fn is_link(&self, inside: &Path, target: &Path) -> bool {
        self.linked(target) == Some(inside)
    }
}
