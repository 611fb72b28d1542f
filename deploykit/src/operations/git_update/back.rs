//! The undo of a move that was made, planned like the move itself.

use super::facts::{GitFacts, READ, observe_files};
use super::{GitUpdate, Move, decide};
use crate::git::{Checkout, GitError, Repository, oid};
use crate::host::Host;

impl GitUpdate {
    /// Plans the undo of a move that was made. It refuses the same local changes as an update. The commits of the answer are
    /// those that go.
    ///
    /// # Errors
    ///
    /// [`GitError::HeadMoved`] when the checkout is not where the move has left it; else as for an update.
    pub fn back(&self, host: &Host, made: &Checkout) -> Result<Move, GitError> {
        let repository = Repository::open(&self.repository)?;
        let head = repository.head(&made.branch)?;
        if head != made.to {
            return Err(GitError::HeadMoved {
                path: repository.top.clone(),
                found: Box::new(head),
                expected: Box::new(made.to.clone()),
            });
        }
        let (from, to) = (oid(&made.to.commit)?, oid(&made.from.commit)?);
        let upstream = format!("{}/{}", self.remote, self.branch);
        let mut facts = GitFacts::new(repository.top.clone(), head, repository.commit(to)?, upstream);
        (facts.incoming, facts.incoming_count) = repository.commits(&[from], &[to], READ)?;
        observe_files(host, &repository, &mut facts)?;
        decide::check_state(&facts)?;
        decide::check_files(self, &facts)?;
        let mut there = decide::planned(self, &facts);
        there.checkout = Checkout { restore: false, ..made.reverse() };
        there.notices.clear();
        there.is_back = true;
        Ok(there)
    }
}
