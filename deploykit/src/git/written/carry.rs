//! Carries what was written into a staged tree over to the live checkout, and back out of it.
//!
//! What is carried over is renamed, and a link takes its place in the staged tree: a Django that was booted there goes on
//! with the same files. Everything is on the record before it is done, so half of it can be finished or undone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Written;
use super::changes::Change;
use super::disk::{
    files_of, is_same, is_same_file, merge, remove_empty, remove_half, remove_if_empty, rename, replace,
};
use super::record::{Entry, Name, Record, Seen, read_names, write_names};
use crate::git::error::GitError;
use crate::git::staged_tree::StagedTree;
use crate::host::Host;
use crate::host::files::{self, FileError, Found, InPath, look};
use crate::names;

/// Why something is not carried over after all.
const APPEARED: &str = "something else appeared there in the live checkout meanwhile";

/// What SQLite keeps beside a database.
const BESIDE_DATABASE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Carries over what is new in a staged tree when it is performed, and takes it out of the live checkout again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryWritten {
    /// The staged tree, and the live checkout.
    pub tree: StagedTree,
    /// Where it is recorded what was carried over; what is put aside lies beside it.
    pub record: PathBuf,
    /// Whether the staged tree is looked through; otherwise only what is awaited counts.
    pub looks: bool,
    /// Paths of the tree that are handled elsewhere.
    #[serde(default, with = "crate::names::many")]
    pub excluded: Vec<PathBuf>,
    /// Files that the run itself makes in the live checkout, as a new database.
    #[serde(default, with = "crate::names::many")]
    pub awaited: Vec<PathBuf>,
}

impl CarryWritten {
    /// Keeps which paths of the staged tree are links to the live checkout: those that are gone later were renamed or
    /// removed.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn keep_links(&self, links: &[PathBuf]) -> Result<(), FileError> {
        write_names(&self.links(), links)
    }

    /// Returns the paths that were carried over, from the top of the checkout; those of a record that cannot be read are
    /// unknown.
    #[must_use]
    pub fn carried(&self) -> Vec<PathBuf> {
        let path = |entry: &Entry| match entry {
            Entry::Brought { path, .. }
            | Entry::Made { path, .. }
            | Entry::Exchanged { path }
            | Entry::Awaited { path } => Some(path.to_path_buf()),
            Entry::Moved { .. } | Entry::PutAside { .. } => None,
        };
        Record::read(&self.record).unwrap_or_default().entries.iter().filter_map(path).collect()
    }

    /// Returns the same for later, when there is no staged tree any more; `None`: nothing was carried over.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        (look(&self.record) == Found::File).then(|| CarryWritten { looks: false, ..self.clone() })
    }

    /// Returns where a process that writes into the live checkout itself records that beforehand, and where it keeps what it
    /// removes or replaces, for a record.
    #[must_use]
    pub fn changes(record: &Path) -> [PathBuf; 2] {
        ["changes", "aside"].map(|end| record.with_extension(end))
    }

    fn links(&self) -> PathBuf {
        self.record.with_extension("links")
    }

    /// Where files of the live checkout are put that others took the place of.
    fn aside(&self, path: &Path) -> PathBuf {
        let [_, aside] = CarryWritten::changes(&self.record);
        aside.join(path)
    }

    /// Reads the record, with what was done to the live checkout since.
    fn recorded(&self) -> Result<Record, FileError> {
        let mut record = Record::read(&self.record)?;
        let [changes, _] = CarryWritten::changes(&self.record);
        record.add(Change::read(&changes)?, &self.tree.repository)?;
        Ok(record)
    }

    /// Where files are put that are taken out of the live checkout again.
    fn taken(&self, path: &Path) -> PathBuf {
        self.record.with_extension("taken").join(path)
    }

    fn live(&self, path: &Path) -> PathBuf {
        self.tree.repository.join(path)
    }

    fn staged(&self, path: &Path) -> PathBuf {
        self.tree.path.join(path)
    }

    /// Carries it over. Nothing of the live checkout is overwritten.
    ///
    /// # Errors
    ///
    /// When git or the file system refuses, or the live checkout has something else in such a place.
    pub fn perform(&self, host: &Host) -> Result<(), GitError> {
        let mut record = self.recorded()?;
        // What an earlier try left half done.
        self.carry(&record)?;
        let awaited = self.awaited.iter().map(|path| Entry::Awaited { path: path.as_path().into() });
        let mut news: Vec<Entry> = awaited.filter(|entry| !record.entries.contains(entry)).collect();
        if let Some(path) = self.awaited.iter().find(|path| look(&self.live(path)) != Found::Nothing)
            && !news.is_empty()
        {
            return Err(GitError::NotCarried { path: path.clone(), why: APPEARED });
        }
        if self.looks && look(&self.tree.path) == Found::Directory {
            let links = read_names(&self.links())?;
            let mut written = Written::find(host, &self.tree, &self.excluded, &links)?;
            // Where no link was, the live checkout got a file of its own meanwhile.
            let appeared = |path: &PathBuf| !links.contains(path);
            for path in written.replaced.extract_if(.., |path| appeared(path)) {
                if !is_same_file(&self.staged(&path), &self.live(&path)) {
                    return Err(GitError::NotCarried { path, why: APPEARED });
                }
                written.new.push(path);
            }
            news.extend(self.entries(&written)?);
        }
        news.retain(|entry| !record.entries.contains(entry));
        let [changes, _] = CarryWritten::changes(&self.record);
        if news.is_empty() && (record.done || record.entries.is_empty()) {
            return Ok(files::remove_file(&changes)?);
        }
        record.done = false;
        record.made.extend(self.missing_directories(&news));
        record.entries.extend(news);
        record.write(&self.record)?;
        self.carry(&record)?;
        record.done = true;
        record.write(&self.record)?;
        // What is made later in one of these places is another's.
        Ok(files::remove_file(&changes)?)
    }

    fn entries(&self, written: &Written) -> Result<Vec<Entry>, FileError> {
        let mut brought = Vec::new();
        for path in &written.new {
            let staged = self.staged(path);
            if let Some(seen) = Seen::of(&staged) {
                let files = if look(&staged) == Found::Directory { files_of(&staged)? } else { Vec::new() };
                brought.push(Entry::Brought { path: path.as_path().into(), seen, files });
            }
        }
        let exchanged = written.replaced.iter().map(|path| Entry::Exchanged { path: path.as_path().into() });
        let moved = written
            .moved
            .iter()
            .map(|(from, to)| Entry::Moved { from: from.as_path().into(), to: to.as_path().into() });
        let removed = written.removed.iter().map(|path| Entry::PutAside { path: path.as_path().into() });
        Ok(moved.chain(removed).chain(exchanged).chain(brought).collect())
    }

    /// Returns the directories of the live checkout that these need and that are not there, upper ones first.
    fn missing_directories(&self, entries: &[Entry]) -> Vec<Name> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let (Entry::Brought { path, .. } | Entry::Exchanged { path } | Entry::Moved { to: path, .. }) =
                entry
            else {
                continue;
            };
            for directory in names::above(path) {
                if look(&self.live(directory)) == Found::Nothing
                    && !missing.iter().any(|one| one == directory)
                {
                    missing.push(directory.to_owned());
                }
            }
        }
        missing.iter().map(|path| path.as_path().into()).collect()
    }

    /// Does what the record says, as far as it is not done.
    fn carry(&self, record: &Record) -> Result<(), GitError> {
        self.remove_halves(record)?;
        for directory in &record.made {
            self.make_directory(directory)?;
        }
        for entry in &record.entries {
            match entry {
                Entry::Brought { path, .. } => self.bring(path)?,
                // Only where it was taken out before.
                Entry::Made { path, .. } => self.bring_from(&self.taken(path), path)?,
                Entry::Exchanged { path } => {
                    if matches!(look(&self.staged(path)), Found::File | Found::Directory) {
                        rename(&self.live(path), &self.aside(path))?;
                    }
                    self.bring(path)?;
                }
                Entry::Moved { from, to } => {
                    if look(&self.live(to)) == Found::Nothing {
                        rename(&self.live(from), &self.live(to))?;
                    }
                    self.lead_to_live(to)?;
                }
                Entry::PutAside { path } => {
                    if look(&self.aside(path)) == Found::Nothing {
                        rename(&self.live(path), &self.aside(path))?;
                    }
                }
                Entry::Awaited { path } => {
                    // Only where it was taken out before.
                    for path in database_files(path) {
                        if look(&self.live(&path)) == Found::Nothing {
                            rename(&self.taken(&path), &self.live(&path))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes what a move to another file system left behind that was killed, wherever one of these paths is or was.
    fn remove_halves(&self, record: &Record) -> Result<(), FileError> {
        let mut paths = BTreeSet::new();
        for entry in &record.entries {
            match entry {
                Entry::Brought { path, files, .. } | Entry::Made { path, files, .. } => {
                    paths.insert(path.to_path_buf());
                    for (name, _) in files {
                        let inner = name.ancestors().filter(|name| !name.as_os_str().is_empty());
                        paths.extend(inner.map(|inner| path.join(inner)));
                    }
                }
                Entry::Moved { from, to } => paths.extend([from.to_path_buf(), to.to_path_buf()]),
                Entry::Exchanged { path } | Entry::PutAside { path } | Entry::Awaited { path } => {
                    paths.insert(path.to_path_buf());
                }
            }
        }
        let places = paths
            .iter()
            .flat_map(|path| [self.live(path), self.staged(path), self.aside(path), self.taken(path)]);
        let directories: BTreeSet<PathBuf> = places.map(|path| files::parent(&path).to_owned()).collect();
        // Of a directory, any name in it will do.
        directories.iter().try_for_each(|directory| remove_half(&directory.join("_")))
    }

    /// Makes a directory of the live checkout as the staged tree has it.
    fn make_directory(&self, path: &Path) -> Result<(), FileError> {
        let live = self.live(path);
        if look(&live) != Found::Nothing {
            return Ok(());
        }
        fs::create_dir(&live).at("create the directory", &live)?;
        match fs::metadata(self.staged(path)) {
            Ok(found) => fs::set_permissions(&live, found.permissions()).at("set the mode of", &live),
            Err(_) => Ok(()),
        }
    }

    /// Brings one path from the staged tree, or from where it was taken out to before.
    fn bring(&self, path: &Path) -> Result<(), GitError> {
        let (staged, taken) = (self.staged(path), self.taken(path));
        match look(&staged) {
            Found::Link(target) if self.tree.is_link(path, &target) => self.bring_from(&taken, path),
            Found::Nothing => self.bring_from(&taken, path),
            _ => self.bring_from(&staged, path),
        }
    }

    fn bring_from(&self, from: &Path, path: &Path) -> Result<(), GitError> {
        let live = self.live(path);
        if look(from) == Found::Nothing {
            return Ok(());
        }
        if *from == self.taken(path) && look(from) == Found::Directory && look(&live) == Found::Directory {
            return Ok(merge(from, &live)?);
        }
        if look(&live) != Found::Nothing && !is_same(from, &live)? {
            return Err(GitError::NotCarried { path: path.to_owned(), why: APPEARED });
        }
        match look(from) {
            // It names the staged tree, which goes.
            Found::Link(target) if target.starts_with(&self.tree.path) => {
                let inside = target.strip_prefix(&self.tree.path).unwrap_or(&target);
                symlink(self.live(inside), &live).at("link", &live)?;
            }
            _ if look(&live) != Found::Nothing => {}
            _ => rename(from, &live)?,
        }
        files::remove_tree(from)?;
        Ok(self.lead_to_live(path)?)
    }

    /// Puts a link to the live checkout into the staged tree, if that is still there.
    fn lead_to_live(&self, path: &Path) -> Result<(), FileError> {
        let staged = self.staged(path);
        let is_there = look(files::parent(&staged)) == Found::Directory;
        match look(&staged) {
            Found::Link(target) if self.tree.is_link(path, &target) => Ok(()),
            Found::Link(_) => files::link(&staged, &self.tree.link_to(path)),
            Found::Nothing if is_there => self.tree.link(path),
            _ => Ok(()),
        }
    }

    /// Takes out of the live checkout what was carried over, unless it was changed since, and restores what it replaced. Nothing
    /// is deleted: what is taken out lies beside the record afterwards.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn undo(&self) -> Result<(), GitError> {
        let record = self.recorded()?;
        self.remove_halves(&record)?;
        for entry in record.entries.iter().rev() {
            match entry {
                Entry::Brought { path, seen, files } | Entry::Made { path, seen, files } => {
                    self.take_out(path, *seen, files)?;
                }
                Entry::Exchanged { path } => {
                    let (live, aside) = (self.live(path), self.aside(path));
                    if look(&aside) != Found::Nothing {
                        replace(&live, &self.taken(path))?;
                        rename(&aside, &live)?;
                    }
                }
                Entry::Moved { from, to } => {
                    let (from, to) = (self.live(from), self.live(to));
                    if look(&from) == Found::Nothing {
                        rename(&to, &from)?;
                    }
                }
                Entry::PutAside { path } => {
                    if look(&self.live(path)) == Found::Nothing {
                        rename(&self.aside(path), &self.live(path))?;
                    }
                }
                Entry::Awaited { path } => {
                    for path in database_files(path) {
                        replace(&self.live(&path), &self.taken(&path))?;
                    }
                }
            }
        }
        for directory in record.made.iter().rev() {
            remove_if_empty(&self.live(directory))?;
        }
        Ok(())
    }

    /// Takes out one path that was brought; of a directory, the files that were not changed since.
    fn take_out(&self, path: &Path, seen: Seen, files: &[(Name, Seen)]) -> Result<(), FileError> {
        let live = self.live(path);
        if look(&live) != Found::Directory {
            let is_ours = Seen::of(&live) == Some(seen);
            return if is_ours { replace(&live, &self.taken(path)) } else { Ok(()) };
        }
        for (name, seen) in files {
            let inner = path.join(name.as_os_str());
            if Seen::of(&self.live(&inner)) == Some(*seen) {
                replace(&self.live(&inner), &self.taken(&inner))?;
            }
        }
        remove_empty(&live)
    }
}

/// Returns a database with what SQLite may keep beside it.
fn database_files(database: &Path) -> impl Iterator<Item = PathBuf> {
    BESIDE_DATABASE.into_iter().map(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
}
