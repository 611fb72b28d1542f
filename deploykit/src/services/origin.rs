//! What a service is started with, and in which directory. It tells which site a stopped service belongs to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ProcessId;

/// The files and directories in the commands and processes of a service, as far as its manager knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    paths: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl Origin {
    /// Returns the paths in its commands, including programs. They may not exist, and may contain `..`.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// Returns its working directories.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(PathBuf::as_path)
    }

    /// Adds a command that runs in a directory. A word may be a command line, as in `sh -c 'cd /srv/site && venv/bin/web'`.
    pub(crate) fn add<'w>(&mut self, words: impl IntoIterator<Item = &'w str>, directory: Option<&Path>) {
        for word in words {
            let parts = word.split(|c: char| c.is_whitespace() || "'\"=;&|()[]{}".contains(c));
            for part in parts.chain([word]) {
                match directory {
                    _ if part.starts_with('/') => self.paths.insert(part.into()),
                    Some(directory) if part.contains('/') => self.paths.insert(directory.join(part)),
                    _ => false,
                };
            }
        }
        self.directories.extend(directory.map(Path::to_owned));
    }

    /// Adds a file that the service writes.
    pub(crate) fn add_file(&mut self, file: &Path) {
        self.paths.insert(file.to_owned());
    }

    /// Adds processes and their descendants.
    pub(crate) fn add_processes(&mut self, processes: impl IntoIterator<Item = ProcessId>) {
        let main: Vec<ProcessId> = processes.into_iter().collect();
        for process in crate::host::processes::with_descendants(&main) {
            let words = process.words();
            self.add(words.iter().map(String::as_str), process.directory().as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_words_and_in_lines() {
        let mut origin = Origin::default();
        let words = ["/bin/sh", "-c", "cd /srv/a && exec venv/bin/web", "--pid=/run/x y", "app"];
        origin.add(words, Some(Path::new("/srv")));
        let found: Vec<&str> = origin.paths().filter_map(Path::to_str).collect();
        for path in ["/bin/sh", "/srv/a", "/srv/venv/bin/web", "/run/x"] {
            assert!(found.contains(&path), "{path}: {found:?}");
        }
        assert_eq!(origin.directories().collect::<Vec<_>>(), [Path::new("/srv")]);
        let mut nowhere = Origin::default();
        nowhere.add(["venv/bin/web"], None);
        assert_eq!(nowhere, Origin::default(), "the directory is unknown");
    }
}
