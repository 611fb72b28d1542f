//! Files that came in beside the collected ones while these were prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::DjangoError;
use super::disk::{Keep, entries, entry_of, is_missing, keep, listing, walk};
use super::others::{Others, is_the_same};
use crate::host::Host;
use crate::host::Swap;
use crate::host::files::{self, InPath, inode};
use crate::names;

/// How long ago a directory must have changed that its time tells of the next change: some file systems count in seconds.
const COARSE: i64 = 2_000_000_000;

/// Follows what users and the site did to the live files since the fresh ones were prepared: what is new is linked, what was
/// replaced is replaced, and what was deleted goes, but for what was collected.
///
/// It belongs after the moment when the site stops writing and before the swap; after that there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateFiles {
    /// The swap that follows.
    pub swap: Swap,
    /// Files that are meant to go, sorted.
    pub removed: Vec<String>,
    /// The state of the live directories when they were listed: most of them do not change. Empty: all are listed again.
    #[serde(default)]
    #[serde(alias = "folders")]
    pub directories: Directories,
    /// What nobody collected.
    #[serde(default)]
    pub others: Others,
    /// The site's own steps wrote into the live directory until then: earlier changes are theirs and not the users', and so may
    /// be removals. `None`: no own step ran since the swap.
    #[serde(default)]
    pub steps_until: Option<Timestamp>,
    /// When the site's own steps of later runs ran while the web was stopped: changes made then are theirs, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later_steps: Vec<[Timestamp; 2]>,
    /// New files are copied instead of linked: own steps follow, which may write into them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
}

impl LateFiles {
    /// Makes the action that belongs before a swap.
    pub(crate) fn new(swap: Swap, removed: &[String], others: &Others) -> Self {
        LateFiles {
            swap,
            removed: removed.to_vec(),
            directories: Directories::default(),
            others: others.clone(),
            steps_until: None,
            later_steps: Vec::new(),
            copied: false,
        }
    }

    /// Follows them, and returns the names of what is new or another one, sorted.
    ///
    /// # Errors
    ///
    /// When a file cannot be linked.
    pub fn perform(&self, host: &Host) -> Result<Vec<String>, DjangoError> {
        let swap = &self.swap;
        let live = inode(&swap.live);
        // Where nothing is live, nothing was deleted either.
        if live == swap.wanted || live.is_none() {
            return Ok(Vec::new());
        }
        let late = self.directories.news(&swap.live).at("read", &swap.live)?;
        let mut linked = Vec::new();
        for name in late {
            let (live, aside) = (names::join(&swap.live, &name), names::join(&swap.aside, &name));
            if self.removed.binary_search(&name).is_ok() {
                continue;
            }
            if fs::symlink_metadata(&aside).is_ok() {
                let is_users = self.others.holds(&name) && !self.is_of_a_step(&live);
                if !is_users || is_the_same(&live, &aside).unwrap_or(false) {
                    continue;
                }
                files::remove_tree(&aside)?;
            }
            linked.push(name);
        }
        let before = if self.has_steps() {
            Vec::new()
        } else {
            self.directories.before(&swap.live, &swap.aside).at("read", &swap.aside)?
        };
        for name in before {
            if self.others.holds(&name) && fs::symlink_metadata(names::join(&swap.live, &name)).is_err() {
                files::remove_file(&names::join(&swap.aside, &name))?;
            }
        }
        let how = if self.copied { Keep::Copied } else { Keep::Linked };
        keep(host, &swap.live, &swap.aside, &linked, how.of_others(&swap.live, &linked))?;
        Ok(linked)
    }

    /// Tells whether a step of the site's own may have written a file, such as the manifest of what it compressed.
    fn is_of_a_step(&self, file: &Path) -> bool {
        if !self.has_steps() {
            return false;
        }
        let changed = fs::symlink_metadata(file).and_then(|found| found.modified()).ok();
        changed.and_then(|changed| Timestamp::try_from(changed).ok()).is_none_or(|changed| {
            self.steps_until.is_some_and(|until| changed <= until)
                || self.later_steps.iter().any(|[from, to]| *from <= changed && changed <= *to)
        })
    }

    /// Tells whether steps of the site's own ran since the swap.
    fn has_steps(&self) -> bool {
        self.steps_until.is_some() || !self.later_steps.is_empty()
    }
}

/// The directories of a tree by their names, each with the time of its last change: nanoseconds since 1970; 0 where that does
/// not tell of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Directories(BTreeMap<String, i64>);

impl Directories {
    /// Looks at the directories of a tree, and lists the files in it.
    pub(super) fn of(root: &Path) -> io::Result<(Self, BTreeSet<String>)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let settled = i64::try_from(now).unwrap_or(i64::MAX) - COARSE;
        let mut directories = BTreeMap::new();
        let names = walk(root, |name, path| {
            let changed = changed(path)?;
            directories.insert(name.to_owned(), if changed < settled { changed } else { 0 });
            Ok(())
        })?;
        Ok((Directories(directories), names))
    }

    /// Lists the files that another tree has in directories that changed since, or may have, or are gone.
    fn before(&self, root: &Path, other: &Path) -> io::Result<Vec<String>> {
        if self.0.is_empty() {
            return Ok(listing(other)?.into_iter().collect());
        }
        let mut found = Vec::new();
        for (directory, seen) in &self.0 {
            if changed(&names::join(root, directory)).is_ok_and(|changed| changed == *seen) {
                continue;
            }
            for entry in entries(&names::join(other, directory))? {
                if let Some((name, false)) = entry_of(directory, &entry)? {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }

    /// Lists the files of directories that changed since, or may have, and of new ones, sorted.
    fn news(&self, root: &Path) -> io::Result<Vec<String>> {
        if self.0.is_empty() {
            return Ok(listing(root)?.into_iter().collect());
        }
        let mut found = Vec::new();
        for (directory, seen) in &self.0 {
            let place = names::join(root, directory);
            match changed(&place) {
                Ok(changed) if changed == *seen => continue,
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
            for entry in entries(&place)? {
                match entry_of(directory, &entry)? {
                    Some((name, true)) if self.0.contains_key(&name) => {}
                    Some((name, true)) => {
                        let inside = listing(&names::join(root, &name))?;
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

/// Returns when a directory was changed.
fn changed(directory: &Path) -> io::Result<i64> {
    let found = fs::metadata(directory)?;
    Ok(found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    use super::*;

    /// A tree whose directories were changed long ago.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("CACHE/css")).unwrap();
        fs::write(root.path().join("CACHE/css/a.css"), "a").unwrap();
        let long_ago = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(60));
        for directory in ["", "CACHE", "CACHE/css"] {
            File::open(root.path().join(directory)).unwrap().set_times(long_ago).unwrap();
        }
        root
    }

    #[test]
    fn what_came_in_is_found_without_a_look_at_the_rest() {
        let root = tree();
        let (directories, names) = Directories::of(root.path()).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["CACHE/css/a.css"]);
        assert!(directories.news(root.path()).unwrap().is_empty());
        fs::create_dir_all(root.path().join("CACHE/js/deep")).unwrap();
        fs::write(root.path().join("CACHE/js/deep/b.js"), "b").unwrap();
        fs::write(root.path().join("top.txt"), "top").unwrap();
        assert_eq!(directories.news(root.path()).unwrap(), ["CACHE/js/deep/b.js", "top.txt"]);
        fs::remove_dir_all(root.path().join("CACHE/css")).unwrap();
        assert_eq!(directories.news(root.path()).unwrap(), ["CACHE/js/deep/b.js", "top.txt"]);
    }

    #[test]
    fn a_directory_that_was_just_changed_is_listed_again() {
        let root = tree();
        fs::write(root.path().join("CACHE/css/b.css"), "b").unwrap();
        let (directories, _) = Directories::of(root.path()).unwrap();
        assert_eq!(directories.news(root.path()).unwrap(), ["CACHE/css/a.css", "CACHE/css/b.css"]);
    }

    #[test]
    fn uploads_stay_as_their_users_left_them() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let long_ago = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(60));
        for directory in ["live/media/gone", "live/shop", "next/shop"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        for file in ["shop/a.css", "media/kept", "media/replaced", "media/deleted", "media/gone/1", "note"] {
            fs::write(path("live").join(file), "old").unwrap();
        }
        fs::write(path("next/shop/a.css"), "new").unwrap();
        for directory in ["live", "live/media", "live/media/gone", "live/shop"] {
            File::open(path(directory)).unwrap().set_times(long_ago).unwrap();
        }
        let (directories, names) = Directories::of(&path("live")).unwrap();
        let kept: Vec<String> = names.into_iter().filter(|name| name != "shop/a.css").collect();
        keep(&Host::new(), &path("live"), &path("next"), &kept, Keep::Linked).unwrap();
        let others = Others::of(&kept, ["shop/a.css".to_owned()].iter());
        let (there, back) = Swap::pair(&path("live"), &path("next")).unwrap();
        let way = |swap: &Swap, removed: &[&str], directories: Directories| LateFiles {
            swap: swap.clone(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
            directories,
            others: others.clone(),
            steps_until: None,
            later_steps: Vec::new(),
            copied: false,
        };

        let replace = |name: &str, text: &str| {
            fs::write(path("upload"), text).unwrap();
            fs::rename(path("upload"), path("live").join(name)).unwrap();
        };
        replace("media/replaced", "new");
        replace("media/late", "late");
        fs::remove_file(path("live/media/deleted")).unwrap();
        fs::remove_dir_all(path("live/media/gone")).unwrap();
        fs::remove_file(path("live/note")).unwrap();
        let forward = way(&there, &[], directories);
        for _ in 0..2 {
            let linked = forward.perform(&Host::new()).unwrap();
            assert!(linked == ["media/late", "media/replaced"] || linked.is_empty(), "{linked:?}");
        }
        there.perform().unwrap();
        assert!(forward.perform(&Host::new()).unwrap().is_empty());
        let live = |name: &str| fs::read_to_string(path("live").join(name)).unwrap_or_default();
        let all =
            || ["kept", "replaced", "late", "deleted", "gone/1"].map(|name| live(&format!("media/{name}")));
        assert_eq!(all(), ["old", "new", "late", "", ""]);
        assert_eq!((live("note"), live("shop/a.css")), (String::new(), "new".to_owned()));

        // The undo does the same: what the update brought goes, and what it replaced is there again.
        replace("media/kept", "newer");
        replace("added.css", "of the update");
        fs::remove_file(path("live/media/late")).unwrap();
        way(&back, &["added.css"], Directories::default()).perform(&Host::new()).unwrap();
        back.perform().unwrap();
        assert_eq!(all(), ["newer", "new", "", "", ""]);
        assert_eq!((live("added.css"), live("shop/a.css")), (String::new(), "old".to_owned()));
    }

    #[test]
    fn what_a_step_of_the_site_wrote_does_not_go_back_and_an_upload_does() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for directory in ["live/CACHE", "live/media", "next"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        let names =
            ["CACHE/gone.css", "CACHE/later.css", "CACHE/manifest.json", "media/one"].map(str::to_owned);
        names.iter().for_each(|name| fs::write(path("live").join(name), "old").unwrap());
        keep(&Host::new(), &path("live"), &path("next"), &names, Keep::Linked).unwrap();
        let (there, back) = Swap::pair(&path("live"), &path("next")).unwrap();
        there.perform().unwrap();
        let write = |name: &str, seconds: u64| {
            let file = path("live").join(name);
            fs::remove_file(&file).unwrap();
            fs::write(&file, "new").unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        };
        write("CACHE/manifest.json", 1_000);
        write("CACHE/later.css", 4_000);
        write("media/one", 3_000);
        fs::remove_file(path("live/CACHE/gone.css")).unwrap();
        let others = Others::of(&names, ["a.css".to_owned()].iter());
        let (removed, directories) = (Vec::new(), Directories::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        let (steps_until, later_steps) = (Some(at(2_000)), vec![[at(3_999), at(4_001)]]);
        let late = LateFiles {
            swap: back.clone(),
            removed,
            directories,
            others,
            steps_until,
            later_steps,
            copied: false,
        };
        assert_eq!(late.perform(&Host::new()).unwrap(), ["media/one"]);
        back.perform().unwrap();
        let live = names.map(|name| fs::read_to_string(path("live").join(name)).unwrap());
        assert_eq!(live, ["old", "old", "old", "new"]);
    }

    #[test]
    fn an_older_journal_has_everything_listed() {
        let root = tree();
        let text = format!(
            r#"{{"swap": {{"live": {0:?}, "aside": {0:?}, "wanted": 1}}, "removed": []}}"#,
            root.path()
        );
        let late: LateFiles = serde_json::from_str(&text).unwrap();
        assert_eq!(late.directories.news(root.path()).unwrap(), ["CACHE/css/a.css"]);
    }
}
