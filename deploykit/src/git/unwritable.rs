//! What git could not write or remove in the checkout, looked at before the window.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::changes::PathChange;
use super::repository::Repository;
use crate::host::trial::{why_not_replaced, why_not_writable};

/// A path that an update changes and that this process can neither write nor remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwritable {
    /// The path from the top of the checkout.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// Why, as a fragment: "its directory is not writable".
    pub why: String,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", crate::names::shown_path(&self.path), self.why)
    }
}

/// Finds them, without trying: permissions, mounts, immutable files, sticky directories.
pub(crate) fn unwritable(repository: &Repository, changes: &[PathChange]) -> Vec<Unwritable> {
    let top = repository.top.as_path();
    let own = repository.git2.path();
    let mut found = Vec::new();
    if let Some(why) = why_not_writable(own) {
        let path = own.strip_prefix(top).unwrap_or(own).to_owned();
        found.push(Unwritable { path, why: why.to_owned() });
    }
    let mut directories: BTreeMap<PathBuf, Option<&'static str>> = BTreeMap::new();
    for path in changes.iter().flat_map(PathChange::paths) {
        let full = top.join(path);
        let directory = nearest(top, &full);
        let of_directory =
            *directories.entry(directory.to_owned()).or_insert_with(|| why_not_writable(directory));
        let why = of_directory.or_else(|| if is_file(&full) { why_not_replaced(&full) } else { None });
        if let Some(why) = why {
            found.push(Unwritable { path: path.to_owned(), why: why.to_owned() });
        }
    }
    found
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
}

/// Returns the directory in which git makes or removes something first.
fn nearest<'p>(top: &'p Path, path: &'p Path) -> &'p Path {
    let directories = path.ancestors().skip(1).take_while(|directory| *directory != top);
    let is_real = |directory: &&Path| fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir());
    directories.into_iter().find(is_real).unwrap_or(top)
}
