//! Submodules follow the commit that is checked out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::credentials::Credentials;
use super::error::{GitError, InRepository};
use super::executable::{self, TRANSPORT, transporting};
use super::hooks;
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
    let Err(error) = bring(host, repository, || executable::git(&repository.top), &[]) else { return Ok(()) };
    // A hook of a submodule may have failed after its checkout.
    let status = repository.reading_git().args(["submodule", "status", "--recursive"]);
    let status = host.run(&status).in_repository(&repository.top)?;
    match &error {
        GitError::Command { source, .. }
            if status.stdout_bytes().split(|byte| *byte == b'\n').all(is_there) =>
        {
            hooks::tell(host, "the checkout of the submodules", source);
            Ok(())
        }
        _ => Err(error),
    }
}

/// Tells whether a submodule is at the commit that its line in `git submodule status` names.
///
/// Source: git-submodule(1): `-` marks one that was not initialized, `+` another commit, `U` a conflict.
fn is_there(line: &[u8]) -> bool {
    line.first().is_none_or(|mark| *mark == b' ')
}

/// Empties the directories of submodules that `from` has and `to` has not, unless something was changed in them: git
/// itself would leave them behind as untracked directories.
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
        let mut args = Vec::new();
        if let Some(store) = store_of(repository, &path) {
            args.extend([OsString::from("--reference"), store.into()]);
        }
        args.extend(["--".into(), path.into()]);
        bring(host, repository, &git, &args)?;
    }
    Ok(())
}

/// Clones and updates submodules; git makes arguments of their addresses, so these must have no password.
fn bring(
    host: &Host,
    repository: &Repository,
    git: impl Fn() -> Command,
    args: &[OsString],
) -> Result<(), GitError> {
    let run = |credentials: Credentials, verb: &[&str]| {
        let command = credentials.tell(git()).arg("submodule").args(verb).args(args);
        host.run(&transporting(command, TRANSPORT)).in_repository(&repository.top).map(|_| ())
    };
    let everything = ["update", "--init", "--recursive"];
    if repository.credentials().is_empty() {
        return run(Credentials::default(), &everything);
    }
    // Registered first, their addresses are in the configuration.
    run(repository.credentials(), &["init"])?;
    run(repository.credentials().with_submodules(), &["update"])?;
    run(repository.credentials(), &everything)
}

/// Returns where the live checkout keeps the repository of the submodule at a path.
fn store_of(repository: &Repository, path: &Path) -> Option<PathBuf> {
    let submodule = git2::Repository::open(repository.top.join(path)).ok()?;
    Some(submodule.path().to_owned())
}
