//! The copy of the tracked files that packages of the checkout are built in.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Source;
use crate::command::Command;
use crate::host::Host;
use crate::host::files::{self, FileError, InPath};
use crate::names::{self, TEMPORARY};
use crate::python::error::PythonError;
use crate::python::installer::Budget;

/// The files that a build backend keeps for itself.
const OF_BACKENDS: [&str; 6] = ["build", "dist", "__pycache__", ".eggs", ".git", ".pdm-build"];

/// A copy of the tracked files of a checkout; it is removed with this value.
#[derive(Debug)]
pub(in crate::python) struct Copied {
    _directory: TempDir,
    /// Its top.
    pub(in crate::python) path: PathBuf,
}

impl Copied {
    /// Copies what git tracks, and what is new in the checkout and not ignored. Links into the checkout are left out: what a
    /// backend writes must not reach it.
    pub(in crate::python) fn make(
        host: &Host,
        checkout: &Path,
        beside: &Path,
        budget: Budget,
    ) -> Result<Self, PythonError> {
        let git = |words: &[&str]| {
            let command = Command::new("git").args(words).directory(checkout).deadline(budget.left());
            host.run(&command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0"))
        };
        let listed = git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let repository = git(&["rev-parse", "--absolute-git-dir"])?;
        let made = tempfile::Builder::new().prefix(&format!("{TEMPORARY}sources-")).tempdir_in(beside);
        let directory = made.at("create a directory in", beside)?;
        let path = fs::canonicalize(directory.path()).at("find", directory.path())?;
        let copied = Copied { _directory: directory, path };
        for name in listed.stdout_bytes().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            copied.take(checkout, Path::new(std::ffi::OsStr::from_bytes(name)))?;
        }
        // Versions may come from tags.
        let link = format!("gitdir: {}\n", repository.stdout.trim_end());
        files::write_whole(&copied.path.join(".git"), link.as_bytes(), 0o644)?;
        Ok(copied)
    }

    fn take(&self, checkout: &Path, inside: &Path) -> Result<(), FileError> {
        let (from, to) = (checkout.join(inside), self.path.join(inside));
        let Ok(found) = fs::symlink_metadata(&from) else { return Ok(()) };
        let above = files::parent(&to);
        fs::create_dir_all(above).at("create the directory", above)?;
        let copy = || -> io::Result<()> {
            if found.is_symlink() {
                let target = fs::read_link(&from)?;
                return if target.is_absolute() { Ok(()) } else { symlink(target, &to) };
            }
            fs::copy(&from, &to)?;
            // Installers tell by it whether they have built this before.
            fs::File::open(&to)?.set_modified(found.modified()?)
        };
        if !found.is_dir() {
            return copy().at("copy", &from);
        }
        // A submodule.
        for entry in fs::read_dir(&from).at("read", &from)? {
            let name = entry.at("read", &from)?.file_name();
            if name != ".git" {
                self.take(checkout, &inside.join(name))?;
            }
        }
        Ok(())
    }

    /// Checks that what a backend made in the sources of editable packages is not needed there: it is not in the checkout.
    pub(in crate::python) fn check(&self, checkout: &Path, sources: &[Source]) -> Result<(), PythonError> {
        for source in sources.iter().filter(|source| source.editable) {
            if let Some(file) = self.extension_module(checkout, &source.path)? {
                let path = source.path.clone();
                return Err(PythonError::BuiltInPlace { path, file });
            }
        }
        Ok(())
    }

    /// Finds an extension module that was built among the sources.
    fn extension_module(&self, checkout: &Path, top: &Path) -> Result<Option<PathBuf>, FileError> {
        let mut waiting = vec![top.to_owned()];
        while let Some(inside) = waiting.pop() {
            let here = self.path.join(&inside);
            for entry in fs::read_dir(&here).at("read", &here)? {
                let entry = entry.at("read", &here)?;
                let path = inside.join(entry.file_name());
                let kind = entry.file_type().at("look at", &here)?;
                if kind.is_dir() {
                    if !OF_BACKENDS.iter().any(|name| path.ends_with(name)) {
                        waiting.push(path);
                    }
                } else if names::text(&path).ends_with(".so") && !checkout.join(&path).exists() {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }
}
