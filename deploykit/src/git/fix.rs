//! A checkout that was killed half way: made whole again at the commit that HEAD is still at.
//!
//! git moves HEAD last. Until then files are removed and written one after another, and a kill leaves some of them as
//! the other commit has them, perhaps one of them truncated. Only paths that differ between the two commits can be
//! concerned, and an update is planned only when none of these was changed locally: so they, and nothing else, are put
//! back, and local changes of other files are never touched. What cannot be told from somebody's work is kept in a
//! commit first.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use git2::{AttrCheckFlags, ObjectType, Oid};

use super::changes::{PathChange, changes};
use super::collisions::{Collision, Obstacle};
use super::error::{GitError, InRepository};
use super::executable::{nul_separated, quoted_line};
use super::head::{Checkout, Head};
use super::local_change::LocalChangeKind;
use super::local_state::local_changes;
use super::repository::{Repository, oid};
use super::tree::Tree;
use crate::host::Host;
use crate::host::files;
use crate::names;

/// Where a work tree's changes are kept that would otherwise be lost.
const KEPT: &str = "refs/deploykit/kept";

/// What was found at a path that differs between the two commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It is as the other commit has it: a checkout put it there.
    OtherCommit,
    /// It is missing, or the beginning of what the other commit has: a killed checkout may have left it.
    CutOff,
    /// It is something else: somebody's work.
    Work,
}

/// Puts back what a killed checkout left between the commits; returns whether there was anything.
///
/// `killed` says that the lock of a killed git was found.
pub(crate) fn fix(
    host: &Host,
    repository: &Repository,
    checkout: &Checkout,
    head: &Head,
    killed: bool,
) -> Result<bool, GitError> {
    let (here, other) = (oid(&head.commit)?, oid(checkout.other_than(head))?);
    let differing = changes(repository, here, other, false)?;
    let edits = local_changes(host, repository)?;
    let edits: HashSet<&Path> = edits
        .iter()
        .filter(|edit| edit.kind != LocalChangeKind::Submodule)
        .map(|edit| edit.path.as_path())
        .collect();
    let differing = |of: fn(&PathChange) -> Option<&Path>| differing.iter().filter_map(of);
    let edited: Vec<PathBuf> = differing(|change| Some(&change.path))
        .filter(|path| edits.contains(path))
        .map(Path::to_owned)
        .collect();
    let strangers: Vec<PathBuf> = differing(PathChange::added)
        .filter(|path| !edits.contains(path) && is_file(&repository.top, path))
        .map(Path::to_owned)
        .collect();
    let origins = origins(host, repository, other, edited.iter().chain(&strangers))?;
    let origin = |path: &PathBuf| origins.get(path).copied().unwrap_or(Origin::Work);
    let half_done = killed || origins.values().any(|origin| *origin == Origin::OtherCommit);
    let is_left = |path: &PathBuf| match origin(path) {
        Origin::OtherCommit => true,
        Origin::CutOff => half_done,
        Origin::Work => false,
    };
    let moves = head.commit != checkout.to.commit;
    if !checkout.restore {
        let work = edited.iter().map(|path| (path, Obstacle::LocalEdit));
        let work = work.chain(strangers.iter().map(|path| (path, Obstacle::Untracked)));
        let collisions: Vec<Collision> = work
            .filter(|(path, _)| moves && !is_left(path))
            .map(|(path, kind)| Collision { path: path.clone(), kind })
            .collect();
        if !collisions.is_empty() {
            return Err(GitError::Collision { collisions });
        }
    }
    // Taking back has to get past whatever stands in its way. Where nothing moves, only what a killed checkout left is
    // touched.
    let edited: Vec<PathBuf> = edited.into_iter().filter(|path| moves || is_left(path)).collect();
    let strangers: Vec<PathBuf> = strangers.into_iter().filter(|path| moves || is_left(path)).collect();
    if edited.is_empty() && strangers.is_empty() {
        return Ok(false);
    }
    let may_be_work = |path: &PathBuf| {
        origin(path) != Origin::OtherCommit && fs::symlink_metadata(repository.top.join(path)).is_ok()
    };
    if edited.iter().chain(&strangers).any(may_be_work) {
        keep(host, repository, here, edited.iter().chain(&strangers))?;
    }
    for path in &strangers {
        files::remove_file(&repository.top.join(path))?;
        remove_empty_directories(&repository.top, path);
    }
    restore(host, repository, here, &edited)?;
    Ok(true)
}

/// Tells whether something that is no directory is at a path, and not behind a link.
fn is_file(top: &Path, path: &Path) -> bool {
    let is_real = |directory: &Path| files::look(&top.join(directory)) == files::Found::Directory;
    let in_real_directories = names::above(path).into_iter().all(is_real);
    in_real_directories && fs::symlink_metadata(top.join(path)).is_ok_and(|found| !found.is_dir())
}

/// Compares what is on the disk with what the other commit has.
fn origins<'p>(
    host: &Host,
    repository: &Repository,
    other: Oid,
    paths: impl Iterator<Item = &'p PathBuf>,
) -> Result<HashMap<PathBuf, Origin>, GitError> {
    let tree = Tree::open(&repository.top, &other.to_string())?;
    let (mut origins, mut regular) = (HashMap::new(), Vec::new());
    for path in paths {
        let full = repository.top.join(path);
        let wanted = tree.blob(path)?;
        let origin = match fs::symlink_metadata(&full) {
            Err(_) if wanted.is_none() => Origin::OtherCommit,
            Err(_) => Origin::CutOff,
            Ok(found) if found.is_symlink() => {
                use std::os::unix::ffi::OsStrExt;
                let target = fs::read_link(&full).unwrap_or_default();
                let blob = Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes()).ok();
                if blob == wanted { Origin::OtherCommit } else { Origin::Work }
            }
            Ok(found) if found.is_file() && wanted.is_some() => {
                regular.push(path.clone());
                continue;
            }
            Ok(_) => Origin::Work,
        };
        origins.insert(path.clone(), origin);
    }
    if regular.is_empty() {
        return Ok(origins);
    }
    // Filters (LFS, line ends) make the file another than the blob: git knows which file gives which blob.
    let list: Vec<u8> = regular.iter().flat_map(|path| quoted_line(path)).collect();
    let command = repository.reading_git().args(["hash-object", "--stdin-paths"]).input(list);
    let output = host.run(&command).in_repository(&repository.top)?;
    for (path, hash) in regular.into_iter().zip(output.stdout.lines()) {
        let origin = if tree.blob(&path)?.is_some_and(|wanted| wanted.to_string() == hash) {
            Origin::OtherCommit
        } else if is_filtered(repository, &path) || is_beginning(repository, &tree, &path)? {
            Origin::CutOff
        } else {
            Origin::Work
        };
        origins.insert(path, origin);
    }
    Ok(origins)
}

/// Tells whether a file is the beginning of what the commit has, whatever the line ends.
fn is_beginning(repository: &Repository, tree: &Tree, path: &Path) -> Result<bool, GitError> {
    let plain = |bytes: Vec<u8>| bytes.into_iter().filter(|byte| *byte != b'\r').collect::<Vec<_>>();
    let wanted = tree.bytes(path)?.map(plain).unwrap_or_default();
    Ok(fs::read(repository.top.join(path)).is_ok_and(|found| wanted.starts_with(&plain(found))))
}

/// Tells whether the file is made from the blob by a program, so that its beginning cannot be known.
fn is_filtered(repository: &Repository, path: &Path) -> bool {
    let filter = repository.git2.get_attr(path, "filter", AttrCheckFlags::FILE_THEN_INDEX);
    filter.is_ok_and(|filter| filter.is_some())
}

/// Keeps files as they are on the disk, and the index, in commits of the form that `git stash` makes.
fn keep<'p>(
    host: &Host,
    repository: &Repository,
    here: Oid,
    paths: impl Iterator<Item = &'p PathBuf>,
) -> Result<(), GitError> {
    let top = repository.top.as_path();
    let index = repository.git2.path().join(format!("deploykit-index-{}", std::process::id()));
    let kept = (|| {
        let aside =
            || repository.git_without_hooks().env("GIT_INDEX_FILE", &index).env("GIT_LITERAL_PATHSPECS", "1");
        let answer = |output: crate::host::Output| output.stdout.trim().to_owned();
        host.run(&aside().args(["read-tree".to_owned(), here.to_string()]))?;
        let paths: Vec<&Path> = paths.map(PathBuf::as_path).collect();
        // A path that is neither on the disk nor in the commit cannot be named to `git add`.
        let tree = repository.tree(here).ok();
        let is_in_commit = |path: &Path| tree.as_ref().is_some_and(|tree| tree.get_path(path).is_ok());
        let is_known = |path: &&Path| fs::symlink_metadata(top.join(path)).is_ok() || is_in_commit(path);
        let list = nul_separated(paths.iter().copied().filter(is_known));
        let mut add =
            aside().args(["add", "--all", "--force", "--pathspec-from-file=-", "--pathspec-file-nul"]);
        if repository.is_sparse() {
            add = add.arg("--sparse");
        }
        host.run(&add.input(list))?;
        let work = answer(host.run(&aside().args(["write-tree"]))?);
        let staged = answer(host.run(&repository.git_without_hooks().args(["write-tree"]))?);
        let here = here.to_string();
        let commit = |tree: &str, parents: &[&str], message: &str| {
            let mut command = repository.git_without_hooks().args(["commit-tree", tree, "-m", message]);
            for name in ["AUTHOR", "COMMITTER"] {
                command = command.env(format!("GIT_{name}_NAME"), "deploykit");
                command = command.env(format!("GIT_{name}_EMAIL"), "deploykit@localhost");
            }
            for parent in parents {
                command = command.args(["-p", parent]);
            }
            host.run(&command).map(answer)
        };
        let staged = commit(&staged, &[&here], "index, kept by deploykit")?;
        let work =
            commit(&work, &[&here, &staged], "files, kept by deploykit before it took an update back")?;
        let name = format!("{KEPT}/{}", super::short(&work));
        host.run(&repository.git_without_hooks().args(["update-ref", name.as_str(), work.as_str()]))?;
        log::warn!("what was changed meanwhile is kept: `git stash apply {name}`");
        Ok(())
    })();
    let _ = fs::remove_file(&index);
    kept.in_repository(top)
}

/// Brings paths to what a commit has, in the index and on the disk.
fn restore(host: &Host, repository: &Repository, commit: Oid, paths: &[PathBuf]) -> Result<(), GitError> {
    if paths.is_empty() {
        return Ok(());
    }
    let command = repository
        .git_without_hooks()
        .env("GIT_LITERAL_PATHSPECS", "1")
        .args(["restore", "--staged", "--worktree", "--pathspec-from-file=-", "--pathspec-file-nul"])
        .arg(format!("--source={commit}"))
        .input(nul_separated(paths.iter().map(PathBuf::as_path)));
    host.run(&command).in_repository(&repository.top)?;
    if repository.is_sparse() {
        // `restore` writes files that the sparse checkout leaves out.
        let command = repository.git_without_hooks().args(["sparse-checkout", "reapply"]);
        host.run(&command).in_repository(&repository.top)?;
    }
    Ok(())
}

/// Removes the directories of a removed file that are empty now.
fn remove_empty_directories(top: &Path, path: &Path) {
    for directory in names::above(path).into_iter().rev() {
        if fs::remove_dir(top.join(directory)).is_err() {
            return;
        }
    }
}
