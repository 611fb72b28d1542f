//! What an update saw beside the commit: files that git ignores, databases that are files, static files. Whether they are
//! still the same is asked cheaply, whenever it is asked whether anything is new.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::git::StagedTree;
use crate::host::files;

/// How many directories of the staged tree are gone through, and how many files are compared; what is beyond is not.
const DIRECTORIES: usize = 1000;
const FILES: usize = 500;

/// A directory that git ignores and that holds more than this is data, as uploads or packages: it is not looked into.
const SMALL_DIRECTORY: usize = 50;

/// Of a file up to this size the contents count, of a larger one size and time.
const SMALL_FILE: u64 = 64 * 1024;

/// How many entries are looked at to find out whether a directory holds files that count.
const LOOKED_AT: usize = 100;

/// How the names of files end that settings are in.
pub(super) const SETTINGS: [&str; 9] = ["py", "json", "toml", "yaml", "yml", "ini", "cfg", "conf", "env"];

/// How the names of files end, or what they hold, that change while a site runs.
const RUNNING: [&str; 16] = [
    ".log",
    ".pid",
    ".sock",
    ".socket",
    ".swp",
    ".tmp",
    ".pyc",
    ".pyo",
    "~",
    ".db",
    ".db-journal",
    ".db-wal",
    ".db-shm",
    ".sqlite",
    ".gz",
    ".bak",
];

/// What an update saw beside the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Files that git ignores or does not know, where the staged tree has links to them.
    pub files: BTreeMap<PathBuf, Print>,
    /// Directories of the checkout with what is in them.
    pub directories: BTreeMap<PathBuf, Names>,
    /// Databases that are files, with their inodes; `None`: it was not there.
    pub databases: BTreeMap<PathBuf, Option<u64>>,
    /// `STATIC_ROOT`, where static files are collected into it.
    pub static_root: Option<PathBuf>,
    /// The outputs of the site's own steps, and whether they existed: they contain no settings.
    pub outputs: BTreeMap<PathBuf, bool>,
}

/// What tells a file from what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    inode: u64,
    /// Of a small file, its contents.
    hash: Option<String>,
}

/// What tells the names in a directory from what they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    hash: String,
    /// When the directory had just these names.
    #[serde(default)]
    modified: Option<(i64, i64)>,
}

impl Seen {
    /// Looks at what a staged tree links of the live checkout, and at which names there will be when it is live.
    /// `outputs` are paths, from the top, that steps of the site make.
    #[must_use]
    pub fn look(tree: &StagedTree, outputs: &[PathBuf]) -> Self {
        let (staged, live) = (&tree.path, &tree.repository);
        let outputs = outputs.iter().map(|path| live.join(path)).filter(|path| path.to_str().is_some());
        let mut seen = Seen { outputs: outputs.map(|path| (path, false)).collect(), ..Seen::default() };
        let mut waiting = std::collections::VecDeque::from([PathBuf::new()]);
        let mut found = 0;
        while let Some(inside) = waiting.pop_front() {
            let directory = staged.join(&inside);
            seen.add_directory(live.join(&inside), &directory);
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let (inside, path) = (inside.join(entry.file_name()), entry.path());
                if is_running(&path) || seen.outputs.contains_key(&live.join(&inside)) {
                    continue;
                }
                match files::look(&path) {
                    files::Found::Directory if found < DIRECTORIES => {
                        found += 1;
                        waiting.push_back(inside);
                    }
                    files::Found::Link(target) if tree.is_link(&inside, &target) => {
                        seen.add_linked(&live.join(&inside));
                    }
                    _ => {}
                }
            }
        }
        seen
    }

    fn add_directory(&mut self, live: PathBuf, listed: &Path) {
        if let (Some(_), Some(hash)) = (live.to_str(), self.names_in(listed, &live)) {
            self.directories.insert(live, Names { hash, modified: None });
        }
    }

    fn add_linked(&mut self, path: &Path) {
        if path.is_dir() {
            let is_virtualenv = path.join("pyvenv.cfg").exists();
            let entries: Vec<PathBuf> = fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .take(SMALL_DIRECTORY + 1)
                .collect();
            if entries.len() > SMALL_DIRECTORY || is_virtualenv {
                return;
            }
            let is_settings = |path: &&PathBuf| {
                path.extension().is_some_and(|extension| SETTINGS.iter().any(|known| extension == *known))
            };
            entries.iter().filter(is_settings).for_each(|path| self.add_file(path));
        } else {
            self.add_file(path);
        }
    }

    fn add_file(&mut self, path: &Path) {
        if self.files.len() < FILES
            && !is_running(path)
            && path.to_str().is_some()
            && let Some(print) = Print::of(path, true)
        {
            self.files.insert(path.to_owned(), print);
        }
    }

    /// Returns what identifies the names in a directory that count, where it will be at this place. What leads to an output
    /// does not: it may come with it.
    fn names_in(&self, directory: &Path, live: &Path) -> Option<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).ok()? {
            let entry = entry.ok()?;
            let place = live.join(entry.file_name());
            let is_output = self.outputs.keys().any(|output| output.starts_with(&place));
            if !is_output && !is_running(&entry.path()) && counts(&entry.path()) {
                names.push(entry.file_name());
            }
        }
        names.sort();
        let mut digest = Sha256::new();
        for name in names {
            digest.update(name.as_bytes());
            digest.update(b"\0");
        }
        Some(digest::hex(&digest.finalize()[..16]))
    }

    /// Counts a database that is a file; it is no file of settings.
    pub fn add_database(&mut self, path: PathBuf) {
        self.files.remove(&path);
        if path.to_str().is_some() {
            self.databases.insert(path, None);
        }
    }

    /// Counts the static files, which are no settings.
    pub fn set_static_root(&mut self, path: &Path) {
        self.files.retain(|file, _| !file.starts_with(path));
        self.static_root = path.to_str().is_some().then(|| path.to_owned());
    }

    /// Completes it when everything is live: as far as it is as was expected, times and inodes tell from now on.
    pub fn settle(&mut self) {
        let mut directories = std::mem::take(&mut self.directories);
        for (path, names) in &mut directories {
            let modified = modified(path);
            if self.names_in(path, path).as_ref() == Some(&names.hash) {
                names.modified = modified;
            }
        }
        self.directories = directories;
        for (path, is_there) in &mut self.outputs {
            *is_there = path.exists();
        }
        for (path, inode) in &mut self.databases {
            *inode = filled(path);
        }
    }

    /// Returns the first file that was edited or is missing, in words.
    pub(crate) fn edited(&self) -> Option<String> {
        self.files.iter().find_map(|(path, print)| match Print::of(path, false) {
            None => Some(format!("`{}` is missing", path.display())),
            Some(found) => (!found.is_like(print, path)).then(|| format!("`{}` has changed", path.display())),
        })
    }

    /// Returns the first thing that is not as it was seen, in words.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        let gone = |path: &PathBuf| format!("`{}` is missing", path.display());
        if let Some(root) = self.static_root.as_ref().filter(|root| !root.is_dir()) {
            return Some(gone(root));
        }
        if let Some((path, _)) = self.outputs.iter().find(|(path, was_there)| **was_there && !path.exists()) {
            return Some(gone(path));
        }
        for (path, inode) in &self.databases {
            match filled(path) {
                None => return Some(format!("the database `{}` is missing or empty", path.display())),
                found if found != *inode => {
                    return Some(format!("the database `{}` is another file", path.display()));
                }
                _ => {}
            }
        }
        if let Some(edited) = self.edited() {
            return Some(edited);
        }
        let is_same = |(path, names): &(&PathBuf, &Names)| {
            names.modified.is_some() && names.modified == modified(path)
                || self.names_in(path, path).as_ref() == Some(&names.hash)
        };
        let other = self.directories.iter().find(|directory| !is_same(directory));
        other.map(|(path, _)| format!("files came or went in `{}`", path.display()))
    }
}

impl Print {
    pub(super) fn of(path: &Path, hashed: bool) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let hash = if hashed && found.is_file() && found.len() <= SMALL_FILE { contents(path) } else { None };
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Print { size: found.len(), modified, inode: found.ino(), hash })
    }

    pub(super) fn is_like(&self, recorded: &Print, path: &Path) -> bool {
        let same =
            (self.size, self.modified, self.inode) == (recorded.size, recorded.modified, recorded.inode);
        same || (self.size == recorded.size && recorded.hash.is_some() && contents(path) == recorded.hash)
    }
}

fn contents(path: &Path) -> Option<String> {
    fs::read(path).ok().map(digest::sha256)
}

fn modified(path: &Path) -> Option<(i64, i64)> {
    fs::metadata(path).ok().map(|found| (found.mtime(), found.mtime_nsec()))
}

/// Returns the inode of a file that holds something.
fn filled(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(|found| found.len() > 0).map(|found| found.ino())
}

/// Tells whether a name is that of what changes while a site runs, or of a cache, or of git's and deploykit's own.
fn is_running(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let own = crate::names::is_own(path.file_name().unwrap_or_default())
        || [".git", "__pycache__", "node_modules", "nohup.out"].contains(&name.as_ref());
    let inside = [".log.", ".sqlite3", "celerybeat-schedule", ".pytest_cache", ".mypy_cache"];
    own || RUNNING.iter().any(|end| name.ends_with(end)) || inside.iter().any(|part| name.contains(part))
}

/// Tells whether a directory holds a file that counts; a staged tree has no directories of caches alone.
fn counts(path: &Path) -> bool {
    if !path.is_dir() {
        return true;
    }
    let (mut directories, mut seen) = (vec![path.to_owned()], 0);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            seen += 1;
            if is_running(&entry.path()) {
                continue;
            }
            if seen >= LOOKED_AT || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                return true;
            }
            directories.push(entry.path());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A checkout with a tracked file, an ignored one in a tracked directory, and ignored directories; and its staged tree.
    fn trees() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let (live, staged) = (top.path().join("site"), top.path().join("staged"));
        for directory in ["app", "media", "local"] {
            fs::create_dir_all(live.join(directory)).unwrap();
        }
        fs::create_dir_all(staged.join("app")).unwrap();
        for tracked in ["manage.py", "app/settings.py"] {
            fs::write(live.join(tracked), "old").unwrap();
            fs::write(staged.join(tracked), "new").unwrap();
        }
        fs::write(live.join("app/configuration.py"), "DEBUG = False\n").unwrap();
        fs::write(live.join("local/local.py"), "A = 1\n").unwrap();
        (0..60).for_each(|number| fs::write(live.join(format!("media/{number}.json")), "").unwrap());
        fs::write(live.join("media/photo.py"), "").unwrap();
        for ignored in ["app/configuration.py", "media", "local"] {
            symlink(live.join(ignored), staged.join(ignored)).unwrap();
        }
        (top, live, staged)
    }

    fn tree(live: &Path, staged: &Path) -> StagedTree {
        StagedTree { repository: live.to_owned(), path: staged.to_owned(), commit: String::new() }
    }

    #[test]
    fn an_ignored_file_that_is_edited_added_or_removed_is_noticed() {
        let (_top, live, staged) = trees();
        let mut seen = Seen::look(&tree(&live, &staged), &[]);
        let known: Vec<_> = seen.files.keys().map(|path| path.strip_prefix(&live).unwrap()).collect();
        assert_eq!(
            known,
            [Path::new("app/configuration.py"), Path::new("local/local.py")],
            "uploads do not count"
        );
        seen.settle();
        assert_eq!(seen.changed(), None);
        let written = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Seen>(&written).unwrap(), seen);

        let said = |part: &str| {
            let said = seen.changed().unwrap_or_default();
            assert!(said.contains(part), "{said:?} has no {part:?}");
        };
        let path = live.join("app/configuration.py");
        fs::write(&path, "DEBUG = True!\n").unwrap();
        said("app/configuration.py` has changed");
        fs::write(&path, "DEBUG = False\n").unwrap();
        assert_eq!(seen.changed(), None, "it is as it was, whatever its time says");
        fs::remove_file(&path).unwrap();
        said("app/configuration.py` is missing");
        fs::write(&path, "DEBUG = False\n").unwrap();
        fs::write(live.join("app/local_settings.py"), "").unwrap();
        said("files came or went in");
        fs::remove_file(live.join("app/local_settings.py")).unwrap();
        for running in ["app/db.sqlite3-journal", "app/site.log", "app/run.pid", "media/new.json"] {
            fs::write(live.join(running), "").unwrap();
        }
        fs::create_dir_all(live.join("old/__pycache__")).unwrap();
        fs::write(live.join("old/__pycache__/a.pyc"), "").unwrap();
        assert_eq!(seen.changed(), None, "what a running site writes is nothing new");
    }

    #[test]
    fn what_deploykit_and_the_steps_of_the_site_make_does_not_count_until_an_output_is_gone() {
        let (_top, live, staged) = trees();
        let outputs = ["dist", "app/made.js", "fresh/deep"].map(PathBuf::from);
        fs::create_dir_all(staged.join("dist")).unwrap();
        fs::write(staged.join("dist/a.js"), "").unwrap();
        let mut seen = Seen::look(&tree(&live, &staged), &outputs);
        for made in ["dist", "fresh/deep", ".static.deploykit-20261122-1", ".venv.deploykit-original"] {
            fs::create_dir_all(live.join(made)).unwrap();
            fs::write(live.join(made).join("b.json"), "").unwrap();
        }
        fs::write(live.join("app/made.js"), "").unwrap();
        seen.settle();
        assert_eq!(seen.changed(), None);
        fs::write(live.join("dist/c.js"), "").unwrap();
        fs::create_dir(live.join(".static.deploykit-20261123-1")).unwrap();
        assert_eq!(seen.changed(), None);
        fs::remove_file(live.join("app/made.js")).unwrap();
        assert!(seen.changed().unwrap().ends_with("made.js` is missing"));
    }

    #[test]
    fn a_file_that_changes_between_the_look_and_the_end_is_noticed_afterwards() {
        let (_top, live, staged) = trees();
        let mut seen = Seen::look(&tree(&live, &staged), &[]);
        fs::write(live.join("app/configuration.py"), "DEBUG = 1\n").unwrap();
        fs::write(live.join("new.py"), "").unwrap();
        seen.settle();
        assert!(seen.changed().unwrap().ends_with("has changed"));
        fs::write(live.join("app/configuration.py"), "DEBUG = False\n").unwrap();
        assert!(seen.changed().unwrap().starts_with("files came or went"));
    }

    #[test]
    fn a_database_that_is_another_file_and_missing_static_files_are_noticed() {
        let top = tempfile::tempdir().unwrap();
        let (database, root) = (top.path().join("db"), top.path().join("static"));
        let mut seen = Seen::default();
        seen.add_database(database.clone());
        seen.set_static_root(&root);
        fs::create_dir(&root).unwrap();
        fs::write(&database, "rows").unwrap();
        seen.settle();
        assert_eq!(seen.changed(), None);
        fs::write(&database, "").unwrap();
        assert!(seen.changed().unwrap().ends_with("is missing or empty"));
        fs::write(top.path().join("other"), "rows").unwrap();
        fs::rename(top.path().join("other"), &database).unwrap();
        assert!(seen.changed().unwrap().ends_with("is another file"));
        fs::remove_dir(&root).unwrap();
        assert_eq!(seen.changed().unwrap(), format!("`{}` is missing", root.display()));
    }
}
