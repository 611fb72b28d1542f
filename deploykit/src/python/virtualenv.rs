//! A virtualenv as its files describe it; no Python is started to read it.

mod conda;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use conda::of_conda;

use super::error::PythonError;
use super::marker::Marker;
use super::packages::{FILES_MISSING, Package, Packages, origin_of};
use crate::host::files::{self, FileError, InPath};

/// What is known of a virtualenv.
///
/// Source: <https://docs.python.org/3/library/venv.html>, <https://peps.python.org/pep-0405/>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtualenv {
    /// Where it was looked for; may be a link to it.
    pub path: PathBuf,
    /// Its Python without the patch level: `3.11`, `pypy3.10`.
    pub python: String,
    /// The directory of the Python that it was made with.
    pub home: PathBuf,
    /// The Python that it was made with; `None`: it is gone.
    pub base: Option<PathBuf>,
    /// What a shell shows while it is active.
    pub prompt: String,
    /// Whether it sees the packages of the system.
    pub system_site_packages: bool,
    /// What is installed in it.
    pub packages: Packages,
    /// Programs in its `bin`.
    pub scripts: BTreeSet<String>,
}

impl Virtualenv {
    /// Reads a virtualenv.
    ///
    /// # Errors
    ///
    /// When nothing is there, or something else, or it may not be read.
    pub fn read(path: &Path) -> Result<Self, PythonError> {
        // What this user may not see may be there all the same.
        if !path.try_exists().at("look at", path)? {
            return Err(PythonError::NoVirtualenv { path: path.to_owned() });
        }
        let no_virtualenv = || PythonError::NotAVirtualenv { path: path.to_owned() };
        let file = path.join("pyvenv.cfg");
        let settings = match fs::read_to_string(&file) {
            Ok(settings) => settings,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(FileError { what: "read", path: file, source: error }.into());
            }
            // An installation of Python is its own base.
            Err(_) if is_installation(path) => format!("home = {}\n", path.join("bin").display()),
            Err(_) => return Err(no_virtualenv()),
        };
        // A link into a Python that is gone is still the mark of a virtualenv.
        if fs::symlink_metadata(path.join("bin/python")).is_err() {
            return Err(no_virtualenv());
        }
        let settings = settings_of(&settings);
        let directories = site_packages(path);
        let python = directories.first().map(|(python, _)| python.clone()).ok_or_else(no_virtualenv)?;
        let home = PathBuf::from(settings.get("home").cloned().unwrap_or_default());
        let mut read = Virtualenv {
            path: path.to_owned(),
            base: base_python(&settings, &home, &python),
            python: python.strip_prefix("python").map_or(python.clone(), str::to_owned),
            home,
            prompt: settings
                .get("prompt")
                .map(|prompt| prompt.trim_matches(['\'', '"']).to_owned())
                .unwrap_or_else(|| {
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                }),
            system_site_packages: settings
                .get("include-system-site-packages")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
            scripts: scripts_of(path),
            ..Virtualenv::default()
        };
        for (_, directory) in directories {
            read.add_packages(&directory);
        }
        read.trust_commits_of(Marker::read(path).as_ref());
        read.forget_builds_of_conda(path);
        Ok(read)
    }

    /// Returns what is installed; nothing in what is no virtualenv.
    pub(crate) fn installed(path: &Path) -> Packages {
        let mut read = Virtualenv::default();
        for (_, directory) in site_packages(path) {
            read.add_packages(&directory);
        }
        read.trust_commits_of(Marker::read(path).as_ref());
        read.forget_builds_of_conda(path);
        read.packages
    }

    /// Checks that a link may take its place, or that its packages may be changed `in_place`.
    pub(crate) fn may_change(path: &Path, in_place: bool) -> Result<(), PythonError> {
        match owner_of(path) {
            Some((what, can_be)) if !(in_place && can_be) => {
                Err(PythonError::NotReplaceable { path: path.to_owned(), what, in_place: can_be })
            }
            _ => Ok(()),
        }
    }

    /// Returns the Python that it was made with.
    pub(crate) fn base(&self) -> Result<&Path, PythonError> {
        self.base.as_deref().ok_or_else(|| self.gone())
    }

    /// Returns the error of a virtualenv whose Python does not run.
    pub(crate) fn gone(&self) -> PythonError {
        PythonError::BasePythonGone {
            virtualenv: self.path.clone(),
            home: self.home.clone(),
            python: self.python.clone(),
        }
    }

    fn add_packages(&mut self, directory: &Path) {
        let names: BTreeSet<String> = names_in(directory).collect();
        // pip renames what it is about to remove to `~name`: a leftover of an interrupted run.
        for name in names.iter().filter(|name| !name.starts_with('~')) {
            let metadata = match name.rsplit_once('.') {
                Some((_, "dist-info")) => directory.join(name).join("METADATA"),
                Some((_, "egg-info")) if directory.join(name).is_dir() => {
                    directory.join(name).join("PKG-INFO")
                }
                Some((_, "egg-info")) => directory.join(name),
                _ => continue,
            };
            let Some(mut package) = fs::read(&metadata).ok().and_then(|text| package_of(&text)) else {
                continue;
            };
            package.origin = fs::read(directory.join(name).join("direct_url.json"))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .and_then(|direct| origin_of(&direct));
            if let Ok(record) = fs::read(directory.join(name).join("RECORD")) {
                let tops = top_level(&record);
                if tops.iter().any(|top| !names.contains(top)) {
                    package.version.push_str(FILES_MISSING);
                }
            }
            self.packages.insert(package);
        }
    }

    /// Packages of conda name a directory of the machine that built them: their version says what they are.
    fn forget_builds_of_conda(&mut self, path: &Path) {
        let is_gone = |package: &Package| {
            let from = package.installed_from().filter(|_| package.editable_from().is_none());
            from.is_some_and(|from| !from.exists())
        };
        for (_, packages) in site_packages(path) {
            let directories = names_in(&packages).filter(|directory| {
                let name = directory.strip_suffix(".dist-info").and_then(|stem| stem.split('-').next());
                name.and_then(|name| self.packages.get(name)).is_some_and(is_gone)
            });
            for directory in of_conda(path, &packages, directories.collect()).unwrap_or_default() {
                let name = directory.split('-').next().unwrap_or_default();
                if let Some(package) = self.packages.get_mut(name) {
                    package.origin = None;
                }
            }
        }
    }

    /// An editable package from a repository says where its clone is, not which commit: the build noted that.
    fn trust_commits_of(&mut self, marker: Option<&Marker>) {
        let Some(marker) = marker else { return };
        for (name, built) in marker.packages.iter() {
            if let Some(found) = self.packages.get_mut(name)
                && found.origin.as_ref().is_some_and(|origin| origin.starts_with("editable:"))
            {
                found.origin.clone_from(&built.origin);
            }
        }
    }
}

/// Tells whose Python it is, if a link must not take its place; and whether its packages can be changed in place.
fn owner_of(path: &Path) -> Option<(&'static str, bool)> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_conda = path.join("conda-meta").is_dir();
    let is_managed = || {
        let libraries = ["lib", "lib64"].map(|library| path.join(library));
        let mut pythons =
            libraries.iter().flat_map(|library| names_in(library).map(|name| library.join(name)));
        pythons.any(|python| python.join("EXTERNALLY-MANAGED").is_file())
    };
    if real.starts_with("/nix/store") || real.starts_with("/gnu/store") {
        Some(("part of the Nix or Guix store", false))
    } else if is_conda && is_managed() {
        Some(("a conda environment that pip must not change (`EXTERNALLY-MANAGED`)", false))
    } else if is_conda {
        Some(("a conda environment", true))
    } else if !is_installation(path) {
        None
    } else if is_managed() {
        Some(("the system's Python, not a virtualenv", false))
    } else {
        Some(("a Python installation, not a virtualenv", true))
    }
}

fn is_installation(path: &Path) -> bool {
    let is_file = |name: &str| path.join(name).is_file();
    !is_file("pyvenv.cfg") && (is_file("bin/python3") || is_file("bin/python"))
}

/// Returns the programs in the `bin` of a virtualenv.
pub(crate) fn scripts_of(path: &Path) -> BTreeSet<String> {
    names_in(&path.join("bin")).collect()
}

/// `key = value` lines; the keys in lower case.
fn settings_of(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned()))
        .collect()
}

/// Returns the directories of packages with the name of their Python: `python3.11`.
pub(crate) fn site_packages(path: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for library in ["lib", "lib64"] {
        // `lib64` usually is a link to `lib`, and must not count twice.
        let directory = path.join(library);
        if library == "lib64" && fs::symlink_metadata(&directory).is_ok_and(|found| found.is_symlink()) {
            continue;
        }
        let mut pythons: Vec<String> = names_in(&directory).filter(|name| name.contains("py")).collect();
        pythons.sort();
        for python in pythons.into_iter().filter(|python| !is_another_name(&directory.join(python))) {
            let packages = directory.join(&python).join("site-packages");
            if packages.is_dir() {
                found.push((python, packages));
            }
        }
    }
    found
}

/// Tells whether it is a link to something beside it: conda has `python3.1 -> python3.11`.
fn is_another_name(path: &Path) -> bool {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let real = |path: &Path| fs::canonicalize(path).ok();
    is_link && real(path).is_some_and(|to| to.parent() == real(files::parent(path)).as_deref())
}

fn base_python(settings: &BTreeMap<String, String>, home: &Path, python: &str) -> Option<PathBuf> {
    let named =
        ["executable", "base-executable"].iter().filter_map(|key| settings.get(*key)).map(PathBuf::from);
    // Only a name with the version is certain: a bare `python3` may be another one by now.
    named
        .chain([home.join(python)])
        .find(|file| file.is_file() && file.file_name().is_some_and(|name| name == python))
}

pub(crate) fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// Reads name and version from the header of a `METADATA` file.
///
/// Source: <https://packaging.python.org/en/latest/specifications/core-metadata/>
fn package_of(metadata: &[u8]) -> Option<Package> {
    let (mut name, mut version) = (None, None);
    // The description after the header may be long.
    for line in lines_of(metadata).map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty()) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let value = || Some(String::from_utf8_lossy(value)).filter(|value| !value.is_empty());
        if name.is_none() && key.eq_ignore_ascii_case(b"name") {
            name = value();
        } else if version.is_none() && key.eq_ignore_ascii_case(b"version") {
            version = value();
        }
        if let (Some(name), Some(version)) = (&name, &version) {
            return Some(Package::new(&**name, &**version));
        }
    }
    None
}

pub(super) fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', text).chain([text.len()]);
    ends.scan(0, |from, end| {
        let line = &text[*from..end];
        *from = end + 1;
        Some(line)
    })
}

/// Returns the file of a line of a `RECORD`, relative to the directory of packages.
///
/// Source: <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>
pub(super) fn file_of_record(line: &[u8]) -> &[u8] {
    let (file, end) = line.strip_prefix(b"\"").map_or((line, b','), |quoted| (quoted, b'"'));
    &file[..memchr::memchr(end, file).unwrap_or(file.len())]
}

/// Returns what a `RECORD` has in the directory of packages itself, without compiled files, which may be removed at will.
fn top_level(record: &[u8]) -> BTreeSet<String> {
    let mut tops = BTreeSet::new();
    let mut last: &[u8] = b"";
    for line in lines_of(record) {
        // Thousands of files of one directory follow one another.
        if line.get(last.len()) == Some(&b'/') && line.starts_with(last) {
            continue;
        }
        let file = file_of_record(line.trim_ascii_end());
        let top = &file[..memchr::memchr(b'/', file).unwrap_or(file.len())];
        // By the specification it is UTF-8; anything else could not be found in the directory.
        let Ok(name) = str::from_utf8(top) else { continue };
        if !name.is_empty() && !name.starts_with('.') && name != "__pycache__" {
            tops.insert(name.to_owned());
            last = top;
        }
    }
    tops
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (package_of(bytes), settings_of(&text), top_level(bytes));
    let _ = serde_json::from_slice(bytes).ok().and_then(|direct| origin_of(&direct));
    let _ = serde_json::from_slice::<Marker>(bytes);
}

#[cfg(test)]
mod tests;
