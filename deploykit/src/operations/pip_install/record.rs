//! What is remembered of an installation.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::python::{PackageChange, Packages, Source, names_without, without};

/// What a successful update leaves for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The hash of the requirements files and of the installer's arguments.
    pub fingerprint: String,
    /// The Python, `3.11`.
    pub python: String,
    /// What the configuration and the project said of the Python.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub required: String,
    /// What was resolved.
    pub packages: Packages,
    /// The normalised names of those that no requirement asks for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unasked: BTreeSet<String>,
    /// The packages of the checkout, which are not among the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// A digest of these packages; empty without any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_state: String,
}

impl Record {
    /// Returns the normalised names of what the requirements asked for, with all that it depends on.
    pub(super) fn asked(&self, installed: &Packages, checkout: &Path) -> BTreeSet<String> {
        let names = self.packages.iter().map(|(name, _)| name);
        let names = names.filter(|name| !self.unasked.contains(*name));
        let others = without(installed, &self.sources, checkout, &[]);
        names.map(str::to_owned).chain(names_without(installed, &others)).collect()
    }

    /// Tells whether a file of the checkout belongs to an editable package of it.
    pub(crate) fn has_sources_at(&self, checkout: &Path, file: &Path) -> bool {
        let real = std::fs::canonicalize(checkout).unwrap_or_else(|_| checkout.to_owned());
        let at = |top: &Path, source: &Source| file.starts_with(top.join(&source.path));
        let here = |source: &Source| at(checkout, source) || at(&real, source);
        self.sources.iter().any(|source| source.editable && here(source))
    }

    /// Returns from what was recorded to what is installed now.
    pub(crate) fn changes_since(&self, installed: &Packages, checkout: &Path) -> Vec<PackageChange> {
        without(installed, &self.sources, checkout, &[]).changes_to(&self.packages)
    }
}
