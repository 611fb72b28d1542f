//! Services that no manager knows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Address, ProcessId, listeners};

/// How deploykit knows the processes of a web service without a manager: they listen there, and run the site's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Where they listen.
    pub address: Address,
    /// The virtualenv that they run from.
    pub virtualenv: PathBuf,
    /// The checkout, which they may run in.
    pub checkout: PathBuf,
}

impl Serves {
    /// Finds the processes. What listens there and is something else, such as a server in front, is none of them.
    pub(super) fn processes(&self) -> Vec<ProcessId> {
        let is_ours = |process: &ProcessId| {
            process.words().iter().any(|word| Path::new(word).starts_with(&self.virtualenv))
                || process.directory().is_some_and(|directory| directory.starts_with(&self.checkout))
        };
        let found: Vec<ProcessId> = listeners(&self.address).into_iter().filter(is_ours).collect();
        crate::host::processes::with_descendants(&found)
    }
}
