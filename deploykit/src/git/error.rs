//! What can go wrong between a site and its repository.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Collision, Commit, Head, LocalChange, Unwritable};
use crate::host::CommandError;
use crate::host::files::FileError;

/// How many things of one kind a message names; the error itself has them all.
const SHOWN: usize = 10;

/// Why a checkout cannot be read, or may not be moved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitError {
    /// The directory is not the top of a Git checkout.
    #[error("`{}` is not the top of a Git checkout{}", path.display(), top_hint(top.as_deref()))]
    NotARepository {
        /// The directory.
        path: PathBuf,
        /// The checkout that the directory lies in, if it lies in one.
        top: Option<PathBuf>,
    },
    /// The repository has no work tree.
    #[error("`{}` is a bare repository: it has no checked-out files", path.display())]
    Bare {
        /// The repository.
        path: PathBuf,
    },
    /// The repository belongs to another user, and git's `safe.directory` does not name it.
    #[error("`{}` belongs to another user, and git's `safe.directory` does not name it", path.display())]
    DubiousOwnership {
        /// The repository.
        path: PathBuf,
    },
    /// The repository is in a form that cannot be read: reftable, SHA-256, or damaged.
    #[error("the repository in `{}` cannot be read", path.display())]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// What libgit2 says.
        #[source]
        source: git2::Error,
    },
    /// What the new version's code wrote into the staged tree cannot be carried over to the live checkout.
    #[error("the new version's code wrote `{}` beside the live checkout, and it cannot be carried over: {why}", path.display())]
    NotCarried {
        /// The path, from the top of the checkout.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// HEAD names a branch without a commit.
    #[error("nothing is checked out in `{}`: HEAD has no commit yet", path.display())]
    NoCommit {
        /// The repository.
        path: PathBuf,
    },
    /// There is no such remote.
    #[error("the repository has no remote `{remote}`{}", names("it has", known))]
    RemoteNotFound {
        /// The name.
        remote: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// The remote did not finish its answer in time.
    #[error("the remote `{remote}` ({url}) did not answer within {} s", deadline.as_secs_f64())]
    RemoteSilent {
        /// The remote.
        remote: String,
        /// Its address, without a password.
        url: String,
        /// How long it had.
        deadline: Duration,
    },
    /// The transport failed.
    #[error("cannot fetch from the remote `{remote}` ({url}){}", last_line(source))]
    Fetch {
        /// The remote.
        remote: String,
        /// Its address, without a password.
        url: String,
        /// What git says.
        #[source]
        source: Box<CommandError>,
    },
    /// The remote has no such branch.
    #[error("the remote `{remote}` has no branch `{branch}`{}", names("it has", known))]
    BranchNotFound {
        /// The remote.
        remote: String,
        /// The branch.
        branch: String,
        /// Branches that it has.
        known: Vec<String>,
    },
    /// There is no such branch, tag or commit on the remote.
    #[error(
        "there is no branch, tag or commit `{revision}` on the remote `{remote}`{}",
        names("near it", near)
    )]
    RevisionNotFound {
        /// What was asked for.
        revision: String,
        /// The remote.
        remote: String,
        /// Branches and tags with a similar name.
        near: Vec<String>,
    },
    /// Several commits start with these digits.
    #[error("`{revision}` is the start of several commits' ids")]
    RevisionAmbiguous {
        /// What was asked for.
        revision: String,
    },
    /// The revision is part of what is checked out already: an update goes forward only.
    #[error("`{revision}` ({}) is older than what is checked out ({})", short(commit), short(head))]
    OlderRevision {
        /// What was asked for.
        revision: String,
        /// Its commit.
        commit: String,
        /// The commit that is checked out.
        head: String,
    },
    /// The revision lacks commits that are checked out and that the remote's branch has.
    #[error(
        "`{revision}` lacks {} of `{upstream}` that {} checked out: {}",
        count(commits, "commit"),
        are(commits),
        list(commits)
    )]
    Diverged {
        /// What was asked for.
        revision: String,
        /// The remote's branch: `origin/main`.
        upstream: String,
        /// What it lacks, newest first.
        commits: Vec<Commit>,
    },
    /// Commits that were once on the remote's branch, and are checked out, are no longer in it.
    #[error(
        "the history of `{upstream}` was rewritten: {} that {} checked out here {} no longer in it: {}",
        count(commits, "commit"),
        are(commits),
        are(commits),
        list(commits)
    )]
    HistoryRewritten {
        /// The remote's branch: `origin/main`.
        upstream: String,
        /// Those that it lost, newest first.
        commits: Vec<Commit>,
    },
    /// There are commits that the target lacks.
    #[error("{} {} not in `{upstream}`: {}", count(commits, "local commit"), are(commits), list(commits))]
    LocalCommits {
        /// The target's name: `origin/main`.
        upstream: String,
        /// Commits of HEAD, or of the branch that the update would move; newest first.
        commits: Vec<Commit>,
    },
    /// There are merges among the local commits, which a rebase would flatten.
    #[error("the local commits cannot be rebased onto `{upstream}`: {} among them {}: {}", commits.len(), if commits.len() == 1 { "is a merge" } else { "are merges" }, list(commits))]
    RebaseMerge {
        /// The target's name.
        upstream: String,
        /// The merges.
        commits: Vec<Commit>,
    },
    /// A local commit conflicts with the target.
    #[error("the local commit {commit} conflicts with `{upstream}` in {}", list(paths.iter().map(|path| Quoted(path))))]
    RebaseConflict {
        /// The target's name.
        upstream: String,
        /// The local commit.
        commit: Commit,
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// A merge, rebase or the like waits to be finished.
    #[error("a {operation} is in progress in `{}`", path.display())]
    OperationInProgress {
        /// The repository.
        path: PathBuf,
        /// `merge`, `rebase`, `cherry-pick`, `revert`, `bisect` or `am`.
        operation: String,
    },
    /// Another git works in the repository, or one died there.
    #[error("`{}` is there, {}: another git process is running, or one was ended before it could finish", path.display(), old(*age))]
    IndexLocked {
        /// The lock file.
        path: PathBuf,
        /// Since when.
        age: Option<Duration>,
    },
    /// Tracked files were changed.
    #[error("{} changed locally in `{}`: {}", count_are(changes, "file"), path.display(), list(changes))]
    LocalChanges {
        /// The repository.
        path: PathBuf,
        /// The files.
        changes: Vec<LocalChange>,
    },
    /// The update brings files where others are.
    #[error("the update would overwrite {}: {}", count(collisions, "file"), list(collisions))]
    Collision {
        /// All of them.
        collisions: Vec<Collision>,
    },
    /// The update changes files that this process can neither write nor remove.
    #[error("cannot replace {} of the checkout: {}", count(unwritable, "path"), list(unwritable))]
    Unwritable {
        /// All of them.
        unwritable: Vec<Unwritable>,
    },
    /// The target has files in a state directory of deploykit's.
    #[error("{commit} brings {}: what is below `.deploykit` is deploykit's own", list(paths.iter().map(|path| format!("`{}`", path.display()))))]
    BringsState {
        /// The commit.
        commit: Commit,
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// The target has no good signature of a trusted key.
    #[error("{commit} has no good signature of a trusted key")]
    Unsigned {
        /// The commit.
        commit: Commit,
        /// What git and the checker say.
        tail: Vec<String>,
    },
    /// HEAD is neither where the plan saw it nor where it is to be.
    #[error("HEAD of `{}` was moved meanwhile: it is at {found}, and was at {expected}", path.display())]
    HeadMoved {
        /// The repository.
        path: PathBuf,
        /// What is there.
        found: Box<Head>,
        /// What was there.
        expected: Box<Head>,
    },
    /// Something in the repository cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// What: "the commit `abc1234`".
        what: String,
        /// What libgit2 says.
        #[source]
        source: git2::Error,
    },
    /// An answer of git that was not understood.
    #[error("git answered with a line that is not understood: `{line}`")]
    Unexpected {
        /// The line.
        line: String,
    },
    /// git failed.
    #[error("git failed in `{}`{}", path.display(), last_line(source))]
    Command {
        /// The repository.
        path: PathBuf,
        /// What git says.
        #[source]
        source: Box<CommandError>,
    },
    /// A file could not be changed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Says what was being read when libgit2 failed.
pub(crate) trait Reading<T> {
    fn reading(self, what: impl Display) -> Result<T, GitError>;
}

impl<T> Reading<T> for Result<T, git2::Error> {
    fn reading(self, what: impl Display) -> Result<T, GitError> {
        self.map_err(|source| GitError::Read { what: what.to_string(), source })
    }
}

/// Says where git failed.
pub(crate) trait InRepository<T> {
    fn in_repository(self, path: &Path) -> Result<T, GitError>;
}

impl<T> InRepository<T> for Result<T, CommandError> {
    fn in_repository(self, path: &Path) -> Result<T, GitError> {
        self.map_err(|source| GitError::Command { path: path.to_owned(), source: Box::new(source) })
    }
}

/// Returns the first digits of a commit's id.
#[must_use]
pub fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

pub(crate) fn list<T: Display>(things: impl IntoIterator<Item = T>) -> String {
    let mut things = things.into_iter();
    let shown: Vec<String> = things.by_ref().take(SHOWN).map(|thing| thing.to_string()).collect();
    match things.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A path as messages show it.
pub(crate) struct Quoted<'p>(pub(crate) &'p Path);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", crate::names::shown_path(self.0))
    }
}

/// "1 commit", "2 commits".
pub(crate) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn count<T>(things: &[T], thing: &str) -> String {
    counted(things.len(), thing)
}

fn are<T>(things: &[T]) -> &'static str {
    if things.len() == 1 { "is" } else { "are" }
}

fn count_are<T>(things: &[T], thing: &str) -> String {
    format!("{} {}", count(things, thing), are(things))
}

fn names(words: &str, known: &[String]) -> String {
    if known.is_empty() {
        return String::new();
    }
    format!("; {words} {}", list(known.iter().map(|name| format!("`{name}`"))))
}

fn top_hint(top: Option<&Path>) -> String {
    top.map(|top| format!("; the top is `{}`", top.display())).unwrap_or_default()
}

fn old(age: Option<Duration>) -> String {
    match age.map(|age| age.as_secs()) {
        None => "of unknown age".to_owned(),
        Some(seconds) if seconds < 120 => format!("{seconds} s old"),
        Some(seconds) if seconds < 7200 => format!("{} minutes old", seconds / 60),
        Some(seconds) => format!("{} hours old", seconds / 3600),
    }
}

/// The line in which git says why: the last of its own that is one.
fn last_line(source: &CommandError) -> String {
    let marked = |line: &&String| line.starts_with("fatal: ") || line.starts_with("error: ");
    let said = source.tail().iter().find(marked).or_else(|| source.tail().last());
    said.map(|line| {
        let line = line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line);
        format!(": {}", line.trim_end_matches(['.', ':']))
    })
    .unwrap_or_default()
}
