//! Packages of the checkout in the staged virtualenv.

use std::collections::BTreeSet;
use std::path::Path;

use super::Build;
use crate::python::error::PythonError;
use crate::python::marker::Marker;
use crate::python::packages::Packages;
use crate::python::sources::{Copied, names_without, point, without};
use crate::python::virtualenv::{Virtualenv, names_in, site_packages};

impl Build {
    /// Returns packages without those of the checkout.
    pub(super) fn without_sources(&self, packages: &Packages) -> Packages {
        without(packages, &self.sources, &self.checkout, &[&self.directory])
    }

    /// Returns the names of those packages that are of the checkout.
    pub(super) fn of_checkout(&self, packages: &Packages) -> BTreeSet<String> {
        names_without(packages, &self.without_sources(packages))
    }

    /// Returns the top of the tree that packages of the checkout name; empty without any.
    pub(super) fn tree(&self) -> &Path {
        if self.sources.is_empty() { Path::new("") } else { &self.directory }
    }

    /// Tells whether the packages of a virtualenv there name another tree. After a preparation that tree is the checkout: the
    /// virtualenv has been live, and a rollback may need it as it is.
    pub(super) fn is_of_another_tree(&self) -> bool {
        Marker::read(&self.staged).is_some_and(|marker| marker.tree != self.tree())
    }

    /// Lets the virtualenv name the staged tree instead of the copy that the packages were built in.
    pub(super) fn keep_nothing_of(&self, copied: &Copied) -> Result<(), PythonError> {
        copied.check(&self.directory, &self.sources)?;
        for (_, packages) in site_packages(&self.staged) {
            if names_in(&packages).any(|name| name.ends_with(".egg-link")) {
                let found = Virtualenv::read(&self.staged)?.packages;
                let version = found.get("pip").map(|pip| pip.version.clone()).unwrap_or_default();
                return Err(PythonError::PipTooOld { version });
            }
        }
        Ok(point(&self.staged, &copied.path, &self.directory)?)
    }
}
