//! Local commits on top of a new base, tried in memory.

use std::collections::HashSet;
use std::path::PathBuf;

use git2::Oid;
use serde::{Deserialize, Serialize};

use super::error::{GitError, InRepository, Reading};
use super::repository::{Commit, Repository};
use crate::host::Host;

/// What became of putting the local commits on top of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebase {
    /// It is possible.
    Possible {
        /// The commit that has everything.
        tip: String,
        /// The local commits that it has on top, newest first.
        applied: Vec<Commit>,
        /// Those that the target has already, under other ids.
        dropped: Vec<Commit>,
    },
    /// There are merges among the local commits, which it would flatten.
    Merges {
        /// The merges.
        commits: Vec<Commit>,
    },
    /// A local commit does not fit.
    Conflict {
        /// The commit.
        commit: Commit,
        /// The files in which it conflicts.
        #[serde(with = "crate::names::many")]
        paths: Vec<PathBuf>,
    },
}

/// Puts the commits that `head` has and `target` has not on top of `target`: new objects are written, no reference and
/// no file is touched. The same commits give the same tip every time.
pub(crate) fn rebase(
    host: &Host,
    repository: &Repository,
    head: Oid,
    target: Oid,
) -> Result<Rebase, GitError> {
    let local = repository.ids(&[head], &[target])?;
    let merges = local
        .iter()
        .filter(|id| repository.git2.find_commit(**id).is_ok_and(|commit| commit.parent_count() > 1));
    let merges = merges.map(|id| repository.commit(*id)).collect::<Result<Vec<_>, _>>()?;
    if !merges.is_empty() {
        return Ok(Rebase::Merges { commits: merges });
    }
    let upstream_has = already_upstream(host, repository, head, target)?;
    let (mut tip, mut applied, mut dropped) = (target, Vec::new(), Vec::new());
    for id in local.into_iter().rev() {
        let commit = repository.commit(id)?;
        if upstream_has.contains(&commit.id) {
            dropped.push(commit);
            continue;
        }
        match pick(repository, id, tip)? {
            Picked::Commit(next) if next == tip => dropped.push(commit),
            Picked::Commit(next) => {
                tip = next;
                applied.push(commit);
            }
            Picked::Conflict(paths) => return Ok(Rebase::Conflict { commit, paths }),
        }
    }
    applied.reverse();
    dropped.reverse();
    Ok(Rebase::Possible { tip: tip.to_string(), applied, dropped })
}

enum Picked {
    Commit(Oid),
    Conflict(Vec<PathBuf>),
}

fn pick(repository: &Repository, id: Oid, onto: Oid) -> Result<Picked, GitError> {
    let picked = || {
        let git2 = &repository.git2;
        let (commit, base) = (git2.find_commit(id)?, git2.find_commit(onto)?);
        let mut index = git2.cherrypick_commit(&commit, &base, 0, None)?;
        if index.has_conflicts() {
            return Ok(Picked::Conflict(conflicts(&index)?));
        }
        let tree = index.write_tree_to(git2)?;
        if tree == base.tree_id() {
            return Ok(Picked::Commit(onto));
        }
        let tree = git2.find_tree(tree)?;
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        // The committer stays with its time, so that the plan and what is done later speak of the same commit.
        let new = git2.commit(None, &commit.author(), &commit.committer(), &message, &tree, &[&base])?;
        Ok(Picked::Commit(new))
    };
    picked().reading(format!("whether `{id}` fits onto `{onto}`"))
}

fn conflicts(index: &git2::Index) -> Result<Vec<PathBuf>, git2::Error> {
    use std::os::unix::ffi::OsStringExt;
    let mut paths = Vec::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        if let Some(entry) = conflict.our.or(conflict.their).or(conflict.ancestor) {
            paths.push(PathBuf::from(std::ffi::OsString::from_vec(entry.path)));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Returns the local commits whose change the target has already, under another id.
///
/// Source: git-cherry(1): `-` marks those that have an equivalent upstream.
fn already_upstream(
    host: &Host,
    repository: &Repository,
    head: Oid,
    target: Oid,
) -> Result<HashSet<String>, GitError> {
    let command = repository.reading_git().args(["cherry".to_owned(), target.to_string(), head.to_string()]);
    let output = host.run(&command).in_repository(&repository.top)?;
    Ok(output.stdout.lines().filter_map(|line| line.strip_prefix("- ").map(str::to_owned)).collect())
}
