//! What a complete virtualenv says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::packages::Packages;
use crate::host::files::{self, FileError, InPath};
use crate::names::COMPLETE;

/// The contents of [`COMPLETE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) python: String,
    pub(crate) packages: Packages,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) own: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sources: String,
    /// The normalised names of the packages of the checkout.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) of_checkout: BTreeSet<String>,
    /// The top of the tree that these name; empty without any, and while that changes.
    #[serde(default, with = "crate::names::one", skip_serializing_if = "is_empty")]
    pub(crate) tree: PathBuf,
}

impl Marker {
    pub(crate) fn read(staged: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(staged.join(COMPLETE)).ok()?).ok()
    }

    pub(crate) fn write(&self, staged: &Path) -> Result<(), FileError> {
        let path = staged.join(COMPLETE);
        let text = serde_json::to_vec(self).map_err(io::Error::from).at("write", &path)?;
        files::write_whole(&path, &text, 0o644)
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}
