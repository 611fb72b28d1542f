//! Static files on the disk: listed, compared, and linked from one directory into another.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::MANIFEST;
use crate::host::Host;
use crate::host::copies::{Limit, copy_file};
use crate::host::files::{self, FileError, InPath};
use crate::names;

/// Lists what is in a directory, without its directories; nothing for one that is not there.
pub(super) fn listing(root: &Path) -> io::Result<BTreeSet<String>> {
    walk(root, |_, _| Ok(()))
}

/// Lists what is in a directory, and shows each directory in it, and itself, before it is read: its name and its path.
pub(super) fn walk(
    root: &Path,
    mut on_directory: impl FnMut(&str, &Path) -> io::Result<()>,
) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![String::new()];
    while let Some(directory) = waiting.pop() {
        let path = names::join(root, &directory);
        let entries = match on_directory(&directory, &path).and_then(|()| fs::read_dir(&path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            match entry_of(&directory, &entry?)? {
                Some((name, true)) => waiting.push(name),
                Some((name, false)) => {
                    found.insert(name);
                }
                None => {}
            }
        }
    }
    Ok(found)
}

/// Lists the entries of a directory; none of one that is gone.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(directory) {
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

/// Returns the [name](names::text) of an entry and whether it is a directory; `None`: it is no static file.
pub(super) fn entry_of(directory: &str, entry: &DirEntry) -> io::Result<Option<(String, bool)>> {
    let kind = entry.file_type()?;
    let is_one = kind.is_dir() || kind.is_file() || kind.is_symlink();
    let name = is_one.then(|| names::text(entry.file_name()));
    let whole = |name: String| if directory.is_empty() { name } else { format!("{directory}/{name}") };
    Ok(name.map(|name| (whole(name), kind.is_dir())))
}

/// Maximum size of the uncollected files that are copied; above it they are linked.
const MOST: Limit = Limit { entries: 20_000, bytes: 1 << 29 };

/// How files that stay are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// As hard links: a write into one file changes the other, too.
    Linked,
    /// As copies.
    Copied,
}

impl Keep {
    /// Decides for uncollected files: uploads may be too large to copy.
    pub(super) fn of_others(self, root: &Path, names: &[String]) -> Keep {
        if self == Keep::Linked || names.len() > MOST.entries {
            return Keep::Linked;
        }
        let sizes = names.iter().filter_map(|name| fs::symlink_metadata(names::join(root, name)).ok());
        if sizes.map(|found| found.len()).sum::<u64>() > MOST.bytes { Keep::Linked } else { Keep::Copied }
    }
}

/// Keeps files; one that cannot be linked is copied. Tells whether all were linked.
pub(super) fn keep(
    host: &Host,
    from: &Path,
    to: &Path,
    names: &[String],
    how: Keep,
) -> Result<bool, FileError> {
    let names: Vec<PathBuf> = names.iter().map(|name| names::path(name)).collect();
    for directory in names.iter().map(|name| files::parent(name)).collect::<BTreeSet<_>>() {
        keep_directory(from, to, directory).at("keep", &from.join(directory))?;
        // What a killed run left half copied would go live.
        files::remove_temporary(&to.join(directory))?;
    }
    let kept = host.on_all_cores(&names, |name| {
        let source = from.join(name);
        keep_file(&source, &to.join(name), how).at("keep", &source)
    });
    let kept: Vec<bool> = kept.into_iter().collect::<Result<_, _>>()?;
    Ok(kept.into_iter().all(|linked| linked))
}

/// Makes a directory and its parents like those in another tree.
fn keep_directory(from: &Path, to: &Path, directory: &Path) -> io::Result<()> {
    if directory == Path::new(".") || to.join(directory).is_dir() {
        return Ok(());
    }
    keep_directory(from, to, files::parent(directory))?;
    fs::create_dir(to.join(directory))?;
    like(&from.join(directory), &to.join(directory))
}

/// Returns whether nothing that is written to the one is missing in the other.
fn keep_file(source: &Path, target: &Path, how: Keep) -> io::Result<bool> {
    match link_or_copy(source, target, how) {
        // A cache may drop what was there a moment ago.
        Err(error)
            if is_missing(&error) && fs::symlink_metadata(source).is_err_and(|error| is_missing(&error)) =>
        {
            Ok(true)
        }
        kept => kept,
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn link_or_copy(source: &Path, target: &Path, how: Keep) -> io::Result<bool> {
    let found = fs::symlink_metadata(source)?;
    if found.is_symlink() {
        return symlink(fs::read_link(source)?, target).map(|()| true);
    }
    let is_copied = how == Keep::Copied && stays_its_owner_s(&found);
    if !is_copied && fs::hard_link(source, target).is_ok() {
        return Ok(true);
    }
    copy_whole(source, target, &found).map(|()| false)
}

/// Copies a file. A partial copy never has the final name, so a recovery copies it again.
fn copy_whole(source: &Path, target: &Path, found: &Metadata) -> io::Result<()> {
    // Hard links of one file are copied at the same time.
    let part = files::temporary_file(files::parent(target))?;
    copy_file(source, part.path(), found)?;
    part.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// Tells whether a copy can have the owner of its original, who could not write into it otherwise.
fn stays_its_owner_s(found: &Metadata) -> bool {
    let own = rustix::process::geteuid();
    own.is_root() || own.as_raw() == found.uid()
}

/// Gives a directory the mode of another one, and its owner where this process may.
pub(super) fn like(model: &Path, directory: &Path) -> io::Result<()> {
    let Ok(model) = fs::metadata(model) else { return Ok(()) };
    let found = fs::metadata(directory)?;
    if (found.uid(), found.gid()) != (model.uid(), model.gid()) {
        // Only root may give a file to another user; for others the owner is the same as after `collectstatic` by hand.
        let _ = chown(directory, Some(model.uid()), Some(model.gid()));
    }
    fs::set_permissions(directory, Permissions::from_mode(model.permissions().mode() & 0o7777))
}

/// Compares the contents of two files; what cannot be read equals nothing.
pub(super) fn equal(one: &Path, other: &Path) -> bool {
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
    let read =
        |path| serde_json::from_str::<Value>(&names::readable_json(&fs::read_to_string(path).ok()?)).ok();
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
    use super::super::others::is_the_same;
    use super::*;

    #[test]
    fn what_is_kept_is_linked_with_its_directories_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let (live, next) = (directory.path().join("live"), directory.path().join("next"));
        fs::create_dir_all(live.join("CACHE/css")).unwrap();
        fs::set_permissions(live.join("CACHE"), Permissions::from_mode(0o2775)).unwrap();
        fs::write(live.join("CACHE/css/a.css"), "a").unwrap();
        symlink("css/a.css", live.join("CACHE/link")).unwrap();
        fs::create_dir(&next).unwrap();
        let names: Vec<String> = listing(&live).unwrap().into_iter().collect();
        assert_eq!(names, ["CACHE/css/a.css", "CACHE/link"]);
        keep(&Host::new(), &live, &next, &names, Keep::Linked).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&live.join("CACHE/css/a.css")), inode(&next.join("CACHE/css/a.css")));
        assert_eq!(fs::read_link(next.join("CACHE/link")).unwrap(), Path::new("css/a.css"));
        assert_eq!(fs::metadata(next.join("CACHE")).unwrap().permissions().mode() & 0o7777, 0o2775);
    }

    #[test]
    fn whoever_writes_into_a_copy_changes_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("live")).unwrap();
        fs::create_dir(path("next")).unwrap();
        fs::write(path("live/app.js"), "old").unwrap();
        fs::set_permissions(path("live/app.js"), Permissions::from_mode(0o640)).unwrap();
        let names = ["app.js".to_owned(), "gone.js".to_owned()];
        let how = Keep::Copied.of_others(&path("live"), &names);
        assert_eq!(how, Keep::Copied);
        assert!(!keep(&Host::new(), &path("live"), &path("next"), &names, how).unwrap());
        assert!(is_the_same(&path("live/app.js"), &path("next/app.js")).unwrap(), "it has mode and time");
        fs::write(path("next/app.js"), "new").unwrap();
        assert_eq!(fs::read_to_string(path("live/app.js")).unwrap(), "old");
        assert_eq!(fs::metadata(path("next/app.js")).unwrap().permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn hard_links_of_one_file_are_all_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (live, next) = (directory.path().join("live"), directory.path().join("next"));
        fs::create_dir(&live).unwrap();
        fs::create_dir(&next).unwrap();
        for number in 0..300 {
            let name = live.join(format!("{number}.js"));
            fs::write(&name, vec![b'a'; 4096]).unwrap();
            fs::hard_link(&name, live.join(format!("{number}.hash.js"))).unwrap();
        }
        // Both names of a file, one right after the other.
        let names: Vec<String> = listing(&live).unwrap().into_iter().collect();
        keep(&Host::new(), &live, &next, &names, Keep::Copied).unwrap();
        let copied = listing(&next).unwrap();
        let missing: Vec<&String> = names.iter().filter(|name| !copied.contains(*name)).collect();
        assert!(missing.is_empty() && copied.len() == names.len(), "{missing:?}");
        let copies = copied.iter().map(|name| fs::metadata(next.join(name)).unwrap());
        assert!(copies.map(|found| (found.nlink(), found.len())).all(|found| found == (1, 4096)));
    }

    #[test]
    fn more_than_there_may_be_room_for_is_linked() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("film")).unwrap();
        let names = ["film".to_owned()];
        file.set_len(MOST.bytes).unwrap();
        assert_eq!(Keep::Copied.of_others(directory.path(), &names), Keep::Copied);
        file.set_len(MOST.bytes + 1).unwrap();
        assert_eq!(Keep::Copied.of_others(directory.path(), &names), Keep::Linked);
        assert_eq!(Keep::Linked.of_others(directory.path(), &[]), Keep::Linked);
    }

    #[test]
    fn files_are_compared_by_what_is_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name)
        };
        assert!(equal(&write("a", "same"), &write("b", "same")));
        assert!(!equal(&write("a", "same"), &write("b", "some")));
        assert!(!equal(&write("a", "same"), &directory.path().join("missing")));
        fs::create_dir(directory.path().join("x")).unwrap();
        let (one, other) = (
            write("staticfiles.json", r#"{"a": 1, "b": 2}"#),
            write("x/staticfiles.json", r#"{"b":2,"a":1}"#),
        );
        assert!(equal(&one, &other));
    }
}
