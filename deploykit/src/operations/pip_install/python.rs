//! The Python of the next virtualenv.

use std::path::Path;

use super::{Decision, PipInstall, VirtualenvFacts};
use crate::host::{CommandError, Host};
use crate::python::{Interpreter, PackageChange, PythonError, Virtualenv, is_version};

/// The Python of the next virtualenv.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Python {
    pub(super) found: Interpreter,
    /// How the virtualenv changes, if it has another one.
    pub(super) change: Option<PackageChange>,
    /// What the project prefers.
    pub(super) warning: Option<String>,
}

impl Python {
    /// Returns the program, if the virtualenv has another Python.
    pub(super) fn other(&self) -> Option<&Path> {
        self.change.as_ref().map(|_| self.found.program.as_path())
    }
}

impl PipInstall {
    /// Returns what the configuration and the project say of the Python, for comparing with what was recorded.
    pub(super) fn required_of_python(&self, facts: &VirtualenvFacts) -> String {
        let wanted = self.python.iter().map(String::as_str).chain(facts.required.words());
        wanted.collect::<Vec<_>>().join(" ")
    }

    /// Finds out which Python a new virtualenv would have, and the installer's name; resolves and builds nothing. `None`: no
    /// packages are asked for.
    pub(crate) fn means(&self, host: &Host) -> Result<(String, Option<&'static str>), PythonError> {
        let (facts, tool) = if self.wanted.is_empty() {
            let virtualenv = Virtualenv::read(&self.virtualenv)?;
            (VirtualenvFacts { virtualenv, ..VirtualenvFacts::default() }, None)
        } else {
            let facts = self.observe(host)?;
            let tool = match (PipInstall { record: None, ..self.clone() }).decide(&facts)? {
                Decision::Resolve(tool) => Some(tool.name()),
                Decision::Unchanged(_) => None,
            };
            (facts, tool)
        };
        Ok((self.python(host, &facts)?.found.version, tool))
    }

    /// Finds the Python that is configured, or asks that of the virtualenv; fails when the project is for other ones.
    pub(super) fn python(&self, host: &Host, facts: &VirtualenvFacts) -> Result<Python, PythonError> {
        let virtualenv = &facts.virtualenv;
        // A link to the Python may lead elsewhere than when the virtualenv was made.
        let own = match Interpreter::ask(host, &virtualenv.path.join("bin/python"), self.deadline) {
            Err(
                error @ PythonError::Command(
                    CommandError::Cancelled { .. } | CommandError::DeadlinePassed { .. },
                ),
            ) => return Err(error),
            asked => asked.ok(),
        };
        let Some(wanted) = &self.python else {
            let found = own.ok_or_else(|| virtualenv.gone())?;
            let warning = facts.required.check(&found)?;
            return Ok(Python { found, change: None, warning });
        };
        let found = Interpreter::find(host, wanted, own.as_ref(), self.deadline)?;
        let warning = facts.required.check(&found)?;
        let is_it = |own: &Interpreter| own.program == found.program || is_version(&own.version, wanted);
        let is_same = own.as_ref().is_some_and(is_it) && found.name == virtualenv.python;
        let from = own.map_or_else(|| virtualenv.python.clone(), |own| own.version);
        let to = match from == found.version {
            true => format!("{} of `{}`", found.version, found.program.display()),
            false => found.version.clone(),
        };
        let change = PackageChange { name: "Python".to_owned(), from: Some(from), to: Some(to) };
        Ok(Python { found, change: (!is_same).then_some(change), warning })
    }
}
