//! What is known of the fork that migrates and that commands are run from.

use std::path::Path;

use serde_json::{Value, json};

use super::Project;
use crate::command::Command;
use crate::names;

/// A fork of the waiting process that knows the live checkout and the live virtualenv instead of the staged ones.
pub(super) struct Twin {
    /// The live project.
    pub(super) live: Project,
    /// Whether the code and the packages of the fork are the live ones by now.
    pub(super) is_live: Box<dyn Fn() -> bool + Send>,
    pub(super) is_ready: bool,
}

impl Twin {
    /// Tells whether what it was booted from is live by now.
    pub(super) fn answers(&self) -> bool {
        self.is_ready && (self.is_live)()
    }

    /// Makes a request that it answers.
    pub(super) fn request(&self, request: &Value) -> Value {
        json!({ "do": "moved", "directory": names::text(&self.live.directory), "request": request })
    }

    /// Tells whether this is a command of the live site's `manage.py` that asks nothing, and can be run now.
    pub(super) fn runs(&self, command: &Command) -> bool {
        let is_ours = Path::new(command.program()) == self.live.python
            && command.working_directory() == Some(&self.live.directory)
            && command.given_input().is_none();
        is_ours && self.answers()
    }
}
