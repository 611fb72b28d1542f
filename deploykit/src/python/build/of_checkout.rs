//! Packages of the checkout in the staged virtualenv.

use super::Build;
use crate::python::error::PythonError;
use crate::python::packages::Packages;
use crate::python::sources::{Copied, point, without};
use crate::python::virtualenv::{Virtualenv, names_in, site_packages};

impl Build {
    /// Returns packages without those of the checkout.
    pub(super) fn without_sources(&self, packages: &Packages) -> Packages {
        without(packages, &self.sources, &self.checkout, &[&self.directory])
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
