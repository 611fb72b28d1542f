//! The packages of the staged virtualenv for a live one that stays where it is.

use std::collections::BTreeSet;

use super::Build;
use crate::host::Host;
use crate::python::error::PythonError;
use crate::python::in_place::{Next, Place};
use crate::python::packages::SEEDS;
use crate::python::virtualenv::Virtualenv;

impl Build {
    /// Prepares the next packages inside the live virtualenv.
    pub(super) fn prepare_in(&self, place: &Place, host: &Host) -> Result<(), PythonError> {
        let live = &place.before;
        if Virtualenv::installed(&self.virtualenv) != *live {
            return Err(PythonError::ChangedMeanwhile { virtualenv: self.virtualenv.clone() });
        }
        let staged = Virtualenv::installed(&self.staged);
        let [old, new] = [live, &staged].map(|packages| self.of_checkout(packages));
        let is_free = |name: &str| self.packages.get(name).is_none() && SEEDS.contains(&name);
        let others = |name: &str| !old.contains(name) && !new.contains(name) && !is_free(name);
        let differ = live.iter().filter(|(name, _)| others(name));
        let differ = differ.filter(|(name, package)| !staged.get(name).is_some_and(|new| package.is(new)));
        let go: BTreeSet<String> =
            differ.map(|(name, _)| name.to_owned()).chain(old.iter().cloned()).collect();
        let come = staged.iter().map(|(name, _)| name).filter(|name| others(name));
        let come = come.filter(|name| go.contains(*name) || live.get(name).is_none());
        let come = come.map(str::to_owned).chain(new.iter().cloned()).collect();
        let next = Next {
            virtualenv: &self.virtualenv,
            staged: &self.staged,
            place: &place.path,
            trees: [&self.directory, &self.checkout],
            before: live,
        };
        next.prepare(host, &go, &come)
    }
}
