//! What git2 reads of a repository: HEAD, references, histories.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode, Oid, Sort};
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::error::{GitError, Reading, short};
use super::{Head, executable};
use crate::command::Command;

/// A commit as people see it in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{} {}`", short(&self.id), self.subject)
    }
}

/// Returns what is checked out, without regard to any branch that an update would move.
///
/// # Errors
///
/// When the repository cannot be opened, or has no commit yet.
pub fn head(repository: &Path) -> Result<Head, GitError> {
    Repository::open(repository)?.head("")
}

/// Returns the ids of what the commit of a checkout has at these paths; `None` where it has nothing.
pub(crate) fn contents_at<'p>(
    checkout: &Path,
    paths: impl IntoIterator<Item = &'p Path>,
) -> Result<Vec<Option<String>>, GitError> {
    let repository = Repository::open(checkout)?;
    let commit = repository.head("")?.commit;
    let tree = repository.tree(oid(&commit)?)?;
    let ids = paths.into_iter().map(|path| match path.as_os_str().is_empty() {
        true => Some(tree.id().to_string()),
        false => tree.get_path(path).ok().map(|entry| entry.id().to_string()),
    });
    Ok(ids.collect())
}

/// Returns the full id of the commit that a revision names here, without asking the remote; a bare branch name also means
/// the remote's branch.
///
/// # Errors
///
/// When there is no such commit.
pub fn commit_of(repository: &Path, remote: &str, revision: &str) -> Result<String, GitError> {
    let repository = Repository::open(repository)?;
    let names = [revision.to_owned(), format!("{remote}/{revision}")];
    let found =
        names.iter().find_map(|name| repository.git2.revparse_single(name).ok()?.peel_to_commit().ok());
    found.map(|commit| commit.id().to_string()).ok_or_else(|| GitError::RevisionNotFound {
        revision: revision.to_owned(),
        near: Vec::new(),
        remote: remote.to_owned(),
    })
}

/// Returns the size of the tracked files of a checkout, in bytes, as git last saw them.
pub(crate) fn size_of_tracked(checkout: &Path) -> Result<u64, GitError> {
    let repository = Repository::open(checkout)?;
    let index = repository.git2.index().reading("the index".to_owned())?;
    Ok(index.iter().map(|entry| u64::from(entry.file_size)).sum())
}

/// A repository with a work tree, opened for reading.
pub(crate) struct Repository {
    pub(crate) git2: git2::Repository,
    /// The top of the work tree.
    pub(crate) top: PathBuf,
}

impl Repository {
    /// Opens the checkout whose top is `path`; a checkout above it is not looked for.
    pub(crate) fn open(path: &Path) -> Result<Self, GitError> {
        let git2 = git2::Repository::open(path).map_err(|source| match (source.code(), source.class()) {
            (ErrorCode::NotFound, ErrorClass::Repository | ErrorClass::Os | ErrorClass::Filesystem) => {
                let top = git2::Repository::discover(path).ok();
                let top = top.and_then(|found| found.workdir().map(without_slash));
                GitError::NotARepository { path: path.to_owned(), top }
            }
            (ErrorCode::Owner, _) => GitError::DubiousOwnership { path: path.to_owned() },
            _ => GitError::Unsupported { path: path.to_owned(), source },
        })?;
        let Some(top) = git2.workdir().map(without_slash) else {
            return Err(GitError::Bare { path: path.to_owned() });
        };
        Ok(Repository { git2, top })
    }

    /// Returns `git` for this checkout.
    pub(crate) fn git(&self) -> Command {
        self.credentials().tell(executable::git(&self.top))
    }

    /// Returns `git` for this checkout, for what no hook may refuse or hold up.
    pub(crate) fn git_without_hooks(&self) -> Command {
        self.git().args(["-c", "core.hooksPath=/dev/null"])
    }

    /// Returns `git` for this checkout, for an answer that is parsed.
    pub(crate) fn reading_git(&self) -> Command {
        self.credentials().tell(executable::reading_git(&self.top))
    }

    /// Returns the passwords that its remotes and submodules are configured with.
    pub(super) fn credentials(&self) -> Credentials {
        self.git2.config().map(|config| Credentials::of(&config)).unwrap_or_default()
    }

    /// Returns a boolean of git's configuration.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.git2.config().and_then(|config| config.get_bool(name)).unwrap_or(default)
    }

    /// Tells whether some files of the commit are left out of the checkout.
    pub(crate) fn is_sparse(&self) -> bool {
        self.flag("core.sparseCheckout", false)
    }

    /// Reads HEAD, and where `branch` is.
    pub(crate) fn head(&self, branch: &str) -> Result<Head, GitError> {
        let head = self.git2.find_reference("HEAD").reading("HEAD")?;
        let attached = head.symbolic_target_bytes().map(String::from_utf8_lossy);
        let commit = match self.git2.head().and_then(|head| head.peel_to_commit()) {
            Ok(commit) => commit.id().to_string(),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                return Err(GitError::NoCommit { path: self.top.clone() });
            }
            Err(error) => return Err(error).reading("the commit of HEAD"),
        };
        Ok(Head {
            branch: attached.map(|name| name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned()),
            commit,
            branch_commit: self.reference(&format!("refs/heads/{branch}"))?.map(|id| id.to_string()),
        })
    }

    /// Returns the commit that a reference leads to.
    pub(crate) fn reference(&self, name: &str) -> Result<Option<Oid>, GitError> {
        match self.git2.find_reference(name).and_then(|found| found.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id())),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
            Err(error) => Err(error).reading(format!("the reference `{name}`")),
        }
    }

    /// Returns the names below a directory of references, sorted.
    pub(crate) fn names_below(&self, directory: &str) -> Result<Vec<String>, GitError> {
        let references = self.git2.references_glob(&format!("{directory}/*")).reading("the references")?;
        let mut names: Vec<String> = references
            .flatten()
            .filter_map(|found| {
                found.name().ok()?.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned)
            })
            .filter(|name| name != "HEAD")
            .collect();
        names.sort();
        Ok(names)
    }

    /// Returns commits that are reachable from `tips` and not from `hidden`, newest first, at most `limit` of them in
    /// full, with their number.
    pub(crate) fn commits(
        &self,
        tips: &[Oid],
        hidden: &[Oid],
        limit: usize,
    ) -> Result<(Vec<Commit>, usize), GitError> {
        let ids = self.ids(tips, hidden)?;
        let commits = ids.iter().take(limit).map(|id| self.commit(*id)).collect::<Result<_, _>>()?;
        Ok((commits, ids.len()))
    }

    /// The same, ids only.
    pub(crate) fn ids(&self, tips: &[Oid], hidden: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let walk = || {
            let mut walk = self.git2.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL)?;
            tips.iter().try_for_each(|tip| walk.push(*tip))?;
            hidden.iter().try_for_each(|tip| walk.hide(*tip))?;
            walk.collect::<Result<Vec<_>, _>>()
        };
        walk().reading("the history")
    }

    /// Reads one commit.
    pub(crate) fn commit(&self, id: Oid) -> Result<Commit, GitError> {
        let commit = self.git2.find_commit(id).reading(format!("the commit `{id}`"))?;
        let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
        Ok(Commit { id: id.to_string(), subject })
    }

    /// Tells whether `ancestor` is `commit` or in its history.
    pub(crate) fn contains(&self, commit: Oid, ancestor: Oid) -> Result<bool, GitError> {
        let found =
            commit == ancestor || { self.git2.graph_descendant_of(commit, ancestor).reading("the history")? };
        Ok(found)
    }

    /// Returns the commits that a reference once led to, as far as its log and the object store remember.
    pub(crate) fn once_at(&self, reference: &str) -> Vec<Oid> {
        let Ok(log) = self.git2.reflog(reference) else { return Vec::new() };
        let ids: HashSet<Oid> = log.iter().flat_map(|entry| [entry.id_old(), entry.id_new()]).collect();
        ids.into_iter().filter(|id| !id.is_zero() && self.git2.find_commit(*id).is_ok()).collect()
    }

    /// Returns the tree of a commit.
    pub(crate) fn tree(&self, commit: Oid) -> Result<git2::Tree<'_>, GitError> {
        let tree = self.git2.find_commit(commit).and_then(|commit| commit.tree());
        tree.reading(format!("the tree of `{commit}`"))
    }
}

/// Reads a full id.
pub(crate) fn oid(id: &str) -> Result<Oid, GitError> {
    Oid::from_str(id).reading(format!("the commit id `{id}`"))
}

/// libgit2 ends the work tree's path with a slash.
fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns git's own directory of a checkout, which no commit writes into; `None`: there is no checkout.
pub(crate) fn own_directory(repository: &Path) -> Option<PathBuf> {
    Repository::open(repository).ok().map(|repository| repository.git2.path().components().collect())
}

/// Tells whether the commit that is checked out has something at this path or below it.
pub(crate) fn head_holds(repository: &Path, path: &Path) -> bool {
    let Ok(repository) = Repository::open(repository) else { return false };
    let Some(inside) = inside(&repository.top, path) else { return false };
    let head = repository.git2.head().and_then(|head| head.peel_to_tree());
    head.is_ok_and(|tree| tree.get_path(&inside).is_ok())
}

/// Returns where a path is in a checkout, which may have been reached by a symbolic link.
fn inside(top: &Path, path: &Path) -> Option<PathBuf> {
    let real = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let found = |path: &Path| path.strip_prefix(top).ok().map(Path::to_owned);
    found(path).or_else(|| found(&real()?))
}
