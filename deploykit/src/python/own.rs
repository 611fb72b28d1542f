//! What people have put into a virtualenv: neither a package brought it, nor what made the virtualenv.
//!
//! `pip install -U -r` leaves all of it in its place, so it goes along into the next virtualenv. What is not known for
//! certain to be read only (logs, sockets, a database) cannot: the site would go on writing into the old one.

mod moved;
mod packaged;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::PythonError;
use crate::digest;
use crate::host::files::{self, FileError, Found, InPath};
use crate::names::{COMPLETE, PACKAGES};
use packaged::Packaged;

pub(in crate::python) use moved::{Moved, replace};

/// The directories of a virtualenv that hold programs and what they read, as the ones of the same name below `/usr` do.
const READ_ONLY: [&str; 9] = ["bin", "etc", "include", "lib", "lib64", "libexec", "man", "sbin", "share"];

/// What the tools leave at the top that make virtualenvs or install into them.
const OF_TOOLS: [&str; 10] = [
    "pyvenv.cfg",
    COMPLETE,
    PACKAGES,
    ".gitignore",
    "CACHEDIR.TAG",
    ".lock",
    ".Python",
    "pip-selfcheck.json",
    "local",
    "__pycache__",
];

/// Settings that are read from the top.
const SETTINGS: [&str; 3] = ["pip.conf", "uv.toml", ".project"];

/// What some of them leave in `bin`.
const PROGRAMS: [&str; 2] = ["pydoc.bat", "python-config"];

/// What tools put among the packages without a record.
const HOOKS: [&str; 4] =
    ["_virtualenv.py", "_virtualenv.pth", "distutils-precedence.pth", "easy-install.pth"];

/// The keys of `pyvenv.cfg` that the makers of virtualenvs write.
const KEYS: [&str; 14] = [
    "home",
    "implementation",
    "version",
    "version_info",
    "executable",
    "command",
    "prompt",
    "include-system-site-packages",
    "base-prefix",
    "base-exec-prefix",
    "base-executable",
    "uv",
    "relocatable",
    "extends-environment",
];

/// A larger file holds no path of a virtualenv that would have to be written anew.
const LARGEST_TEXT: u64 = 1 << 20;

/// What people have put into a virtualenv.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnFiles {
    /// What goes along, from the top of the virtualenv.
    pub files: BTreeSet<PathBuf>,
    /// What cannot be carried over, because its purpose is unknown.
    pub unknown: BTreeSet<PathBuf>,
    /// Tells one state of it from another, wherever the virtualenv lies.
    pub fingerprint: String,
    /// The scripts that activate the virtualenv: every one has them, and people add lines to them.
    activation: BTreeSet<PathBuf>,
    /// Lines of `pyvenv.cfg`.
    settings: Vec<String>,
    /// What tells one state of each file from another.
    states: BTreeMap<PathBuf, String>,
}

impl OwnFiles {
    /// Looks for it; nothing in what is no virtualenv.
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub fn read(virtualenv: &Path) -> Result<Self, PythonError> {
        OwnFiles::read_at(virtualenv, virtualenv)
    }

    /// Looks for it in a virtualenv that belongs to the path `site` and lies elsewhere now.
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub fn read_at(virtualenv: &Path, site: &Path) -> Result<Self, PythonError> {
        let mut own = OwnFiles::default();
        let Ok(settings) = fs::read_to_string(virtualenv.join("pyvenv.cfg")) else { return Ok(own) };
        own.settings = more_settings(&settings);
        let packages = Packaged::read(virtualenv);
        own.top(virtualenv, &packages).at("look through", virtualenv)?;
        own.states = own.identify(virtualenv, site)?;
        own.fingerprint =
            digest::sha256(format!("{:?} {:?}", own.settings, own.states).as_bytes())[..16].to_owned();
        Ok(own)
    }

    /// Returns which of these files another virtualenv has not, or has as others.
    #[must_use]
    pub fn differences(&self, other: &OwnFiles) -> Vec<PathBuf> {
        let differ = self.states.iter().filter(|(file, state)| other.states.get(*file) != Some(*state));
        let settings = (self.settings != other.settings).then(|| PathBuf::from("pyvenv.cfg"));
        differ.map(|(file, _)| file.clone()).chain(settings).collect()
    }

    /// Leaves out what lies among the packages: their directory has another name in the virtualenv of another Python.
    /// Returns a warning about it.
    pub(in crate::python) fn leave_to_another_python(&mut self) -> Option<String> {
        let (left, kept) = std::mem::take(&mut self.files)
            .into_iter()
            .partition::<BTreeSet<_>, _>(|file| file.starts_with("lib") || file.starts_with("lib64"));
        self.files = kept;
        let names: Vec<String> = left.iter().map(|file| format!("`{}`", file.display())).collect();
        (!names.is_empty())
            .then(|| format!("not copied into the virtualenv of the other Python: {}", names.join(", ")))
    }

    /// Returns what goes along in a few words; `None`: nothing to speak of.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        const SHOWN: usize = 5;
        let mut names: Vec<String> =
            self.files.iter().take(SHOWN).map(|file| format!("`{}`", file.display())).collect();
        if !self.settings.is_empty() {
            names.push("lines of `pyvenv.cfg`".to_owned());
        }
        if self.files.len() > SHOWN {
            names.push(format!("{} more", self.files.len() - SHOWN));
        }
        (!names.is_empty()).then(|| format!("taken along, since no package brought it: {}", names.join(", ")))
    }

    fn top(&mut self, virtualenv: &Path, packages: &Packaged) -> io::Result<()> {
        for entry in fs::read_dir(virtualenv)? {
            let entry = entry?;
            let (name, kind) = (PathBuf::from(entry.file_name()), entry.file_type()?);
            let is_one_of = |names: &[&str]| names.iter().any(|known| Path::new(known) == name);
            if is_one_of(&OF_TOOLS) || packages.owns(&name) {
            } else if is_one_of(&SETTINGS) && kind.is_file() {
                self.files.insert(name);
            } else if is_one_of(&READ_ONLY) && kind.is_dir() {
                self.below(virtualenv, name, packages)?;
            } else if name == Path::new("lib64") && kind.is_symlink() {
            } else if name == Path::new("src") && kind.is_dir() && holds_clones_only(&entry.path())? {
                // The installer clones them anew.
            } else {
                self.unknown.insert(name);
            }
        }
        Ok(())
    }

    fn below(&mut self, virtualenv: &Path, top: PathBuf, packages: &Packaged) -> io::Result<()> {
        let mut waiting = vec![top];
        while let Some(directory) = waiting.pop() {
            let among_packages = packages.directories.contains(&directory);
            for entry in fs::read_dir(virtualenv.join(&directory))? {
                let entry = entry?;
                let (path, kind) = (directory.join(entry.file_name()), entry.file_type()?);
                let name = entry.file_name().to_string_lossy().into_owned();
                let of_the_tools = among_packages
                    && (name.starts_with('~')
                        || HOOKS.contains(&name.as_str())
                        || name.ends_with(".egg-link")
                        || name.ends_with(".dist-info")
                        || name.ends_with(".egg-info"));
                if name == "__pycache__" || of_the_tools || packages.owns(&path) {
                } else if kind.is_dir() {
                    waiting.push(path);
                } else if directory == Path::new("bin") && is_activation(&name) && kind.is_file() {
                    self.activation.insert(path);
                } else if directory == Path::new("bin") && PROGRAMS.contains(&name.as_str()) {
                } else if directory == Path::new("bin") && is_python(&name) {
                    if kind.is_file() && fs::metadata(entry.path())?.len() <= LARGEST_TEXT {
                        // A wrapper around the real one, which the next virtualenv would do without.
                        self.unknown.insert(path);
                    }
                } else if kind.is_file() || kind.is_symlink() {
                    self.files.insert(path);
                } else {
                    self.unknown.insert(path);
                }
            }
        }
        Ok(())
    }

    /// Brings the settings along that the installer reads, before it runs.
    pub(in crate::python) fn place_settings(&self, moved: &Moved) -> io::Result<()> {
        for file in self.files.iter().filter(|file| SETTINGS.iter().any(|name| Path::new(name) == *file)) {
            moved.copy(file)?;
        }
        if self.settings.is_empty() {
            return Ok(());
        }
        let path = moved.to.join("pyvenv.cfg");
        let mut text = fs::read_to_string(&path)?;
        for line in &self.settings {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
        fs::write(path, text)
    }

    /// Brings all the rest along, where an installer has put nothing else.
    pub(in crate::python) fn place(&self, moved: &Moved) -> io::Result<()> {
        // Another tool may have made others.
        for entry in fs::read_dir(moved.to.join("bin"))? {
            let name = entry?.file_name();
            if is_activation(&name.to_string_lossy()) && !self.activation.is_empty() {
                let path = moved.to.join("bin").join(name);
                files::remove_file(&path).map_err(|error| error.source)?;
            }
        }
        for file in &self.activation {
            moved.copy(file)?;
        }
        for file in &self.files {
            if files::look(&moved.to.join(file)) == Found::Nothing {
                moved.copy(file)?;
            }
        }
        Ok(())
    }

    fn identify(&self, virtualenv: &Path, site: &Path) -> Result<BTreeMap<PathBuf, String>, FileError> {
        let moved = Moved::from_anywhere(virtualenv, site);
        let state = |path: &Path| -> io::Result<String> {
            let found = fs::symlink_metadata(path)?;
            if found.is_symlink() {
                return Ok(format!("{:?}", moved.target_of(path)?));
            }
            let contents = match moved.text_of(path, &found)? {
                Some(contents) => digest::sha256(&contents),
                None => format!("{} {} {}", found.len(), found.mtime(), found.mtime_nsec()),
            };
            Ok(format!("{:o} {contents}", found.permissions().mode()))
        };
        let files = self.files.iter().chain(&self.activation);
        let states = files.map(|file| {
            let path = virtualenv.join(file);
            Ok((file.clone(), state(&path).at("read", &path)?))
        });
        states.collect()
    }
}

/// Returns the lines of a `pyvenv.cfg` that nobody's tool writes.
fn more_settings(text: &str) -> Vec<String> {
    let is_own = |line: &&str| {
        line.split_once('=').is_some_and(|(key, _)| !KEYS.contains(&key.trim().to_lowercase().as_str()))
    };
    text.lines().map(str::trim).filter(is_own).map(str::to_owned).collect()
}

fn is_activation(name: &str) -> bool {
    ["activate", "Activate", "deactivate"].iter().any(|start| name.starts_with(start))
}

/// Tells whether a program is called as a Python is: `python3.11`.
fn is_python(name: &str) -> bool {
    let rest = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    rest.is_some_and(|rest| rest.trim_end_matches('t').chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn holds_clones_only(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_clone = [".git", ".hg", ".svn", ".bzr"].iter().any(|name| path.join(name).exists());
        let is_a_note = path.file_name().is_some_and(|name| name == "pip-delete-this-directory.txt");
        if !is_clone && !is_a_note {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PACKAGES: &str = "lib/python3.11/site-packages";

    fn write(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A virtualenv with two packages, one of which has an older form, and what people added.
    fn virtualenv(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        let packages = path.join(PACKAGES);
        write(&path.join("pyvenv.cfg"), "home = /usr/bin\nprompt = x\nmy-own = 1\n", 0o644);
        for file in ["demo/a.py", "demo/__pycache__/a.pyc", "../../../bin/demo", "../../../share/demo.1"] {
            write(&packages.join(file), "", 0o644);
        }
        let record = "demo/a.py,,\n\"../../../bin/demo\",,\n../../../share/demo.1,,\n";
        write(&packages.join("demo-1.dist-info/RECORD"), record, 0o644);
        write(&packages.join("old-1.egg-info/top_level.txt"), "old\nolder\n", 0o644);
        for file in ["old/x.py", "older.py", "~emo/a.py", "_virtualenv.pth"] {
            write(&packages.join(file), "", 0o644);
        }
        symlink("/usr/bin/python3", path.join("bin/python3.11")).unwrap();
        symlink("lib", path.join("lib64")).unwrap();
        path
    }

    fn names(paths: &BTreeSet<PathBuf>) -> Vec<&str> {
        paths.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn what_packages_and_tools_brought_is_nobody_s_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = virtualenv(directory.path(), "venv");
        let own = OwnFiles::read(&path).unwrap();
        assert_eq!((names(&own.files), names(&own.unknown)), (vec![], vec![]));
        assert_eq!(own.settings, ["my-own = 1"]);
        assert_eq!(OwnFiles::read(directory.path()).unwrap(), OwnFiles::default(), "no virtualenv");
    }

    #[test]
    fn what_people_added_goes_along_with_its_paths() {
        let directory = tempfile::tempdir().unwrap();
        let old = virtualenv(directory.path(), "old");
        let live = directory.path().join("venv");
        symlink("old", &live).unwrap();
        let place = old.display().to_string();
        write(&old.join("pip.conf"), "[global]\nindex-url = https://me:pw@host/\n", 0o600);
        write(&old.join("bin/activate"), &format!("VIRTUAL_ENV={place}\nexport MODE=live\n"), 0o644);
        write(&old.join("bin/cron"), &format!("#!{place}/bin/python\n'{place}-x/y'\n"), 0o555);
        for file in ["sitecustomize.py", "demo/migrations/0002_mine.py", "mine.pth"] {
            write(&old.join(PACKAGES).join(file), "", 0o644);
        }
        symlink(old.join("bin/cron"), old.join("bin/cron2")).unwrap();
        let own = OwnFiles::read(&live).unwrap();
        let here = |file: &str| format!("{PACKAGES}/{file}");
        let expected = [
            "bin/cron",
            "bin/cron2",
            &here("demo/migrations/0002_mine.py"),
            &here("mine.pth"),
            &here("sitecustomize.py"),
            "pip.conf",
        ];
        assert_eq!(names(&own.files), expected);
        let summary = own.summary().unwrap();
        assert!(summary.contains("`bin/cron`") && summary.ends_with("`pyvenv.cfg`, 1 more"), "{summary}");

        let next = virtualenv(directory.path(), "next");
        fs::write(next.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        write(&next.join("bin/activate"), "VIRTUAL_ENV=next\n", 0o644);
        write(&next.join("bin/activate.nu"), "", 0o644);
        write(&next.join(PACKAGES).join("mine.pth"), "of a package", 0o644);
        let moved = Moved::new(&live, &next);
        own.place_settings(&moved).unwrap();
        own.place(&moved).unwrap();
        let text = |file: &str| fs::read_to_string(next.join(file)).unwrap();
        let place = next.display().to_string();
        assert_eq!(text("pyvenv.cfg"), "home = /usr/bin\nmy-own = 1\n");
        assert!(!next.join("bin/activate.nu").exists(), "another tool made it");
        assert_eq!(text("bin/activate"), format!("VIRTUAL_ENV={place}\nexport MODE=live\n"));
        assert_eq!(text("bin/cron"), format!("#!{place}/bin/python\n'{}-x/y'\n", old.display()));
        assert_eq!(text(&here("mine.pth")), "of a package", "an installer has the last word");
        let mode = |file: &str| fs::metadata(next.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("pip.conf"), mode("bin/cron")), (0o600, 0o555));
        assert_eq!(fs::read_link(next.join("bin/cron2")).unwrap(), next.join("bin/cron"));

        // It is the same in both places, and another one when somebody edits it.
        fs::write(next.join(PACKAGES).join("mine.pth"), "").unwrap();
        fs::remove_file(&live).unwrap();
        symlink("next", &live).unwrap();
        assert_eq!(OwnFiles::read(&live).unwrap().fingerprint, own.fingerprint);
        fs::write(next.join("pip.conf"), "").unwrap();
        let edited = OwnFiles::read(&live).unwrap();
        assert_ne!(edited.fingerprint, own.fingerprint);
        let before = OwnFiles::read_at(&old, &live).unwrap();
        assert_eq!(edited.differences(&before), [Path::new("pip.conf")], "wherever the old one lies now");
    }

    #[test]
    fn what_may_be_written_to_is_not_taken_along() {
        let directory = tempfile::tempdir().unwrap();
        let path = virtualenv(directory.path(), "venv");
        for file in ["logs/web.log", "db.sqlite3", "src/mine/setup.py", "bin/python"] {
            write(&path.join(file), "#!/bin/sh\n", 0o644);
        }
        let _listener = std::os::unix::net::UnixListener::bind(path.join("bin/web.sock")).unwrap();
        let own = OwnFiles::read(&path).unwrap();
        assert_eq!(names(&own.unknown), ["bin/python", "bin/web.sock", "db.sqlite3", "logs", "src"]);
        fs::create_dir_all(path.join("src/mine/.git")).unwrap();
        let own = OwnFiles::read(&path).unwrap();
        assert_eq!(names(&own.unknown), ["bin/python", "bin/web.sock", "db.sqlite3", "logs"]);
    }
}
