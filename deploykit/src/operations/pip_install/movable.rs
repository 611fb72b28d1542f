//! Checks whether another virtualenv can replace a virtualenv and all that is in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::python::Python;
use super::{PipInstall, nearest};
use crate::git;
use crate::python::{
    OwnFiles, PackageChange, Packages, PythonError, Virtualenv, managed, normalise, site_packages,
};

impl PipInstall {
    /// Returns what people have put into the virtualenv, when it can be replaced by another one with all of that.
    pub(super) fn own_files(&self) -> Result<OwnFiles, PythonError> {
        let virtualenv = std::fs::canonicalize(&self.virtualenv).unwrap_or_else(|_| self.virtualenv.clone());
        let lies_within = |path: &&PathBuf| {
            std::fs::canonicalize(nearest(path)).is_ok_and(|path| path.starts_with(&virtualenv))
        };
        let files = self.wanted.files();
        let others = files.iter().filter(|file| !file.starts_with(&self.directory));
        if let Some(path) = [&self.checkout, &self.virtualenvs].into_iter().chain(others).find(lies_within) {
            return Err(PythonError::HoldsTheSite {
                virtualenv: self.virtualenv.clone(),
                path: path.clone(),
            });
        }
        self.is_not_tracked()?;
        let own = OwnFiles::read(&self.virtualenv)?;
        if own.unknown.is_empty() {
            return Ok(own);
        }
        let virtualenv = self.virtualenv.clone();
        Err(PythonError::UnknownFiles { virtualenv, files: own.unknown.into_iter().collect() })
    }

    /// Checks that git tracks nothing of the virtualenv.
    fn is_not_tracked(&self) -> Result<(), PythonError> {
        // A checkout that cannot be read is the concern of whoever reads it.
        let tracked = git::head(&self.checkout)
            .and_then(|head| git::tracked_below(&self.checkout, &self.virtualenv, &[&head.commit]));
        let mut files = tracked.unwrap_or_default().into_iter().map(|file| crate::names::path(&file));
        let whole = |path: &Path| std::fs::canonicalize(path).ok();
        // A checkout may be the virtualenv itself, which stays: only its packages are exchanged.
        let is_checkout = whole(&self.checkout) == whole(&self.virtualenv);
        let packages = site_packages(&self.virtualenv);
        let is_exchanged = |file: &PathBuf| {
            let file = self.virtualenv.join(file);
            !is_checkout || packages.iter().any(|(_, packages)| file.starts_with(packages))
        };
        let virtualenv = self.virtualenv.clone();
        files
            .find(is_exchanged)
            .map_or(Ok(()), |file| Err(PythonError::TrackedVirtualenv { virtualenv, file }))
    }

    /// Checks that these packages of a virtualenv can be changed where it is.
    pub(super) fn may_be_in_place(
        &self,
        changes: &[PackageChange],
        python: &Python,
        live: &Virtualenv,
    ) -> Result<(), PythonError> {
        let virtualenv = self.virtualenv.clone();
        if python.change.is_some() {
            return Err(PythonError::PythonStays { virtualenv, python: live.python.clone() });
        }
        self.is_not_tracked()?;
        let names = changes.iter().map(|change| normalise(&change.name)).collect();
        let managed = managed(&self.virtualenv, &names)?;
        let Some(manager) = managed.values().next().copied() else { return Ok(()) };
        let names = managed.into_iter().filter(|(_, by)| *by == manager).map(|(name, _)| name).collect();
        Err(PythonError::OfPackageManager { virtualenv, manager, names })
    }

    /// Checks that editable packages which no requirement names lie where the next version finds them.
    pub(super) fn look_at_editables(
        &self,
        packages: &Packages,
        unasked: &BTreeSet<String>,
    ) -> Result<(), PythonError> {
        let whole = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let [checkout, virtualenv] = [&self.checkout, &self.virtualenv].map(|path| whole(path));
        for package in unasked.iter().filter_map(|name| packages.get(name)) {
            let Some(path) = package.editable_from() else { continue };
            let place = whole(&path);
            if place.starts_with(&checkout) || place.starts_with(&virtualenv) {
                return Err(PythonError::UnaskedEditable { name: package.name.clone(), path });
            }
        }
        Ok(())
    }
}
