//! What was written into a staged tree that neither its commit nor a link to the live checkout brought. It belongs into the
//! live checkout: that is where the site's code would have written it.

mod carry;
mod changes;
mod disk;
mod record;

use std::fs::{self, FileType};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::error::{GitError, InRepository};
use super::executable::{path_of, split_at_nul};
use super::local_change::{LocalChange, LocalChangeKind};
use super::local_state::local_changes;
use super::repository::Repository;
use super::staged_tree::{StagedTree, is_cache};
use crate::host::Host;
use crate::host::files::{Found, InPath, look};

pub use carry::CarryWritten;

/// What tools keep for themselves, beside Python's own bytecode.
const CACHES: [&str; 4] = [".pytest_cache", ".mypy_cache", ".ruff_cache", ".sass-cache"];

/// What was found in a staged tree. All paths are from its top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files, links and whole directories that the live checkout lacks, sorted.
    pub new: Vec<PathBuf>,
    /// Files in the place of a link to a file of the live checkout.
    pub replaced: Vec<PathBuf>,
    /// Links to files of the live checkout that were renamed: from, to.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Links that are gone.
    pub removed: Vec<PathBuf>,
    /// The links that are there.
    pub links: Vec<PathBuf>,
}

impl Written {
    /// Looks through a staged tree. `excluded` names paths of the tree that are handled elsewhere; `links` are those
    /// that were there before, as far as they are known.
    ///
    /// # Errors
    ///
    /// When git or the file system refuses.
    pub fn find(
        host: &Host,
        tree: &StagedTree,
        excluded: &[PathBuf],
        links: &[PathBuf],
    ) -> Result<Self, GitError> {
        let mut search = Search { tree, excluded, found: Written::default() };
        for path in others(host, tree)? {
            search.look_at(&path)?;
        }
        let mut found = search.found;
        let is_gone = |path: &&PathBuf| look(&tree.path.join(path)) == Found::Nothing;
        let is_moved = |path: &&PathBuf| !found.moved.iter().any(|(from, _)| from == *path);
        found.removed = links.iter().filter(is_gone).filter(is_moved).cloned().collect();
        found.new.sort();
        Ok(found)
    }

    /// Finds the tracked files that are neither as the commit nor as the live checkout has them.
    ///
    /// # Errors
    ///
    /// When git refuses: a filter may fail that was not asked before.
    pub fn changed(host: &Host, tree: &StagedTree, excluded: &[PathBuf]) -> Result<Vec<PathBuf>, GitError> {
        let changes = local_changes(host, &Repository::open(&tree.path)?)?;
        let search = Search { tree, excluded, found: Written::default() };
        Ok(changes.into_iter().filter(|change| search.is_changed(change)).map(|change| change.path).collect())
    }

    /// Tells whether nothing of the live checkout was replaced, renamed or removed.
    #[must_use]
    pub fn only_adds(&self) -> bool {
        self.replaced.is_empty() && self.moved.is_empty() && self.removed.is_empty()
    }

    /// Tells whether there is nothing to carry over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.only_adds()
    }

    /// Returns the first path that cannot be carried over while the site serves, with the reason.
    #[must_use]
    pub fn in_the_way(&self) -> Option<(&Path, &'static str)> {
        let replaced = self.replaced.first().map(|path| (path, "the live checkout has a file there"));
        let moved =
            self.moved.first().map(|(from, _)| (from, "it is a file of the live checkout that was renamed"));
        let removed =
            self.removed.first().map(|path| (path, "it is a file of the live checkout that was removed"));
        replaced.or(moved).or(removed).map(|(path, why)| (path.as_path(), why))
    }
}

/// Lists what git does not track; of a directory of which nothing is tracked, only that.
///
/// Unlike `git status` this looks at no tracked file, and runs no filter: it is asked in the window.
fn others(host: &Host, tree: &StagedTree) -> Result<Vec<PathBuf>, GitError> {
    let list = ["ls-files", "--others", "--directory", "--no-empty-directory", "-z"];
    let repository = Repository::open(&tree.path)?;
    let output = host.run(&repository.reading_git().args(list)).in_repository(&tree.path)?;
    Ok(split_at_nul(output.stdout_bytes()).map(|name| path_of(name).to_owned()).collect())
}

struct Search<'s> {
    tree: &'s StagedTree,
    excluded: &'s [PathBuf],
    found: Written,
}

impl Search<'_> {
    /// Looks at something that git does not track; a directory of which nothing is tracked is one thing.
    fn look_at(&mut self, path: &Path) -> Result<(), GitError> {
        // git names directories with a slash at the end.
        let path: PathBuf = path.components().collect();
        if is_cache(&path) || is_tool_cache(&path) || self.excluded.iter().any(|one| path.starts_with(one)) {
            return Ok(());
        }
        let (staged, live) = (self.tree.path.join(&path), self.tree.repository.join(&path));
        let kind = fs::symlink_metadata(&staged).at("look at", &staged)?.file_type();
        if kind.is_symlink() {
            self.link(path, &staged);
            return Ok(());
        }
        // A program that needs a socket or a pipe creates it. git names none either.
        if is_special(kind) {
            return Ok(());
        }
        let found = look(&live);
        if kind.is_dir() && (found == Found::Directory || !self.is_whole(&path)?) {
            for entry in fs::read_dir(&staged).at("read", &staged)? {
                self.look_at(&path.join(entry.at("read", &staged)?.file_name()))?;
            }
            return Ok(());
        }
        match found {
            Found::Nothing => self.found.new.push(path),
            _ if self.is_tracked_in_live(&path)? => self.found.new.push(path),
            _ => self.found.replaced.push(path),
        }
        Ok(())
    }

    fn link(&mut self, path: PathBuf, staged: &Path) {
        let target = fs::read_link(staged).unwrap_or_default();
        match self.tree.linked(&target) {
            Some(inside) if inside == path => self.found.links.push(path),
            Some(inside) if look(&self.tree.path.join(inside)) == Found::Nothing => {
                self.found.moved.push((inside.to_owned(), path));
            }
            _ => self.found.new.push(path),
        }
    }

    /// Tells whether a directory that the live checkout lacks can be carried over as one thing: nothing in it is a link to the
    /// live checkout, a cache or handled elsewhere. One without files is left alone.
    fn is_whole(&self, path: &Path) -> Result<bool, GitError> {
        let (mut waiting, mut files) = (vec![path.to_owned()], 0);
        while let Some(directory) = waiting.pop() {
            if self.excluded.iter().any(|one| one.starts_with(&directory)) {
                return Ok(false);
            }
            let staged = self.tree.path.join(&directory);
            for entry in fs::read_dir(&staged).at("read", &staged)? {
                let entry = entry.at("read", &staged)?;
                let inner = directory.join(entry.file_name());
                let kind = entry.file_type().at("look at", &staged)?;
                let leads_to_live = || {
                    let target = fs::read_link(entry.path()).unwrap_or_default();
                    self.tree.linked(&target).is_some() || target.starts_with(&self.tree.path)
                };
                if is_special(kind) || is_cache(&inner) || kind.is_symlink() && leads_to_live() {
                    return Ok(false);
                }
                if kind.is_dir() {
                    waiting.push(inner);
                } else {
                    files += 1;
                }
            }
        }
        Ok(files > 0)
    }

    /// A file that the live version tracks and the new one does not goes with the live version.
    fn is_tracked_in_live(&self, path: &Path) -> Result<bool, GitError> {
        let live = Repository::open(&self.tree.repository)?;
        let head = live.head("")?.commit;
        Ok(super::Tree::open(&self.tree.repository, &head)?.holds(path))
    }

    /// Tells whether a tracked file was changed by something other than the preparation, which copies local changes.
    fn is_changed(&self, change: &LocalChange) -> bool {
        let (staged, live) = (self.tree.path.join(&change.path), self.tree.repository.join(&change.path));
        let is_link = |above: &Path| matches!(look(&self.tree.path.join(above)), Found::Link(_));
        let is_below_link = crate::names::above(&change.path).into_iter().any(is_link);
        let is_same = || match (fs::read(&staged), fs::read(&live)) {
            (Ok(staged), Ok(live)) => staged == live,
            (Err(_), Err(_)) => look(&staged) == look(&live),
            _ => false,
        };
        let is_ours = self.excluded.iter().any(|one| change.path.starts_with(one));
        change.kind != LocalChangeKind::Submodule && !is_ours && !is_below_link && !is_same()
    }
}

fn is_special(kind: FileType) -> bool {
    kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
}

fn is_tool_cache(path: &Path) -> bool {
    path.components().any(|part| CACHES.iter().any(|cache| part.as_os_str().as_bytes() == cache.as_bytes()))
}
