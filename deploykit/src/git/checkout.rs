//! Moving the live checkout, and back.

use std::collections::HashSet;
use std::path::Path;

use super::changes::{PathChange, changes};
use super::error::{GitError, InRepository, short};
use super::head::{Checkout, Head};
use super::local_change::{LocalChange, LocalChangeKind};
use super::local_state::local_changes;
use super::repository::{Repository, oid};
use super::{fix, hooks, locks, submodules};
use crate::command::Command;
use crate::host::Host;

/// Makes a command of git, with or without the repository's hooks.
type Git = fn(&Repository) -> Command;

impl Checkout {
    /// Makes it so.
    ///
    /// # Errors
    ///
    /// [`GitError::HeadMoved`] when HEAD is neither where it was nor where it is to be, [`GitError::Collision`] when
    /// something is in the way that was not there when the update was planned, [`GitError::IndexLocked`] while another
    /// git is in use: nothing was touched. Otherwise what git says; the checkout may then be half changed, and
    /// [`reverse`](Checkout::reverse) undoes it.
    pub fn perform(&self, host: &Host) -> Result<(), GitError> {
        let repository = Repository::open(&self.repository)?;
        let head = repository.head(&self.branch)?;
        self.expect(&repository, &head)?;
        let killed = locks::remove_stale(host, &repository, &self.branch)?;
        let fix = || fix::fix(host, &repository, self, &head, killed);
        if head != self.to {
            // A checkout that would overwrite something refuses before it touches anything, so it may simply be tried.
            if self.restore {
                fix()?;
                self.switch_back(host, &repository, &head)?;
            } else if killed {
                fix()?;
                self.switch(host, &repository, &head, Repository::git)?;
            } else if let Err(error) = self.switch(host, &repository, &head, Repository::git) {
                if repository.head(&self.branch)? != head || !fix()? {
                    return Err(error);
                }
                self.switch(host, &repository, &head, Repository::git)?;
            }
        } else if self.restore {
            fix()?;
        }
        let concerned = submodules::has_submodules(&repository.top, &self.to.commit)?;
        if concerned { submodules::update(host, &repository) } else { Ok(()) }
    }

    /// Switches, whatever the repository's hooks say: no hook may stop an undo.
    fn switch_back(&self, host: &Host, repository: &Repository, head: &Head) -> Result<(), GitError> {
        let Err(error) = self.switch(host, repository, head, Repository::git) else { return Ok(()) };
        let head = repository.head(&self.branch)?;
        self.expect(repository, &head)?;
        log::debug!("{}; again without hooks", crate::error_chain(&error));
        locks::remove_stale(host, repository, &self.branch)?;
        fix::fix(host, repository, self, &head, true)?;
        self.switch(host, repository, &head, Repository::git_without_hooks)?;
        host.notice(&format!(
            "the checkout was brought back without Git hooks, since with them it failed: {}",
            crate::error_chain(&error)
        ));
        Ok(())
    }

    /// A killed checkout may have moved the branch and not yet HEAD, so each part is compared on its own.
    fn expect(&self, repository: &Repository, head: &Head) -> Result<(), GitError> {
        let (from, to) = (&self.from, &self.to);
        let known = (head.branch == from.branch || head.branch == to.branch)
            && (head.commit == from.commit || head.commit == to.commit)
            && (head.branch_commit == from.branch_commit || head.branch_commit == to.branch_commit);
        if known {
            return Ok(());
        }
        Err(GitError::HeadMoved {
            path: repository.top.clone(),
            found: Box::new(head.clone()),
            expected: Box::new(self.from.clone()),
        })
    }

    fn switch(&self, host: &Host, repository: &Repository, head: &Head, git: Git) -> Result<(), GitError> {
        let top = repository.top.as_path();
        if self.restore && head.commit != self.to.commit {
            submodules::give_up(host, repository, &head.commit, &self.to.commit)?;
        }
        if head.branch != self.to.branch || head.commit != self.to.commit {
            let checkout = git(repository).args([
                "-c",
                "advice.detachedHead=false",
                "checkout",
                // Without it, git compares the whole checkout once more, and counts commits, for output that nothing reads.
                "--quiet",
                "--no-overwrite-ignore",
            ]);
            let checkout = match &self.to.branch {
                Some(branch) if *branch == self.branch => {
                    checkout.args(["--no-track", "-B", branch.as_str(), self.to.commit.as_str(), "--"])
                }
                // Another branch was not moved by the update; if another program did, it is not moved back.
                Some(branch) => {
                    let is_there = repository.reference(&format!("refs/heads/{branch}"))?;
                    if is_there.is_none_or(|commit| commit.to_string() != self.to.commit) {
                        let found = Box::new(Head {
                            branch: Some(branch.clone()),
                            commit: is_there.map(|commit| commit.to_string()).unwrap_or_default(),
                            branch_commit: head.branch_commit.clone(),
                        });
                        let expected = Box::new(self.to.clone());
                        return Err(GitError::HeadMoved { path: top.to_owned(), found, expected });
                    }
                    checkout.args([branch.as_str(), "--"])
                }
                None => checkout.args(["--detach", self.to.commit.as_str(), "--"]),
            };
            let moved = || self.has_moved(repository);
            if let Err(error) = hooks::run(host, &checkout, hooks::LIMIT, moved) {
                if !moved() || !self.is_whole(host, repository)? {
                    return Err(error).in_repository(top);
                }
                hooks::tell(host, &format!("the checkout of {}", short(&self.to.commit)), &error);
            }
        }
        self.place_branch(host, repository, git)
    }

    /// Tells whether git has done its part: it moves HEAD last.
    fn has_moved(&self, repository: &Repository) -> bool {
        let there = repository.head(&self.branch);
        there.is_ok_and(|there| there.branch == self.to.branch && there.commit == self.to.commit)
            && locks::index_lock(repository).is_none()
    }

    /// Tells whether the index and the files are as the commit has them, where the commits differ.
    fn is_whole(&self, host: &Host, repository: &Repository) -> Result<bool, GitError> {
        let differing = changes(repository, oid(&self.from.commit)?, oid(&self.to.commit)?, false)?;
        let differing: HashSet<&Path> = differing.iter().flat_map(PathChange::paths).collect();
        let edits = local_changes(host, repository)?;
        let is_half = |edit: &LocalChange| {
            edit.kind != LocalChangeKind::Submodule && differing.contains(edit.path.as_path())
        };
        Ok(!edits.iter().any(is_half))
    }

    fn place_branch(&self, host: &Host, repository: &Repository, git: Git) -> Result<(), GitError> {
        let there = repository.head(&self.branch)?.branch_commit;
        if there == self.to.branch_commit {
            return Ok(());
        }
        let name = format!("refs/heads/{}", self.branch);
        let command = git(repository).args(["update-ref", "-m", "deploykit"]);
        let old = there.unwrap_or_else(|| git2::Oid::ZERO_SHA1.to_string());
        let command = match &self.to.branch_commit {
            Some(commit) => command.args([name, commit.clone(), old]),
            None => command.args(["-d".to_owned(), name, old]),
        };
        host.run(&command).in_repository(&repository.top).map(|_| ())
    }

    /// Returns the commit on the other side of the one that HEAD is at.
    pub(crate) fn other_than(&self, head: &Head) -> &str {
        if head.commit == self.to.commit { &self.from.commit } else { &self.to.commit }
    }

    /// Returns the top of the checkout.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }
}
