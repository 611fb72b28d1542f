//! The target commit checked out beside the live checkout, seeing what that one sees.

mod links;
mod parked;
mod placeholders;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{GitError, InRepository, Reading};
use super::executable::git;
use super::local_change::{LocalChange, LocalChangeKind};
use super::local_state::whole_state;
use super::repository::{Repository, oid};
use super::submodules;
use crate::command::Command;
use crate::host::Host;
use crate::host::files::{self, Found, InPath, look};
use crate::names;

/// How many entries of a directory are looked at to find out whether it holds caches only.
const LOOKED_AT: usize = 1000;

/// A commit checked out beside the live checkout.
///
/// Untracked and ignored files of the live checkout (secrets, a SQLite file, uploads) are linked into it, so what is
/// written to them reaches the live ones; caches are not linked. Tracked files that were changed locally are copied. A
/// directory in which both versions track nothing but placeholders (`.gitkeep`) is linked whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedTree {
    /// The live checkout.
    pub repository: PathBuf,
    /// The directory of this tree.
    pub path: PathBuf,
    /// What is checked out in it.
    pub commit: String,
}

/// Where the tree of the last preparation waits, and what the site's own steps left in it for their next run.
#[derive(Clone, Copy, Debug)]
pub struct Parked<'p> {
    /// The directory.
    pub place: &'p Path,
    /// Paths from the top of the tree.
    pub keep: &'p [PathBuf],
}

impl StagedTree {
    /// Checks a commit out at `path`, replacing an earlier tree there. Where one is [parked](StagedTree::park), it is used,
    /// and only what differs is written.
    ///
    /// `exclude` names paths of the live checkout, absolute or from its top, that are not linked in.
    ///
    /// # Errors
    ///
    /// When git or the file system refuses; what is then at `path` is removed by the next preparation.
    pub fn prepare(
        host: &Host,
        repository: &Path,
        path: &Path,
        commit: &str,
        exclude: &[PathBuf],
        parked: Option<Parked<'_>>,
    ) -> Result<StagedTree, GitError> {
        let live = Repository::open(repository)?;
        let path = std::path::absolute(path).at("find", path)?;
        let next = StagedTree { repository: live.top.clone(), path, commit: commit.to_owned() };
        next.remove(host)?;
        if let Some(parent) = next.path.parent() {
            fs::create_dir_all(parent).at("create the directory", parent)?;
        }
        let taken_up = match parked {
            Some(parked) => next.take_up(host, &live, parked)?,
            None => false,
        };
        if !taken_up {
            next.check_out(host, &live)?;
        }
        next.see_what_the_live_tree_sees(host, &live, exclude)?;
        Ok(next)
    }

    /// Makes the tree from nothing.
    fn check_out(&self, host: &Host, live: &Repository) -> Result<(), GitError> {
        // Only the owner may read and write the tree, even if others may write beside it: it shows the site's secrets.
        fs::DirBuilder::new().mode(0o700).create(&self.path).at("create the directory", &self.path)?;
        // Hooks are meant for the live checkout.
        let add = live.git_without_hooks().arg(format!("--git-dir={}", live.git2.path().display()));
        let add = add.args(["worktree", "add", "--detach", "--force", "--quiet", "--"]).arg(&self.path);
        host.run(&add.arg(&self.commit)).in_repository(&live.top)?;
        submodules::populate(host, live, &self.commit, || self.git())
    }

    /// Removes the tree; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// When the file system refuses, or what is there is not ours.
    pub fn remove(&self, _host: &Host) -> Result<(), GitError> {
        files::own_directory(&self.path, None)?;
        // No git is run in it: in a damaged work tree it would find the live repository above.
        files::remove_tree(&self.path)?;
        let live = Repository::open(&self.repository)?;
        self.registrations(&live).iter().try_for_each(|known| Ok(files::remove_tree(known)?))
    }

    /// Tells whether git knows a tree of this checkout at this place, which only deploykit makes there.
    pub(crate) fn is_known(&self) -> bool {
        let live = Repository::open(&self.repository);
        self.path.join(".git").is_file() && live.is_ok_and(|live| !self.registrations(&live).is_empty())
    }

    /// Returns what git knows of a tree at this place: a directory, or more after accidents.
    fn registrations(&self, live: &Repository) -> Vec<PathBuf> {
        let link = self.path.join(".git");
        let known = fs::read_dir(live.git2.commondir().join("worktrees"));
        let known = known.into_iter().flatten().flatten().map(|entry| entry.path());
        let is_here = |known: &PathBuf| {
            let named = fs::read_to_string(known.join("gitdir")).unwrap_or_default();
            same_place(Path::new(named.trim_end()), &link)
        };
        known.filter(is_here).collect()
    }

    /// Returns `git` for this tree; it never looks for a repository above it.
    fn git(&self) -> Command {
        let above = self.path.parent().unwrap_or(&self.path);
        let git = git(&self.path).args(["-c", "core.hooksPath=/dev/null"]);
        git.env("GIT_CEILING_DIRECTORIES", above)
    }

    fn see_what_the_live_tree_sees(
        &self,
        host: &Host,
        live: &Repository,
        exclude: &[PathBuf],
    ) -> Result<(), GitError> {
        let state = whole_state(host, live)?;
        let excluded = |path: &PathBuf| match path.strip_prefix(&live.top) {
            Ok(inside) => inside.to_owned(),
            Err(_) => path.components().filter(|part| *part != Component::CurDir).collect(),
        };
        let mut exclude: Vec<PathBuf> = exclude.iter().map(excluded).collect();
        exclude.extend(self.path.strip_prefix(&live.top).ok().map(Path::to_owned));
        let mirror = Mirror { tree: self, live: &live.top, next: &self.path, exclude };
        let head = oid(&live.head("")?.commit)?;
        let kept = placeholders::find(&live.git2, oid(&self.commit)?, head);
        for kept in kept.reading("the directories that are kept for their names")? {
            let holds = |path: &Path| path.starts_with(&kept.path);
            let is_used = kept.in_target || state.untracked.iter().any(|path| holds(path));
            let edited = |change: &LocalChange| holds(&change.path) && !placeholders::is_keeper(&change.path);
            if is_used && !state.changes.iter().any(edited) {
                mirror.link_whole(&kept.path)?;
            }
        }
        for path in &state.untracked {
            mirror.link(path)?;
        }
        state.changes.iter().try_for_each(|change| mirror.copy(change))
    }
}

/// git writes the path as it was given; the file system may know it under another name.
fn same_place(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        let parent = path.parent().unwrap_or(path);
        // The tree itself is gone already: the directory that it was in is not.
        let above = parent.parent().and_then(|above| fs::canonicalize(above).ok());
        above.map(|above| above.join(parent.file_name().unwrap_or_default()))
    };
    one == other || (real(one).is_some() && real(one) == real(other))
}

struct Mirror<'m> {
    tree: &'m StagedTree,
    live: &'m Path,
    next: &'m Path,
    exclude: Vec<PathBuf>,
}

impl Mirror<'_> {
    /// Links one untracked file or directory, unless the staged tree has something there; two directories are gone through.
    fn link(&self, path: &Path) -> Result<(), GitError> {
        // git names directories with a slash at the end, which a link must not have.
        let path: &Path = &path.components().collect::<PathBuf>();
        let (live, next) = (self.live.join(path), self.next.join(path));
        if is_cache(path) || self.exclude.iter().any(|excluded| path.starts_with(excluded)) {
            return Ok(());
        }
        let directory = look(&live) == Found::Directory;
        if directory && holds_caches_only(&live) {
            return Ok(());
        }
        let has_excluded = directory && self.exclude.iter().any(|excluded| excluded.starts_with(path));
        match look(&next) {
            Found::Directory if directory => {}
            Found::Nothing if has_excluded && self.make_directories(path)? => {
                fs::create_dir(&next).at("create the directory", &next)?;
            }
            Found::Nothing if !has_excluded => {
                if self.make_directories(path)? {
                    self.tree.link(path)?;
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        for entry in fs::read_dir(&live).at("read", &live)? {
            self.link(&path.join(entry.at("read", &live)?.file_name()))?;
        }
        Ok(())
    }

    /// Links a directory in which nothing but placeholders is tracked: what is made, renamed or removed in it is then made,
    /// renamed or removed in the live one.
    fn link_whole(&self, path: &Path) -> Result<(), GitError> {
        let (live, next) = (self.live.join(path), self.next.join(path));
        let is_excluded =
            self.exclude.iter().any(|excluded| excluded.starts_with(path) || path.starts_with(excluded));
        if is_excluded || look(&live) != Found::Directory || !self.make_directories(path)? {
            return Ok(());
        }
        match look(&next) {
            Found::Directory => files::remove_tree(&next)?,
            Found::Nothing => {}
            _ => return Ok(()),
        }
        Ok(self.tree.link(path)?)
    }

    /// Makes the directories above a path in the staged tree; `false` when a file or a link is in the way, which belongs to
    /// the target or leads into the live checkout.
    fn make_directories(&self, path: &Path) -> Result<bool, GitError> {
        for directory in names::above(path) {
            let directory = self.next.join(directory);
            match look(&directory) {
                Found::Directory => {}
                Found::Nothing => fs::create_dir(&directory).at("create the directory", &directory)?,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Makes a tracked file what it is in the live checkout.
    fn copy(&self, change: &LocalChange) -> Result<(), GitError> {
        if change.kind == LocalChangeKind::Submodule {
            return Ok(());
        }
        let (live, next) = (self.live.join(&change.path), self.next.join(&change.path));
        let found = look(&live);
        if found == Found::Directory || !self.make_directories(&change.path)? {
            return Ok(());
        }
        files::remove_tree(&next)?;
        match found {
            Found::Nothing | Found::Directory => {}
            Found::Link(target) => symlink(target, &next).at("link", &next)?,
            Found::File => {
                let contents = fs::read(&live).at("read", &live)?;
                let mode = fs::metadata(&live).at("read", &live)?.permissions().mode() & 0o777;
                files::write_whole(&next, &contents, mode)?;
            }
        }
        Ok(())
    }
}

/// Tells whether a path is what Python or deploykit make for themselves.
pub(super) fn is_cache(path: &Path) -> bool {
    let is_compiled = path.extension().is_some_and(|extension| extension == "pyc" || extension == "pyo");
    is_compiled
        || path.components().any(|part| {
            let name = part.as_os_str();
            name == "__pycache__" || names::is_own(name)
        })
}

/// Tells whether a directory is what a removed package leaves behind: importable as an empty package if it were linked.
fn holds_caches_only(directory: &Path) -> bool {
    let (mut directories, mut seen, mut caches) = (vec![directory.to_owned()], 0, 0);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            seen += 1;
            let path = PathBuf::from(entry.file_name());
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_cache(&path) {
                caches += 1;
            } else if is_directory && seen < LOOKED_AT {
                directories.push(entry.path());
            } else {
                return false;
            }
        }
    }
    caches > 0
}
