//! Compares the resolved packages with the live virtualenv.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::of_checkout::OfCheckout;
use super::python::Python;
use super::{Answer, PipInstall, Prepared, Ready, Record, Upgrade, VirtualenvFacts};
use crate::git::Exclude;
use crate::python::{
    Build, OwnFiles, PackageChange, Place, PythonError, Resolved, SEEDS, Switch, Tool, Wanted, in_place,
};

impl PipInstall {
    /// Compares the resolved packages with the installed ones.
    pub(super) fn compare(
        &self,
        facts: &VirtualenvFacts,
        tool: &Tool,
        python: &Python,
        Answer { resolved, sources, locked }: Answer,
    ) -> Result<Prepared, PythonError> {
        let live = &facts.virtualenv;
        let Resolved { packages, unasked, newer_pip, warnings } = resolved;
        let OfCheckout { sources, state, changes: of_checkout } = self.of_checkout(sources, facts)?;
        let record = Record {
            fingerprint: facts.requirements.fingerprint.clone(),
            python: python.found.name.clone(),
            required: self.required_of_python(facts),
            packages: packages.clone(),
            unasked: unasked.clone(),
            sources: sources.clone(),
            source_state: state.clone(),
        };
        let mut changes: Vec<PackageChange> = python.change.iter().cloned().collect();
        changes.extend(self.others(&live.packages, &sources).changes_to(&packages));
        changes.extend(of_checkout);
        if changes.is_empty() {
            let asked = packages.len() + sources.len() - unasked.len();
            let mut reason = match &self.wanted {
                Wanted::Requirements(_) => {
                    format!("the installed packages are the {asked} that the requirements ask for")
                }
                Wanted::Lock(_) => format!("the installed packages are the {asked} of {}", self.wanted),
            };
            if !unasked.is_empty() {
                reason.push_str(&format!(", and {} that none asks for", unasked.len()));
            }
            return Ok(Prepared::Unchanged { reason, record });
        }
        if self.in_place {
            self.may_be_in_place(&changes, python, live)?;
        }
        let base = match python.other() {
            Some(program) => program.to_owned(),
            None => live.base()?.to_owned(),
        };
        let seeds: BTreeMap<String, String> = SEEDS
            .into_iter()
            .filter(|_| python.other().is_none())
            .filter(|name| packages.get(name).is_none())
            .filter_map(|name| Some((name.to_owned(), live.packages.get(name)?.version.clone())))
            .collect();
        let own = match self.in_place {
            true => OwnFiles::read(&self.virtualenv)?,
            false => self.own_files()?,
        };
        self.look_at_editables(&packages, &unasked)?;
        let mut build = Build {
            staged: PathBuf::new(),
            virtualenv: self.virtualenv.clone(),
            base,
            python: python.found.name.clone(),
            interpreter: python.other().map(Path::to_owned),
            prompt: live.prompt.clone(),
            system_site_packages: live.system_site_packages,
            tool: tool.clone(),
            wanted: self.wanted.clone(),
            fingerprint: facts.requirements.fingerprint.clone(),
            directory: self.directory.clone(),
            checkout: self.checkout.clone(),
            extra_args: self.extra_args.clone(),
            packages,
            unasked,
            sources,
            source_state: state,
            locked: locked.map(Box::new),
            own: own.fingerprint.clone(),
            seeds,
            newer_pip,
            place: None,
            deadline_ms: crate::millis::of(self.deadline),
        };
        build.staged = build.vacant(&self.virtualenvs);
        let taken = if self.in_place { None } else { own.summary() };
        let more = [python.warning.clone(), unasked_text(&build), taken].into_iter().flatten();
        let warnings = warnings.into_iter().chain(more).collect();
        let (mut switch, back) = match self.in_place {
            true => {
                let key = build.staged.file_name().map(crate::names::text).unwrap_or_default();
                let place = in_place::vacant(&build.virtualenv, &key);
                let pair = Switch::in_place(&build.virtualenv, &place);
                build.place = Some(Place { path: place, before: live.packages.clone() });
                pair
            }
            false => Switch::pair(&build.virtualenv, &build.staged)?,
        };
        if !self.in_place && !build.sources.is_empty() && self.directory != self.checkout {
            switch.sources = Some([self.directory.clone(), self.checkout.clone()]);
        }
        let hides = Exclude::pair(&switch.makes());
        let staged = build.staged.clone();
        let goes_live = Ready { hides, record, warnings, ..Ready::new(staged, changes, switch, back) };
        Ok(Prepared::Upgrade(Box::new(Upgrade { build, goes_live })))
    }
}

/// Names the packages that stay although no requirement asks for them.
fn unasked_text(build: &Build) -> Option<String> {
    let names = build.unasked.iter().filter_map(|name| build.packages.get(name));
    let names: Vec<String> = names.map(|package| format!("{} {}", package.name, package.version)).collect();
    (!names.is_empty()).then(|| format!("kept although no requirement asks for them: {}", names.join(", ")))
}
