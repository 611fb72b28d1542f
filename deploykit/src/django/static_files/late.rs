//! Files that came in beside the collected ones while these were prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::DjangoError;
use super::disk::{entry_of, keep, listing, walk};
use crate::host::Host;
use crate::host::files::{InPath, Swap, inode};

/// How long ago a folder must have changed that its time tells of the next change: some file systems count in seconds.
const COARSE: i64 = 2_000_000_000;

/// Links files that appeared in the live folder since the fresh one was prepared, such as a compressor's cache.
///
/// It belongs after the moment when the site stops writing and before the swap; after that there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateFiles {
    /// The swap that follows.
    pub swap: Swap,
    /// Files that are meant to go, sorted.
    pub removed: Vec<String>,
    /// What the live folders were like when they were listed: into most of them nothing comes. Empty: all are listed again.
    #[serde(default)]
    pub folders: Folders,
}

impl LateFiles {
    /// Links them, and returns their names, sorted.
    ///
    /// # Errors
    ///
    /// When a file cannot be linked.
    pub fn perform(&self, host: &Host) -> Result<Vec<String>, DjangoError> {
        let swap = &self.swap;
        if inode(&swap.live) == swap.wanted {
            return Ok(Vec::new());
        }
        let mut late = self.folders.news(&swap.live).at("read", &swap.live)?;
        late.retain(|name| {
            self.removed.binary_search(name).is_err() && fs::symlink_metadata(swap.aside.join(name)).is_err()
        });
        keep(host, &swap.live, &swap.aside, &late)?;
        Ok(late)
    }
}

/// The folders of a tree by their names, each with the time of its last change: nanoseconds since 1970; 0 where that does
/// not tell of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Folders(BTreeMap<String, i64>);

impl Folders {
    /// Looks at the folders of a tree, and lists the files in it.
    pub(super) fn of(root: &Path) -> io::Result<(Self, BTreeSet<String>)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let settled = i64::try_from(now).unwrap_or(i64::MAX) - COARSE;
        let mut folders = BTreeMap::new();
        let names = walk(root, |name, path| {
            let changed = changed(path)?;
            folders.insert(name.to_owned(), if changed < settled { changed } else { 0 });
            Ok(())
        })?;
        Ok((Folders(folders), names))
    }

    /// Lists the files of folders that changed since, or may have, and of new ones, sorted.
    fn news(&self, root: &Path) -> io::Result<Vec<String>> {
        if self.0.is_empty() {
            return Ok(listing(root)?.into_iter().collect());
        }
        let mut found = Vec::new();
        for (folder, seen) in &self.0 {
            let place = root.join(folder);
            let entries = match changed(&place) {
                Ok(changed) if changed == *seen => continue,
                changed => changed.and_then(|_| fs::read_dir(&place)),
            };
            let entries = match entries {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                match entry_of(folder, &entry?)? {
                    Some((name, true)) if self.0.contains_key(&name) => {}
                    Some((name, true)) => {
                        let inside = listing(&root.join(&name))?;
                        found.extend(inside.iter().map(|inner| format!("{name}/{inner}")));
                    }
                    Some((name, false)) => found.push(name),
                    None => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Returns when a folder was changed.
fn changed(folder: &Path) -> io::Result<i64> {
    let found = fs::metadata(folder)?;
    Ok(found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    use super::*;

    /// A tree whose folders were changed long ago.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("CACHE/css")).unwrap();
        fs::write(root.path().join("CACHE/css/a.css"), "a").unwrap();
        let long_ago = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(60));
        for folder in ["", "CACHE", "CACHE/css"] {
            File::open(root.path().join(folder)).unwrap().set_times(long_ago).unwrap();
        }
        root
    }

    #[test]
    fn what_came_in_is_found_without_a_look_at_the_rest() {
        let root = tree();
        let (folders, names) = Folders::of(root.path()).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["CACHE/css/a.css"]);
        assert!(folders.news(root.path()).unwrap().is_empty());
        fs::create_dir_all(root.path().join("CACHE/js/deep")).unwrap();
        fs::write(root.path().join("CACHE/js/deep/b.js"), "b").unwrap();
        fs::write(root.path().join("top.txt"), "top").unwrap();
        assert_eq!(folders.news(root.path()).unwrap(), ["CACHE/js/deep/b.js", "top.txt"]);
        fs::remove_dir_all(root.path().join("CACHE/css")).unwrap();
        assert_eq!(folders.news(root.path()).unwrap(), ["CACHE/js/deep/b.js", "top.txt"]);
    }

    #[test]
    fn a_folder_that_was_just_changed_is_listed_again() {
        let root = tree();
        fs::write(root.path().join("CACHE/css/b.css"), "b").unwrap();
        let (folders, _) = Folders::of(root.path()).unwrap();
        assert_eq!(folders.news(root.path()).unwrap(), ["CACHE/css/a.css", "CACHE/css/b.css"]);
    }

    #[test]
    fn an_older_journal_has_everything_listed() {
        let root = tree();
        let text = format!(
            r#"{{"swap": {{"live": {0:?}, "aside": {0:?}, "wanted": 1}}, "removed": []}}"#,
            root.path()
        );
        let late: LateFiles = serde_json::from_str(&text).unwrap();
        assert_eq!(late.folders.news(root.path()).unwrap(), ["CACHE/css/a.css"]);
    }
}
