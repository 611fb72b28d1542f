//! What was carried from a staged tree into the live checkout, on the disk before it is done.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::files::{self, FileError, InPath};

/// What was done with one path. All paths are from the top of the checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// It was brought to a place where nothing was.
    /// Of a directory, `files` are all that was in it, from there.
    Brought { path: Name, seen: Seen, files: Vec<(Name, Seen)> },
    /// It was made in the live checkout itself.
    Made { path: Name, seen: Seen, files: Vec<(Name, Seen)> },
    /// It was brought to the place of a file of the live checkout, which was put aside.
    Exchanged { path: Name },
    /// A file of the live checkout was renamed.
    Moved { from: Name, to: Name },
    /// A file of the live checkout was put aside.
    PutAside { path: Name },
    /// Nothing was there, and the run makes something.
    Awaited { path: Name },
}

/// A path, whose bytes need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Name(#[serde(with = "crate::names::one")] PathBuf);

impl From<&Path> for Name {
    fn from(path: &Path) -> Self {
        Name(path.to_owned())
    }
}

impl Deref for Name {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

/// What a path was like before it was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The type alone counts for a symbolic link.
    kind: u32,
    size: u64,
    /// Nanoseconds since 1970.
    modified: i64,
}

impl Seen {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        let kind = found.mode() & 0o170_000;
        let modified = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        let is_file = found.is_file();
        let (size, modified) = if is_file { (found.size(), modified) } else { (0, 0) };
        Some(Seen { kind, size, modified })
    }
}

/// The record of one action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub entries: Vec<Entry>,
    /// Directories of the live checkout that were made for it, upper ones first.
    pub made: Vec<Name>,
    /// Whether everything is in its place.
    pub done: bool,
}

impl Record {
    /// Reads a record; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let Some(bytes) = files::read(path).at("read", path)? else { return Ok(Record::default()) };
        serde_json::from_slice(&bytes).map_err(io::Error::from).at("read", path)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string(self).map_err(io::Error::from).at("write", path)?;
        files::write_whole(path, text.as_bytes(), 0o600)
    }
}

/// Reads names that each end with a zero byte.
pub(super) fn read_names(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let bytes = files::read(path).at("read", path)?.unwrap_or_default();
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsString::from_vec(name.to_owned()))).collect())
}

/// Writes names that each end with a zero byte.
pub(super) fn write_names(path: &Path, names: &[PathBuf]) -> Result<(), FileError> {
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend_from_slice(name.as_os_str().as_bytes());
        bytes.push(0);
    }
    files::write_whole(path, &bytes, 0o600)
}
