//! Finds the checkout, and asks git about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit::internal::git;
use deploykit::{Command, CommandError, Host};

use super::files::entries_of;
use crate::InitError;

/// Finds the checkout around a directory, or the only one right below it.
pub(crate) fn find(directory: &Path) -> Result<PathBuf, InitError> {
    // A file in the place of the directory is a worktree's or a submodule's.
    let is_checkout = |directory: &Path| directory.join(".git").exists();
    if let Some(found) = directory.ancestors().find(|directory| is_checkout(directory)) {
        return Ok(found.to_owned());
    }
    let mut below: Vec<PathBuf> =
        entries_of(directory).into_iter().filter(|path| is_checkout(path)).collect();
    match below.pop() {
        Some(only) if below.is_empty() => Ok(only),
        last => {
            below.extend(last);
            Err(InitError::NotACheckout { directory: directory.to_owned(), checkouts: below })
        }
    }
}

/// What git says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitFacts {
    /// The names of the remotes.
    pub remotes: Vec<String>,
    /// The branch that is checked out; `None` on no branch.
    pub branch: Option<String>,
    /// The remote that this branch follows.
    pub upstream_remote: Option<String>,
    /// The branch over there that it follows.
    pub upstream_branch: Option<String>,
    /// For each remote, the branch that it names as its own.
    pub heads: Vec<(String, String)>,
    /// Branches of the remotes, as `remote/branch`.
    pub known: Vec<String>,
    /// Why git said nothing.
    pub failed: Option<String>,
}

/// Asks git.
pub(crate) fn observe(repository: &Path, host: &Host) -> GitFacts {
    let ask = |args: &[&str]| {
        let mut command = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(args)
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .deadline(Duration::from_secs(30))
            .accept([1]);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"] {
            command = command.env_remove(name);
        }
        host.run(&command).map(|output| output.stdout.trim_end().to_owned())
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let mut facts = GitFacts::default();
    let answered = (|| {
        facts.remotes = ask(&["remote"])?.lines().map(str::to_owned).collect();
        facts.branch = some(ask(&["symbolic-ref", "-q", "--short", "HEAD"])?);
        if let Some(branch) = &facts.branch {
            facts.upstream_remote = some(ask(&["config", "--get", &format!("branch.{branch}.remote")])?);
            let merge = ask(&["config", "--get", &format!("branch.{branch}.merge")])?;
            facts.upstream_branch = merge.strip_prefix("refs/heads/").map(str::to_owned);
        }
        for line in ask(&["for-each-ref", "--format=%(refname) %(symref)", "refs/remotes"])?.lines() {
            let (name, target) = line.split_once(' ').unwrap_or((line, ""));
            let Some(name) = name.strip_prefix("refs/remotes/") else { continue };
            match name.strip_suffix("/HEAD") {
                Some(remote) => {
                    let head = target.strip_prefix(&format!("refs/remotes/{remote}/"));
                    facts.heads.extend(head.map(|head| (remote.to_owned(), head.to_owned())));
                }
                None => facts.known.push(name.to_owned()),
            }
        }
        Ok::<(), CommandError>(())
    })();
    if let Err(error) = answered {
        let last = error.tail().last().map(|line| format!(": {line}"));
        facts.failed = Some(format!("{error}{}", last.unwrap_or_default()));
    }
    facts
}

/// Tells whether the checked out commit has a file below a directory.
pub(crate) fn tracks_below(top: &Path, directory: &Path) -> bool {
    let Some(inside) = directory.strip_prefix(top).ok().filter(|inside| !inside.as_os_str().is_empty())
    else {
        return false;
    };
    let tree = git::head(top).and_then(|head| git::Tree::open(top, &head.commit));
    tree.and_then(|tree| tree.paths())
        .is_ok_and(|paths| paths.iter().any(|path| path.starts_with(inside) && !is_placeholder(path)))
}

/// Tells whether a file is there only so that git has its directory.
fn is_placeholder(path: &Path) -> bool {
    path.file_name().is_some_and(|name| [".gitignore", ".gitkeep", ".keep"].iter().any(|one| name == *one))
}

/// Tells whether the checked out commit has a file.
pub(crate) fn is_tracked(top: &Path, file: &Path) -> bool {
    let Ok(inside) = file.strip_prefix(top) else { return false };
    let tree = git::head(top).and_then(|head| git::Tree::open(top, &head.commit));
    tree.and_then(|tree| tree.bytes(inside)).is_ok_and(|found| found.is_some())
}
