//! Files and directories that are moved between a staged tree, the live checkout and what is put aside.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::record::{Name, Seen};
use crate::host::Host;
use crate::host::copies::{self, are_same};
use crate::host::files::{self, FileError, Found, InPath, look};
use crate::names;

/// Lists what is in a directory, from there, but for directories.
pub(super) fn files_of(directory: &Path) -> Result<Vec<(Name, Seen)>, FileError> {
    let (mut waiting, mut files) = (vec![PathBuf::new()], Vec::new());
    while let Some(inside) = waiting.pop() {
        let place = directory.join(&inside);
        for entry in fs::read_dir(&place).at("read", &place)? {
            let entry = entry.at("read", &place)?;
            let inner = inside.join(entry.file_name());
            if entry.file_type().at("look at", &place)?.is_dir() {
                waiting.push(inner);
            } else if let Some(seen) = Seen::of(&entry.path()) {
                files.push((inner.as_path().into(), seen));
            }
        }
    }
    Ok(files)
}

/// Moves what is in one directory into another one, where nothing is in the way.
pub(super) fn merge(from: &Path, to: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(from).at("read", from)? {
        let name = entry.at("read", from)?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        match (look(&from), look(&to)) {
            (_, Found::Nothing) => rename(&from, &to)?,
            (Found::Directory, Found::Directory) => merge(&from, &to)?,
            _ => {}
        }
    }
    remove_if_empty(from)
}

/// Tells whether two files are the same, or two directories: an earlier try may have copied one.
pub(super) fn is_same(one: &Path, other: &Path) -> Result<bool, FileError> {
    Ok(is_same_file(one, other)
        || look(one) == Found::Directory && look(other) == Found::Directory && are_same(one, other)?)
}

pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    is_file(one)
        && is_file(other)
        && matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// Removes the empty directories in a directory, and that itself if nothing else is in it.
pub(super) fn remove_empty(directory: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).at("read", directory)? {
        let entry = entry.at("read", directory)?;
        if entry.file_type().at("look at", directory)?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    remove_if_empty(directory)
}

pub(super) fn remove_if_empty(directory: &Path) -> Result<(), FileError> {
    match fs::remove_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(())
        }
        other => other.at("remove", directory),
    }
}

/// Renames a path over what an earlier try left at the target; one that is not there is fine.
pub(super) fn replace(from: &Path, to: &Path) -> Result<(), FileError> {
    if look(from) != Found::Nothing {
        files::remove_tree(to)?;
    }
    rename(from, to)
}

/// Removes what a killed run left half copied or half removed beside a path.
pub(super) fn remove_half(path: &Path) -> Result<(), FileError> {
    files::remove_tree(&files::parent(path).join(names::CARRY))
}

/// Renames a path, also to another file system; the target must not be there. A source that is not there is fine.
///
/// Nothing is synced: the record tells what to look for, and the whole file system is synced before a run is over.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    if look(from) == Found::Nothing {
        return Ok(());
    }
    let parent = files::parent(to);
    fs::create_dir_all(parent).at("create the directory", parent)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::XDEV) => carry(from, to),
        // Some file systems cannot promise to replace nothing.
        Err(Errno::INVAL | Errno::NOSYS) if look(to) == Found::Nothing => {
            fs::rename(from, to).at("rename", from)
        }
        other => other.at("rename", from),
    }
}

/// Moves a path to another file system: at the target, and at the source, it is there whole or not at all, whenever this is
/// killed, and may be done again.
fn carry(from: &Path, to: &Path) -> Result<(), FileError> {
    // An earlier try may have been killed behind the copy.
    if !is_same(from, to)? {
        remove_half(to)?;
        let half = files::parent(to).join(names::CARRY);
        copy(from, &half)?;
        rename(&half, to)?;
    }
    remove_half(from)?;
    let half = files::parent(from).join(names::CARRY);
    fs::rename(from, &half).at("rename", from)?;
    files::remove_tree(&half)
}

/// Copies a file, a link or a directory with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    match look(from) {
        Found::Link(target) => symlink(target, to).at("link", to),
        // Once begun, it is not interrupted.
        _ => copies::copy(&Host::new(), from, to),
    }
}
