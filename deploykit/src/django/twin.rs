//! What is known of the fork that commands are run from.

use std::path::Path;

use super::Project;
use crate::command::Command;

/// A fork of the waiting process that knows the live checkout and the live virtualenv instead of the staged ones.
pub(super) struct Twin {
    /// The live project.
    pub(super) live: Project,
    /// Whether the code and the packages of the fork are the live ones by now.
    pub(super) is_live: Box<dyn Fn() -> bool + Send>,
    pub(super) is_ready: bool,
}

impl Twin {
    /// Tells whether this is a command of the live site's `manage.py` that asks nothing, and can be run now.
    pub(super) fn runs(&self, command: &Command) -> bool {
        let is_ours = Path::new(command.program()) == self.live.python
            && command.working_directory() == Some(&self.live.directory)
            && command.given_input().is_none();
        self.is_ready && is_ours && (self.is_live)()
    }
}
