//! An upgrade that was decided on: built, and ready to go live.

use std::path::PathBuf;

use super::Record;
use crate::action::Action;
use crate::git::{Exclude, counted};
use crate::host::Host;
use crate::operations::{Change, Check};
use crate::python::{Build, Package, PackageChange, Packages, PythonError, Switch, in_place, scripts_of};

/// A new virtualenv that is to be built and to go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Upgrade {
    /// How it is built.
    pub build: Build,
    /// What goes live once it is built.
    pub goes_live: Ready,
}

/// A new virtualenv that can go live.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it is; a program may use it there already.
    pub staged: PathBuf,
    /// The packages that are added, replaced or dropped.
    pub changes: Vec<PackageChange>,
    /// Brings it live.
    pub switch: Switch,
    /// Undoes that.
    pub back: Switch,
    /// Hides from git what the switch makes in a checkout, and shows it again.
    pub hides: Option<(Exclude, Exclude)>,
    /// For the next update, once the virtualenv is live.
    pub record: Record,
    /// What a person may want to know beforehand: what did not succeed, or may surprise.
    pub warnings: Vec<String>,
    /// Whether it was there already.
    pub reused: bool,
    /// Programs in `bin` of the live virtualenv that the new one lacks: a service that runs one will not start.
    pub missing_scripts: Vec<String>,
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
        let missing = match &self.build.place {
            Some(place) => in_place::lost_programs(&place.path),
            None => live.difference(&next).cloned().collect(),
        };
        let missing = missing.into_iter().filter(|name| !comes_with_python(name));
        let mut ready = self.goes_live.clone();
        ready.reused = built.reused;
        ready.warnings.extend(built.warnings);
        ready.missing_scripts = missing.collect();
        Ok(ready)
    }

    pub(super) fn change(&self) -> Check {
        let ready = &self.goes_live;
        let mut change = change(ready, &ready.warnings);
        change.actions.insert(0, Action::BuildVirtualenv(self.build.clone()));
        Check::Change(change).hiding(ready.hides.as_ref())
    }
}

impl Ready {
    /// Makes one of which nothing more is known than what it changes and how it goes live.
    pub(crate) fn new(staged: PathBuf, changes: Vec<PackageChange>, switch: Switch, back: Switch) -> Self {
        Ready {
            staged,
            changes,
            switch,
            back,
            hides: None,
            record: Record::default(),
            warnings: Vec::new(),
            reused: false,
            missing_scripts: Vec::new(),
        }
    }

    pub(super) fn change(&self) -> Check {
        Check::Change(change(self, &[])).hiding(self.hides.as_ref())
    }
}

fn change(ready: &Ready, warnings: &[String]) -> Change {
    let changes = &ready.changes;
    let side = |version: fn(&PackageChange) -> Option<&String>| {
        let packages = changes
            .iter()
            .filter_map(|change| Some(Package::new(change.name.clone(), version(change)?.clone())));
        packages.collect::<Packages>().summary()
    };
    // Where packages only come or only go, the details say it all.
    let is_exchange = changes.iter().any(|change| change.from.is_some())
        && changes.iter().any(|change| change.to.is_some());
    let [before, after] = match is_exchange {
        true => [side(|change| change.from.as_ref()), side(|change| change.to.as_ref())],
        false => [String::new(), String::new()],
    };
    let warnings = warnings.iter().map(|warning| format!("! {warning}"));
    let in_place = if ready.switch.is_in_place() { ", in place" } else { "" };
    Change {
        reason: summary(changes) + in_place,
        before,
        after,
        details: changes.iter().map(ToString::to_string).chain(warnings).collect(),
        packages: changes.to_vec(),
        actions: vec![Action::SwitchVirtualenv(ready.switch.clone())],
        undo: vec![Action::SwitchVirtualenv(ready.back.clone())],
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
