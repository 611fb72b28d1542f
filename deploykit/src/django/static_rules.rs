//! Which static files are obsolete, and whether there is anything to collect. No file is touched here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether to do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Where it is needed.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// Tells whether it is done, given whether it is needed.
    pub(crate) fn is_wanted(self, is_needed: bool) -> bool {
        match self {
            When::Auto => is_needed,
            When::Always => true,
            When::Never => false,
        }
    }
}

/// What `collectstatic` would collect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticSources {
    /// Each name with the file that it comes from; `None` for a finder that is not on the disk.
    #[serde(with = "crate::names::maybe_by_name")]
    pub sources: BTreeMap<String, Option<PathBuf>>,
    /// The last names of the directories that they come from: `static`, `assets`.
    pub directories: Vec<String>,
    /// The storage's class.
    pub storage: Option<String>,
    /// Whether Django collects into a directory that holds files already without writing into any of these.
    #[serde(default)]
    pub incremental: bool,
}

impl StaticSources {
    /// Returns the names whose files are on the disk.
    pub(super) fn with_places(&self) -> impl Iterator<Item = (&String, &Path)> {
        self.sources.iter().filter_map(|(name, place)| Some((name, place.as_deref()?)))
    }
}

/// What was collected at the last update: the best evidence of what is obsolete now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRecord {
    /// The storage's class.
    pub storage: Option<String>,
    /// The names that the finders gave.
    pub names: BTreeSet<String>,
    /// Files that are kept although they are obsolete, and since when they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub obsolete: BTreeMap<String, Timestamp>,
}

impl From<&StaticSources> for StaticRecord {
    fn from(sources: &StaticSources) -> Self {
        let (storage, names) = (sources.storage.clone(), sources.sources.keys().cloned().collect());
        StaticRecord { storage, names, obsolete: BTreeMap::new() }
    }
}

/// The obsolete files of the live directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Obsolete {
    /// Those that go now.
    pub due: BTreeSet<String>,
    /// Those that stay for a while, since pages that are open name them, and since when they are obsolete.
    pub since: BTreeMap<String, Timestamp>,
}

impl Obsolete {
    /// Divides them; `record` is that of the last update.
    pub(super) fn of<'a>(
        names: impl Iterator<Item = &'a String>,
        record: Option<&StaticRecord>,
        keep: Duration,
        now: Timestamp,
    ) -> Self {
        let mut obsolete = Obsolete::default();
        for name in names {
            let since = record.and_then(|record| record.obsolete.get(name)).copied().unwrap_or(now);
            let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            if passed >= keep {
                obsolete.due.insert(name.clone());
            } else {
                obsolete.since.insert(name.clone(), since);
            }
        }
        obsolete
    }
}

/// What tells that a file was collected once.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Names that were collected: of the last record and of the manifest.
    pub names: BTreeSet<String>,
    /// Paths that git deleted, from the top of the repository.
    pub deleted: Vec<String>,
    /// Last names of directories that static files come from.
    pub directories: Vec<String>,
}

impl Evidence {
    /// Tells whether a file of the live directory is obsolete: it was collected, and no finder gives it any more.
    ///
    /// A hashed or compressed variant goes with its original. What nobody collected is never obsolete.
    pub(super) fn is_obsolete(&self, name: &str, sources: &BTreeMap<String, Option<PathBuf>>) -> bool {
        let originals = originals(name);
        // An older version of a file that still exists stays: a cached page may ask for it.
        !originals.iter().any(|original| sources.contains_key(original.as_str()))
            && originals
                .iter()
                .any(|original| self.names.contains(original.as_str()) || self.was_deleted(original))
    }

    fn was_deleted(&self, name: &str) -> bool {
        self.deleted.iter().any(|path| {
            path == name
                || path
                    .strip_suffix(name)
                    .and_then(|rest| rest.strip_suffix('/'))
                    .is_some_and(|directory| self.gives_static_files(directory))
        })
    }

    fn gives_static_files(&self, directory: &str) -> bool {
        let last = directory.rsplit('/').next().unwrap_or(directory);
        last == "static" || self.directories.iter().any(|directory| directory == last)
    }
}

/// Returns the names that a file may be a variant of: itself, uncompressed, without the hash in its name.
pub(crate) fn originals(name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    if let Some(plain) = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".br")) {
        found.push(plain.into());
    }
    let unhashed: Vec<String> = found.iter().filter_map(|name| without_hash(name)).collect();
    found.extend(unhashed);
    found
}

/// Takes the hash out of `css/site.0123456789ab.css`; `None` when there is none.
///
/// Source: `HashedFilesMixin.hashed_name` of Django: the first twelve hexadecimal digits of an MD5, before the last suffix.
pub(super) fn without_hash(name: &str) -> Option<String> {
    let (directory, file) = match name.rsplit_once('/') {
        Some((directory, file)) => (Some(directory), file),
        None => (None, name),
    };
    let is_hash = |word: &str| {
        word.len() == 12 && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let plain = match file.rsplit_once('.') {
        Some((stem, hash)) if is_hash(hash) && !stem.is_empty() => stem.to_owned(),
        Some((stem, suffix)) => {
            let (stem, hash) = stem.rsplit_once('.')?;
            if !is_hash(hash) {
                return None;
            }
            format!("{stem}.{suffix}")
        }
        None => return None,
    };
    Some(directory.map_or_else(|| plain.clone(), |directory| format!("{directory}/{plain}")))
}

/// What is known before anything is collected.
#[derive(Clone, Debug, Default)]
pub(super) struct StaticState {
    /// Sources that are missing in the live directory or differ there.
    pub stale: usize,
    /// Sources that are not on the disk, so that nothing can be said.
    pub unknown: usize,
    /// Obsolete files in the live directory that are not kept any longer.
    pub obsolete: usize,
    /// Sources that the live manifest does not name.
    pub unlisted: usize,
    /// The storage is another one than at the last update.
    pub other_storage: bool,
}

impl StaticState {
    /// Tells whether it has to be collected.
    pub(super) fn needs_collecting(&self, collect: When, clear: When) -> bool {
        // Which files would go can only be told from a fresh set.
        let clears = clear.is_wanted(self.obsolete > 0);
        collect.is_wanted(self.stale + self.unknown + self.unlisted > 0 || self.other_storage || clears)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(names: &[&str], deleted: &[&str]) -> Evidence {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Evidence {
            names: owned(names).into_iter().collect(),
            deleted: owned(deleted),
            directories: vec!["assets".into()],
        }
    }

    fn sources(names: &[&str]) -> BTreeMap<String, Option<PathBuf>> {
        names.iter().map(|name| ((*name).to_owned(), None)).collect()
    }

    #[test]
    fn hashes_are_taken_out_of_names() {
        assert_eq!(without_hash("css/site.0123456789ab.css").as_deref(), Some("css/site.css"));
        assert_eq!(without_hash("a.min.0123456789ab.js").as_deref(), Some("a.min.js"));
        assert_eq!(without_hash("font.0123456789ab").as_deref(), Some("font"));
        for name in
            ["site.css", "site.0123456789AB.css", "site.012345.css", "noext", ".0123456789ab", "a.b.css"]
        {
            assert_eq!(without_hash(name), None, "{name}");
        }
    }

    #[test]
    fn obsolete_files_stay_for_their_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let names = ["a.js".to_owned(), "b.js".to_owned()];
        let keep = Duration::from_secs(100);
        let first = Obsolete::of(names[..1].iter(), None, keep, at(1000));
        assert_eq!((first.due.len(), first.since["a.js"]), (0, at(1000)));
        let record = StaticRecord { obsolete: first.since, ..StaticRecord::default() };
        let stored = serde_json::to_string(&record).unwrap();
        let record: StaticRecord = serde_json::from_str(&stored).unwrap();
        let later = |now| Obsolete::of(names.iter(), Some(&record), keep, at(now));
        assert_eq!(later(1099).since, [("a.js".to_owned(), at(1000)), ("b.js".to_owned(), at(1099))].into());
        assert_eq!(later(1100).due, ["a.js".to_owned()].into());
        assert_eq!(later(1100).since, [("b.js".to_owned(), at(1100))].into());
        // The clock was set back.
        assert_eq!(later(900).since["a.js"], at(1000));
        assert_eq!(Obsolete::of(names.iter(), None, Duration::ZERO, at(1000)).due.len(), 2);
        let former: StaticRecord = serde_json::from_str("{\"storage\":null,\"names\":[]}").unwrap();
        assert_eq!(former, StaticRecord::default());
    }

    #[test]
    fn what_was_collected_and_is_given_no_more_is_obsolete() {
        let evidence = evidence(&["old.css", "kept.css"], &[]);
        let sources = sources(&["kept.css", "new.css"]);
        for (name, expected) in [
            ("old.css", true),
            ("old.0123456789ab.css", true),
            ("old.0123456789ab.css.gz", true),
            ("old.css.br", true),
            ("kept.css", false),
            ("kept.0123456789ab.css", false),
            ("kept.0123456789ab.css.gz", false),
            ("CACHE/css/output.0123456789ab.css", false),
            ("upload.png", false),
            ("new.css", false),
        ] {
            assert_eq!(evidence.is_obsolete(name, &sources), expected, "{name}");
        }
    }

    #[test]
    fn what_git_deleted_counts_only_below_a_directory_of_static_files() {
        let evidence =
            evidence(&[], &["shop/static/shop/old.js", "assets/site.js", "docs/robots.txt", "top.css"]);
        for (name, expected) in [
            ("shop/old.js", true),
            ("old.js", false),
            ("site.js", true),
            ("robots.txt", false),
            ("top.css", true),
        ] {
            assert_eq!(evidence.is_obsolete(name, &BTreeMap::new()), expected, "{name}");
        }
        assert!(!evidence.is_obsolete("shop/old.js", &sources(&["shop/old.js"])), "another app gives it now");
    }

    #[test]
    fn nothing_is_collected_without_need() {
        let clean = StaticState::default();
        let obsolete = StaticState { obsolete: 1, ..StaticState::default() };
        let stale = StaticState { stale: 1, ..StaticState::default() };
        assert!(!clean.needs_collecting(When::Auto, When::Auto));
        assert!(clean.needs_collecting(When::Always, When::Auto));
        assert!(stale.needs_collecting(When::Auto, When::Never));
        assert!(!stale.needs_collecting(When::Never, When::Always));
        assert!(obsolete.needs_collecting(When::Auto, When::Auto));
        assert!(!obsolete.needs_collecting(When::Auto, When::Never));
    }
}
