//! A fresh set of static files beside the live one, ready to be swapped in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::static_rules::{Evidence, StaticState};
use super::{DjangoError, Session, StaticRecord, StaticSources, When};
use crate::host::Host;
use crate::host::files::{self, FileError, InPath, Swap};

/// Django's default name of the file that maps names to hashed names.
const MANIFEST: &str = "staticfiles.json";

/// The static files of a site, and what is known of them from before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticFiles {
    /// The live `STATIC_ROOT`. A link is followed: what it names is replaced, the link stays.
    pub root: PathBuf,
    /// Whether to collect; `auto`: when a source differs from what is live, or something is obsolete.
    pub collect: When,
    /// Whether files that are no longer collected go. `auto`: those that were collected once, with their hashed and
    /// compressed variants; what nobody collected (caches, uploads) stays. `always`: all; `never`: none.
    pub clear: When,
    /// What the last update collected, if that is known.
    pub record: Option<StaticRecord>,
    /// Paths that the update deletes from the repository.
    pub deleted: Vec<String>,
}

/// What a fresh set would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Brings the fresh set to the live place; `None` when nothing changes.
    pub swap: Option<Swap>,
    /// Takes it back.
    pub back: Option<Swap>,
    /// Files that are new, sorted.
    pub added: Vec<String>,
    /// Files whose contents change, sorted.
    pub changed: Vec<String>,
    /// Files that go, sorted.
    pub removed: Vec<String>,
    /// Nothing changes.
    pub unchanged: bool,
    /// What the finders gave: the evidence for the next update.
    pub record: StaticRecord,
}

impl Collected {
    /// Nothing changes.
    fn nothing(record: StaticRecord) -> Self {
        let (added, changed, removed) = (Vec::new(), Vec::new(), Vec::new());
        Collected { swap: None, back: None, added, changed, removed, unchanged: true, record }
    }
}

/// Static files that are being collected beside the live ones.
#[derive(Debug)]
pub struct Collecting {
    root: PathBuf,
    clear: When,
    live: BTreeSet<String>,
    sources: StaticSources,
    evidence: Evidence,
    /// The folder beside the live one; `None`: nothing has to be collected.
    aside: Option<PathBuf>,
}

impl StaticFiles {
    /// Collects into a hidden folder beside `STATIC_ROOT`, if that is needed, and says what it would change.
    ///
    /// What stays of the live files is linked over, so that the fresh folder is complete. The live folder is not touched.
    ///
    /// # Errors
    ///
    /// See [`Session::end_collect`]; and when the folder cannot be made beside `STATIC_ROOT`, on the same file system.
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
        let live = listing(&root).at("read", &root)?;
        let evidence = self.evidence(&root, &sources);
        let state = self.state(&root, &live, &sources, &evidence);
        let aside = state.needs_collecting(self.collect, self.clear).then(|| aside(&root));
        let collecting = Collecting { root, clear: self.clear, live, sources, evidence, aside };
        if let Some(aside) = &collecting.aside {
            make_room(&collecting.root, aside)?;
            if let Err(error) = session.begin_collect(host, aside) {
                collecting.remove();
                return Err(error);
            }
        }
        Ok(collecting)
    }

    /// Returns the hidden folder that the fresh set is collected into.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        aside(&fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone()))
    }

    fn evidence(&self, root: &Path, sources: &StaticSources) -> Evidence {
        let recorded = self.record.iter().flat_map(|record| record.names.iter().cloned());
        Evidence {
            names: recorded.chain(manifest(root).into_keys()).collect(),
            deleted: self.deleted.clone(),
            folders: sources.folders.clone(),
        }
    }

    fn state(
        &self,
        root: &Path,
        live: &BTreeSet<String>,
        sources: &StaticSources,
        evidence: &Evidence,
    ) -> StaticState {
        let manifest = manifest(root);
        let listed = root.join(MANIFEST).exists();
        let mut state = StaticState::default();
        for (name, path) in &sources.sources {
            match path {
                None => state.unknown += 1,
                Some(path) if !live.contains(name) || !equal(path, &root.join(name)) => state.stale += 1,
                Some(_) if listed && !manifest.contains_key(name) => state.unlisted += 1,
                Some(_) => {}
            }
        }
        state.obsolete = live.iter().filter(|name| evidence.is_obsolete(name, &sources.sources)).count();
        state.other_storage = self.record.as_ref().is_some_and(|record| record.storage != sources.storage);
        state
    }
}

impl Collecting {
    /// Returns the hidden folder that is being filled; `None`: nothing has to be collected.
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
        let record = StaticRecord::from(&self.sources);
        let Some(aside) = &self.aside else { return Ok(Collected::nothing(record)) };
        let collected = session.end_collect(host).and_then(|()| {
            let goes = |name: &String| match self.clear {
                When::Always => true,
                When::Never => false,
                When::Auto => self.evidence.is_obsolete(name, &self.sources.sources),
            };
            complete(&self.root, aside, &self.live, goes, record)
        });
        if !matches!(&collected, Ok(Collected { swap: Some(_), .. })) {
            self.remove();
        }
        collected
    }

    /// Removes the fresh set, of which nothing is needed.
    fn remove(&self) {
        if let Some(Err(error)) = self.aside.as_deref().map(files::remove_tree) {
            log::warn!("{}", crate::error_chain(&error));
        }
    }
}

impl Collected {
    /// Returns the action that belongs before the swap.
    #[must_use]
    pub fn late_files(&self) -> Option<LateFiles> {
        self.swap.clone().map(|swap| LateFiles { swap, removed: self.removed.clone() })
    }
}

/// Links files that appeared in the live folder since the fresh one was prepared, such as a compressor's cache.
///
/// It belongs after the moment when the site stops writing and before the swap; after that there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateFiles {
    /// The swap that follows.
    pub swap: Swap,
    /// Files that are meant to go, sorted.
    pub removed: Vec<String>,
}

impl LateFiles {
    /// Links them, and returns their names.
    ///
    /// # Errors
    ///
    /// When a file cannot be linked.
    pub fn perform(&self) -> Result<Vec<String>, DjangoError> {
        let swap = &self.swap;
        let is_live = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.ino()) == swap.wanted;
        if is_live(&swap.live) {
            return Ok(Vec::new());
        }
        let ready = listing(&swap.aside).at("read", &swap.aside)?;
        let live = listing(&swap.live).at("read", &swap.live)?;
        let late: Vec<String> = live
            .into_iter()
            .filter(|name| !ready.contains(name) && self.removed.binary_search(name).is_err())
            .collect();
        keep(&swap.live, &swap.aside, &late)?;
        Ok(late)
    }
}

/// Links what stays of the live files into the fresh folder, and says what differs.
fn complete(
    root: &Path,
    aside: &Path,
    live: &BTreeSet<String>,
    goes: impl Fn(&String) -> bool,
    record: StaticRecord,
) -> Result<Collected, DjangoError> {
    let fresh = listing(aside).at("read", aside)?;
    let (removed, kept): (Vec<String>, Vec<String>) =
        live.iter().filter(|name| !fresh.contains(*name)).cloned().partition(goes);
    keep(root, aside, &kept)?;
    like(root, aside).at("prepare", aside)?;
    let (same, added): (Vec<String>, Vec<String>) = fresh.into_iter().partition(|name| live.contains(name));
    let changed: Vec<String> =
        same.into_iter().filter(|name| !equal(&root.join(name), &aside.join(name))).collect();
    if added.is_empty() && changed.is_empty() && removed.is_empty() {
        return Ok(Collected::nothing(record));
    }
    let (swap, back) = Swap::pair(root, aside)?;
    Ok(Collected { swap: Some(swap), back: Some(back), added, changed, removed, unchanged: false, record })
}

/// Returns the hidden neighbour of a folder.
fn aside(root: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(root.file_name().unwrap_or_default());
    name.push(".deploykit-next");
    files::parent(root).join(name)
}

/// Makes the empty neighbour, and sees beforehand that it could be swapped in.
fn make_room(root: &Path, aside: &Path) -> Result<(), DjangoError> {
    let no_room = |source| DjangoError::NoRoomBeside { root: root.to_owned(), source };
    let parent = files::parent(root);
    if root.exists() && files::device(root) != files::device(parent) {
        return Err(no_room(io::Error::from(io::ErrorKind::CrossesDevices)));
    }
    // An interrupted run may have given it to whom the live files belong.
    files::own_folder(aside, fs::metadata(root).ok().map(|found| found.uid()))?;
    files::remove_tree(aside)?;
    DirBuilder::new().mode(0o755).create(aside).map_err(no_room)
}

/// Lists what is in a folder, without its folders; nothing for one that is not there.
fn listing(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(path);
            } else if (kind.is_file() || kind.is_symlink())
                && let Some(name) = path.to_str()
            {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

/// Returns the names that the manifest maps.
///
/// Source: `ManifestFilesMixin` of Django: `{"paths": {NAME: HASHED_NAME}, "version": "1.1"}`.
fn manifest(root: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(root.join(MANIFEST)).unwrap_or_default();
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&text) else { return BTreeMap::new() };
    match fields.remove("paths") {
        Some(Value::Object(paths)) => paths.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// Links files over; one that cannot be linked is copied.
fn keep(from: &Path, to: &Path, names: &[String]) -> Result<(), FileError> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        keep_folder(from, to, files::parent(Path::new(name))).at("keep", &source)?;
        keep_file(&source, &target).at("keep", &source)?;
    }
    Ok(())
}

/// Makes a folder, and those above it, as they are in another place.
fn keep_folder(from: &Path, to: &Path, folder: &Path) -> io::Result<()> {
    if folder == Path::new(".") || to.join(folder).is_dir() {
        return Ok(());
    }
    keep_folder(from, to, files::parent(folder))?;
    fs::create_dir(to.join(folder))?;
    like(&from.join(folder), &to.join(folder))
}

fn keep_file(source: &Path, target: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(source) {
        Ok(found) => found,
        // A cache may drop what was there a moment ago.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    match fs::hard_link(source, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            fs::copy(source, target)?;
            File::options().append(true).open(target)?.set_modified(found.modified()?)
        }
        Ok(()) => Ok(()),
    }
}

/// Gives a folder the mode of another one, and its owner where this process may.
fn like(model: &Path, folder: &Path) -> io::Result<()> {
    let Ok(model) = fs::metadata(model) else { return Ok(()) };
    let found = fs::metadata(folder)?;
    if (found.uid(), found.gid()) != (model.uid(), model.gid()) {
        // Only root may give a file away; whoever may not has the files that it would have had by hand.
        let _ = chown(folder, Some(model.uid()), Some(model.gid()));
    }
    fs::set_permissions(folder, Permissions::from_mode(model.permissions().mode() & 0o7777))
}

/// Compares the contents of two files; what cannot be read equals nothing.
fn equal(one: &Path, other: &Path) -> bool {
    let sizes = (fs::metadata(one), fs::metadata(other));
    let (Ok(first), Ok(second)) = sizes else { return false };
    if (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        return true;
    }
    if one.ends_with(MANIFEST) {
        // Older Djangos write the names in no certain order.
        return equal_json(one, other);
    }
    first.len() == second.len() && equal_bytes(one, other).unwrap_or(false)
}

fn equal_json(one: &Path, other: &Path) -> bool {
    let read = |path| fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    matches!((read(one), read(other)), (Some(one), Some(other)) if one == other)
}

fn equal_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut first, mut second) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let count = one.read(&mut first)?;
        if count == 0 {
            return Ok(other.read(&mut second[..1])? == 0);
        }
        if other.read_exact(&mut second[..count]).is_err() || first[..count] != second[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_linked_with_its_folders_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (live, next) = (folder.path().join("live"), folder.path().join("next"));
        fs::create_dir_all(live.join("CACHE/css")).unwrap();
        fs::set_permissions(live.join("CACHE"), Permissions::from_mode(0o2775)).unwrap();
        fs::write(live.join("CACHE/css/a.css"), "a").unwrap();
        symlink("css/a.css", live.join("CACHE/link")).unwrap();
        fs::create_dir(&next).unwrap();
        let names: Vec<String> = listing(&live).unwrap().into_iter().collect();
        assert_eq!(names, ["CACHE/css/a.css", "CACHE/link"]);
        keep(&live, &next, &names).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&live.join("CACHE/css/a.css")), inode(&next.join("CACHE/css/a.css")));
        assert_eq!(fs::read_link(next.join("CACHE/link")).unwrap(), Path::new("css/a.css"));
        assert_eq!(fs::metadata(next.join("CACHE")).unwrap().permissions().mode() & 0o7777, 0o2775);
    }

    #[test]
    fn files_are_compared_by_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        assert!(equal(&write("a", "same"), &write("b", "same")));
        assert!(!equal(&write("a", "same"), &write("b", "some")));
        assert!(!equal(&write("a", "same"), &folder.path().join("missing")));
        fs::create_dir(folder.path().join("x")).unwrap();
        let (one, other) = (
            write("staticfiles.json", r#"{"a": 1, "b": 2}"#),
            write("x/staticfiles.json", r#"{"b":2,"a":1}"#),
        );
        assert!(equal(&one, &other));
    }
}
