//! What is in the way of the files that an update brings.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::changes::PathChange;
use super::error::{GitError, InRepository};
use super::executable::{nul_separated, path_of, split_at_nul};
use super::local_change::LocalChange;
use super::repository::Repository;
use crate::host::Host;

/// A path that an update would overwrite or could not make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Collision {
    /// What is there, from the top of the checkout.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// What it is.
    pub kind: Obstacle,
}

/// What is in the way of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// A tracked file that was changed here, and that the update changes too.
    LocalEdit,
    /// A file or directory that git does not know.
    Untracked,
    /// A file or directory that git was told to ignore.
    Ignored,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Obstacle::LocalEdit => "changed locally",
            Obstacle::Untracked => "untracked",
            Obstacle::Ignored => "ignored",
        };
        write!(f, "`{}` ({kind})", crate::names::shown_path(&self.path))
    }
}

/// Returns the local changes that stand where an update changes something: the same path, or a directory above or below.
pub(crate) fn edits_in_the_way(edits: &[LocalChange], changes: &[PathChange]) -> Vec<Collision> {
    let touched: BTreeSet<&Path> = changes.iter().flat_map(PathChange::paths).collect();
    let in_the_way = |edit: &Path| {
        let above = edit.ancestors().any(|directory| touched.contains(directory));
        // Paths below `edit` come right after it, since paths are compared by their components.
        above || touched.range(edit..).next().is_some_and(|next| next.starts_with(edit))
    };
    edits
        .iter()
        .filter(|edit| in_the_way(&edit.path))
        .map(|edit| Collision { path: edit.path.clone(), kind: Obstacle::LocalEdit })
        .collect()
}

/// Finds what is on the disk, and not tracked, where an update brings files.
pub(crate) fn obstacles(
    host: &Host,
    repository: &Repository,
    changes: &[PathChange],
    edits: &[LocalChange],
) -> Result<Vec<Collision>, GitError> {
    let edited = edits.iter().map(|edit| edit.path.as_path());
    let tracked: HashSet<&Path> = changes.iter().filter_map(PathChange::deleted).chain(edited).collect();
    let mut found = BTreeSet::new();
    for change in changes {
        if let Some(path) = change.added() {
            look_at(&repository.top, path, change.submodule, &tracked, &mut found);
        }
    }
    name_kinds(host, repository, found)
}

/// Looks at one path that an update adds. What is tracked there, and on the disk, is deleted by the same update or was
/// changed locally, which is found out elsewhere.
fn look_at(
    top: &Path,
    path: &Path,
    submodule: bool,
    tracked: &HashSet<&Path>,
    found: &mut BTreeSet<PathBuf>,
) {
    for directory in crate::names::above(path) {
        match fs::symlink_metadata(top.join(directory)) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                if !tracked.contains(directory) {
                    found.insert(directory.to_owned());
                }
                return;
            }
            Err(_) => return,
        }
    }
    match fs::symlink_metadata(top.join(path)) {
        // What an earlier checkout left of a submodule is taken up again by git.
        Ok(there) if there.is_dir() && submodule && top.join(path).join(".git").exists() => {}
        Ok(there) if there.is_dir() => found.extend(untracked_below(top, path, tracked)),
        Ok(_) if !tracked.contains(path) => {
            found.insert(path.to_owned());
        }
        _ => {}
    }
}

/// Returns what in a directory is not tracked: the directory itself when nothing in it is.
fn untracked_below(top: &Path, directory: &Path, tracked: &HashSet<&Path>) -> Vec<PathBuf> {
    let (mut untracked, mut all_untracked) = (Vec::new(), true);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(top.join(&directory)).into_iter().flatten().flatten() {
            let path = directory.join(entry.file_name());
            if tracked.contains(path.as_path()) {
                all_untracked = false;
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            } else {
                untracked.push(path);
            }
        }
    }
    if all_untracked && !untracked.is_empty() { vec![directory.to_owned()] } else { untracked }
}

fn name_kinds(
    host: &Host,
    repository: &Repository,
    found: BTreeSet<PathBuf>,
) -> Result<Vec<Collision>, GitError> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Exit code 1: none of them is ignored.
    let command = repository
        .reading_git()
        .args(["check-ignore", "-z", "--stdin"])
        .input(nul_separated(found.iter().map(PathBuf::as_path)))
        .accept([1]);
    let output = host.run(&command).in_repository(&repository.top)?;
    let ignored: HashSet<&Path> = split_at_nul(output.stdout_bytes()).map(path_of).collect();
    let kind = |path: &Path| {
        if ignored.contains(path) { Obstacle::Ignored } else { Obstacle::Untracked }
    };
    Ok(found.into_iter().map(|path| Collision { kind: kind(&path), path }).collect())
}

#[cfg(test)]
mod tests {
    use super::super::changes::ChangeStatus;
    use super::super::local_change::LocalChangeKind;
    use super::*;

    fn edit(path: &str) -> LocalChange {
        LocalChange { path: path.into(), kind: LocalChangeKind::Modified }
    }

    fn change(path: &str, status: ChangeStatus) -> PathChange {
        PathChange { path: path.into(), status, submodule: false }
    }

    #[test]
    fn an_edit_collides_with_its_own_path_and_with_directories_above_and_below() {
        let changes = [
            change("a.py", ChangeStatus::Modified),
            change("lib", ChangeStatus::Added),
            change("tool/run/now", ChangeStatus::Added),
            change("new.py", ChangeStatus::Renamed { from: "old.py".into() }),
        ];
        let edits = ["a.py", "a.pyc", "lib/x.py", "tool", "tool/other", "old.py", "tools"].map(edit);
        let found: Vec<String> =
            edits_in_the_way(&edits, &changes).iter().map(|found| found.path.display().to_string()).collect();
        assert_eq!(found, ["a.py", "lib/x.py", "tool", "old.py"]);
    }

    #[test]
    fn what_is_on_the_disk_and_not_tracked_is_found_at_above_and_below_a_new_path() {
        let top = tempfile::tempdir().unwrap();
        for (directory, file) in
            [("full/deep", "x"), ("mixed", "kept"), ("mixed", "gone"), ("empty/deep", "")]
        {
            fs::create_dir_all(top.path().join(directory)).unwrap();
            if !file.is_empty() {
                fs::write(top.path().join(directory).join(file), "").unwrap();
            }
        }
        fs::write(top.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/srv/media", top.path().join("media")).unwrap();
        let tracked = HashSet::from([Path::new("mixed/gone")]);
        let mut found = BTreeSet::new();
        for path in ["full", "mixed", "empty", "file/below/it", "media/logo", "free/new", "mixed/new"] {
            look_at(top.path(), Path::new(path), false, &tracked, &mut found);
        }
        let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(found, ["file", "full", "media", "mixed/kept"]);
    }
}
