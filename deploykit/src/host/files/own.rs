//! What is deploykit's own, told from what a user or a stranger put in its place.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::{FileError, Found, InPath, look, own_directory, own_user, refuse};

/// Refuses a path that deploykit is about to make when something is there: it is a user's own, whatever its name.
///
/// # Errors
///
/// When something is there.
pub(crate) fn nothing_at(path: &Path) -> Result<(), FileError> {
    own_directory(path, None)?;
    if look(path) == Found::Nothing {
        return Ok(());
    }
    refuse(path, "it is there already, and deploykit did not put it there".to_owned())
}

/// Reads a file that deploykit wrote for its owner alone; `None`: there is none.
///
/// # Errors
///
/// When the system refuses, or something else is in its place: a symbolic link, a file of somebody else, or one that others may
/// read, as a checkout makes them.
pub(crate) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    let found = file.metadata().at("look at", path)?;
    if !found.is_file() || found.uid() != own_user() || found.mode() & 0o077 != 0 {
        return refuse(path, "it is not a file of ours".to_owned());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).at("read", path)?;
    Ok(Some(bytes))
}
