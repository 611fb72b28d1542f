//! What a complete virtualenv says of itself.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::packages::Packages;
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
}

/// Returns the state of the packages of the checkout that a virtualenv was built with; empty where that is not known.
pub(crate) fn installed_state(virtualenv: &Path) -> String {
    Marker::read(virtualenv).map(|marker| marker.sources).unwrap_or_default()
}

impl Marker {
    pub(crate) fn read(staged: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(staged.join(COMPLETE)).ok()?).ok()
    }
}
