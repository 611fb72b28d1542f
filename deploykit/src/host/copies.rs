//! Trees of files that are copied, compared, and looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, FileTimes, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::Host;
use super::files::{FileError, InPath};

/// What a tree may have, so that it is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

/// What a file is like from outside: whoever writes into it changes this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    mode: u32,
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Stamp {
        // Of a directory, only what is in it counts, which is looked at on its own.
        let is_directory = found.is_dir();
        Stamp {
            inode: found.ino(),
            mode: found.mode(),
            length: if is_directory { 0 } else { found.len() },
            written: if is_directory { (0, 0) } else { (found.mtime(), found.mtime_nsec()) },
            changed: if is_directory { (0, 0) } else { (found.ctime(), found.ctime_nsec()) },
        }
    }
}

/// The files of a tree, each by its path from the top; the top itself is the empty path.
pub(crate) type Stamps = BTreeMap<PathBuf, Stamp>;

/// Looks at all files of a tree, without following links in it; `None`: there are more than so many, or some cannot be seen.
pub(crate) fn stamps(top: &Path, most: usize) -> Option<Stamps> {
    let mut found = Stamps::new();
    walk(top, &mut |inside, _, metadata| {
        found.insert(inside.to_owned(), Stamp::of(metadata));
        found.len() <= most
    })
    .ok()
    .filter(|whole| *whole)
    .map(|_| found)
}

/// Whether a tree can be copied while a site uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copyable {
    Yes,
    /// A SQLite database or a socket is in it.
    InUse,
    /// It is too large, or something in it cannot be read.
    No,
}

/// Tells whether a tree can be copied, and subtracts its size from the limit.
pub(crate) fn copyable(top: &Path, limit: &mut Limit) -> Copyable {
    let (mut entries, mut bytes, mut answer) = (0, 0, Copyable::Yes);
    let looked = walk(top, &mut |_, path, metadata| {
        entries += 1;
        if metadata.is_file() {
            bytes += metadata.len();
            answer = match is_database(path, metadata) {
                Ok(true) => Copyable::InUse,
                Ok(false) => answer,
                Err(_) => Copyable::No,
            };
        } else if !metadata.is_dir() && !metadata.is_symlink() {
            answer = Copyable::InUse;
        }
        if entries > limit.entries || bytes > limit.bytes {
            answer = Copyable::No;
        }
        answer == Copyable::Yes
    });
    if looked.is_err() {
        return Copyable::No;
    }
    if answer == Copyable::Yes {
        limit.entries -= entries;
        limit.bytes -= bytes;
    }
    answer
}

fn is_database(path: &Path, found: &Metadata) -> io::Result<bool> {
    let mut file = File::open(path)?;
    // It has whole pages; only then it is worth a look.
    let mut start = [0; SQLITE.len()];
    let has_pages = found.len() > 0 && found.len().is_multiple_of(512);
    Ok(has_pages && file.read_exact(&mut start).is_ok() && start == *SQLITE)
}

/// How a SQLite database begins. Source: <https://www.sqlite.org/fileformat.html>
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

/// Copies a file or a tree with modes and times, links in it as links; sockets and the like are left out. The copy shares
/// nothing with the original that a writer could reach; where the file system can, it shares its blocks.
///
/// # Errors
///
/// When something cannot be read or written, or the end of the run was requested.
pub(crate) fn copy(host: &Host, from: &Path, to: &Path) -> Result<(), FileError> {
    if host.is_cancelled() {
        return Err(io::Error::from(io::ErrorKind::Interrupted)).at("copy", from);
    }
    let found = fs::metadata(from).at("read", from)?;
    if !found.is_dir() {
        return copy_file(from, to, &found).at("copy", from);
    }
    // Others see nothing of it until it is whole.
    DirBuilder::new().mode(0o700).create(to).at("create the directory", to)?;
    for entry in fs::read_dir(from).at("read", from)? {
        let entry = entry.at("read", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = fs::symlink_metadata(&source).at("read", &source)?;
        if found.is_symlink() {
            let leads_to = fs::read_link(&source).at("read", &source)?;
            symlink(leads_to, &target).at("link", &target)?;
        } else if found.is_dir() {
            copy(host, &source, &target)?;
        } else if found.is_file() {
            copy_file(&source, &target, &found).at("copy", &source)?;
        }
    }
    take_after(to, &found).at("copy", from)
}

/// Copies one file with its mode and time, and its owner where this process may; `found` is what its original is like.
///
/// # Errors
///
/// When it cannot be read or written.
pub(crate) fn copy_file(from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
    fs::copy(from, to)?;
    take_after(to, found)
}

/// Gives a copy the mode, the time and, where this process may, the owner of its original.
fn take_after(copy: &Path, found: &Metadata) -> io::Result<()> {
    let own = fs::metadata(copy)?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) && rustix::process::geteuid().is_root() {
        lchown(copy, Some(found.uid()), Some(found.gid()))?;
    }
    let file = File::open(copy)?;
    file.set_times(FileTimes::new().set_modified(found.modified()?))?;
    file.set_permissions(fs::Permissions::from_mode(found.mode() & 0o7777))
}

/// Returns how many bytes the files of a tree have.
///
/// # Errors
///
/// When something cannot be read.
pub(crate) fn size(top: &Path) -> Result<u64, FileError> {
    let mut bytes = 0;
    walk(top, &mut |_, _, found| {
        bytes += if found.is_file() { found.len() } else { 0 };
        true
    })?;
    Ok(bytes)
}

/// Tells whether two trees are the same but for times: kinds, modes, contents, where links lead.
///
/// # Errors
///
/// When something cannot be read.
pub(crate) fn are_same(one: &Path, other: &Path) -> Result<bool, FileError> {
    Ok(differences(one, other)?.is_empty())
}

/// Returns the paths that only one of two trees has, or that [differ](are_same), from the top, sorted. The top itself is the
/// empty path; a directory that only one of them has is named without what is in it.
///
/// # Errors
///
/// When something cannot be read.
pub(crate) fn differences(one: &Path, other: &Path) -> Result<Vec<PathBuf>, FileError> {
    let (mut ones, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (top, found) in [(one, &mut ones), (other, &mut others)] {
        walk(top, &mut |inside, _, metadata| {
            found.insert(inside.to_owned(), metadata.clone());
            true
        })?;
    }
    let mut different: Vec<PathBuf> = Vec::new();
    let all: BTreeSet<&PathBuf> = ones.keys().chain(others.keys()).collect();
    for inside in all {
        let is_same = match (ones.get(inside), others.get(inside)) {
            (Some(found), Some(its)) => {
                let (path, its_path) = (below(one, inside), below(other, inside));
                is_same_file((&path, found), (&its_path, its)).at("compare", &path)?
            }
            _ => false,
        };
        let is_in_both = |path: &Path| ones.contains_key(path) && others.contains_key(path);
        let is_named = inside.parent().is_some_and(|above| !is_in_both(above));
        if !is_same && !is_named {
            different.push(inside.clone());
        }
    }
    Ok(different)
}

fn is_same_file(one: (&Path, &Metadata), other: (&Path, &Metadata)) -> io::Result<bool> {
    if one.1.mode() != other.1.mode() {
        return Ok(false);
    }
    if one.1.is_symlink() {
        return Ok(fs::read_link(one.0)? == fs::read_link(other.0)?);
    }
    let is_same_length = one.1.len() == other.1.len();
    Ok(!one.1.is_file() || is_same_length && have_same_contents(one.0, other.0)?)
}

/// Compares the contents of two files of the same length.
fn have_same_contents(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut of_one, mut of_other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = one.read(&mut of_one)?;
        if read == 0 {
            return Ok(other.read(&mut of_other)? == 0);
        }
        if other.read_exact(&mut of_other[..read]).is_err() || of_one[..read] != of_other[..read] {
            return Ok(false);
        }
    }
}

/// Joins an empty path, too: the top itself may be a file.
fn below(top: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() { top.to_owned() } else { top.join(inside) }
}

/// What a walk calls: with the path from the top, the whole path, and what is there; `false` ends it.
type Visit<'v> = dyn FnMut(&Path, &Path, &Metadata) -> bool + 'v;

/// Goes through a tree; the top may be a link, which is followed. Returns whether it came to the end.
fn walk(top: &Path, visit: &mut Visit<'_>) -> Result<bool, FileError> {
    let found = fs::metadata(top).at("read", top)?;
    let mut directories = vec![(PathBuf::new(), found)];
    while let Some((inside, found)) = directories.pop() {
        let path = below(top, &inside);
        if !visit(&inside, &path, &found) {
            return Ok(false);
        }
        if !found.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&path).at("read", &path)? {
            let entry = entry.at("read", &path)?;
            // What is gone meanwhile is nothing.
            let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
            directories.push((inside.join(entry.file_name()), found));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { entries: 10, bytes: 5000 };

    fn tree() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("one/deep")).unwrap();
        fs::write(top.path().join("one/deep/a.js"), "a").unwrap();
        fs::write(top.path().join("one/b.js"), "b").unwrap();
        fs::set_permissions(top.path().join("one/b.js"), fs::Permissions::from_mode(0o751)).unwrap();
        symlink("deep/a.js", top.path().join("one/link")).unwrap();
        top
    }

    #[test]
    fn a_copy_is_the_same_and_shares_nothing() {
        let top = tree();
        let (one, two) = (top.path().join("one"), top.path().join("two"));
        let old = FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        File::open(one.join("b.js")).unwrap().set_times(old).unwrap();
        copy(&Host::new(), &one, &two).unwrap();
        assert!(are_same(&one, &two).unwrap());
        assert_eq!([size(&one).unwrap(), size(&two).unwrap()], [2, 2]);
        assert_eq!(fs::metadata(two.join("b.js")).unwrap().modified().unwrap(), std::time::UNIX_EPOCH);
        assert_eq!(fs::read_link(two.join("link")).unwrap(), Path::new("deep/a.js"));
        fs::write(two.join("deep/a.js"), "c").unwrap();
        assert!(!are_same(&one, &two).unwrap());
        fs::create_dir_all(two.join("more/deep")).unwrap();
        fs::remove_file(two.join("b.js")).unwrap();
        let named = ["b.js", "deep/a.js", "more"].map(PathBuf::from);
        assert_eq!(differences(&one, &two).unwrap(), named);
        assert_eq!(differences(&two, &one).unwrap(), named);
        assert_eq!(fs::read_to_string(one.join("deep/a.js")).unwrap(), "a");
        copy(&Host::new(), &one.join("b.js"), &top.path().join("b.js")).unwrap();
        assert!(are_same(&one.join("b.js"), &top.path().join("b.js")).unwrap());
    }

    #[test]
    fn whoever_writes_leaves_another_stamp() {
        let top = tree();
        let before = stamps(top.path(), 10).unwrap();
        assert_eq!(stamps(top.path(), 10).unwrap(), before);
        assert_eq!(stamps(top.path(), 3), None);
        fs::write(top.path().join("one/b.js"), "c").unwrap();
        assert_ne!(stamps(top.path(), 10).unwrap(), before);
    }

    #[test]
    fn databases_sockets_and_what_is_large_are_not_copied() {
        let top = tree();
        let (path, mut limit) = (top.path(), LIMIT);
        assert_eq!(copyable(path, &mut limit), Copyable::Yes);
        assert_eq!((limit.entries, limit.bytes), (4, 4998), "it is taken from the limit");
        assert_eq!(copyable(path, &mut limit), Copyable::No);
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        let fresh = || copyable(path, &mut LIMIT.clone());
        assert_eq!(fresh(), Copyable::InUse);
        fs::remove_file(path.join("socket")).unwrap();
        let database = [&SQLITE[..], &[0; 512 - 16]].concat();
        fs::write(path.join("one/data"), database).unwrap();
        assert_eq!(fresh(), Copyable::InUse);
        fs::write(path.join("one/data"), [0; 512]).unwrap();
        assert_eq!(fresh(), Copyable::Yes);
    }
}
