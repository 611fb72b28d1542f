//! An upgrade that was decided on: built, and ready to go live.

use std::path::PathBuf;

use super::Record;
use crate::action::Action;
use crate::host::Host;
use crate::operations::{Change, hide};
use crate::python::{Build, Package, PackageChange, Packages, PythonError, Switch, scripts_of};

/// A new environment that is to be built and to go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Upgrade {
    /// Why, as a fragment: "2 of 40 packages change".
    pub reason: String,
    /// The packages that are added, replaced or dropped.
    pub changes: Vec<PackageChange>,
    /// How it is built.
    pub build: Build,
    /// For the next update, once the environment is live.
    pub record: Record,
    /// What a person may want to know beforehand.
    pub warnings: Vec<String>,
    /// A folder above the new environment that shuts other users out, while the live one is open to them.
    pub shut: Option<PathBuf>,
}

/// A new environment that is built and can go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it is; a program may use it there already.
    pub environment: PathBuf,
    /// What identifies its packages.
    pub key: String,
    /// The packages that were added, replaced or dropped.
    pub changes: Vec<PackageChange>,
    /// Brings it live.
    pub switch: Switch,
    /// Takes it back.
    pub back: Switch,
    /// For the next update, once the environment is live.
    pub record: Record,
    /// Whether it was there already.
    pub reused: bool,
    /// What did not succeed, or may surprise.
    pub warnings: Vec<String>,
    /// Programs in `bin` of the live environment that the new one has not: a service that starts one will not start.
    pub missing_scripts: Vec<String>,
    /// A folder above it that shuts other users out, while the live environment is open to them: services that run as
    /// another user cannot use it.
    pub shut: Option<PathBuf>,
}

impl Upgrade {
    /// Builds the environment that was planned; nothing that the site uses is touched.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or the requirements changed since.
    pub fn prepare(&self, host: &Host) -> Result<Ready, PythonError> {
        let built = self.build.run(host)?;
        let (switch, back) = Switch::pair(&self.build.virtualenv, &self.build.environment)?;
        let [live, next] = [&self.build.virtualenv, &self.build.environment].map(|path| scripts_of(path));
        let missing = live.difference(&next).filter(|name| !comes_with_python(name));
        Ok(Ready {
            environment: self.build.environment.clone(),
            key: self.build.key(),
            changes: self.changes.clone(),
            switch,
            back,
            record: self.record.clone(),
            reused: built.reused,
            warnings: self.warnings.iter().cloned().chain(built.warnings).collect(),
            missing_scripts: missing.cloned().collect(),
            shut: self.shut.clone(),
        })
    }

    /// Returns it as a change with its undo.
    ///
    /// # Errors
    ///
    /// When the virtualenv vanished.
    pub fn into_change(self) -> Result<Change, PythonError> {
        let (switch, back) = Switch::pair(&self.build.virtualenv, &self.build.environment)?;
        let side = |version: fn(&PackageChange) -> Option<&String>| {
            let packages = self
                .changes
                .iter()
                .filter_map(|change| Some(Package::new(change.name.clone(), version(change)?.clone())));
            packages.collect::<Packages>().summary()
        };
        let warnings = self.warnings.iter().map(|warning| format!("! {warning}"));
        let paths = switch.makes();
        let mut change = Change {
            reason: self.reason.clone(),
            before: side(|change| change.from.as_ref()),
            after: side(|change| change.to.as_ref()),
            details: self.changes.iter().map(ToString::to_string).chain(warnings).collect(),
            undo: vec![Action::SwitchEnvironment(back)],
            actions: vec![Action::BuildEnvironment(self.build), Action::SwitchEnvironment(switch)],
            irreversible: None,
        };
        hide(&mut change, &paths);
        Ok(change)
    }
}

/// Programs that are there or not depending on what made the environment.
fn comes_with_python(script: &str) -> bool {
    [
        "activate",
        "Activate",
        "deactivate",
        "python",
        "pypy",
        "pip",
        "pydoc",
        "wheel",
        "easy_install",
        "__pycache__",
    ]
    .iter()
    .any(|prefix| script.starts_with(prefix))
}
