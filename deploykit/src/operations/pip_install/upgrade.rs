//! An upgrade that was decided on: built, and ready to go live.

use std::path::PathBuf;

use super::Record;
use crate::action::Action;
use crate::git::{Exclude, counted};
use crate::host::Host;
use crate::operations::{Change, Check};
use crate::python::{Build, Package, PackageChange, Packages, PythonError, Switch, scripts_of};

/// A new virtualenv that is to be built and to go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Upgrade {
    /// The packages that are added, replaced or dropped.
    pub changes: Vec<PackageChange>,
    /// How it is built.
    pub build: Build,
    /// Brings it live.
    pub switch: Switch,
    /// Undoes that.
    pub back: Switch,
    /// Hides from git what the switch makes in a checkout, and shows it again.
    pub hides: Option<(Exclude, Exclude)>,
    /// For the next update, once the virtualenv is live.
    pub record: Record,
    /// What a person may want to know beforehand.
    pub warnings: Vec<String>,
    /// A directory above the new virtualenv that other users cannot enter, while they can enter the live one.
    pub shut: Option<PathBuf>,
}

/// A new virtualenv that is built and can go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it is; a program may use it there already.
    pub staged: PathBuf,
    /// What identifies its packages.
    pub key: String,
    /// The packages that were added, replaced or dropped.
    pub changes: Vec<PackageChange>,
    /// Brings it live.
    pub switch: Switch,
    /// Undoes that.
    pub back: Switch,
    /// Hides from git what the switch makes in a checkout, and shows it again.
    pub hides: Option<(Exclude, Exclude)>,
    /// For the next update, once the virtualenv is live.
    pub record: Record,
    /// Whether it was there already.
    pub reused: bool,
    /// What did not succeed, or may surprise.
    pub warnings: Vec<String>,
    /// Programs in `bin` of the live virtualenv that the new one lacks: a service that runs one will not start.
    pub missing_scripts: Vec<String>,
    /// A directory above it that shuts other users out, while the live virtualenv is open to them: services that run as
    /// another user cannot use it.
    pub shut: Option<PathBuf>,
}

impl Upgrade {
    /// Builds the virtualenv that was planned; nothing that the site uses is touched.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or the requirements changed since.
    pub fn build(&self, host: &Host) -> Result<Ready, PythonError> {
        let built = self.build.run(host)?;
        let [live, next] = [&self.build.virtualenv, &self.build.staged].map(|path| scripts_of(path));
        let missing = live.difference(&next).filter(|name| !comes_with_python(name));
        Ok(Ready {
            staged: self.build.staged.clone(),
            key: self.build.key(),
            changes: self.changes.clone(),
            switch: self.switch.clone(),
            back: self.back.clone(),
            hides: self.hides.clone(),
            record: self.record.clone(),
            reused: built.reused,
            warnings: self.warnings.iter().cloned().chain(built.warnings).collect(),
            missing_scripts: missing.cloned().collect(),
            shut: self.shut.clone(),
        })
    }

    pub(super) fn change(&self) -> Check {
        let mut change = change(&self.changes, &self.warnings, &self.switch, &self.back);
        change.actions.insert(0, Action::BuildVirtualenv(self.build.clone()));
        Check::Change(change).hiding(self.hides.as_ref())
    }
}

impl Ready {
    /// Makes one from a virtualenv that was live before; `changes` lead back to it.
    pub(crate) fn again(staged: PathBuf, changes: Vec<PackageChange>, switch: Switch, back: Switch) -> Self {
        Ready {
            staged,
            key: String::new(),
            changes,
            switch,
            back,
            hides: None,
            record: Record::default(),
            reused: true,
            warnings: Vec::new(),
            missing_scripts: Vec::new(),
            shut: None,
        }
    }

    pub(super) fn change(&self) -> Check {
        Check::Change(change(&self.changes, &[], &self.switch, &self.back)).hiding(self.hides.as_ref())
    }
}

fn change(changes: &[PackageChange], warnings: &[String], switch: &Switch, back: &Switch) -> Change {
    let side = |version: fn(&PackageChange) -> Option<&String>| {
        let packages = changes
            .iter()
            .filter_map(|change| Some(Package::new(change.name.clone(), version(change)?.clone())));
        packages.collect::<Packages>().summary()
    };
    let warnings = warnings.iter().map(|warning| format!("! {warning}"));
    Change {
        reason: summary(changes),
        before: side(|change| change.from.as_ref()),
        after: side(|change| change.to.as_ref()),
        details: changes.iter().map(ToString::to_string).chain(warnings).collect(),
        packages: changes.to_vec(),
        actions: vec![Action::SwitchVirtualenv(switch.clone())],
        undo: vec![Action::SwitchVirtualenv(back.clone())],
        ..Change::default()
    }
}

/// Says in a few words which packages change.
pub(crate) fn summary(changes: &[PackageChange]) -> String {
    match changes {
        [] => "the same packages".to_owned(),
        [one] => one.to_string(),
        many => format!("{} change", counted(many.len(), "package")),
    }
}

/// Programs that depend on the tool that made the virtualenv.
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
