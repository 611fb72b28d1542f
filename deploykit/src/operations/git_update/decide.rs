//! Whether a checkout may be moved, and where to: from facts alone.

use std::path::{Path, PathBuf};

use super::facts::{GitFacts, Signature};
use super::{GitUpdate, LocalChanges, LocalCommits, Move, Notice, Target};
use crate::git::{
    ChangeStatus, Checkout, GitError, Head, LocalChange, LocalChangeKind, Rebase, edits_in_the_way,
};

/// Tells whether everything is there, which needs no look at the files.
pub(super) fn is_up_to_date(update: &GitUpdate, facts: &GitFacts) -> bool {
    if facts.head.branch.as_ref() != Some(&update.branch) {
        return false;
    }
    // Local commits on top of the newest commit are what a rebase would make of them.
    let on_top = facts.target_is_older
        && update.revision.is_none()
        && update.local_commits == LocalCommits::Rebase
        && facts.lost.is_empty();
    facts.head.commit == facts.target.id || on_top
}

pub(super) fn decide(update: &GitUpdate, facts: &GitFacts) -> Result<Target, GitError> {
    if is_up_to_date(update, facts) {
        return Ok(Target::UpToDate { commit: facts.head.commit.clone(), upstream: facts.upstream.clone() });
    }
    check_move(update, facts)?;
    Ok(Target::Move(Box::new(planned(update, facts))))
}

/// Checks what forbids an update, also where everything is there.
pub(super) fn check_all(update: &GitUpdate, facts: &GitFacts) -> Result<(), GitError> {
    if !is_up_to_date(update, facts) {
        return check_move(update, facts);
    }
    check_state(facts)?;
    check_files(update, facts)
}

fn check_move(update: &GitUpdate, facts: &GitFacts) -> Result<(), GitError> {
    check_state(facts)?;
    check_history(update, facts)?;
    check_brought(facts)?;
    check_files(update, facts)?;
    match &facts.signature {
        Some(Signature::Bad { tail }) => {
            Err(GitError::Unsigned { commit: facts.target.clone(), tail: tail.clone() })
        }
        _ => Ok(()),
    }
}

pub(super) fn check_state(facts: &GitFacts) -> Result<(), GitError> {
    if let Some(operation) = &facts.operation {
        return Err(GitError::OperationInProgress {
            path: facts.repository.clone(),
            operation: operation.clone(),
        });
    }
    if let Some((path, age)) = &facts.index_lock {
        return Err(GitError::IndexLocked { path: path.clone(), age: *age });
    }
    Ok(())
}

fn check_history(update: &GitUpdate, facts: &GitFacts) -> Result<(), GitError> {
    let upstream = facts.upstream.clone();
    let branch = || format!("{}/{}", update.remote, update.branch);
    if let (Some(revision), true) = (&update.revision, facts.target_is_older) {
        return Err(GitError::OlderRevision {
            revision: revision.clone(),
            commit: facts.target.id.clone(),
            head: facts.head.commit.clone(),
        });
    }
    if !facts.lost.is_empty() {
        return Err(GitError::HistoryRewritten { upstream: branch(), commits: facts.lost.clone() });
    }
    if !facts.diverged.is_empty() {
        return Err(GitError::Diverged {
            revision: update.revision.clone().unwrap_or(upstream),
            upstream: branch(),
            commits: facts.diverged.clone(),
        });
    }
    match &facts.rebase {
        _ if facts.local_commits.is_empty() => Ok(()),
        Some(Rebase::Possible { .. }) => Ok(()),
        Some(Rebase::Merges { commits }) => Err(GitError::RebaseMerge { upstream, commits: commits.clone() }),
        Some(Rebase::Conflict { commit, paths }) => {
            Err(GitError::RebaseConflict { upstream, commit: commit.clone(), paths: paths.clone() })
        }
        None => Err(GitError::LocalCommits { upstream, commits: facts.local_commits.clone() }),
    }
}

/// Refuses a commit with files in a state directory, wherever that lies: they would be taken for deploykit's own.
fn check_brought(facts: &GitFacts) -> Result<(), GitError> {
    let is_state = |path: &&Path| {
        path.components().any(|part| part.as_os_str().as_encoded_bytes().eq_ignore_ascii_case(b".deploykit"))
    };
    let brought = facts.changes.iter().filter(|change| change.status != ChangeStatus::Deleted);
    let paths: Vec<PathBuf> =
        brought.map(|change| change.path.as_path()).filter(is_state).map(Path::to_owned).collect();
    if paths.is_empty() {
        return Ok(());
    }
    Err(GitError::BringsState { commit: facts.target.clone(), paths })
}

pub(super) fn check_files(update: &GitUpdate, facts: &GitFacts) -> Result<(), GitError> {
    let edits = &facts.local_changes;
    let ignored = |edit: &&LocalChange| {
        let path = facts.repository.join(&edit.path);
        update.ignore.iter().any(|ignored| path.starts_with(facts.repository.join(ignored)))
    };
    let forbidden = |edit: &&LocalChange| match update.local_changes {
        LocalChanges::Refuse => !ignored(edit),
        LocalChanges::Keep => edit.kind == LocalChangeKind::Unmerged,
    };
    let changes: Vec<LocalChange> = edits.iter().filter(forbidden).cloned().collect();
    if !changes.is_empty() {
        return Err(GitError::LocalChanges { path: facts.repository.clone(), changes });
    }
    let mut collisions = edits_in_the_way(edits, &facts.changes);
    collisions.extend(facts.obstacles.iter().cloned());
    collisions.sort();
    collisions.dedup();
    if !collisions.is_empty() {
        return Err(GitError::Collision { collisions });
    }
    let unwritable = facts.unwritable.clone();
    if unwritable.is_empty() { Ok(()) } else { Err(GitError::Unwritable { unwritable }) }
}

pub(super) fn planned(update: &GitUpdate, facts: &GitFacts) -> Move {
    let goal = facts.goal().to_owned();
    let mut notices = Vec::new();
    if facts.head.branch.as_ref() != Some(&update.branch) {
        notices.push(Notice::Attached { from: facts.head.branch.clone(), to: update.branch.clone() });
    }
    let mut rebased = Vec::new();
    if let Some(Rebase::Possible { applied, dropped, .. }) = &facts.rebase {
        rebased.clone_from(applied);
        if !applied.is_empty() {
            notices.push(Notice::Rebased { count: applied.len(), upstream: facts.upstream.clone() });
        }
        if !dropped.is_empty() {
            notices.push(Notice::Dropped { commits: dropped.clone(), upstream: facts.upstream.clone() });
        }
    }
    notices.extend(facts.filters.iter().cloned().map(Notice::Filter));
    Move {
        checkout: Checkout {
            repository: facts.repository.clone(),
            branch: update.branch.clone(),
            from: facts.head.clone(),
            to: Head { branch: Some(update.branch.clone()), commit: goal.clone(), branch_commit: Some(goal) },
            restore: false,
        },
        upstream: facts.upstream.clone(),
        commits: facts.incoming.clone(),
        commit_count: facts.incoming_count,
        rebased,
        changes: facts.changes.clone(),
        local_edits: facts.local_changes.iter().map(|edit| edit.path.clone()).collect(),
        submodules: facts.submodules,
        notices,
        is_back: false,
    }
}
