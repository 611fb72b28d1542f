//! Commits that a rollback needs: a reference keeps each from `git gc`, whatever becomes of the branches.

use std::path::Path;

use super::error::{GitError, InRepository};
use super::repository::Repository;
use crate::host::Host;

/// Where the references are.
const RUNS: &str = "refs/deploykit/runs";

/// Keeps a commit for the rollback of a run.
pub(crate) fn keep_commit(host: &Host, repository: &Path, run: &str, commit: &str) -> Result<(), GitError> {
    let repository = Repository::open(repository)?;
    let name = format!("{RUNS}/{run}");
    host.run(&repository.git().args(["update-ref", &name, commit])).in_repository(&repository.top).map(|_| ())
}

/// Keeps it no longer; one that is not kept is fine.
pub(crate) fn forget_commit(host: &Host, repository: &Path, run: &str) -> Result<(), GitError> {
    let repository = Repository::open(repository)?;
    let name = format!("{RUNS}/{run}");
    if repository.reference(&name)?.is_none() {
        return Ok(());
    }
    host.run(&repository.git().args(["update-ref", "-d", &name])).in_repository(&repository.top).map(|_| ())
}
