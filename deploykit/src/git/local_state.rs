//! What was changed in a checkout, as git itself sees it: sparse checkouts, filters and settings included.

use std::collections::HashSet;
use std::path::PathBuf;

use git2::RepositoryState;

use super::error::{GitError, InRepository};
use super::executable::{path_of, split_at_nul};
use super::hidden::{empty_directories, hidden_changes, index};
use super::local_change::{LocalChange, LocalChangeKind};
use super::repository::Repository;
use crate::host::Host;

/// What `git status` lists.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) changes: Vec<LocalChange>,
    /// Untracked and ignored files, and directories (which end with `/` in git's answer) of which nothing is tracked; empty
    /// directories as well where everything was asked for.
    pub(crate) untracked: Vec<PathBuf>,
}

/// Asks for changes of tracked files, those that git was told not to see as well.
pub(crate) fn local_changes(host: &Host, repository: &Repository) -> Result<Vec<LocalChange>, GitError> {
    let mut status = status(host, repository, &["--untracked-files=no"])?;
    status.add(hidden_changes(host, repository, &index(host, repository)?)?);
    Ok(status.changes)
}

/// Asks for changes of tracked files, and for everything that is not tracked, directories collapsed.
pub(crate) fn whole_state(host: &Host, repository: &Repository) -> Result<Status, GitError> {
    let mut status = status(host, repository, &["--untracked-files=normal", "--ignored=traditional"])?;
    let index = index(host, repository)?;
    status.add(hidden_changes(host, repository, &index)?);
    status.untracked.extend(empty_directories(&repository.top, &index));
    Ok(status)
}

impl Status {
    /// Adds changes that git did not see; one that it saw, too, is named once.
    fn add(&mut self, hidden: Vec<LocalChange>) {
        let known: HashSet<PathBuf> = self.changes.iter().map(|change| change.path.clone()).collect();
        self.changes.extend(hidden.into_iter().filter(|change| !known.contains(&change.path)));
        self.changes.sort();
    }
}

fn status(host: &Host, repository: &Repository, options: &[&str]) -> Result<Status, GitError> {
    let command = repository
        .reading_git()
        .args(["status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=untracked"])
        .args(options);
    let output = host.run(&command).in_repository(&repository.top)?;
    parse(output.stdout_bytes())
}

/// Reads `git status --porcelain=v2 -z --no-renames`.
///
/// Source: git-status(1), "Porcelain Format Version 2".
fn parse(answer: &[u8]) -> Result<Status, GitError> {
    let mut status = Status::default();
    for line in split_at_nul(answer) {
        let unexpected = || GitError::Unexpected { line: String::from_utf8_lossy(line).into_owned() };
        let (kind, rest) = match line {
            [kind, b' ', rest @ ..] => (kind, rest),
            _ => return Err(unexpected()),
        };
        // How many fields stand before the path.
        let fields = match kind {
            b'1' => 7,
            b'u' => 9,
            b'?' | b'!' => {
                status.untracked.push(path_of(rest).to_owned());
                continue;
            }
            b'#' => continue,
            _ => return Err(unexpected()),
        };
        let parts: Vec<&[u8]> = rest.splitn(fields + 1, |byte| *byte == b' ').collect();
        let (Some(xy), Some(sub), Some(path)) = (parts.first(), parts.get(1), parts.get(fields)) else {
            return Err(unexpected());
        };
        let kind = match (kind, sub.starts_with(b"S"), *xy) {
            (b'u', ..) => LocalChangeKind::Unmerged,
            (_, true, _) => LocalChangeKind::Submodule,
            (_, _, [_, b'D']) => LocalChangeKind::Deleted,
            (_, _, [_, b'.']) => LocalChangeKind::Staged,
            _ => LocalChangeKind::Modified,
        };
        status.changes.push(LocalChange { path: path_of(path).to_owned(), kind });
    }
    status.changes.sort();
    Ok(status)
}

/// Returns what waits to be finished, as git calls it.
pub(crate) fn operation_in_progress(repository: &Repository) -> Option<&'static str> {
    match repository.git2.state() {
        RepositoryState::Clean => None,
        RepositoryState::Merge => Some("merge"),
        RepositoryState::Revert | RepositoryState::RevertSequence => Some("revert"),
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => Some("cherry-pick"),
        RepositoryState::Bisect => Some("bisect"),
        RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => {
            Some("rebase")
        }
        RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => Some("am"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let hash = "0123456789012345678901234567890123456789";
        let text = format!(
            "1 .M N... 100644 100644 100644 {hash} {hash} a b.py\0\
             1 .D N... 100644 100644 000000 {hash} {hash} gone.py\0\
             1 MM N... 100644 100644 100644 {hash} {hash} reverted.py\0\
             1 A. N... 000000 100644 100644 {hash} {hash} new.py\0\
             1 .M SC.. 160000 160000 160000 {hash} {hash} lib\0\
             u UU N... 100644 100644 100644 100644 {hash} {hash} {hash} both.py\0\
             ? media/\0! .env\0"
        );
        let status = parse(text.as_bytes()).unwrap();
        let shown: Vec<String> = status.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "`a b.py`",
                "`both.py` (in conflict)",
                "`gone.py` (deleted)",
                "`lib` (submodule)",
                "`new.py` (staged)",
                "`reverted.py`"
            ]
        );
        assert_eq!(status.untracked, [PathBuf::from("media/"), PathBuf::from(".env")]);
    }

    #[test]
    fn an_unknown_line_is_not_passed_over() {
        assert!(matches!(parse(b"x what\0"), Err(GitError::Unexpected { .. })));
        assert!(matches!(parse(b"1 .M N...\0"), Err(GitError::Unexpected { .. })));
    }
}
