//! Installs the packages that a site needs into a new virtualenv beside the live one.
//!
//! The course: `observe` reads files, `decide` tells whether an installer must be asked at all, `resolve` asks it, and
//! `compare` says what to build. [`plan`](PipInstall::plan) is all of it; [`Upgrade::build`] builds what was planned, and the
//! [`Switch`](crate::python::Switch) brings it live.

mod compare;
mod movable;
mod of_checkout;
mod python;
mod record;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::{Check, Operation};
use crate::action::Context;
use crate::host::files::{self, Found};
use crate::host::{Host, trial};
use crate::python::{
    Budget, LockedSet, PythonError, Required, Requirements, Resolution, Resolved, Source, Tool, Virtualenv,
};

pub use crate::python::{Installer, Lock, Packages, UpgradeStrategy, Wanted};
use python::Python;
pub use record::Record;
pub(crate) use upgrade::summary;
pub use upgrade::{Ready, Upgrade};

/// What a plan says of packages that change in place while programs use them.
const UNSTOPPED: &str = "! no web service is stopped meanwhile: a program of this virtualenv that runs may load old and new packages";

/// Installs the packages that requirements files or a lock file name.
#[derive(Clone, Debug)]
pub struct PipInstall {
    /// The path that the site uses; a directory or a link. It stays the same.
    pub virtualenv: PathBuf,
    /// The requirements files, or the lock file.
    pub wanted: Wanted,
    /// The checkout or staged tree that they are part of. Relative paths in them start here.
    pub directory: PathBuf,
    /// The live checkout; the same as `directory` but for an update.
    pub checkout: PathBuf,
    /// The installer; default: [`Installer::Auto`].
    pub installer: Installer,
    /// More arguments for it. Passwords are refused here: `PIP_INDEX_URL` in the site's virtualenv, `pip.conf` and
    /// `netrc` are the places for them.
    pub extra_args: Vec<String>,
    /// The directory in which virtualenvs are built; made when it is missing.
    pub virtualenvs: PathBuf,
    /// What the last successful update recorded. While it holds, no installer is asked; without it, one always is.
    pub record: Option<Record>,
    /// How far packages move; default: [`UpgradeStrategy::OnlyIfNeeded`].
    pub upgrade: UpgradeStrategy,
    /// The Python that the virtualenv is to have: a version such as `3.12`, or the path of an interpreter; default: the one
    /// that it has.
    pub python: Option<String>,
    /// Whether the virtualenv stays where it is, and its packages are exchanged inside it; default: a link takes its place.
    /// Every program that uses the virtualenv sees the change at once.
    pub in_place: bool,
    /// For resolving, and again for building; default: 30 minutes.
    pub deadline: Duration,
}

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct VirtualenvFacts {
    /// The live virtualenv.
    virtualenv: Virtualenv,
    requirements: Requirements,
    /// Where uv is, if it is installed.
    uv: Option<PathBuf>,
    /// A directory that is not writable and would have to be.
    unwritable: Option<PathBuf>,
    /// Whether the virtualenv is a mount of its own.
    mount_point: bool,
    /// What tells pip, and not uv, where packages come from: a file or a variable.
    index_of_pip: Option<PathBuf>,
    /// What the project says of the Python that it is for.
    required: Required,
}

/// Whether an installer has to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing is to do, and why.
    Unchanged(String),
    /// This one has to be asked.
    Resolve(Tool),
}

/// What is to be installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    resolved: Resolved,
    /// The packages of the checkout.
    sources: Vec<Source>,
    /// The lock, where there is one.
    locked: Option<LockedSet>,
}

/// What is to be done about the packages.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// The live virtualenv already has the required packages.
    Unchanged {
        /// Why, as a fragment.
        reason: String,
        /// For the next update.
        record: Record,
    },
    /// A new virtualenv is needed; the change also builds it.
    Upgrade(Box<Upgrade>),
    /// A new virtualenv is built and can go live.
    Ready(Box<Ready>),
}

impl Prepared {
    /// Says what bringing it live changes.
    #[must_use]
    pub fn change(&self) -> Check {
        match self {
            Prepared::Unchanged { reason, .. } => Check::unchanged(reason),
            Prepared::Upgrade(upgrade) => upgrade.change(),
            Prepared::Ready(ready) => ready.change(),
        }
    }

    /// Likewise, in a few words, for a run that stops the web or does not.
    pub(crate) fn change_in_window(&self, web_stops: bool) -> Check {
        let mut check = self.change().brief();
        if let Check::Change(change) = &mut check
            && self.goes_live().is_some_and(|ready| ready.switch.is_in_place())
        {
            match web_stops {
                true => change.reason.push_str(", inside the window"),
                false => change.details.push(UNSTOPPED.to_owned()),
            }
        }
        check
    }

    /// Returns the virtualenv that goes live, if a new one is needed.
    pub(crate) fn goes_live(&self) -> Option<&Ready> {
        match self {
            Prepared::Unchanged { .. } => None,
            Prepared::Upgrade(upgrade) => Some(&upgrade.goes_live),
            Prepared::Ready(ready) => Some(ready),
        }
    }

    /// Returns what a successful update leaves for the next one.
    pub(crate) fn record(&self) -> &Record {
        match self {
            Prepared::Unchanged { record, .. } => record,
            Prepared::Upgrade(upgrade) => &upgrade.goes_live.record,
            Prepared::Ready(ready) => &ready.record,
        }
    }
}

impl PipInstall {
    /// Makes an installation with the default settings.
    #[must_use]
    pub fn new(
        virtualenv: impl Into<PathBuf>,
        wanted: impl Into<Wanted>,
        directory: impl Into<PathBuf>,
        virtualenvs: impl Into<PathBuf>,
    ) -> Self {
        let directory = directory.into();
        PipInstall {
            virtualenv: virtualenv.into(),
            wanted: wanted.into(),
            checkout: directory.clone(),
            directory,
            installer: Installer::Auto,
            extra_args: Vec::new(),
            virtualenvs: virtualenvs.into(),
            record: None,
            upgrade: UpgradeStrategy::OnlyIfNeeded,
            python: None,
            in_place: false,
            deadline: Duration::from_secs(30 * 60),
        }
    }

    /// Looks at the virtualenv and the requirements; starts no program.
    fn observe(&self, host: &Host) -> Result<VirtualenvFacts, PythonError> {
        let requirements = self.wanted.read(&self.directory, &self.extra_args)?;
        Virtualenv::may_change(&self.virtualenv, self.in_place)?;
        let virtualenv = Virtualenv::read(&self.virtualenv)?;
        let changed = match self.in_place {
            true => crate::python::in_place::changes(&self.virtualenv),
            false => vec![files::parent(&self.virtualenv).to_owned()],
        };
        let unwritable = [nearest(&self.virtualenvs).to_owned()]
            .into_iter()
            .chain(changed)
            .find(|directory| access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err());
        Ok(VirtualenvFacts {
            virtualenv,
            requirements,
            uv: crate::python::find_uv(host),
            index_of_pip: crate::python::index_of_pip(
                host,
                &self.virtualenv,
                &self.directory,
                &self.extra_args,
            ),
            unwritable,
            mount_point: files::look(&self.virtualenv) == Found::Directory
                && trial::is_mount_point(&self.virtualenv),
            required: Required::read(match &self.wanted {
                Wanted::Lock(lock) => &lock.project,
                Wanted::Requirements(_) => &self.directory,
            }),
        })
    }

    /// Tells whether all is as the last successful update recorded it; starts no program.
    pub(crate) fn is_as_recorded(&self, host: &Host) -> bool {
        let facts = self.observe(host).ok();
        facts.is_some_and(|facts| matches!(self.decide(&facts), Ok(Decision::Unchanged(_))))
    }

    /// Decides whether an installer has to be asked; fails when the observed state does not allow a new virtualenv.
    fn decide(&self, facts: &VirtualenvFacts) -> Result<Decision, PythonError> {
        if let Some(index) =
            self.extra_args.iter().position(|argument| crate::python::holds_credentials(argument))
        {
            return Err(PythonError::CredentialsInArguments { position: index + 1 });
        }
        let VirtualenvFacts { virtualenv, requirements, .. } = facts;
        if let Some(local) = &requirements.local {
            return Err(PythonError::LocalRequirement {
                file: local.file.strip_prefix(&self.directory).unwrap_or(&local.file).to_owned(),
                line: local.line,
                text: local.text.clone(),
                problem: local.problem,
            });
        }
        if let Some(record) = &self.record
            && !requirements.remote
            && record.fingerprint == requirements.fingerprint
            && record.python == virtualenv.python
            && record.required == self.required_of_python(facts)
            && record.changes_since(&virtualenv.packages, &self.checkout).is_empty()
            && self.has_sources_of(record, facts)
        {
            // A plan compares as much as an update.
            let reason = format!("{} and the installed packages are as deploykit last saw them", self.wanted);
            return Ok(Decision::Unchanged(reason));
        }
        if facts.mount_point && !self.in_place {
            return Err(PythonError::DifferentFileSystem { path: self.virtualenv.clone() });
        }
        if let Some(directory) = &facts.unwritable {
            return Err(PythonError::VirtualenvNotWritable { directory: directory.clone() });
        }
        if self.python.is_none() {
            virtualenv.base()?;
        }
        let has_pip = virtualenv.packages.get("pip").is_some();
        let of_pip = facts.index_of_pip.as_ref();
        match (self.installer, &facts.uv) {
            (Installer::Auto, Some(_)) if of_pip.is_some() && has_pip => Ok(Decision::Resolve(Tool::Pip)),
            (Installer::Uv, Some(_)) if of_pip.is_some_and(|file| file.starts_with(&self.virtualenv)) => {
                Err(PythonError::IndexOfPip { file: self.virtualenv.join("pip.conf") })
            }
            (Installer::Uv, None) => Err(PythonError::InstallerMissing { program: "uv" }),
            (Installer::Auto | Installer::Uv, Some(program)) => {
                Ok(Decision::Resolve(Tool::Uv { program: program.clone() }))
            }
            (Installer::Auto | Installer::Pip, _) if has_pip => Ok(Decision::Resolve(Tool::Pip)),
            _ => Err(PythonError::NoPip { virtualenv: self.virtualenv.clone() }),
        }
    }

    /// Asks the installer what the requirements mean today, or reads the lock; changes nothing.
    fn resolve(
        &self,
        host: &Host,
        facts: &VirtualenvFacts,
        tool: &Tool,
        python: &Python,
    ) -> Result<Answer, PythonError> {
        let requirements = match &self.wanted {
            Wanted::Requirements(files) => files,
            Wanted::Lock(lock) => {
                let own = facts.virtualenv.path.join("bin/python");
                let python = python.other().unwrap_or(&own);
                let (lock, notice) = self.with_project(lock, facts);
                let set = lock.read(host, python, Budget::new(self.deadline))?;
                let sources = set.sources(&self.directory, &lock.file)?;
                let (packages, warnings) =
                    (set.packages(), set.warnings.iter().cloned().chain(notice).collect());
                let resolved = Resolved { packages, warnings, ..Resolved::default() };
                return Ok(Answer { resolved, sources, locked: Some(set) });
            }
        };
        let sources = facts.requirements.sources.clone();
        let others = self.others(&facts.virtualenv.packages, &sources);
        let installed = &facts.virtualenv.packages;
        let formerly = self.record.as_ref().map(|record| record.asked(installed, &self.checkout));
        let formerly = formerly.unwrap_or_default();
        let resolution = Resolution {
            tool,
            virtualenv: &Virtualenv { packages: others, ..facts.virtualenv.clone() },
            requirements,
            directory: &self.directory,
            extra_args: &self.extra_args,
            virtualenvs: &self.virtualenvs,
            upgrade: self.upgrade,
            formerly: &formerly,
            sources: &sources,
            base: python.other(),
        };
        Ok(Answer { resolved: resolution.run(host, self.deadline)?, sources, locked: None })
    }

    /// Says what would be done, and why; changes nothing.
    ///
    /// # Errors
    ///
    /// See [`PythonError`].
    pub fn plan(&self, host: &Host) -> Result<Prepared, PythonError> {
        let facts = self.observe(host)?;
        match self.decide(&facts)? {
            Decision::Unchanged(reason) => {
                let record = self.record.clone().unwrap_or_default();
                Ok(Prepared::Unchanged { reason, record })
            }
            Decision::Resolve(tool) => {
                let python = self.python(host, &facts)?;
                let answer = self.resolve(host, &facts, &tool, &python)?;
                self.compare(&facts, &tool, &python, answer)
            }
        }
    }

    /// Plans, and builds the new virtualenv where one is needed; nothing that the site uses is touched.
    ///
    /// # Errors
    ///
    /// See [`PythonError`].
    pub fn build(&self, host: &Host) -> Result<Prepared, PythonError> {
        match self.plan(host)? {
            Prepared::Upgrade(upgrade) => Ok(Prepared::Ready(Box::new(upgrade.build(host)?))),
            other => Ok(other),
        }
    }
}

impl Operation for PipInstall {
    type Prepared = Prepared;
    type Error = PythonError;

    fn name(&self) -> &'static str {
        "pip-install"
    }

    fn prepare(&self, context: &mut Context) -> Result<Prepared, PythonError> {
        self.plan(&context.host)
    }

    fn change(&self, prepared: &Prepared) -> Check {
        prepared.change()
    }
}

/// Returns a directory, or the nearest existing one above it.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(path)
}

#[cfg(test)]
mod tests;
