//! A fresh set of static files beside the live one, ready to be swapped in.

mod disk;
mod late;
mod others;
mod placed;
mod seed;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::static_rules::{Evidence, Obsolete, StaticState};
use super::{DjangoError, Session, StaticRecord, StaticSources, When};
use crate::host::Swap;
use crate::host::files::{self, InPath};
use crate::host::trial;
use crate::host::{Host, with_umask};
use crate::names;
use disk::{Keep, equal, keep, like, listing};

pub use late::{Directories, LateFiles};
pub use others::Others;
pub use placed::PlacedFiles;

/// Django's default name of the file that maps names to hashed names.
const MANIFEST: &str = "staticfiles.json";

/// The static files of a site, and what is known of them from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFiles {
    /// The live `STATIC_ROOT`. A link is followed: what it names is replaced, the link stays.
    pub root: PathBuf,
    /// Whether to collect; `auto`: when a source differs from what is live, or something is obsolete.
    pub collect: When,
    /// Whether files that are no longer collected go. `auto`: those that were collected once, with their hashed and
    /// compressed variants; what nobody collected (caches, uploads) stays. `always`: all; `never`: none.
    pub clear: When,
    /// How long obsolete files stay where [`clear`](StaticFiles::clear) is `auto`: pages that are open name them.
    pub keep_old: Duration,
    /// What the last update collected, if that is known.
    pub record: Option<StaticRecord>,
    /// Paths that the update deletes from the repository.
    pub deleted: Vec<String>,
    /// Names below the root that git tracks, before the update or after it. They are git's: none is collected, none goes, and
    /// the directory stays where it is.
    pub tracked: BTreeSet<String>,
    /// Whether files that stay are copied instead of linked: the site's own steps may write into what goes live, and the
    /// previous version keeps its contents.
    pub copied: bool,
}

/// What a fresh set would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Brings the fresh set to the live place; `None` when nothing changes.
    pub swap: Option<Swap>,
    /// Undoes the swap.
    pub back: Option<Swap>,
    /// Files that are new, sorted.
    pub added: Vec<String>,
    /// Files whose contents change, sorted.
    pub changed: Vec<String>,
    /// Files that go, sorted.
    pub removed: Vec<String>,
    /// What the finders gave: the evidence for the next update.
    pub record: StaticRecord,
    /// The state of the live directories when they were listed.
    pub directories: Directories,
    /// What nobody collected.
    pub others: Others,
    /// Instead of a swap: brings the files to their places, one by one.
    pub placed: Option<PlacedFiles>,
    /// Takes these back.
    pub placed_back: Option<PlacedFiles>,
    /// Whether files that stay were to be copied instead of linked.
    pub copied: bool,
    /// Whether the uncollected files were too large for that, and are linked.
    pub shares: bool,
}

impl Collected {
    fn nothing(record: StaticRecord) -> Self {
        Collected { record, ..Collected::default() }
    }

    /// Tells whether nothing changes.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.swap.is_none() && self.placed.is_none()
    }
}

/// Static files that are being collected beside the live ones.
#[derive(Debug)]
pub struct Collecting {
    root: PathBuf,
    clear: When,
    live: BTreeSet<String>,
    directories: Directories,
    sources: StaticSources,
    obsolete: Obsolete,
    /// The directory beside the live one; `None`: nothing has to be collected.
    aside: Option<PathBuf>,
    tracked: BTreeSet<String>,
    keep: Keep,
}

impl StaticFiles {
    /// Collects into a hidden directory beside `STATIC_ROOT`, if that is needed, and says what it would change.
    ///
    /// Live files that stay are linked into the fresh directory, so that it is complete. The live directory is not touched.
    ///
    /// # Errors
    ///
    /// See [`Session::end_collect`]; and when the directory cannot be made beside `STATIC_ROOT`, on the same file system.
    pub fn prepare(&self, host: &Host, session: &mut Session) -> Result<Collected, DjangoError> {
        self.begin(host, session)?.finish(host, session)
    }

    /// Begins to do so; the session may be asked for other things until [`Collecting::finish`].
    ///
    /// # Errors
    ///
    /// Like [`prepare`](StaticFiles::prepare).
    pub fn begin(&self, host: &Host, session: &mut Session) -> Result<Collecting, DjangoError> {
        let sources = session.static_sources(host)?;
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let (directories, live) = Directories::of(&root).at("read", &root)?;
        let manifest = manifest(&root);
        let evidence = self.evidence(manifest.as_ref(), &sources);
        let same = seed::same(host, &root, &live, &sources);
        let obsolete = live.iter().filter(|name| evidence.is_obsolete(name, &sources.sources));
        let obsolete = Obsolete::of(obsolete, self.record.as_ref(), self.keep_old, Timestamp::now());
        let state = self.state(&sources, manifest.as_ref(), &obsolete, &same);
        let clear = if self.is_git_s() { When::Never } else { self.clear };
        let aside = state.needs_collecting(self.collect, clear).then(|| names::beside(&root, names::NEXT));
        // A fresh set tells which files go.
        let seeded = sources.incremental && clear != When::Always && !state.other_storage;
        let tracked = self.tracked.clone();
        let keep = if self.copied { Keep::Copied } else { Keep::Linked };
        let collecting =
            Collecting { root, clear, live, directories, sources, obsolete, aside, tracked, keep };
        if let Some(aside) = &collecting.aside {
            with_umask(host.umask(), || make_room(&collecting.root, aside))?;
            let begun = if seeded { collecting.seed(host, aside, &same) } else { Ok(()) };
            if let Err(error) = begun.and_then(|()| session.begin_collect(host, aside, seeded)) {
                collecting.remove();
                return Err(error);
            }
        }
        Ok(collecting)
    }

    /// Returns the hidden directory that the fresh set is collected into.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        let root = fs::canonicalize(&self.root);
        names::beside(root.as_ref().unwrap_or(&self.root), names::NEXT)
    }

    /// Tells whether git tracks more there than what keeps a directory in a commit.
    #[must_use]
    pub fn is_git_s(&self) -> bool {
        self.tracked.iter().any(|name| !is_placeholder(name))
    }

    fn evidence(&self, manifest: Option<&BTreeSet<String>>, sources: &StaticSources) -> Evidence {
        let recorded =
            self.record.iter().flat_map(|record| record.names.iter().chain(record.obsolete.keys()));
        Evidence {
            names: recorded.chain(manifest.into_iter().flatten()).cloned().collect(),
            deleted: self.deleted.clone(),
            directories: sources.directories.clone(),
        }
    }

    fn state(
        &self,
        sources: &StaticSources,
        manifest: Option<&BTreeSet<String>>,
        obsolete: &Obsolete,
        same: &BTreeSet<String>,
    ) -> StaticState {
        let mut state = StaticState::default();
        let is_git_s = self.is_git_s();
        for (name, path) in &sources.sources {
            match path {
                // It stays as it is, whatever its source is.
                _ if is_git_s && self.tracked.contains(name) => {}
                None => state.unknown += 1,
                Some(_) if !same.contains(name) => state.stale += 1,
                Some(_) if manifest.is_some_and(|names| !names.contains(name)) => state.unlisted += 1,
                Some(_) => {}
            }
        }
        state.obsolete = obsolete.due.len();
        state.other_storage = self.record.as_ref().is_some_and(|record| record.storage != sources.storage);
        state
    }
}

impl Collecting {
    /// Returns the hidden directory that is being filled; `None`: nothing has to be collected.
    #[must_use]
    pub fn aside(&self) -> Option<&Path> {
        self.aside.as_deref()
    }

    /// Waits for the end, and says what the fresh set would change.
    ///
    /// # Errors
    ///
    /// Like [`StaticFiles::prepare`].
    pub fn finish(self, host: &Host, session: &mut Session) -> Result<Collected, DjangoError> {
        let mut record = StaticRecord::from(&self.sources);
        if self.clear != When::Always {
            record.obsolete.clone_from(&self.obsolete.since);
        }
        let Some(aside) = &self.aside else { return Ok(Collected::nothing(record)) };
        let collected = session.end_collect(host).and_then(|()| {
            let goes = |name: &String| {
                !self.tracked.contains(name) && self.clear.is_wanted(self.obsolete.due.contains(name))
            };
            if self.tracked.iter().any(|name| !is_placeholder(name)) {
                return in_place(host, &self.root, aside, &self.live, &self.tracked, record);
            }
            let (collected, all_linked) =
                complete(host, &self.root, aside, &self.live, goes, record, self.keep)?;
            // What is written into a copy is not written into the file: then all is looked at again.
            let directories = if all_linked { self.directories.clone() } else { Directories::default() };
            Ok(Collected { directories, copied: self.keep == Keep::Copied, ..collected })
        });
        if collected.as_ref().map_or(true, Collected::is_unchanged) {
            self.remove();
        }
        collected
    }

    /// Links the live files that equal their sources into the empty directory, so that Django need not copy them.
    fn seed(&self, host: &Host, aside: &Path, same: &BTreeSet<String>) -> Result<(), DjangoError> {
        let mut names = seed::variants(host, &self.root, &self.live, &self.sources);
        names.extend(same.iter().cloned());
        // A link shows what it names, and is not what Django would make. Into what is compressed whitenoise writes, even where
        // a package brought it.
        let is_compressed = |name: &str| name.ends_with(".gz") || name.ends_with(".br");
        names.retain(|name| !is_compressed(name) && !names::join(&self.root, name).is_symlink());
        keep(host, &self.root, aside, &names, self.keep)?;
        Ok(())
    }

    /// Removes the fresh set, of which nothing is needed.
    fn remove(&self) {
        if let Some(aside) = &self.aside {
            crate::error::warn(files::remove_tree(aside));
        }
    }
}

impl Collected {
    /// Returns the action that belongs before the swap.
    #[must_use]
    pub fn late_files(&self) -> Option<LateFiles> {
        let swap = self.swap.clone()?;
        let (directories, copied) = (self.directories.clone(), self.copied);
        Some(LateFiles { directories, copied, ..LateFiles::new(swap, &self.removed, &self.others) })
    }

    /// Returns the action that belongs before the swap back; nothing where there was nothing.
    #[must_use]
    pub fn late_back(&self) -> Option<LateFiles> {
        let swap = self.back.clone().filter(|back| back.wanted.is_some())?;
        Some(LateFiles::new(swap, &self.added, &self.others))
    }

    /// Returns what it makes that was not there: a path, the last part of which ends with `*`.
    #[must_use]
    pub fn makes(&self) -> Vec<PathBuf> {
        let aside = self.swap.as_ref().map(|swap| &swap.aside);
        let aside = aside.or(self.placed.as_ref().map(|placed| &placed.aside));
        let name =
            |path: &Path| path.file_name()?.to_str()?.strip_suffix("next").map(|name| format!("{name}*"));
        aside.and_then(|aside| Some(aside.with_file_name(name(aside)?))).into_iter().collect()
    }
}

/// Tells whether a file does nothing but keep its directory in a commit.
fn is_placeholder(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    [".gitkeep", ".keep", ".gitignore", ".gitattributes", ".empty", ".placeholder"].contains(&name)
        || name.starts_with("README")
}

/// Says which files differ in a directory that stays where it is, and which is not cleared.
fn in_place(
    host: &Host,
    root: &Path,
    aside: &Path,
    live: &BTreeSet<String>,
    tracked: &BTreeSet<String>,
    record: StaticRecord,
) -> Result<Collected, DjangoError> {
    let mut fresh = listing(aside).at("read", aside)?;
    fresh.retain(|name| !tracked.contains(name));
    let (added, changed) = differences(host, root, aside, live, fresh);
    if added.is_empty() && changed.is_empty() {
        return Ok(Collected::nothing(record));
    }
    let (placed, back) = PlacedFiles::pair(root, aside, added.iter().chain(&changed));
    let (placed, placed_back) = (Some(placed), Some(back));
    Ok(Collected { placed, placed_back, added, changed, ..Collected::nothing(record) })
}

/// Links the live files that stay into the fresh directory. Returns what differs, and whether all could be linked.
fn complete(
    host: &Host,
    root: &Path,
    aside: &Path,
    live: &BTreeSet<String>,
    goes: impl Fn(&String) -> bool,
    record: StaticRecord,
    how: Keep,
) -> Result<(Collected, bool), DjangoError> {
    let fresh = listing(aside).at("read", aside)?;
    let (removed, kept): (Vec<String>, Vec<String>) =
        live.iter().filter(|name| !fresh.contains(*name)).cloned().partition(goes);
    let of_others = how.of_others(root, &kept);
    let all_linked = keep(host, root, aside, &kept, of_others)?;
    let others = Others::of(&kept, fresh.iter().chain(&removed));
    like(root, aside).at("prepare", aside)?;
    let (added, changed) = differences(host, root, aside, live, fresh);
    if added.is_empty() && changed.is_empty() && removed.is_empty() {
        return Ok((Collected::nothing(record), all_linked));
    }
    let (swap, back) = Swap::pair(root, aside)?;
    let (swap, back, shares) = (Some(swap), Some(back), of_others != how);
    let nothing = Collected::nothing(record);
    let collected = Collected { swap, back, added, changed, removed, others, shares, ..nothing };
    Ok((collected, all_linked))
}

/// Returns which of the fresh files are new, and which differ from the live ones.
fn differences(
    host: &Host,
    root: &Path,
    aside: &Path,
    live: &BTreeSet<String>,
    fresh: BTreeSet<String>,
) -> (Vec<String>, Vec<String>) {
    let (same, added): (Vec<String>, Vec<String>) = fresh.into_iter().partition(|name| live.contains(name));
    let is_equal =
        host.on_all_cores(&same, |name| equal(&names::join(root, name), &names::join(aside, name)));
    let changed = same.into_iter().zip(is_equal).filter(|(_, is_equal)| !is_equal);
    (added, changed.map(|(name, _)| name).collect())
}

/// Makes the empty neighbour, and sees beforehand that it could be swapped in.
fn make_room(root: &Path, aside: &Path) -> Result<(), DjangoError> {
    let no_room = |source| DjangoError::NoRoomBeside { root: root.to_owned(), source };
    // An interrupted run may have given it to whom the live files belong.
    files::own_directory(aside, fs::metadata(root).ok().map(|found| found.uid()))?;
    files::remove_tree(aside)?;
    if root.exists() {
        trial::can_be_moved(root, aside).map_err(|error| no_room(error.source))?;
    }
    DirBuilder::new().mode(0o755).create(aside).map_err(no_room)
}

/// Returns the names that the manifest maps, if there is one.
///
/// Source: `ManifestFilesMixin` of Django: `{"paths": {NAME: HASHED_NAME}, "version": "1.1"}`.
fn manifest(root: &Path) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(root.join(MANIFEST)).ok()?;
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&names::readable_json(&text)) else {
        return Some(BTreeSet::new());
    };
    match fields.remove("paths") {
        Some(Value::Object(paths)) => Some(paths.into_iter().map(|(name, _)| name).collect()),
        _ => Some(BTreeSet::new()),
    }
}
