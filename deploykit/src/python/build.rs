//! Builds a virtualenv beside the live one, at the place where it stays.

mod along;
mod conflicts;
mod in_place;
mod locked;
mod of_checkout;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::PythonError;
use super::in_place::Place;
use super::installer::{Budget, Tool, isolated, newer_pip};
use super::lock::LockedSet;
use super::marker::Marker;
use super::own::{Moved, OwnFiles};
use super::packages::{PackageChange, Packages, SEEDS};
use super::requirements::Requirements;
use super::resolve::release;
use super::sources::{Copied, Source};
use super::virtualenv::Virtualenv;
use super::wanted::Wanted;
use crate::command::Command;
use crate::digest;
use crate::host::files::{self, FileError};
use crate::host::{CommandError, Host, Output, with_umask};
use crate::names;

/// A virtualenv that is to be there, with exactly these packages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Where it is built and stays.
    #[serde(alias = "environment")]
    pub staged: PathBuf,
    /// The virtualenv that the site uses.
    pub virtualenv: PathBuf,
    /// The Python that it is made with.
    pub base: PathBuf,
    /// The version of that Python, `3.11`.
    pub python: String,
    /// That Python, if it is another one than that of the virtualenv: nothing is shared then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<PathBuf>,
    /// What a shell shows while it is active.
    pub prompt: String,
    /// Whether it sees the packages of the system.
    pub system_site_packages: bool,
    /// What installs.
    pub tool: Tool,
    /// The requirements files, or the lock file.
    #[serde(rename = "requirements")]
    pub wanted: Wanted,
    /// Their [fingerprint](Requirements::fingerprint) when they were resolved.
    pub fingerprint: String,
    /// The directory to run in: the top of the checkout or staged tree that the requirements are part of.
    pub directory: PathBuf,
    /// The live checkout.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub checkout: PathBuf,
    /// More arguments for the installer; without passwords.
    pub extra_args: Vec<String>,
    /// What is to be installed.
    pub packages: Packages,
    /// The normalised names of those packages that no requirement asks for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unasked: BTreeSet<String>,
    /// The [fingerprint](OwnFiles::fingerprint) of what people have put into the virtualenv.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub own: String,
    /// The packages of the checkout that are installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// What tells one state of these packages from another; empty without any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_state: String,
    /// What the lock means, where it was read already.
    #[serde(skip)]
    pub(crate) locked: Option<Box<LockedSet>>,
    /// pip, setuptools and wheel of the virtualenv, as far as the requirements do not mention them: what a site may use
    /// without saying so.
    pub seeds: BTreeMap<String, String>,
    /// The newer pip that pip told of while it resolved.
    pub newer_pip: Option<String>,
    /// Where its packages are prepared for a virtualenv that stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Milliseconds for all programs together.
    pub deadline_ms: u64,
}

/// A finished virtualenv.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Whether it was there already, whole.
    pub reused: bool,
    /// What did not succeed and does not matter to the site: pip could not be upgraded.
    pub warnings: Vec<String>,
}

impl Build {
    /// Builds it, unless it is there.
    ///
    /// # Errors
    ///
    /// When it cannot be built; the live virtualenv is never touched.
    pub fn perform(&self, host: &Host) -> Result<(), PythonError> {
        let built = self.run(host)?;
        for warning in &built.warnings {
            host.note(&format!("warning: {warning}"));
            log::warn!("{}", host.redactor().redact(warning));
        }
        Ok(())
    }

    /// Builds it, unless it is there, and tells what happened.
    ///
    /// # Errors
    ///
    /// As [`perform`](Build::perform).
    pub fn run(&self, host: &Host) -> Result<Built, PythonError> {
        // What is prepared may be live by now.
        let place = self.place.as_ref().filter(|place| !super::in_place::is_ready(&place.path));
        if place.is_some() {
            super::in_place::has_room(&self.virtualenv)?;
        }
        let built = self.complete(host)?;
        if let Some(place) = place {
            self.prepare_in(place, host)?;
        }
        Ok(built)
    }

    fn complete(&self, host: &Host) -> Result<Built, PythonError> {
        let directory = files::parent(&self.staged);
        for place in [directory, &self.staged] {
            files::own_directory(place, None)?;
        }
        let is_live = is_live(&self.virtualenv, &self.staged);
        if self.is_complete() {
            return Ok(Built { reused: true, ..Built::default() });
        }
        if is_live {
            return Err(PythonError::Live { staged: self.staged.clone() });
        }
        let wanted = self.wanted.read(&self.directory, &self.extra_args)?;
        if wanted.fingerprint != self.fingerprint {
            return Err(PythonError::RequirementsChanged { directory: self.directory.clone() });
        }
        let budget = Budget::new(Duration::from_millis(self.deadline_ms));
        files::remove_tree(&self.staged)?;
        // Not private: a service may run as another user than the one who updates.
        with_umask(host.umask(), || fs::create_dir_all(directory)).map_err(|source| {
            if source.kind() == io::ErrorKind::PermissionDenied
                || source.kind() == io::ErrorKind::ReadOnlyFilesystem
            {
                PythonError::VirtualenvNotWritable { directory: directory.to_owned() }
            } else {
                FileError { what: "create the directory", path: directory.to_owned(), source }.into()
            }
        })?;

        // Half a virtualenv is of no use, and on a full disk the site needs the room.
        let built = self.build(host, budget, &wanted);
        if built.is_err() {
            crate::error::warn(files::remove_tree(&self.staged));
        }
        built
    }

    fn build(&self, host: &Host, budget: Budget, wanted: &Requirements) -> Result<Built, PythonError> {
        let mut built = Built::default();
        self.make(host, budget)?;
        let mut own = OwnFiles::read(&self.virtualenv)?;
        if self.interpreter.is_some() {
            built.warnings.extend(own.leave_to_another_python());
        }
        let moved = Moved::new(&self.virtualenv, &self.staged);
        let at = |source| FileError { what: "take files along to", path: self.staged.clone(), source };
        // The installer reads them.
        own.place_settings(&moved).map_err(at)?;
        self.take_along(host, &mut built)?;
        self.ensure_pip(host, budget, &mut built)?;
        let copied = match self.sources.is_empty() {
            true => None,
            false => Some(Copied::make(host, &self.directory, files::parent(&self.staged), budget)?),
        };
        let run_in = copied.as_ref().map_or(&self.directory, |copied| &copied.path);
        let told = match &self.wanted {
            Wanted::Requirements(files) => self.install(host, budget, files, run_in)?,
            Wanted::Lock(lock) => self.install_locked(host, budget, lock, run_in)?,
        };
        if let Some(copied) = &copied {
            self.keep_nothing_of(copied)?;
        }
        self.install_unasked(host, budget, &wanted.options)?;
        let mut found = Virtualenv::read(&self.staged)?;
        if self.upgrade_pip(host, budget, wanted, told, &found, &mut built)? {
            found = Virtualenv::read(&self.staged)?;
        }
        own.place(&moved).map_err(at)?;
        // The one looks at what is installed, the other at the sources.
        let check = || self.check_conflicts(host, budget, &found);
        let compile = || self.compile(host, budget).map(|()| Vec::new());
        let both: [&(dyn Fn() -> Result<Vec<String>, PythonError> + Sync); 2] = [&check, &compile];
        for warnings in host.on_all_cores(&both, |one| one()) {
            built.warnings.extend(warnings?);
        }
        let differences = self.differences(&found);
        if !differences.is_empty() || found.python != self.python {
            return Err(PythonError::NotAsResolved { staged: self.staged.clone(), differences });
        }
        self.mark(&found, own.fingerprint)?;
        Ok(built)
    }

    /// Tells whether the virtualenv is there, finished, and still holds what it was built with.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let (Some(marker), Ok(found)) = (Marker::read(&self.staged), Virtualenv::read(&self.staged)) else {
            return false;
        };
        marker.python == self.python
            && marker.own == self.own
            && marker.sources == self.source_state
            && marker.tree == self.tree()
            && marker.of_checkout == self.of_checkout(&found.packages)
            && self.differences(&found).is_empty()
    }

    /// Returns a place for it: its key, or beside that where another virtualenv has to stay.
    pub(crate) fn vacant(&self, virtualenvs: &Path) -> PathBuf {
        names::vacant(virtualenvs, &self.key(), |place| {
            let here = Build { staged: place.to_owned(), ..self.clone() };
            here.is_of_another_tree() || is_live(&self.virtualenv, place) && !here.is_complete()
        })
    }

    /// Returns the name of the virtualenv: what is in it.
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = self.packages.key(&self.python, self.system_site_packages);
        if let Some(interpreter) = &self.interpreter {
            key.push_str(&names::text(interpreter));
            key = digest::sha256(key.as_bytes())[..16].to_owned();
        }
        match (self.own.as_str(), self.source_state.as_str()) {
            ("", "") => key,
            (own, "") => digest::sha256(format!("{key} {own}").as_bytes())[..16].to_owned(),
            (own, sources) => digest::sha256(format!("{key} {own} {sources}").as_bytes())[..16].to_owned(),
        }
    }

    /// From what is wanted to what is there.
    fn differences(&self, found: &Virtualenv) -> Vec<PackageChange> {
        let mut expected = self.packages.clone();
        // Whatever pip, setuptools and wheel are there, they came along.
        for name in SEEDS {
            if expected.get(name).is_none()
                && let Some(seed) = found.packages.get(name)
            {
                expected.insert(seed.clone());
            }
        }
        expected.changes_to(&self.without_sources(&found.packages))
    }

    fn make(&self, host: &Host, budget: Budget) -> Result<(), PythonError> {
        let system = self.system_site_packages.then_some("--system-site-packages");
        // The pip of the live virtualenv comes along; where it cannot, Python's own is unpacked, which takes seconds.
        let own_pip = self.tool == Tool::Pip && self.seeds.get("pip").is_none_or(|pip| pip.contains(' '));
        let bare = (self.tool == Tool::Pip && !own_pip).then_some("--without-pip");
        let command = match &self.tool {
            Tool::Pip => Command::new(&self.base).args(["-m", "venv"]),
            Tool::Uv { program } => {
                Command::new(program).args([Path::new("venv"), "--python".as_ref(), &self.base])
            }
        };
        let command = command.args(system).args(bare).args(["--prompt", &self.prompt]).arg(&self.staged);
        let command = isolated(command).deadline(budget.left());
        host.run(&command).map(|_| ()).map_err(|error| failed("making the virtualenv", error))
    }

    /// Makes a command of the installer that works on the staged virtualenv.
    fn installer(&self, words: &[&str], budget: Budget) -> Command {
        self.tool.command(&self.staged, words).directory(&self.directory).deadline(budget.left())
    }

    fn install(
        &self,
        host: &Host,
        budget: Budget,
        files: &[PathBuf],
        run_in: &Path,
    ) -> Result<Output, PythonError> {
        let constraints = private_file(files::parent(&self.staged), &self.packages.constraints())?;
        let mut args: Vec<&Path> = files.iter().flat_map(|file| ["-r".as_ref(), file.as_path()]).collect();
        args.extend(["-c".as_ref(), constraints.path()]);
        let command =
            self.installer(&["install"], budget).args(self.of_pip()).args(args).args(&self.extra_args);
        let command = self.tool.for_sources(command, &self.sources, run_in).directory(run_in);
        self.ask(host, budget, &command, "installing the packages")
    }

    /// Returns what pip is told beside what to install.
    fn of_pip(&self) -> &'static [&'static str] {
        match (&self.tool, self.system_site_packages) {
            (Tool::Uv { .. }, _) => &[],
            // Compiled in one go afterwards.
            (Tool::Pip, false) => &["--no-compile"],
            (Tool::Pip, true) => &["--no-compile", "--ignore-installed"],
        }
    }

    /// Acts on pip's notice that there is a newer one; returns whether it is installed now.
    fn upgrade_pip(
        &self,
        host: &Host,
        budget: Budget,
        wanted: &Requirements,
        told: Output,
        found: &Virtualenv,
        built: &mut Built,
    ) -> Result<bool, PythonError> {
        let newer =
            newer_pip(&told.stderr).or_else(|| newer_pip(&told.stdout)).or_else(|| self.newer_pip.clone());
        let (Tool::Pip, Some(newer), None) = (&self.tool, newer, self.packages.get("pip")) else {
            return Ok(false);
        };
        if found.packages.get("pip").is_some_and(|pip| release(&pip.version) >= release(&newer)) {
            return Ok(false);
        }
        // pip asks for its own version even where the requirements files say `--no-index`: there is none to be had then.
        if wanted.options.iter().any(|option| option.starts_with("--no-index")) {
            return Ok(false);
        }
        // Where the requirements files say to look is where pip is looked for too.
        let requirement = format!("pip>={newer}");
        let options = wanted.options.join("\n") + "\n" + &requirement + "\n";
        let options = private_file(files::parent(&self.staged), &options)?;
        let command = self.installer(&["install", "--upgrade"], budget);
        let command = command.args([Path::new("-r"), options.path()]).args(&self.extra_args);
        match host.run(&command) {
            Ok(_) => Ok(true),
            Err(error @ CommandError::Cancelled { .. }) => Err(error.into()),
            Err(error) => {
                let said = error.tail().iter().rfind(|line| line.to_lowercase().starts_with("error"));
                let last = said.cloned().unwrap_or_else(|| error.to_string());
                built.warnings.push(format!("pip could not be upgraded to {newer}: {last}"));
                Ok(false)
            }
        }
    }

    fn mark(&self, found: &Virtualenv, own: String) -> Result<(), PythonError> {
        let mut packages = self.packages.clone();
        for (name, installed) in found.packages.iter() {
            if let Some(package) = packages.get_mut(name) {
                package.version.clone_from(&installed.version);
            }
        }
        let marker = Marker {
            python: self.python.clone(),
            packages,
            own,
            sources: self.source_state.clone(),
            of_checkout: self.of_checkout(&found.packages),
            tree: self.tree().to_owned(),
        };
        // The marker must not survive a power failure that the packages did not.
        files::sync_file_system(&self.staged)?;
        Ok(marker.write(&self.staged)?)
    }
}

/// Without packages of the checkout it makes no difference.
fn is_unknown(checkout: &Path) -> bool {
    checkout.as_os_str().is_empty()
}

fn is_live(virtualenv: &Path, staged: &Path) -> bool {
    match (fs::canonicalize(virtualenv), fs::canonicalize(staged)) {
        (Ok(live), Ok(other)) => live == other,
        _ => false,
    }
}

fn failed(step: &'static str, error: CommandError) -> PythonError {
    match error {
        CommandError::Failed { .. } | CommandError::Killed { .. } => {
            PythonError::BuildFailed { step, source: Box::new(error) }
        }
        other => PythonError::Command(other),
    }
}

/// A file that only we can read and that is gone afterwards: index URLs may hold passwords. There need not be a `/tmp`.
fn private_file(directory: &Path, text: &str) -> Result<tempfile::NamedTempFile, PythonError> {
    (|| {
        let mut file = files::temporary_file_like(directory, ".txt")?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    })()
    .map_err(|source| FileError { what: "write into", path: directory.to_owned(), source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_place_is_never_built_on() {
        let directory = tempfile::tempdir().unwrap();
        let (virtualenvs, live) = (directory.path().join("environments"), directory.path().join("venv"));
        fs::create_dir_all(virtualenvs.join("key")).unwrap();
        let place = || names::vacant(&virtualenvs, "key", |place| is_live(&live, place));
        assert_eq!(place(), virtualenvs.join("key"));
        std::os::unix::fs::symlink(virtualenvs.join("key"), &live).unwrap();
        assert_eq!(place(), virtualenvs.join("key-2"));
    }
}
