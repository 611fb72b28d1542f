//! Packages of the checkout: which ones are wanted, and whether the live virtualenv has them as they are.

use std::path::Path;

use super::{PipInstall, Record, VirtualenvFacts};
use crate::digest;
use crate::git;
use crate::python::{
    Lock, Marker, PackageChange, Packages, PythonError, Source, Wanted, names_without, normalise, without,
};

/// The packages of the checkout that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfCheckout {
    pub(super) sources: Vec<Source>,
    /// Tells one state of them from another; empty without any.
    pub(super) state: String,
    /// How the live virtualenv changes for them.
    pub(super) changes: Vec<PackageChange>,
}

impl PipInstall {
    /// Returns what tells one state of packages of a checkout from another; empty without any.
    pub(super) fn state_of(&self, sources: &[Source], tree: &Path) -> Result<String, PythonError> {
        if sources.is_empty() {
            return Ok(String::new());
        }
        let contents = git::contents_at(tree, sources.iter().map(|source| source.path.as_path()));
        let contents = contents.map_err(|error| PythonError::SourcesWithoutGit {
            directory: tree.to_owned(),
            problem: crate::error_chain(&error),
        })?;
        Ok(digest::sha256(format!("{sources:?} {contents:?}").as_bytes())[..16].to_owned())
    }

    /// Returns packages without those of the checkout.
    pub(super) fn others(&self, packages: &Packages, sources: &[Source]) -> Packages {
        without(packages, sources, &self.checkout, &[&self.directory])
    }

    /// Tells whether the packages of the checkout are as the last successful update recorded them.
    pub(super) fn has_sources_of(&self, record: &Record, facts: &VirtualenvFacts) -> bool {
        let is_as_told = match &self.wanted {
            Wanted::Requirements(_) => facts.requirements.sources == record.sources,
            Wanted::Lock(lock) => lock.install_project.is_none_or(|wanted| {
                let project = lock.project.strip_prefix(&self.directory).unwrap_or(&lock.project);
                wanted == record.sources.iter().any(|source| source.path == project)
            }),
        };
        let others = self.others(&facts.virtualenv.packages, &record.sources);
        is_as_told
            && facts.virtualenv.packages.len() - others.len() == record.sources.len()
            && self.state_of(&record.sources, &self.directory).is_ok_and(|state| state == record.source_state)
    }

    /// Decides whether the project of a lock is installed, and says so where its tool would install it.
    pub(super) fn with_project(&self, lock: &Lock, facts: &VirtualenvFacts) -> (Lock, Option<String>) {
        let name = lock.project_name();
        let is_there = name.as_ref().is_some_and(|name| facts.virtualenv.packages.get(name).is_some());
        let wanted = lock.install_project.unwrap_or(is_there);
        let leaves_out = !wanted && lock.install_project.is_none() && lock.is_of_a_package();
        let notice = name.filter(|_| leaves_out).map(|name| {
            format!(
                "`{name}` itself is not installed as a package, because the live virtualenv does not have it; `python.install-project = true` installs it"
            )
        });
        (Lock { install_project: Some(wanted), ..lock.clone() }, notice)
    }

    /// Holds the packages of the checkout against what is installed.
    pub(super) fn of_checkout(
        &self,
        sources: Vec<Source>,
        facts: &VirtualenvFacts,
    ) -> Result<OfCheckout, PythonError> {
        let state = self.state_of(&sources, &self.directory)?;
        let live = &facts.virtualenv.packages;
        let others = self.others(live, &sources);
        let installed = names_without(live, &others);
        // What is changed in place is not as it was built.
        let marker = Marker::read(&self.virtualenv).filter(|_| !self.in_place);
        let is_there = match marker.filter(|marker| !marker.sources.is_empty()) {
            Some(marker) => marker.sources == state && marker.of_checkout == installed,
            // Not installed by deploykit: assume that they were built from the checkout as it is.
            None => installed.len() == sources.len() && self.state_of(&sources, &self.checkout)? == state,
        };
        if is_there {
            return Ok(OfCheckout { sources, state, changes: Vec::new() });
        }
        let changes = sources.iter().map(|source| {
            let place = self.checkout.join(&source.path);
            let name = source.name(&self.directory);
            let is_it = |(known, package): &(&str, &crate::python::Package)| {
                name.as_deref() == Some(*known) || package.installed_from().as_ref() == Some(&place)
            };
            let found = live.iter().find(is_it).map(|(_, package)| package);
            PackageChange {
                name: found
                    .map(|package| normalise(&package.name))
                    .or(name)
                    .unwrap_or_else(|| crate::names::text(place.file_name().unwrap_or_default())),
                from: found.map(|package| package.version.clone()),
                to: Some(source.to_string()),
            }
        });
        Ok(OfCheckout { changes: changes.collect(), sources, state })
    }
}
