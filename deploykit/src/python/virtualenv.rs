//! A virtualenv as its files describe it; no Python is started to read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::PythonError;
use super::marker::Marker;
use super::packages::{FILES_MISSING, Package, Packages, origin_of};

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
    /// When nothing is there, or something else.
    pub fn read(path: &Path) -> Result<Self, PythonError> {
        if !path.exists() {
            return Err(PythonError::NoVirtualenv { path: path.to_owned() });
        }
        let no_virtualenv = || PythonError::NotAVirtualenv { path: path.to_owned() };
        let settings = match fs::read_to_string(path.join("pyvenv.cfg")) {
            Ok(settings) => settings,
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
        Ok(read)
    }

    /// Returns what is installed; nothing in what is no virtualenv.
    pub(crate) fn installed(path: &Path) -> Packages {
        let mut read = Virtualenv::default();
        for (_, directory) in site_packages(path) {
            read.add_packages(&directory);
        }
        read.trust_commits_of(Marker::read(path).as_ref());
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
    let is_of_system = |name: String| path.join("lib").join(name).join("EXTERNALLY-MANAGED").is_file();
    if real.starts_with("/nix/store") || real.starts_with("/gnu/store") {
        Some(("part of the Nix or Guix store", false))
    } else if path.join("conda-meta").is_dir() {
        Some(("a conda environment", true))
    } else if !is_installation(path) {
        None
    } else if names_in(&path.join("lib")).any(is_of_system) {
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
        for python in pythons {
            let packages = directory.join(&python).join("site-packages");
            if packages.is_dir() {
                found.push((python, packages));
            }
        }
    }
    found
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn staged(directory: &Path, settings: &str) -> PathBuf {
        let path = directory.join("venv");
        let home = directory.join("home");
        for made in [&home, &path.join("bin"), &path.join("lib/python3.11/site-packages")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(home.join("python3.11"), "").unwrap();
        symlink(home.join("python3.11"), path.join("bin/python")).unwrap();
        symlink("lib", path.join("lib64")).unwrap();
        fs::write(path.join("pyvenv.cfg"), settings.replace("HOME", &home.to_string_lossy())).unwrap();
        path
    }

    fn install(path: &Path, name: &str, version: &str, record: &str) -> PathBuf {
        let info = path.join(format!("lib/python3.11/site-packages/{name}-{version}.dist-info"));
        fs::create_dir_all(&info).unwrap();
        let metadata =
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: of the text\n");
        fs::write(info.join("METADATA"), metadata).unwrap();
        fs::write(info.join("RECORD"), record).unwrap();
        info
    }

    #[test]
    fn a_virtualenv_is_read_from_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let path =
            staged(directory.path(), "home = HOME\nInclude-System-Site-Packages = TRUE\nprompt = 'site'\n");
        install(&path, "Django", "5.2", "");
        let read = Virtualenv::read(&path).unwrap();
        assert_eq!(
            (read.python.as_str(), read.prompt.as_str(), read.system_site_packages),
            ("3.11", "site", true)
        );
        assert_eq!(read.base, Some(directory.path().join("home/python3.11")));
        assert_eq!(read.packages, [Package::new("Django", "5.2")].into_iter().collect());
        fs::remove_file(directory.path().join("home/python3.11")).unwrap();
        assert_eq!(Virtualenv::read(&path).unwrap().base, None);
    }

    #[test]
    fn a_package_whose_files_are_gone_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = staged(directory.path(), "home = HOME\n");
        let record =
            "six.py,sha256=x,1\n__pycache__/six.pyc,,\n../../../bin/six,,\nsix-1.dist-info/RECORD,,\n";
        install(&path, "six", "1", record);
        let version = || Virtualenv::read(&path).unwrap().packages.get("six").unwrap().version.clone();
        assert_eq!(version(), "1 with files missing");
        fs::write(path.join("lib/python3.11/site-packages/six.py"), "").unwrap();
        assert_eq!(version(), "1");
    }

    #[test]
    fn other_directories_are_no_virtualenvs() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Virtualenv::read(&directory.path().join("x")).unwrap_err();
        assert!(matches!(missing, PythonError::NoVirtualenv { .. }), "{missing:?}");
        let other = Virtualenv::read(directory.path()).unwrap_err();
        assert!(matches!(other, PythonError::NotAVirtualenv { .. }), "{other:?}");
        let message = |in_place: bool| {
            let error = Virtualenv::may_change(directory.path(), in_place).err();
            error.map(|error| error.to_string().replace(directory.path().to_str().unwrap(), "/x"))
        };
        let refused = |what: &str| Some(format!("`/x` is {what}; deploykit does not replace it"));
        assert_eq!(message(false), None);
        for made in ["bin", "lib/python3.11/site-packages"] {
            fs::create_dir_all(directory.path().join(made)).unwrap();
        }
        for python in ["python", "python3.11"] {
            fs::write(directory.path().join("bin").join(python), "").unwrap();
        }
        assert_eq!(message(false), refused("a Python installation, not a virtualenv"));
        assert_eq!(message(true), None);
        let base = Virtualenv::read(directory.path()).unwrap().base;
        assert_eq!(base, Some(directory.path().join("bin/python3.11")));
        let managed = directory.path().join("lib/python3.11/EXTERNALLY-MANAGED");
        fs::write(&managed, "").unwrap();
        let of_system = refused("the system's Python, not a virtualenv");
        assert_eq!([message(false), message(true)], [of_system.clone(), of_system]);
        fs::create_dir(directory.path().join("conda-meta")).unwrap();
        assert_eq!(message(false), refused("a conda environment"));
        assert_eq!(message(true), None);
    }

    proptest! {
        #[test]
        fn no_metadata_is_too_strange(bytes in any::<Vec<u8>>(), text in ".*") {
            let _ = package_of(&bytes);
            let _ = (top_level(&bytes), top_level(text.as_bytes()), settings_of(&text));
        }
    }
}
