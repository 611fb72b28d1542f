//! Changes the packages of a virtualenv that stays where it is: a conda environment, an installation of Python, a mount.
//!
//! The staged virtualenv is built as any other. A copy of the live packages, inside the virtualenv, then gets what the staged
//! one has of other versions. The window exchanges the two directories, so what was live is whole and comes back as it was.
//! Programs and other files outside of the packages are replaced one by one, and their copies restore them.

mod added;
mod dropped;

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bytecode;
use super::error::PythonError;
use super::packages::Packages;
use super::sources::point;
use super::virtualenv::{Virtualenv, site_packages};
use crate::host::copies;
use crate::host::files::{self, FileError, Found, InPath};
use crate::host::trial::{why_not_replaced, why_not_writable};
use crate::host::{Host, Swap};
use crate::names::{self, PACKAGES, text};

/// The record of what the window exchanges; written last, so it exists only if the preparation is complete.
const READY: &str = "ready.json";

/// The directory of copies of the files outside of the packages that the window replaces or removes.
const REPLACED: &str = "replaced";

/// How many bytes stay free beside the copy of the packages: for the programs, and for what the site itself writes meanwhile.
pub(crate) const RESERVE: u64 = 100_000_000;

/// The staged packages of a virtualenv while they are prepared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next<'a> {
    pub(super) virtualenv: &'a Path,
    /// The virtualenv that has them.
    pub(super) staged: &'a Path,
    /// Where they are prepared: inside the virtualenv.
    pub(super) place: &'a Path,
    /// The staged tree and the checkout, for packages of the checkout.
    pub(super) trees: [&'a Path; 2],
    /// The packages that were installed when the changes were planned.
    pub(super) before: &'a Packages,
}

/// The directory for the staged packages of a virtualenv that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// A directory inside the virtualenv.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// The packages that were installed when the changes were planned.
    pub before: Packages,
}

/// What is prepared.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ready {
    /// For each directory of packages: the exchange and its undo.
    directories: Vec<[Swap; 2]>,
    /// Files elsewhere in the virtualenv, from its top: the next ones are below the place, those from before below [`REPLACED`].
    files: BTreeSet<PathBuf>,
    /// What was installed.
    before: Packages,
}

/// Returns the first vacant place for the next packages: `key`, `key-2` and so on.
pub(crate) fn vacant(virtualenv: &Path, key: &str) -> PathBuf {
    names::vacant(&virtualenv.join(PACKAGES), key, |place| files::look(place) != Found::Nothing)
}

/// Returns the directories of a virtualenv in which something is made or removed.
pub(crate) fn changes(virtualenv: &Path) -> Vec<PathBuf> {
    let packages = site_packages(virtualenv).into_iter().map(|(_, packages)| packages);
    let packages = packages.flat_map(|packages| [files::parent(&packages).to_owned(), packages]);
    [virtualenv.to_owned(), virtualenv.join("bin")].into_iter().chain(packages).collect()
}

impl Next<'_> {
    /// Prepares the staged packages: removes those in `go`, adds those in `come`, both by normalised names.
    pub(super) fn prepare(
        &self,
        host: &Host,
        go: &BTreeSet<String>,
        come: &BTreeSet<String>,
    ) -> Result<(), PythonError> {
        for directory in [files::parent(self.place), self.place] {
            files::own_directory(directory, None)?;
        }
        files::remove_tree(self.place)?;
        let made = self.make(host, go, come);
        if made.is_err() {
            crate::error::warn(files::remove_tree(self.place));
        }
        made
    }

    fn make(&self, host: &Host, go: &BTreeSet<String>, come: &BTreeSet<String>) -> Result<(), PythonError> {
        let mut ready = Ready { before: self.before.clone(), ..Ready::default() };
        has_room(self.virtualenv)?;
        create(&self.place.join(REPLACED))?;
        for (live, next) in self.directories() {
            create(files::parent(&next))?;
            copies::copy(host, &live, &next)?;
        }
        for name in go {
            self.remove(name, &mut ready.files)?;
        }
        for name in come {
            self.add(name, &mut ready.files)?;
        }
        self.complete()?;
        self.is_writable(&ready.files)?;
        bytecode::take_along(host, self.staged, self.place).at("copy bytecode to", self.place)?;
        point(self.place, self.trees[0], self.trees[1])?;
        for (live, next) in self.directories() {
            let (there, back) = Swap::pair(&live, &next)?;
            ready.directories.push([there, back]);
        }
        let path = self.place.join(READY);
        let text = serde_json::to_vec(&ready).map_err(io::Error::from).at("write", &path)?;
        // After a power failure, the record must not exist without the packages.
        files::sync_file_system(self.place)?;
        Ok(files::write_whole(&path, &text, 0o600)?)
    }

    /// Fails if the window or its undo could not replace one of the files.
    fn is_writable(&self, files: &BTreeSet<PathBuf>) -> Result<(), PythonError> {
        for file in files.iter().map(|file| self.virtualenv.join(file)) {
            let above = file.ancestors().skip(1).find(|above| files::look(above) != Found::Nothing);
            if let Some(directory) = above.filter(|above| why_not_writable(above).is_some()) {
                return Err(PythonError::VirtualenvNotWritable { directory: directory.to_owned() });
            }
            if files::look(&file) != Found::Nothing
                && let Some(why) = why_not_replaced(&file)
            {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).at("replace", &file)?;
            }
        }
        Ok(())
    }

    /// Returns the live directories of packages, each with its next one.
    fn directories(&self) -> Vec<(PathBuf, PathBuf)> {
        let live = site_packages(self.virtualenv).into_iter().map(|(_, directory)| directory);
        live.map(|live| {
            let inside = live.strip_prefix(self.virtualenv).unwrap_or(&live).to_owned();
            (live, self.place.join(inside))
        })
        .collect()
    }

    /// Copies what lies elsewhere in the virtualenv and is replaced or removed; if nothing is there, nothing is.
    fn keep(&self, path: &Path) -> Result<(), PythonError> {
        let (live, kept) = (self.virtualenv.join(path), self.place.join(REPLACED).join(path));
        if files::look(&kept) != Found::Nothing {
            return Ok(());
        }
        create(files::parent(&kept))?;
        match files::look(&live) {
            Found::Nothing => Ok(()),
            Found::Directory => Err(PythonError::DirectoryInTheWay { path: live }),
            _ => Ok(put(&live, &kept).at("copy", &live)?),
        }
    }
}

/// Checks that the disk has room for the staged packages of a virtualenv.
///
/// # Errors
///
/// When it has not, or something cannot be read.
pub(super) fn has_room(virtualenv: &Path) -> Result<(), PythonError> {
    let found = rustix::fs::statvfs(virtualenv).at("look at", virtualenv)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let copy = size(virtualenv)?;
    if free < copy + RESERVE {
        return Err(PythonError::NoRoom { directory: virtualenv.to_owned(), copy, reserve: RESERVE, free });
    }
    Ok(())
}

/// Returns the size of the packages of a virtualenv, in bytes.
///
/// # Errors
///
/// When one cannot be read.
pub(crate) fn size(virtualenv: &Path) -> Result<u64, FileError> {
    site_packages(virtualenv).iter().try_fold(0, |sum, (_, directory)| Ok(sum + copies::size(directory)?))
}

/// Makes the next packages live, or those from before.
///
/// # Errors
///
/// When they are not there, or the system refuses.
pub(super) fn bring(virtualenv: &Path, place: &Path, next: bool) -> Result<(), PythonError> {
    let Some(ready) = Ready::read(place)? else {
        // An exchange leaves the record: without one there is nothing to undo.
        return if next { Err(PythonError::Incomplete { staged: place.to_owned() }) } else { Ok(()) };
    };
    // Changed by somebody else: neither the exchange nor its undo touches the packages.
    if !ready.is_begun() && Virtualenv::installed(virtualenv) != ready.before {
        let virtualenv = virtualenv.to_owned();
        return if next { Err(PythonError::ChangedMeanwhile { virtualenv }) } else { Ok(()) };
    }
    if next {
        ready.put_files(virtualenv, place)?;
        return ready.directories.iter().try_for_each(|[there, _]| Ok(there.perform()?));
    }
    // First, because the exchange needs no disk space: most packages are restored even if the rest fails.
    ready.directories.iter().try_for_each(|[_, back]| back.perform())?;
    ready.put_files(virtualenv, &place.join(REPLACED))
}

/// Tells whether the next packages are live.
pub(super) fn is_live(place: &Path) -> bool {
    Ready::read(place).is_ok_and(|ready| ready.is_some_and(|ready| ready.is_done()))
}

/// Tells whether all is there that [`bring`] needs.
pub(super) fn is_ready(place: &Path) -> bool {
    Ready::read(place).is_ok_and(|ready| ready.is_some())
}

/// Returns the exchanges of directories that bring those packages live that are not live now.
pub(crate) fn exchanged(place: &Path) -> Result<Vec<Swap>, FileError> {
    let directories = Ready::read(place)?.map(|ready| ready.directories).unwrap_or_default();
    Ok(directories.into_iter().map(|[there, _]| there).collect())
}

/// Returns a file that the exchange replaces as well, and that is neither a package's nor a program; `None`: there is none.
pub(crate) fn replaced_elsewhere(place: &Path) -> Option<PathBuf> {
    let files = Ready::read(place).ok().flatten()?.files;
    files.into_iter().find(|file| !file.starts_with("bin"))
}

/// Returns the programs that the virtualenv loses.
pub(crate) fn lost_programs(place: &Path) -> Vec<String> {
    let Ok(Some(ready)) = Ready::read(place) else { return Vec::new() };
    let programs = ready.files.iter().filter_map(|file| file.strip_prefix("bin").ok());
    let lost = programs.filter(|name| files::look(&place.join("bin").join(name)) == Found::Nothing);
    lost.map(text).collect()
}

/// Removes what is prepared or kept in a virtualenv, but for the places that stay.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn prune(virtualenv: &Path, stays: impl Fn(&PathBuf) -> bool) -> Result<(), FileError> {
    let places = virtualenv.join(PACKAGES);
    let places = fs::read_dir(&places).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in places.filter(|place| !stays(place)) {
        // First: without the record, what an interruption leaves is not taken for complete.
        files::remove_file(&place.join(READY))?;
        files::remove_tree(&place)?;
    }
    Ok(())
}

/// Removes what is half prepared, or half removed.
pub(super) fn remove_half(virtualenv: &Path) -> Result<(), FileError> {
    prune(virtualenv, |place| files::look(&place.join(READY)) != Found::Nothing)
}

impl Ready {
    /// Reads it; `None`: it is not there, or not whole.
    fn read(place: &Path) -> Result<Option<Self>, FileError> {
        let path = place.join(READY);
        let Some(text) = files::read(&path).at("read", &path)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text).map_err(io::Error::from).at("read", &path)?))
    }

    /// Puts each file in its place, or removes it if there is none; tries all of them.
    fn put_files(&self, virtualenv: &Path, from: &Path) -> Result<(), PythonError> {
        let mut failed = None;
        for file in &self.files {
            let (from, to) = (from.join(file), virtualenv.join(file));
            let done = match files::look(&from) {
                Found::Nothing => dropped::remove(&to),
                _ => put(&from, &to).at("write", &to),
            };
            failed = failed.or(done.err());
        }
        // Once for all of them: what a power failure leaves half done is compared and written again.
        failed = failed.or(files::sync_file_system(virtualenv).err());
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn is_done(&self) -> bool {
        self.directories.iter().all(|[there, _]| files::inode(&there.live) == there.wanted)
    }

    /// Tells whether the exchange has begun.
    fn is_begun(&self) -> bool {
        self.directories.iter().any(|[_, back]| files::inode(&back.live) != back.wanted)
    }
}

/// Returns the path of a file of a record from the top of the virtualenv; `None`: it is outside.
fn within(packages: &Path, file: &Path) -> Option<PathBuf> {
    let mut path = packages.to_owned();
    for part in file.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

fn create(directory: &Path) -> Result<(), FileError> {
    fs::create_dir_all(directory).at("create the directory", directory)
}

/// Puts a copy of a file or link in its place at once, unless it is there already. The caller syncs.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let directory = files::parent(to);
    fs::create_dir_all(directory)?;
    if let Found::Link(target) = files::look(from) {
        if !matches!(files::look(to), Found::Nothing | Found::Link(_)) {
            fs::remove_file(to)?;
        }
        return files::link(to, &target).map_err(|error| error.source);
    }
    let found = fs::metadata(from)?;
    if is_there(from, &found, to)? {
        return Ok(());
    }
    let made = files::temporary_file(directory)?;
    copies::copy_file(from, made.path(), &found)?;
    made.persist(to).map_err(|error| error.error)?;
    Ok(())
}

/// Tells whether a file is like this one: contents, mode and time.
fn is_there(from: &Path, found: &Metadata, to: &Path) -> io::Result<bool> {
    let Ok(there) = fs::symlink_metadata(to) else { return Ok(false) };
    let is_alike = there.is_file()
        && (there.len(), there.mode(), there.modified()?) == (found.len(), found.mode(), found.modified()?);
    Ok(is_alike && fs::read(from)? == fs::read(to)?)
}

#[cfg(test)]
mod tests;
