//! Static files on the disk: listed, compared, and linked from one folder into another.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::MANIFEST;
use crate::host::Host;
use crate::host::files::{self, FileError, InPath};
use crate::names;

/// Lists what is in a folder, without its folders; nothing for one that is not there.
pub(super) fn listing(root: &Path) -> io::Result<BTreeSet<String>> {
    walk(root, |_, _| Ok(()))
}

/// Lists what is in a folder, and shows each folder in it, and itself, before it is read: its name and its path.
pub(super) fn walk(
    root: &Path,
    mut on_folder: impl FnMut(&str, &Path) -> io::Result<()>,
) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![String::new()];
    while let Some(folder) = waiting.pop() {
        let path = names::join(root, &folder);
        let entries = match on_folder(&folder, &path).and_then(|()| fs::read_dir(&path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            match entry_of(&folder, &entry?)? {
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

/// Returns the [name](names::text) of an entry and whether it is a folder; `None`: no static file is such a thing.
pub(super) fn entry_of(folder: &str, entry: &DirEntry) -> io::Result<Option<(String, bool)>> {
    let kind = entry.file_type()?;
    let is_one = kind.is_dir() || kind.is_file() || kind.is_symlink();
    let name = is_one.then(|| names::text(entry.file_name()));
    let whole = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
    Ok(name.map(|name| (whole(name), kind.is_dir())))
}

/// Links files over; one that cannot be linked is copied. Tells whether all were linked.
pub(super) fn keep(host: &Host, from: &Path, to: &Path, names: &[String]) -> Result<bool, FileError> {
    let names: Vec<PathBuf> = names.iter().map(|name| names::path(name)).collect();
    for folder in names.iter().map(|name| files::parent(name)).collect::<BTreeSet<_>>() {
        keep_folder(from, to, folder).at("keep", &from.join(folder))?;
    }
    let kept = host.on_all_cores(&names, |name| {
        let source = from.join(name);
        keep_file(&source, &to.join(name)).at("keep", &source)
    });
    let kept: Vec<bool> = kept.into_iter().collect::<Result<_, _>>()?;
    Ok(kept.into_iter().all(|linked| linked))
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

/// Returns whether nothing that is written to the one is missing in the other.
fn keep_file(source: &Path, target: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(source) {
        Ok(found) => found,
        // A cache may drop what was there a moment ago.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        return symlink(fs::read_link(source)?, target).map(|()| true);
    }
    match fs::hard_link(source, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(_) => {
            fs::copy(source, target)?;
            // Opened to read: its owner may date it, but not write to it where the mode forbids that.
            File::open(target)?.set_modified(found.modified()?)?;
            Ok(false)
        }
        Ok(()) => Ok(true),
    }
}

/// Gives a folder the mode of another one, and its owner where this process may.
pub(super) fn like(model: &Path, folder: &Path) -> io::Result<()> {
    let Ok(model) = fs::metadata(model) else { return Ok(()) };
    let found = fs::metadata(folder)?;
    if (found.uid(), found.gid()) != (model.uid(), model.gid()) {
        // Only root may give a file away; whoever may not has the files that it would have had by hand.
        let _ = chown(folder, Some(model.uid()), Some(model.gid()));
    }
    fs::set_permissions(folder, Permissions::from_mode(model.permissions().mode() & 0o7777))
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
        keep(&Host::new(), &live, &next, &names).unwrap();
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
