//! What `git status` does not show: changes that git was told not to see, and empty directories.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};

use super::error::{GitError, InRepository};
use super::executable::{path_of, quoted_line, split_at_nul};
use super::local_change::{LocalChange, LocalChangeKind};
use super::repository::Repository;
use crate::host::Host;

/// How many files one git is asked about.
const AT_ONCE: usize = 500;

/// How many directories are entered to find out whether a directory has nothing but empty ones.
const ENTERED: usize = 1000;

const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

/// An entry of the index.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    /// How git is kept from looking at the file.
    hidden: Option<LocalChangeKind>,
    mode: u32,
    id: String,
    path: PathBuf,
}

/// Reads the index.
pub(super) fn index(host: &Host, repository: &Repository) -> Result<Vec<Entry>, GitError> {
    let command = repository.reading_git().args(["ls-files", "-v", "--stage", "-z"]);
    let output = host.run(&command).in_repository(&repository.top)?;
    split_at_nul(output.stdout_bytes()).filter_map(|line| parse(line).transpose()).collect()
}

/// Reads one line of `git ls-files -v --stage -z`; none for one of several versions that a merge left.
///
/// Source: git-ls-files(1), "OUTPUT" and `-v`: a lower case letter is `assume-unchanged`, `S` is `skip-worktree`.
fn parse(line: &[u8]) -> Result<Option<Entry>, GitError> {
    let unexpected = || GitError::Unexpected { line: String::from_utf8_lossy(line).into_owned() };
    let end = line.iter().position(|byte| *byte == b'\t').ok_or_else(unexpected)?;
    let (head, path) =
        (std::str::from_utf8(&line[..end]).map_err(|_| unexpected())?, path_of(&line[end + 1..]));
    let fields: Vec<&str> = head.split(' ').collect();
    let [tag, mode, id, stage] = fields[..] else { return Err(unexpected()) };
    let mode = u32::from_str_radix(mode, 8).map_err(|_| unexpected())?;
    let hidden = match tag {
        "S" | "s" => Some(LocalChangeKind::SkipWorktree),
        _ if tag.starts_with(|letter: char| letter.is_ascii_lowercase()) => {
            Some(LocalChangeKind::AssumeUnchanged)
        }
        _ => None,
    };
    Ok((stage == "0").then(|| Entry { hidden, mode, id: id.to_owned(), path: path.to_owned() }))
}

/// Returns the tracked files that are not as the index has them and that git was told not to look at.
pub(super) fn hidden_changes(
    host: &Host,
    repository: &Repository,
    index: &[Entry],
) -> Result<Vec<LocalChange>, GitError> {
    let (sparse, has_modes) = (repository.is_sparse(), repository.flag("core.fileMode", true));
    let (mut changes, mut asked) = (Vec::new(), Vec::new());
    for entry in index {
        let Some(kind) = entry.hidden else { continue };
        match look(&repository.top, entry, has_modes) {
            // A sparse checkout leaves it out.
            Seen::Nothing if sparse && kind == LocalChangeKind::SkipWorktree => {}
            Seen::Same => {}
            Seen::Nothing | Seen::Other => changes.push(LocalChange { path: entry.path.clone(), kind }),
            Seen::Contents => asked.push((entry, kind)),
        }
    }
    for some in asked.chunks(AT_ONCE) {
        for (entry, kind) in others(host, repository, some)? {
            changes.push(LocalChange { path: entry.path.clone(), kind });
        }
    }
    Ok(changes)
}

/// What a look at a file says.
enum Seen {
    Nothing,
    Same,
    Other,
    /// Its contents have to be compared.
    Contents,
}

fn look(top: &Path, entry: &Entry, has_modes: bool) -> Seen {
    let path = top.join(&entry.path);
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Seen::Nothing;
        }
        Err(_) => return Seen::Other,
    };
    let is_same = if found.is_symlink() {
        let target = fs::read_link(&path).unwrap_or_default();
        let id = Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes());
        entry.mode == LINK && id.is_ok_and(|id| id.to_string() == entry.id)
    } else if found.is_dir() {
        let head = git2::Repository::open(&path).ok().and_then(|inner| inner.head().ok()?.target());
        // One that was never cloned is not changed.
        entry.mode == SUBMODULE && head.is_none_or(|head| head.to_string() == entry.id)
    } else {
        let runs = |mode: u32| mode & 0o100 != 0;
        let is_file = found.is_file() && ![LINK, SUBMODULE].contains(&entry.mode);
        if is_file && (!has_modes || runs(found.permissions().mode()) == runs(entry.mode)) {
            return Seen::Contents;
        }
        false
    };
    if is_same { Seen::Same } else { Seen::Other }
}

/// Returns those whose contents are not what the index has. What git cannot tell counts as changed.
fn others<'e>(
    host: &Host,
    repository: &Repository,
    asked: &[(&'e Entry, LocalChangeKind)],
) -> Result<Vec<(&'e Entry, LocalChangeKind)>, GitError> {
    // Filters make the file another than the blob: git knows which file gives which blob.
    let list: Vec<u8> = asked.iter().flat_map(|(entry, _)| quoted_line(&entry.path)).collect();
    let command = repository.reading_git().args(["hash-object", "--stdin-paths"]).input(list);
    match host.run(&command) {
        Ok(output) => {
            let mut ids = output.stdout.lines();
            let is_other = |(entry, _): &&(&Entry, _)| ids.next() != Some(entry.id.as_str());
            Ok(asked.iter().filter(is_other).copied().collect())
        }
        Err(_) if asked.len() == 1 && !host.is_cancelled() => Ok(asked.to_vec()),
        Err(_) if !host.is_cancelled() => {
            let one_by_one = asked.chunks(1).map(|one| others(host, repository, one));
            Ok(one_by_one.collect::<Result<Vec<_>, _>>()?.concat())
        }
        Err(error) => Err(error).in_repository(&repository.top),
    }
}

/// Returns the directories of a checkout that have nothing in them but empty directories, the outermost of them.
pub(super) fn empty_directories(top: &Path, index: &[Entry]) -> Vec<PathBuf> {
    let above = |entry: &'_ Entry| entry.path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let tracked: HashSet<PathBuf> = index.iter().flat_map(above).collect();
    let (mut found, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(top.join(&directory)).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || entry.file_name() == ".git" {
                continue;
            }
            let path = directory.join(entry.file_name());
            if tracked.contains(&path) {
                directories.push(path);
            } else if !index.iter().any(|entry| entry.mode == SUBMODULE && entry.path == path)
                && is_empty(&entry.path())
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Tells whether there is nothing below a directory but directories.
fn is_empty(directory: &Path) -> bool {
    let (mut directories, mut entered) = (vec![directory.to_owned()], 0);
    while let Some(directory) = directories.pop() {
        entered += 1;
        let Ok(entries) = fs::read_dir(&directory) else { return false };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.file_type()?.is_dir(), entry.path()))) {
                Ok((true, path)) if entered < ENTERED => directories.push(path),
                _ => return false,
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_conflicts_are_left_to_git_status() {
        let id = "0123456789012345678901234567890123456789";
        let read =
            |tag: &str, stage: u8| parse(format!("{tag} 100644 {id} {stage}\ta b.py").as_bytes()).unwrap();
        let hidden = |tag: &str| read(tag, 0).unwrap().hidden;
        assert_eq!(hidden("H"), None);
        assert_eq!(hidden("h"), Some(LocalChangeKind::AssumeUnchanged));
        assert_eq!((hidden("S"), hidden("s")), (Some(LocalChangeKind::SkipWorktree), hidden("S")));
        assert_eq!(read("M", 2), None);
        assert_eq!(read("H", 0).unwrap().path, PathBuf::from("a b.py"));
        assert!(matches!(parse(b"what"), Err(GitError::Unexpected { .. })));
        assert!(matches!(parse(b"H 100644\ta"), Err(GitError::Unexpected { .. })));
    }

    #[test]
    fn a_directory_with_a_file_anywhere_is_not_empty() {
        let top = tempfile::tempdir().unwrap();
        for path in ["logs", "var/run", "full/deep", "app/tmp", "sub", ".git/refs"] {
            fs::create_dir_all(top.path().join(path)).unwrap();
        }
        fs::write(top.path().join("full/deep/file"), "").unwrap();
        let entry = |path: &str, mode| Entry { hidden: None, mode, id: String::new(), path: path.into() };
        let index = [entry("app/a.py", 0o100_644), entry("sub", SUBMODULE)];
        assert_eq!(empty_directories(top.path(), &index), ["app/tmp", "logs", "var"].map(PathBuf::from));
    }
}
