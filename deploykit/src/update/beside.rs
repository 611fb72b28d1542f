//! What a preparation puts beside the site. It goes when it is needed no more, whichever way that comes about.

use std::path::PathBuf;

use crate::git::NextTree;
use crate::host::{Host, files};
use crate::runner::error_chain;

/// The next tree and the static files beside the live ones; removed with this value.
#[derive(Debug, Default)]
pub(super) struct Beside {
    tree: Option<NextTree>,
    folders: Vec<PathBuf>,
    /// Left where it is: a window is open, or the way back still needs it.
    pub stays: bool,
}

impl Beside {
    pub(super) fn new(tree: NextTree) -> Self {
        Beside { tree: Some(tree), folders: Vec::new(), stays: false }
    }

    /// Removes this folder, too.
    pub(super) fn add(&mut self, folder: PathBuf) {
        self.folders.push(folder);
    }

    /// Removes it all. A leftover is no failure of an update.
    pub(super) fn remove(&self) {
        if let Some(Err(error)) = self.tree.as_ref().map(|tree| tree.remove(&Host::new())) {
            log::warn!("{}", error_chain(&error));
        }
        for folder in &self.folders {
            if let Err(error) = files::remove_tree(folder) {
                log::warn!("{}", error_chain(&error));
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.stays {
            self.remove();
        }
    }
}
