//! Files and directories: written whole, swapped at once, and synced before anything relies on them.

mod own;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use own::{nothing_at, read_private};

use super::users::shown_user;
use crate::names;

/// Why something could not be done with a file or directory.
#[derive(Debug, Error)]
#[error("cannot {what} `{}`", path.display())]
#[non_exhaustive]
pub struct FileError {
    /// A verb: `write`, `rename`, ….
    pub what: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Adds the path and the verb to an error of the system.
pub(crate) trait InPath<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> InPath<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { what, path: path.to_owned(), source: source.into() })
    }
}

/// Writes a file whole or not at all: a temporary file beside it, synced, renamed over it.
///
/// `mode` is for a new file; an existing one keeps its own. A symbolic link is followed to the file that it names, unless
/// it belongs to another user.
///
/// # Errors
///
/// When the directory or the file cannot be written; the old contents are then untouched.
pub fn write_whole(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    if let Ok(found) = fs::symlink_metadata(path)
        && found.is_symlink()
        && ![own_user(), 0].contains(&found.uid())
    {
        return refuse(path, format!("it is a symbolic link of user {}", found.uid()));
    }
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(source) => return Err(FileError { what: "write", path: path.to_owned(), source }),
    };
    let directory = parent(&target);
    let old = fs::metadata(&target).ok();
    let mode = old.as_ref().map_or(mode, |old| old.permissions().mode() & 0o7777);
    (|| {
        let mut file = temporary_file(directory)?;
        file.write_all(contents)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        if let Some(old) = &old {
            keep_owner(file.as_file(), old)?;
        }
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        sync_directory(directory)
    })()
    .at("write", path)
}

/// Gives a replaced file its old owner, where this process may.
fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    Ok(())
}

/// Reads a file; `None`: there is none.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
///
/// When the system refuses.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| sync_directory(parent(path))).at("remove", path),
    }
}

/// Removes a directory with all that is in it, links themselves and never what they point to; absent is fine.
///
/// # Errors
///
/// When the system refuses.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    let result = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(path);
                fs::remove_dir_all(path)
            }
            result => result,
        },
        Ok(_) => fs::remove_file(path),
    };
    result.at("remove", path)
}

/// Gives our own directories back the rights without which nothing in them can be removed.
fn open_up(directory: &Path) {
    // What cannot be opened up cannot be removed either, and that says why.
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Makes a directory that only its owner can enter, with its parents; one that is there must be ours, and nobody else may
/// write into it.
///
/// # Errors
///
/// When the system refuses, or something else is in the way.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    if look(path) == Found::Nothing {
        return fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .at("create the directory", path);
    }
    own_directory(path, None)?;
    if fs::metadata(path).at("look at", path)?.mode() & 0o022 != 0 {
        return refuse(path, "others can write into it".to_owned());
    }
    Ok(())
}

/// Refuses what is at a path unless it is nothing, or a real directory of ours or of this other user: a symbolic link that
/// somebody planted there would lead elsewhere.
///
/// # Errors
///
/// When it is something else.
pub(crate) fn own_directory(path: &Path, other: Option<u32>) -> Result<(), FileError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.at("look at", path)?,
    };
    if found.is_symlink() {
        return refuse(path, "it is a symbolic link".to_owned());
    }
    if !found.is_dir() {
        return refuse(path, "it is not a directory".to_owned());
    }
    if found.uid() != own_user() && Some(found.uid()) != other {
        return refuse(path, format!("it belongs to {}", shown_user(found.uid())));
    }
    Ok(())
}

/// Removes the temporary files that a killed deploykit left in a directory: those of [`write_whole`] and [`link`].
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn remove_temporary(directory: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_directory && names::is_temporary(&entry.file_name()) {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes a file that a later [`remove_temporary`] tells from a user's own, should this process be killed.
pub(crate) fn temporary_file(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    temporary_file_like(directory, "")
}

/// The same with an ending that a program asks for: `.txt`.
pub(crate) fn temporary_file_like(directory: &Path, ending: &str) -> io::Result<tempfile::NamedTempFile> {
    let suffix = format!("{}{ending}", names::UNFINISHED);
    let (start, letters) = (names::TEMPORARY, names::LETTERS);
    tempfile::Builder::new().prefix(start).suffix(&suffix).rand_bytes(letters).tempfile_in(directory)
}

/// Opens a new or existing file for appending, readable by its owner only.
///
/// # Errors
///
/// When the system refuses, or a symbolic link or another user's file is in its place.
pub fn open_private(path: &Path) -> Result<File, FileError> {
    // A pipe that another user put there must not block the open.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true).mode(0o600);
    let file = options.custom_flags(flags.cast_signed()).open(path).at("open", path)?;
    let found = file.metadata().at("look at", path)?;
    if !found.is_file() || found.uid() != own_user() {
        return refuse(path, "it is not a file of ours".to_owned());
    }
    if found.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).at("open", path)?;
    }
    Ok(file)
}

/// Opens a file that is there, if it is one of ours.
///
/// # Errors
///
/// When the system refuses, or it is a symbolic link or another user's file.
pub fn open_existing(path: &Path) -> Result<File, FileError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).at("open", path)?;
    let found = file.metadata().at("look at", path)?;
    if found.is_file() && found.uid() == own_user() {
        Ok(file)
    } else {
        refuse(path, "it is not a file of ours".to_owned())
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn refuse<T>(path: &Path, why: String) -> Result<T, FileError> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).at("use", path)
}

/// Makes `path` a symbolic link to `target`, replacing a link that is there in one step.
///
/// # Errors
///
/// When the system refuses, or something else than a link is there.
pub fn link(path: &Path, target: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_symlink() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a link")).at("replace", path);
        }
        _ => {}
    }
    let directory = parent(path);
    let temporary = directory.join(names::temporary_link(std::process::id()));
    (|| {
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary)?;
        fs::rename(&temporary, path)?;
        sync_directory(directory)
    })()
    .at("link", path)
}

/// Exchanges two paths on one file system in one step: at every instant both exist.
///
/// # Errors
///
/// When one is missing, or the file system cannot exchange (`EINVAL`, `ENOSYS`).
pub fn exchange(one: &Path, other: &Path) -> Result<(), FileError> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).at("exchange", one)?;
    sync_directory(parent(one)).and_then(|()| sync_directory(parent(other))).at("sync", one)
}

/// Tells whether a file system cannot exchange two paths at all: NFS and 9p answer `EINVAL` to every flag.
pub(crate) fn cannot_exchange(error: &FileError) -> bool {
    let errors = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP];
    error.source.raw_os_error().is_some_and(|code| errors.iter().any(|errno| errno.raw_os_error() == code))
}

/// Renames a path; the target must not be there.
///
/// # Errors
///
/// When the system refuses, or the target exists.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).at("rename", from) {
        // Without the flag the target would be replaced.
        Err(error) if cannot_exchange(&error) && look(to) == Found::Nothing => {
            fs::rename(from, to).at("rename", from)?;
        }
        other => other?,
    }
    sync_directory(parent(from)).and_then(|()| sync_directory(parent(to))).at("sync", to)
}

/// Writes a directory's entries to the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes to the disk all that is not there yet of the file system that a path is on.
///
/// # Errors
///
/// When the path is not there or the system refuses.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), FileError> {
    rustix::fs::syncfs(File::open(path).at("open", path)?).at("sync", path)
}

/// Returns the directory that a path stands in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What a path is, without following it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A symbolic link to this.
    Link(PathBuf),
    /// A directory.
    Directory,
    /// A file or anything else.
    File,
}

/// Looks at a path without following it.
#[must_use]
pub fn look(path: &Path) -> Found {
    match fs::symlink_metadata(path) {
        Err(_) => Found::Nothing,
        Ok(found) if found.is_symlink() => Found::Link(fs::read_link(path).unwrap_or_default()),
        Ok(found) if found.is_dir() => Found::Directory,
        Ok(_) => Found::File,
    }
}

/// Returns the inode of a path itself, not of what a link names.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_mode_and_a_link_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let path = directory.path().join("link");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &path).unwrap();
        write_whole(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(look(&path), Found::Link(real));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
    }

    /// Root may remove them anyway.
    #[test]
    fn a_tree_is_removed_whose_directories_are_closed() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, closed) = (directory.path().join("tree"), directory.path().join("tree/closed"));
        fs::create_dir_all(closed.join("empty")).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        for (path, mode) in [(closed.join("empty"), 0), (closed, 0o500), (tree.clone(), 0o500)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert_eq!(look(&tree), Found::Nothing);
    }

    #[test]
    fn a_file_of_a_user_is_not_taken_for_a_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let own = [
            ".deploykit-backup",
            ".deploykit-link-1",
            ".deploykit-notes.unfinished",
            ".deploykit-.unfinished",
        ];
        let requirements = temporary_file_like(directory.path(), ".txt").unwrap().keep().unwrap().1;
        let requirements = requirements.file_name().unwrap().to_str().unwrap();
        let left = [".deploykit-a1B2c3D4e5.unfinished", ".deploykit-link-4711.unfinished", requirements];
        own.iter().chain(&left).for_each(|name| fs::write(directory.path().join(name), "").unwrap());
        remove_temporary(directory.path()).unwrap();
        own.iter().for_each(|name| assert!(directory.path().join(name).exists(), "{name}"));
        left.iter().for_each(|name| assert!(!directory.path().join(name).exists(), "{name}"));
    }

    #[test]
    fn a_link_is_replaced_and_a_directory_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("current");
        link(&path, Path::new("one")).unwrap();
        link(&path, Path::new("two")).unwrap();
        assert_eq!(look(&path), Found::Link("two".into()));
        fs::create_dir(directory.path().join("directory")).unwrap();
        let error = link(&directory.path().join("directory"), Path::new("x")).unwrap_err();
        assert!(error.to_string().starts_with("cannot replace"), "{error}");
    }

    #[test]
    fn an_exchange_swaps_a_directory_and_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::create_dir(&one).unwrap();
        symlink("elsewhere", &two).unwrap();
        exchange(&one, &two).unwrap();
        assert_eq!((look(&one), look(&two)), (Found::Link("elsewhere".into()), Found::Directory));
    }

    #[test]
    fn removing_a_tree_spares_what_its_links_point_to() {
        let directory = tempfile::tempdir().unwrap();
        let (kept, tree) = (directory.path().join("kept"), directory.path().join("tree"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        fs::create_dir(&tree).unwrap();
        symlink(&kept, tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(kept.join("file").exists() && !tree.exists());
    }
}
