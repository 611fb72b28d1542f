//! Submodules follow the commit that is checked out.

use std::path::{Path, PathBuf};

use super::error::{GitError, InRepository};
use super::executable::{TRANSPORT, transporting};
use super::repository::Repository;
use super::tree::Tree;
use crate::command::Command;
use crate::host::Host;

/// Tells whether a commit has submodules.
pub(crate) fn has_submodules(repository: &Path, commit: &str) -> Result<bool, GitError> {
    Ok(Tree::open(repository, commit)?.blob(Path::new(".gitmodules"))?.is_some())
}

/// Brings the submodules of the live checkout to the commits that it names.
pub(crate) fn update(host: &Host, repository: &Repository) -> Result<(), GitError> {
    let command = repository.git().args(["submodule", "update", "--init", "--recursive"]);
    host.run(&transporting(command, TRANSPORT)).in_repository(&repository.top).map(|_| ())
}

/// Empties the folders of submodules that `from` has and `to` has not, unless something was changed in them: git
/// itself would leave them behind as untracked folders.
pub(crate) fn give_up(host: &Host, repository: &Repository, from: &str, to: &str) -> Result<(), GitError> {
    if !has_submodules(&repository.top, from)? {
        return Ok(());
    }
    let kept = Tree::open(&repository.top, to)?.submodules()?;
    for path in Tree::open(&repository.top, from)?.submodules()? {
        let populated = repository.top.join(&path).join(".git").exists();
        if populated && !kept.contains(&path) {
            let command = repository.git().args(["submodule", "deinit", "--quiet", "--"]).arg(&path);
            if let Err(error) = host.run(&command) {
                log::warn!("`{}` is left behind: {error}", path.display());
            }
        }
    }
    Ok(())
}

/// Brings the submodules of another work tree of the same repository to their commits, borrowing the objects that the
/// live checkout has.
///
/// `git` makes a command that works in the other tree, and in nothing else.
pub(crate) fn populate(
    host: &Host,
    repository: &Repository,
    commit: &str,
    git: impl Fn() -> Command,
) -> Result<(), GitError> {
    for path in Tree::open(&repository.top, commit)?.submodules()? {
        let mut command = git().args(["submodule", "update", "--init", "--recursive"]);
        if let Some(store) = store_of(repository, &path) {
            command = command.arg("--reference").arg(store);
        }
        let command = transporting(command.arg("--").arg(&path), TRANSPORT);
        host.run(&command).in_repository(&repository.top)?;
    }
    Ok(())
}

/// Returns where the live checkout keeps the repository of the submodule at a path.
fn store_of(repository: &Repository, path: &Path) -> Option<PathBuf> {
    let submodule = git2::Repository::open(repository.top.join(path)).ok()?;
    Some(submodule.path().to_owned())
}
