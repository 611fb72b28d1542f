//! Lock files that git leaves behind when it is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::GitError;
use super::repository::Repository;
use crate::host::Host;
use crate::host::files;

/// How long a lock that a living git holds is waited for: prompts and editors take it for moments.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the lock of the index, if it is there.
pub(crate) fn index_lock(repository: &Repository) -> Option<PathBuf> {
    let path = repository.git2.path().join("index.lock");
    path.exists().then_some(path)
}

/// Returns how long ago a file was written.
pub(crate) fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// Removes the locks that a killed git left on the index, on HEAD and on `branch`; returns whether there were any.
///
/// A lock counts as left behind when no process has it open and no git works in the checkout.
///
/// # Errors
///
/// When a living git keeps its lock.
pub(crate) fn remove_stale(host: &Host, repository: &Repository, branch: &str) -> Result<bool, GitError> {
    let (own, common) = (repository.git2.path(), repository.git2.commondir());
    let locks = [
        own.join("index.lock"),
        own.join("HEAD.lock"),
        common.join(format!("refs/heads/{branch}.lock")),
        common.join("packed-refs.lock"),
        common.join("config.lock"),
    ];
    let mut removed = false;
    for lock in locks {
        let since = Instant::now();
        while lock.exists() && is_held(&lock, &repository.top) {
            if since.elapsed() > PATIENCE || !host.wait(Duration::from_millis(100)) {
                return Err(GitError::IndexLocked { age: age(&lock), path: lock });
            }
        }
        if lock.exists() {
            log::warn!("remove `{}`, which a git that is gone left behind", lock.display());
            files::remove_file(&lock)?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Removes all locks that killed gits left behind in the repository; those of living ones stay.
///
/// # Errors
///
/// When the repository cannot be opened or a file not be removed.
pub(crate) fn remove_left_locks(repository: &Path) -> Result<(), GitError> {
    let repository = Repository::open(repository)?;
    let common = repository.git2.commondir();
    let mut directories = vec![common.join("refs"), common.join("logs")];
    let mut found: Vec<PathBuf> = locks_in(common).collect();
    found.extend(locks_in(repository.git2.path()));
    // With `maintenance.lock` there git would never pack anything again, and say nothing about it.
    let objects = ["", "info", "info/commit-graphs", "pack"].map(|name| common.join("objects").join(name));
    found.extend(objects.iter().flat_map(|directory| locks_in(directory)));
    while let Some(directory) = directories.pop() {
        found.extend(locks_in(&directory));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        directories.extend(
            entries.map(|entry| entry.path()).filter(|path| files::look(path) == files::Found::Directory),
        );
    }
    for lock in found {
        if !is_held(&lock, &repository.top) {
            files::remove_file(&lock)?;
        }
    }
    Ok(())
}

fn locks_in(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lock"))
}

/// Tells whether a process has the file open, or a git works in the checkout: one that waits for an editor has closed
/// its lock and still relies on it.
fn is_held(lock: &Path, top: &Path) -> bool {
    let lock = fs::canonicalize(lock).unwrap_or_else(|_| lock.to_owned());
    let top = fs::canonicalize(top).unwrap_or_else(|_| top.to_owned());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|entry| entry.path()).any(|process| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let has_it_open =
            || open.map(|fd| fd.path()).any(|fd| fs::read_link(fd).is_ok_and(|file| file == lock));
        let is_git = || fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == "git");
        let is_here =
            || fs::read_link(process.join("cwd")).is_ok_and(|directory| directory.starts_with(&top));
        (is_git() && is_here()) || has_it_open()
    })
}
