//! What a window needs is tried before it, on the very paths, in ways that change nothing.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Statx, StatxAttributes, StatxFlags, access, statx};
use rustix::io::Errno;

use super::files::{FileError, Found, InPath, look, parent, temporary_file};

/// Tries whether a directory could be renamed, or a link replaced, in its parent: it is renamed onto a directory that is
/// not empty, or an empty one onto the link. Every system refuses that, and does so last: after mount points, read-only
/// file systems, permissions, sticky directories, immutable files and the layers of an overlay.
///
/// `scratch` is made beside it for the moment; whoever is killed leaves it.
///
/// # Errors
///
/// The reason for which it could not be renamed.
pub(crate) fn can_be_moved(path: &Path, scratch: &Path) -> Result<(), FileError> {
    if is_mount_point(path) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is a mount point")).at("rename", path);
    }
    fs::create_dir(scratch).at("create the directory", scratch)?;
    let tried = match look(path) {
        Found::Link(_) => try_rename(scratch, path, &[Errno::NOTDIR]).at("replace", path),
        _ => fs::write(scratch.join("trial"), "")
            .and_then(|()| try_rename(path, scratch, &[Errno::NOTEMPTY, Errno::EXIST]))
            .at("rename", path),
    };
    let removed = fs::remove_file(scratch.join("trial"));
    if let Err(error) = removed.or_else(not_found).and_then(|()| fs::remove_dir(scratch)) {
        log::warn!("cannot remove `{}`: {error}", scratch.display());
    }
    tried
}

/// Renames in a way that has to be refused for one of these reasons.
fn try_rename(from: &Path, to: &Path, reasons: &[Errno]) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if reasons.iter().any(|reason| error.raw_os_error() == Some(reason.raw_os_error())) => {
            Ok(())
        }
        Err(error) => Err(error),
        // No file system is known that does this.
        Ok(()) => {
            fs::rename(to, from)?;
            Err(io::Error::other("the file system replaces a directory that is not empty"))
        }
    }
}

fn not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Tries whether a file can be written whole: its directory takes a new file, and it can be replaced.
///
/// # Errors
///
/// The reason for which it cannot.
pub(crate) fn can_be_written(path: &Path) -> Result<(), FileError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = parent(&target);
    let made = temporary_file(directory).at("write", path)?;
    drop(made);
    match why_not_replaced(&target) {
        Some(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)).at("write", path),
        None => Ok(()),
    }
}

/// Says why this process can neither replace nor remove a file, without trying; `None`: nothing is known against it.
pub(crate) fn why_not_replaced(path: &Path) -> Option<&'static str> {
    let directory = parent(path);
    if let Some(why) = why_not_writable(directory) {
        return Some(why);
    }
    let (found, directory) = (facts(path)?, facts(directory)?);
    let user = rustix::process::geteuid().as_raw();
    if is_fixed(&found) {
        Some("it is immutable")
    } else if is_other_mount(&found, &directory) {
        Some("it is a mount point")
    } else if directory.stx_mode & STICKY != 0
        && user != 0
        && ![found.stx_uid, directory.stx_uid].contains(&user)
    {
        Some("it belongs to another user, in a sticky directory")
    } else {
        None
    }
}

/// Says why nothing can be made or removed in a directory.
pub(crate) fn why_not_writable(directory: &Path) -> Option<&'static str> {
    match access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        Err(Errno::ROFS) => return Some("its file system is read-only"),
        Err(_) => return Some("its directory is not writable"),
        Ok(()) => {}
    }
    facts(directory).is_some_and(|directory| is_fixed(&directory)).then_some("its directory is immutable")
}

/// Tells whether a path is where something is mounted, be it a directory of the same disk.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    match (facts(path), facts(parent(path))) {
        (Some(found), Some(directory)) => is_other_mount(&found, &directory),
        _ => false,
    }
}

const STICKY: u16 = 0o1000;

fn facts(path: &Path) -> Option<Statx> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted).ok()
}

fn is_fixed(found: &Statx) -> bool {
    found.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND)
}

/// Kernels before 5.8 do not number mounts: there the file systems are compared.
fn is_other_mount(one: &Statx, other: &Statx) -> bool {
    let knows = |found: &Statx| found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let disk = |found: &Statx| (found.stx_dev_major, found.stx_dev_minor);
    disk(one) != disk(other) || (knows(one) && knows(other) && one.stx_mnt_id != other.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_trial_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (live, link, scratch) =
            (directory.path().join("live"), directory.path().join("link"), directory.path().join("scratch"));
        fs::create_dir(&live).unwrap();
        fs::write(live.join("mine"), "").unwrap();
        symlink("live", &link).unwrap();
        let before = super::super::files::inode(&live);
        for path in [&live, &link] {
            can_be_moved(path, &scratch).unwrap();
            assert!(!scratch.exists());
        }
        can_be_written(&live.join("mine")).unwrap();
        assert_eq!(super::super::files::inode(&live), before);
        assert_eq!(look(&link), Found::Link("live".into()));
        assert_eq!(fs::read_dir(&live).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_moved_is_known_beforehand() {
        let directory = tempfile::tempdir().unwrap();
        let error = can_be_moved(Path::new("/proc"), &directory.path().join("scratch")).unwrap_err();
        assert_eq!(crate::error_chain(&error), "cannot rename `/proc`: it is a mount point");
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(directory.path()));
        // Another file system than the one it is tried on.
        let error = can_be_moved(Path::new("/proc/self"), &directory.path().join("scratch")).unwrap_err();
        assert!(error.to_string().starts_with("cannot replace `/proc/self`"), "{error}");
        assert!(!directory.path().join("scratch").exists());
    }
}
