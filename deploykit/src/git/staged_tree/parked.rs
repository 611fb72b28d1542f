//! A staged tree waits for the next preparation, which then writes only what differs.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{Parked, StagedTree};
use crate::git::error::{GitError, InRepository};
use crate::git::executable::git;
use crate::git::repository::Repository;
use crate::git::submodules;
use crate::host::Host;
use crate::host::files::{self, Found, InPath, look};

/// What is in a place where a tree waits: its files, and what git knows of it, so that the site's own git knows nothing.
const FILES: &str = "files";
const KNOWN: &str = "git";

impl StagedTree {
    /// Puts the tree away for the next [`prepare`](StagedTree::prepare), replacing what is at `place`; it is removed where that
    /// cannot be: on another file system, or with submodules, which git does not move. One that is not there is fine.
    ///
    /// # Errors
    ///
    /// When it can be neither moved nor removed.
    pub fn park(&self, host: &Host, place: &Path) -> Result<(), GitError> {
        if look(&self.path) == Found::Nothing {
            return Ok(());
        }
        let moved = self.move_to(place);
        if !matches!(moved, Ok(true)) {
            // It shows the site's secrets, and is not left where it is whatever is in the way.
            self.remove(host)?;
            forget(place)?;
        }
        moved.map(|_| ())
    }

    /// Moves the tree, and what git knows of it; `false` when that cannot be.
    fn move_to(&self, place: &Path) -> Result<bool, GitError> {
        let live = Repository::open(&self.repository)?;
        forget(place)?;
        if submodules::has_submodules(&live.top, &self.commit)? {
            return Ok(false);
        }
        let Some(known) = self.registration(&live) else { return Ok(false) };
        let is_made = fs::DirBuilder::new().mode(0o700).create(place).is_ok();
        Ok(is_made
            && fs::rename(&self.path, place.join(FILES)).is_ok()
            && fs::rename(known, place.join(KNOWN)).is_ok())
    }

    /// Brings a parked tree here and to the commit; `false` when there is none that can be used.
    pub(super) fn take_up(
        &self,
        host: &Host,
        live: &Repository,
        Parked { place, keep }: Parked<'_>,
    ) -> Result<bool, GitError> {
        files::own_directory(place, None)?;
        let known = self.unpark(live, place)?;
        forget(place)?;
        let Some(known) = known else {
            self.remove(host)?;
            return Ok(false);
        };
        match self.bring_to_commit(host, live, &known, keep) {
            Ok(()) => Ok(true),
            Err(error) if host.is_cancelled() => Err(error),
            Err(error) => {
                log::debug!(
                    "the tree of the last preparation cannot be used: {}",
                    crate::error_chain(&error)
                );
                self.remove(host)?;
                Ok(false)
            }
        }
    }

    /// Moves a parked tree here, and returns the directory that git knows it by; `None` when it cannot be used.
    fn unpark(&self, live: &Repository, place: &Path) -> Result<Option<PathBuf>, GitError> {
        let Some(known) = known_by(&place.join(FILES)) else { return Ok(None) };
        let all_known = live.git2.commondir().join("worktrees");
        let is_ours =
            known.parent().is_some_and(|parent| parent == all_known) && look(&known) == Found::Nothing;
        // Which files are there was decided when the tree was made.
        if !is_ours || live.is_sparse() || submodules::has_submodules(&live.top, &self.commit)? {
            return Ok(None);
        }
        fs::create_dir_all(&all_known).at("create the directory", &all_known)?;
        let moved = fs::rename(place.join(KNOWN), &known).is_ok()
            && fs::rename(place.join(FILES), &self.path).is_ok();
        Ok(if moved { self.registration(live) } else { None })
    }

    /// Removes what the last preparation linked and made, and writes the files of the commit that differ.
    fn bring_to_commit(
        &self,
        host: &Host,
        live: &Repository,
        known: &Path,
        keep: &[PathBuf],
    ) -> Result<(), GitError> {
        let lock = known.join("index.lock");
        if lock.exists() {
            fs::remove_file(&lock).at("remove", &lock)?;
        }
        // Both are named, so that a damaged tree cannot lead to the live one.
        let git = || {
            git(&self.path)
                .arg(format!("--git-dir={}", known.display()))
                .arg(format!("--work-tree={}", self.path.display()))
                .args(["-c", "core.hooksPath=/dev/null"])
        };
        let mut clean = git().args(["clean", "-ffdxq"]);
        for path in keep {
            // A link leads into the live checkout: the path was not kept before.
            if matches!(look(&self.path.join(path)), Found::Link(_)) {
                files::remove_file(&self.path.join(path))?;
            }
            clean = clean.arg(format!("--exclude=/{}", pattern(path)));
        }
        host.run(&clean).in_repository(&live.top)?;
        let checkout = git().args(["checkout", "--force", "--detach", "--quiet", &self.commit]);
        host.run(&checkout).in_repository(&live.top).map(|_| ())
    }

    /// Returns the directory in which git keeps what it knows of the tree, if each leads to the other.
    fn registration(&self, live: &Repository) -> Option<PathBuf> {
        let named = fs::canonicalize(known_by(&self.path)?).ok()?;
        let is_named = |known: &PathBuf| fs::canonicalize(known).is_ok_and(|known| known == named);
        self.registrations(live).into_iter().find(is_named)
    }
}

/// Returns what a tree says about where git keeps what it knows of it.
fn known_by(tree: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(tree.join(".git")).ok()?;
    Some(PathBuf::from(text.trim_end().strip_prefix("gitdir: ")?))
}

/// Writes a path as a pattern of `.gitignore`.
fn pattern(path: &Path) -> String {
    let escaped = |c: char| if "*?[\\ !#".contains(c) { format!("\\{c}") } else { c.to_string() };
    path.display().to_string().chars().map(escaped).collect()
}

fn forget(place: &Path) -> Result<(), GitError> {
    files::own_directory(place, None)?;
    Ok(files::remove_tree(place)?)
}
