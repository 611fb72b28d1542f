//! Brings the checkout to what the remote has.

mod back;
mod decide;
mod facts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Change, Check, Operation};
use crate::action::{Action, Context};
use crate::git::{Checkout, Fetch, GitError, MissingFilter, Tree, counted, short};
use crate::host::Host;

pub use crate::git::{Commit, Fetched, PathChange};
pub use facts::{GitFacts, Signature};

/// How many commits a change lists.
const LISTED: usize = 20;

/// Moves a checkout forward to a branch of its remote, or to a revision.
///
/// [`fetch`](GitUpdate::fetch) asks the remote; everything else works with what was fetched last, so that the same
/// commit is planned, shown and installed.
///
/// # Examples
///
/// ```no_run
/// use deploykit::operations::git_update::{GitUpdate, Target};
/// use deploykit::Host;
///
/// let host = Host::new();
/// let update = GitUpdate { branch: "main".to_owned(), ..GitUpdate::new("/srv/site") };
/// update.fetch(&host)?;
/// match update.target(&host)? {
///     Target::UpToDate { commit, .. } => println!("{commit} is the newest"),
///     Target::Move(there) => println!("{} commits are waiting", there.commit_count),
/// }
/// # Ok::<(), deploykit::errors::GitError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUpdate {
    /// The top of the checkout.
    pub repository: PathBuf,
    /// The name of the remote; default: `origin`.
    pub remote: String,
    /// The branch of the remote, and the local one that HEAD will be attached to; default: `master`.
    pub branch: String,
    /// A branch or tag of the remote, or a commit id, full or abbreviated; default: the newest commit of `branch`.
    pub revision: Option<String>,
    /// Whether tracked files may have been changed; default: they may not.
    pub local_changes: LocalChanges,
    /// Whether there may be commits that the remote lacks; default: there may not.
    pub local_commits: LocalCommits,
    /// Whether the target must carry a good signature; default: it need not.
    pub verify_signature: bool,
    /// How long the remote has to answer; default: 5 minutes.
    pub deadline: Duration,
    /// Paths, absolute or from the top of the checkout, whose changes do not count as local changes.
    pub ignore: Vec<PathBuf>,
}

/// What to do about changes of tracked files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalChanges {
    /// Any of them forbids the update.
    #[default]
    Refuse,
    /// They stay, and forbid the update only where it changes the same paths.
    Keep,
}

/// What to do about commits that the target lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalCommits {
    /// Any of them forbids the update.
    #[default]
    Refuse,
    /// They are put on top of the target.
    Rebase,
}

/// Where an update leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Everything is there.
    UpToDate {
        /// The commit that is checked out.
        commit: String,
        /// What it is called: `origin/main`, `tag v1.2`, a commit id.
        upstream: String,
    },
    /// The checkout is to be moved.
    Move(Box<Move>),
}

impl Target {
    /// Says what moving there changes.
    #[must_use]
    pub fn change(&self) -> Check {
        match self {
            Target::UpToDate { upstream, .. } => Check::unchanged(format!("no new commits on {upstream}")),
            Target::Move(there) => Check::Change(there.change()),
        }
    }

    /// Returns the move, if there is one.
    #[must_use]
    pub fn moved(&self) -> Option<&Move> {
        match self {
            Target::UpToDate { .. } => None,
            Target::Move(moved) => Some(moved),
        }
    }
}

/// A move of the checkout, pinned to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The move itself.
    pub checkout: Checkout,
    /// What the target is called: `origin/main`, `tag v1.2`, a commit id.
    pub upstream: String,
    /// The commits that come in, newest first; of a very large number only the newest.
    pub commits: Vec<Commit>,
    /// How many come in.
    pub commit_count: usize,
    /// The local commits that are put on top of the target, newest first.
    pub rebased: Vec<Commit>,
    /// The paths that change.
    pub changes: Vec<PathChange>,
    /// Tracked files that were changed locally and stay so.
    #[serde(with = "crate::names::many")]
    pub local_edits: Vec<PathBuf>,
    /// Whether there are submodules before or after.
    pub submodules: bool,
    /// What a person should know.
    pub notices: Vec<Notice>,
    /// Whether it undoes a move that was made: its commits go.
    pub is_back: bool,
}

/// What a person should know about a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// HEAD will be attached to the branch.
    Attached {
        /// The branch that HEAD is attached to now; `None`: it is detached.
        from: Option<String>,
        /// The branch that it will be attached to.
        to: String,
    },
    /// Local commits get new ids on top of the target.
    Rebased {
        /// How many.
        count: usize,
        /// The target's name.
        upstream: String,
    },
    /// Local commits are left out, since the target has the same changes.
    Dropped {
        /// The commits.
        commits: Vec<Commit>,
        /// The target's name.
        upstream: String,
    },
    /// The target asks for a filter that git cannot apply here.
    Filter(MissingFilter),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Attached { from: None, to } => write!(f, "HEAD is detached; it will be on `{to}`"),
            Notice::Attached { from: Some(from), to } => {
                write!(f, "HEAD is on `{from}`; it will be on `{to}`")
            }
            Notice::Rebased { count, upstream } => {
                write!(f, "{} will be put on top of {upstream}", counted(*count, "local commit"))
            }
            Notice::Dropped { commits, upstream } => {
                write!(f, "{upstream} has the changes of {} already", counted(commits.len(), "local commit"))
            }
            Notice::Filter(missing) => missing.fmt(f),
        }
    }
}

impl Move {
    /// Returns the commit that is checked out before.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.checkout.from.commit
    }

    /// Returns the commit that is checked out afterwards.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.checkout.to.commit
    }

    /// Opens the files of the commit that is checked out before.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn tree_before(&self) -> Result<Tree, GitError> {
        Tree::open(&self.checkout.repository, self.from())
    }

    /// Opens the files of the commit that is checked out afterwards.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn tree_after(&self) -> Result<Tree, GitError> {
        Tree::open(&self.checkout.repository, self.to())
    }

    /// Says why there is something to do: "3 new commits on origin/main".
    #[must_use]
    pub fn reason(&self) -> String {
        if self.is_back {
            return format!("{} to roll back", counted(self.commit_count, "commit"));
        }
        if self.commit_count > 0 {
            return format!("{} on {}", counted(self.commit_count, "new commit"), self.upstream);
        }
        format!("HEAD is not on `{}`", self.checkout.branch)
    }

    /// Returns this move as a change with its undo.
    #[must_use]
    pub fn change(&self) -> Change {
        let mut details: Vec<String> = self
            .commits
            .iter()
            .take(LISTED)
            .map(|commit| format!("{} {}", short(&commit.id), commit.subject))
            .collect();
        if self.commit_count > details.len() {
            details.push(format!("and {} more", self.commit_count - details.len()));
        }
        details.extend(self.notices.iter().map(ToString::to_string));
        Change {
            reason: self.reason(),
            before: short(self.from()).to_owned(),
            after: short(self.to()).to_owned(),
            details,
            commits: self.commits.clone(),
            actions: vec![Action::Checkout(self.checkout.clone())],
            undo: vec![Action::Checkout(self.checkout.reverse())],
            ..Change::default()
        }
    }
}

impl GitUpdate {
    /// Makes an update with the defaults.
    pub fn new(repository: impl Into<PathBuf>) -> Self {
        GitUpdate {
            repository: repository.into(),
            remote: "origin".to_owned(),
            branch: "master".to_owned(),
            revision: None,
            local_changes: LocalChanges::default(),
            local_commits: LocalCommits::default(),
            verify_signature: false,
            deadline: Duration::from_secs(5 * 60),
            ignore: Vec::new(),
        }
    }

    /// Fetches from the remote: objects and remote-tracking references change, and nothing else. With a revision, all
    /// branches and tags are fetched, the tags to `refs/deploykit/tags/REMOTE`.
    ///
    /// # Errors
    ///
    /// When there is no such remote or branch, when the remote does not answer in time, or with what git says.
    pub fn fetch(&self, host: &Host) -> Result<Fetched, GitError> {
        let fetch = self.to_fetch();
        fetch.nothing_new(host)?.map_or_else(|| fetch.perform(host), Ok)
    }

    pub(crate) fn to_fetch(&self) -> Fetch<'_> {
        Fetch {
            repository: self.repository.clone(),
            remote: &self.remote,
            branch: &self.branch,
            everything: self.revision.is_some(),
            deadline: self.deadline,
        }
    }

    /// Observes the checkout and what was fetched last. Where HEAD is at the target already, the files are not looked
    /// at.
    ///
    /// # Errors
    ///
    /// When the repository cannot be read, or has nothing by the name of the branch or the revision.
    pub fn inspect(&self, host: &Host) -> Result<GitFacts, GitError> {
        facts::observe(self, host)
    }

    /// Checks that neither the checkout nor what was fetched last stops an update. Unlike [`target`](GitUpdate::target), it
    /// looks at the files also where nothing is new, and needs no earlier fetch.
    pub(crate) fn check_checkout(&self, host: &Host) -> Result<GitFacts, GitError> {
        let facts = facts::observe_all(self, host)?;
        decide::check_all(self, &facts)?;
        Ok(facts)
    }

    /// Decides from facts alone.
    ///
    /// # Errors
    ///
    /// When the facts forbid the update.
    pub fn decide(&self, facts: &GitFacts) -> Result<Target, GitError> {
        decide::decide(self, facts)
    }

    /// Observes and decides.
    ///
    /// # Errors
    ///
    /// See [`inspect`](GitUpdate::inspect) and [`decide`](GitUpdate::decide).
    pub fn target(&self, host: &Host) -> Result<Target, GitError> {
        self.decide(&self.inspect(host)?)
    }
}

impl Operation for GitUpdate {
    type Prepared = Target;
    type Error = GitError;

    fn name(&self) -> &'static str {
        "git-update"
    }

    fn prepare(&self, context: &mut Context) -> Result<Target, GitError> {
        self.target(&context.host)
    }

    fn change(&self, target: &Target) -> Check {
        target.change()
    }
}
