//! Lock files: the exact set of packages that uv, Poetry, PDM, Pipenv or another tool resolved.
//!
//! A format is a file here and an entry of [`FORMATS`]: it turns the text of a lock into a [`LockedSet`]. What follows is
//! the same for all of them, and nearly the same as for requirements files. No code of the project runs, and of the tools
//! only uv is needed, to read its own lock.

mod content_hash;
mod error;
mod index;
mod locked;
mod marker;
mod pdm;
mod pipenv;
mod poetry;
mod pylock;
mod python;
mod uv;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::installer::Budget;
use super::packages::normalise;
use super::sources;
use crate::digest;
use crate::host::Host;
use crate::names;

pub use error::LockFileError;
pub(crate) use locked::LockedSet;
use locked::{Locked, Source};
use marker::Markers;
pub(super) use marker::allows;

/// A lock file, and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The file; absolute. Its name says which tool wrote it.
    pub file: PathBuf,
    /// The directory of the `pyproject.toml` or `Pipfile` that the lock was made from.
    pub project: PathBuf,
    /// Dependency groups that are wanted beside the dependencies of the project.
    pub groups: Vec<String>,
    /// Extras of the project that are wanted.
    pub extras: Vec<String>,
    /// Whether the project itself is installed, as an editable package; `None`: if the live virtualenv has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_project: Option<bool>,
}

/// How the locks of a tool are read.
pub(super) struct Format {
    /// The name of its files; `*` stands for anything without a dot.
    name: &'static str,
    /// What a lock is made from, in the project's directory.
    manifest: Option<&'static str>,
    /// The command that updates a lock; empty where several tools write such locks.
    update: &'static str,
    read: fn(&Reading<'_>) -> Result<LockedSet, LockFileError>,
}

const FORMATS: [Format; 6] =
    [uv::FORMAT, poetry::FORMAT, pdm::FORMAT, pipenv::FORMAT, pylock::FORMAT, pylock::NAMED];

impl Format {
    fn fits(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => name == self.name,
            Some((start, end)) => {
                let inner = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
                inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('.'))
            }
        }
    }
}

/// A lock that is being read.
struct Reading<'r> {
    lock: &'r Lock,
    format: &'static Format,
    /// The contents of the lock.
    data: Value,
    /// The contents of what it was made from.
    manifest: Value,
    /// The Python that the packages are for, and what is wanted.
    markers: Markers,
    /// For a tool that reads its own lock.
    program: Option<Program<'r>>,
}

/// How uv is run.
#[derive(Clone, Copy)]
struct Program<'r> {
    host: &'r Host,
    /// The Python of the virtualenv.
    python: &'r Path,
    budget: Budget,
}

impl Lock {
    /// Returns the selection of the project's own dependencies, without groups and extras.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        let project = file.parent().unwrap_or(Path::new("/")).to_owned();
        Lock { file, project, ..Lock::default() }
    }

    /// Returns the names of the lock files that can be read.
    pub fn known() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|format| format.name)
    }

    fn format(&self) -> Result<&'static Format, LockFileError> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let format = FORMATS.iter().find(|format| format.fits(&name));
        format.ok_or_else(|| LockFileError::UnknownName {
            file: self.file.clone(),
            known: Lock::known().map(str::to_owned).collect(),
        })
    }

    /// Fails when the name of the file is not that of a lock file.
    pub(crate) fn check_name(&self) -> Result<(), LockFileError> {
        self.format().map(|_| ())
    }

    /// Returns the files that say what to install: the lock, and what it was made from.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, LockFileError> {
        let manifest = self.format()?.manifest.map(|name| self.project.join(name));
        Ok([self.file.clone()].into_iter().chain(manifest).collect())
    }

    /// Returns a hash of the files, of the selection and of the installer's arguments; not of paths.
    pub(crate) fn fingerprint(&self, extra_args: &[String]) -> Result<String, LockFileError> {
        let mut text = String::new();
        for file in self.files()? {
            let contents = read(&file)?;
            let _ = writeln!(text, "\0file {}\n{contents}", contents.len());
        }
        for (kind, names) in
            [("group", &self.groups), ("extra", &self.extras), ("argument", &extra_args.to_vec())]
        {
            for name in names {
                let _ = writeln!(text, "\0{kind} {name}");
            }
        }
        Ok(digest::sha256(text.as_bytes()))
    }

    /// Returns what the lock means for a Python. Its markers are asked of the Python itself.
    pub(crate) fn read(
        &self,
        host: &Host,
        python: &Path,
        budget: Budget,
    ) -> Result<LockedSet, LockFileError> {
        let markers = python::markers(self, host, python, budget)?;
        let mut set = self.read_for(markers, Some(Program { host, python, budget }))?;
        if self.install_project == Some(true) {
            set.add(self.itself(), &self.file)?;
        }
        Ok(set)
    }

    /// Returns the entry of the project itself.
    fn itself(&self) -> Locked {
        let name = self.project_name().unwrap_or_else(|| "project".to_owned());
        let path = names::normal(&self.project);
        let source = Source::Directory { path, editable: true, extras: self.extras.clone() };
        Locked { name, version: String::new(), hashes: Vec::new(), source }
    }

    /// Returns the name of the project, as it is compared.
    pub(crate) fn project_name(&self) -> Option<String> {
        sources::Source::default().name(&self.project)
    }

    /// Tells whether its tool would install the project itself, too.
    pub(crate) fn is_of_a_package(&self) -> bool {
        let file = self.project.join("pyproject.toml");
        let manifest = read(&file).and_then(|text| parse(&file, &text)).unwrap_or_default();
        let is_off = ["/tool/uv/package", "/tool/poetry/package-mode", "/tool/pdm/distribution"]
            .iter()
            .any(|key| manifest.pointer(key) == Some(&Value::Bool(false)));
        manifest.get("build-system").is_some() && !is_off && !self.file.ends_with("Pipfile.lock")
    }

    fn read_for(
        &self,
        mut markers: Markers,
        program: Option<Program<'_>>,
    ) -> Result<LockedSet, LockFileError> {
        let format = self.format()?;
        let data = parse(&self.file, &read(&self.file)?)?;
        let manifest = match format.manifest.map(|name| self.project.join(name)) {
            Some(file) => parse(&file, &read(&file)?)?,
            None => Value::Null,
        };
        markers.extras = self.extras.iter().map(|name| normalise(name)).collect();
        markers.groups = self.groups.iter().map(|name| normalise(name)).collect();
        (format.read)(&Reading { lock: self, format, data, manifest, markers, program })
    }
}

impl Reading<'_> {
    fn unreadable(&self, problem: impl Into<String>) -> LockFileError {
        LockFileError::Unreadable { file: self.lock.file.clone(), problem: problem.into() }
    }

    fn stale(&self) -> LockFileError {
        let manifest = self.lock.project.join(self.format.manifest.unwrap_or_default());
        LockFileError::Stale { file: self.lock.file.clone(), manifest, update: self.format.update }
    }

    fn other_version(&self, found: String, expected: &'static str) -> LockFileError {
        let update = self.format.update;
        LockFileError::Version { file: self.lock.file.clone(), found, expected, update }
    }

    /// Checks that the lock has the groups or the extras that are wanted.
    fn has_all<'k>(
        &self,
        kind: &'static str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Result<(), LockFileError> {
        let wanted = if kind == "group" { &self.lock.groups } else { &self.lock.extras };
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_unstable();
        known.dedup();
        let missing =
            wanted.iter().find(|wanted| !known.iter().any(|known| normalise(known) == normalise(wanted)));
        match missing {
            None => Ok(()),
            Some(name) => Err(LockFileError::UnknownSelection {
                file: self.lock.file.clone(),
                kind,
                name: name.clone(),
                known: known.into_iter().map(str::to_owned).collect(),
            }),
        }
    }

    /// Checks that the lock is for the Python of the virtualenv.
    fn is_for_this_python(&self, required: Option<&str>) -> Result<(), LockFileError> {
        let Some(required) = required else { return Ok(()) };
        let python = self.markers.python();
        match marker::allows(required, python) {
            Some(true) => Ok(()),
            Some(false) => Err(LockFileError::OtherPython {
                file: self.lock.file.clone(),
                required: required.to_owned(),
                python: python.to_owned(),
            }),
            None => Err(self.unreadable(format!("`{required}` is not a version specifier for Python"))),
        }
    }

    /// Tells whether an entry applies.
    fn meets(&self, package: &str, marker: Option<&str>) -> Result<bool, LockFileError> {
        let Some(marker) = marker.filter(|marker| !marker.trim().is_empty()) else { return Ok(true) };
        let met = self.markers.meet(marker);
        met.map_err(|problem| self.unreadable(format!("marker `{marker}` of `{package}`: {problem}")))
    }

    /// Returns the name of an entry.
    fn name_of<'v>(&self, entry: &'v Value) -> Result<&'v str, LockFileError> {
        text(entry, "name").ok_or_else(|| self.unreadable("an entry has no name"))
    }

    /// Returns an entry that is a directory.
    fn directory(&self, name: &str, path: &str, editable: bool) -> Locked {
        let path = names::normal(&files_directory(&self.lock.file).join(path));
        let source = Source::Directory { path, editable, extras: Vec::new() };
        Locked { name: name.to_owned(), version: String::new(), hashes: Vec::new(), source }
    }

    /// Returns an entry that is a file or directory beside the lock, as it is on this machine.
    fn file(
        &self,
        name: &str,
        entry: &Value,
        path: &str,
        hashes: Vec<String>,
    ) -> Result<Locked, LockFileError> {
        let file = names::normal(&files_directory(&self.lock.file).join(path));
        if file.is_dir() {
            let editable = entry.get("editable").and_then(Value::as_bool).unwrap_or_default();
            return Ok(self.directory(name, path, editable));
        }
        let version = text(entry, "version").unwrap_or_default().trim_start_matches('=');
        let hashes = if hashes.is_empty() {
            let bytes =
                fs::read(&file).map_err(|source| LockFileError::Missing { file: file.clone(), source })?;
            vec![format!("sha256:{}", digest::sha256(&bytes))]
        } else {
            hashes
        };
        Ok(Locked { name: name.to_owned(), version: version.to_owned(), hashes, source: Source::File(file) })
    }
}

fn files_directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

/// Returns the address of a Git repository as installers take it: `git@host:path` is `ssh://git@host/path`.
fn git_url(url: &str) -> String {
    let url = url.strip_prefix("git+").unwrap_or(url);
    match url.split_once(':') {
        Some((host, path)) if !url.contains("://") && !host.contains('/') => format!("ssh://{host}/{path}"),
        _ => url.to_owned(),
    }
}

fn read(file: &Path) -> Result<String, LockFileError> {
    let missing = |source| LockFileError::Missing { file: file.to_owned(), source };
    fs::read_to_string(file).map_err(missing)
}

/// Reads TOML, or the JSON of Pipenv.
fn parse(file: &Path, text: &str) -> Result<Value, LockFileError> {
    let unreadable = |problem: String| LockFileError::Unreadable { file: file.to_owned(), problem };
    if file.extension().is_some_and(|extension| extension == "lock") && text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
    }
    toml::from_str(text).map_err(|error| unreadable(error.message().to_owned()))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v str> {
    items(value, key).filter_map(Value::as_str)
}

fn keys(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_object).into_iter().flat_map(|table| table.keys().map(String::as_str))
}

/// Reads bytes as a lock of each format, and as what it was made from.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let markers = Markers::linux("3.11.7");
    let _ = (markers.meet(&text), marker::allows(&text, "3.11.7"));
    // uv reads its own.
    for format in &FORMATS[1..] {
        let lock = Lock::new(format!("/srv/{}", format.name));
        let Ok(data) = parse(&lock.file, &text) else { continue };
        let (manifest, markers) = (data.clone(), markers.clone());
        let reading = Reading { lock: &lock, format, data, manifest, markers, program: None };
        let _ = (format.read)(&reading).map(|set| {
            (set.packages(), set.options(true), set.requirements(&super::packages::Packages::new()))
        });
    }
}

#[cfg(test)]
mod tests;
