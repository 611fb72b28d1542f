//! What migrations did to files of the live checkout themselves, as the probe recorded it before it was done.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::disk::files_of;
use super::record::{Entry, Name, Record, Seen};
use crate::host::files::{self, FileError, Found, InPath, look};

/// One of the lines that `probe/deploykit_probe/changes.py` writes. All paths are from the top of the checkout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// A file, a link or a directory was made.
    New(Name),
    /// A file was removed, and is kept.
    Removed(Name),
    /// A file was replaced, and is kept.
    Replaced(Name),
    /// A file or a directory was renamed: from, to.
    Renamed(Name, Name),
}

impl Change {
    /// Reads the changes. A line without an end was being written when the process was killed: its change was not made.
    pub(super) fn read(path: &Path) -> Result<Vec<Change>, FileError> {
        let bytes = files::read(path).at("read", path)?.unwrap_or_default();
        let whole = bytes.rsplitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let change = |line| serde_json::from_slice(line).map_err(io::Error::from).at("read", path);
        lines.map(change).collect()
    }
}

impl Record {
    /// Adds what has been done to the live checkout `live` already.
    pub(super) fn add(&mut self, changes: Vec<Change>, live: &Path) -> Result<(), FileError> {
        for change in changes {
            let entry = match change {
                Change::New(path) => self.made(path, live)?,
                Change::Removed(path) => Some(Entry::PutAside { path }),
                Change::Replaced(path) => Some(Entry::Exchanged { path }),
                Change::Renamed(from, to) => {
                    // It failed, or was renamed back.
                    let stays = look(&live.join(&*from)) != Found::Nothing
                        && look(&live.join(&*to)) == Found::Nothing;
                    (!stays).then_some(Entry::Moved { from, to })
                }
            };
            if let Some(entry) = entry.filter(|entry| !self.entries.contains(entry)) {
                self.entries.push(entry);
                self.done = false;
            }
        }
        Ok(())
    }

    /// Returns the entry of what was made, unless it is gone again, or has an entry alone or within a directory.
    fn made(&self, path: Name, live: &Path) -> Result<Option<Entry>, FileError> {
        let holds =
            |entry: &Entry| matches!(entry, Entry::Made { path: one, .. } if path.starts_with(&**one));
        let place = live.join(&*path);
        let Some(seen) = Seen::of(&place).filter(|_| !self.entries.iter().any(holds)) else {
            return Ok(None);
        };
        let files = if look(&place) == Found::Directory { files_of(&place)? } else { Vec::new() };
        Ok(Some(Entry::Made { path, seen, files }))
    }
}
