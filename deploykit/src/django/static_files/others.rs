//! Live files that nobody collected: uploads, caches, what git tracks. They stay as their users leave them.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The names of such files. The name of a directory in which there is nothing else ends with `/` and stands for all in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Others(BTreeSet<String>);

impl Others {
    /// Names these files, apart from the collected ones.
    pub(super) fn of<'n>(kept: &'n [String], collected: impl Iterator<Item = &'n String>) -> Self {
        let mixed: HashSet<&str> = collected.flat_map(|name| directories(name)).collect();
        let whole = |name: &'n String| directories(name).find(|directory| !mixed.contains(directory));
        Others(kept.iter().map(|name| whole(name).unwrap_or(name).to_owned()).collect())
    }

    /// Tells whether a file is one of them.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.0.contains(name) || directories(name).any(|directory| self.0.contains(directory))
    }
}

/// Returns the directories above a file, from the top: `a/`, `a/b/`.
fn directories(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..=at])
}

/// Tells whether a file is still what was linked, or copied with its time, from another place.
pub(super) fn is_the_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (first, second) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    if (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        return Ok(true);
    }
    if first.is_symlink() && second.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    let state = |found: &fs::Metadata| (found.is_file(), found.len(), found.mtime(), found.mtime_nsec());
    Ok(first.is_file() && state(&first) == state(&second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_without_collected_files_stand_for_all_in_them() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let kept = names(&["media/a/1.jpg", "media/b/2.jpg", "admin/mine/x.css", "admin/y.css", "top.txt"]);
        let collected = names(&["admin/base.css", "admin/js/a.js", "robots.txt"]);
        let others = Others::of(&kept, collected.iter());
        assert_eq!(others.0.iter().collect::<Vec<_>>(), ["admin/mine/", "admin/y.css", "media/", "top.txt"]);
        for name in ["media/c/new.jpg", "admin/mine/x.css", "admin/y.css", "top.txt"] {
            assert!(others.holds(name), "{name}");
        }
        for name in ["admin/base.css", "admin/z.css", "robots.txt", "mediation", "admin/mine"] {
            assert!(!others.holds(name), "{name}");
        }
    }
}
