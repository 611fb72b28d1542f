//! Files that go along from one virtualenv to the next, with the paths in them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::LARGEST_TEXT;
use crate::host::files::{self, Found};

/// A virtualenv and the one that follows it.
pub(in crate::python) struct Moved<'a> {
    from: &'a Path,
    pub(super) to: &'a Path,
    /// The paths of the old one that lead nowhere else once the new one is live.
    old: Vec<PathBuf>,
}

impl<'a> Moved<'a> {
    pub(in crate::python) fn new(from: &'a Path, to: &'a Path) -> Self {
        // The path that the site uses stays; where it is a link, what it leads to is the old virtualenv for ever.
        let mut old = Vec::new();
        if let Found::Link(link) = files::look(from) {
            old.push(files::parent(from).join(link));
            old.extend(fs::canonicalize(from));
            old.dedup();
        }
        Moved { from, to, old }
    }

    /// For comparing what lies anywhere: no path of the virtualenv counts, be it that of now or that of the site.
    pub(super) fn from_anywhere(from: &'a Path, site: &Path) -> Self {
        let mut moved = Moved::new(from, Path::new("/virtualenv"));
        moved.old.extend([from, site].map(Path::to_owned));
        moved.old.extend(fs::canonicalize(from));
        // A longer path may begin with another one.
        moved.old.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
        moved
    }

    pub(super) fn copy(&self, file: &Path) -> io::Result<()> {
        let (source, target) = (self.from.join(file), self.to.join(file));
        let found = fs::symlink_metadata(&source)?;
        fs::create_dir_all(files::parent(&target))?;
        if found.is_symlink() {
            return symlink(self.target_of(&source)?, target);
        }
        match self.text_of(&source, &found)? {
            // With the mode of the old one before anything is in it: it may hold a password.
            Some(text) => {
                fs::File::create_new(&target)?.set_permissions(found.permissions())?;
                let mut file = fs::File::options().write(true).open(&target).or_else(|_| {
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
                    fs::File::options().write(true).open(&target)
                })?;
                io::Write::write_all(&mut file, &text)?;
                file.set_permissions(found.permissions())?;
                file.set_modified(found.modified()?)
            }
            None => {
                fs::copy(&source, &target)?;
                fs::File::open(&target)?.set_modified(found.modified()?)
            }
        }
    }

    /// Returns what a link leads to when it has gone along.
    pub(super) fn target_of(&self, link: &Path) -> io::Result<PathBuf> {
        let target = fs::read_link(link)?;
        let inside = self.old.iter().find_map(|old| target.strip_prefix(old).ok());
        Ok(inside.map_or_else(|| target.clone(), |inside| self.to.join(inside)))
    }

    /// Returns the contents of a file that has gone along; `None`: it is large.
    pub(super) fn text_of(&self, path: &Path, found: &Metadata) -> io::Result<Option<Vec<u8>>> {
        if found.len() > LARGEST_TEXT {
            return Ok(None);
        }
        let mut text = fs::read(path)?;
        if !text.contains(&0) {
            for old in &self.old {
                text = replace(&text, old.as_os_str().as_bytes(), self.to.as_os_str().as_bytes());
            }
        }
        Ok(Some(text))
    }
}

/// Replaces a path wherever it is not the beginning of another name.
pub(in crate::python) fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, old) {
        let end = at + old.len();
        replaced.extend_from_slice(&rest[..at]);
        let goes_on = rest.get(end).is_some_and(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c));
        replaced.extend_from_slice(if goes_on { old } else { new });
        rest = &rest[end..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
