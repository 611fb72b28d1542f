//! Filters and encodings that a commit asks for and git cannot apply here: git then writes files as the repository has them,
//! and reports no error.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{GitError, InRepository};
use super::executable::{nul_separated, reading_git};
use super::repository::Repository;
use super::staged_tree::StagedTree;
use super::tree::Tree;
use crate::command::Command;
use crate::host::Host;

/// How a pointer of Git LFS begins. Source: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A pointer is smaller than this. Source: the same.
const LARGEST_POINTER: u64 = 1024;

/// A filter that the `.gitattributes` of a commit ask for and that git cannot apply here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFilter {
    /// Its name.
    pub name: String,
    /// The program that is missing; `None`: git has no such filter in its configuration.
    pub program: Option<String>,
}

impl fmt::Display for MissingFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.program {
            Some(program) => write!(f, "the filter `{name}` runs `{program}`, which is not installed")?,
            None => {
                write!(f, "`.gitattributes` asks for the filter `{name}`, which git is not configured with")?
            }
        }
        let what = if name == "lfs" { "pointers instead of contents" } else { "as the repository has them" };
        write!(f, ": its files are checked out {what}")
    }
}

/// Files of a staged tree that git could not make what they are meant to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfiltered {
    /// Pointers of Git LFS where the live checkout has contents.
    pub(crate) lost: Vec<PathBuf>,
    /// Other pointers of Git LFS.
    pub(crate) pointers: Vec<PathBuf>,
    /// Files in another encoding than this one, which git does not know.
    pub(crate) encodings: Vec<(PathBuf, String)>,
}

/// Returns the filters that a commit asks for and that are not there.
pub(crate) fn missing_filters(
    host: &Host,
    repository: &Repository,
    commit: &str,
) -> Result<Vec<MissingFilter>, GitError> {
    let config = repository.git2.config();
    let mut missing = Vec::new();
    for name in values(&attributes(repository, commit)?, "filter") {
        let command = |kind: &str| {
            let config = config.as_ref().ok()?;
            config.get_string(&format!("filter.{name}.{kind}")).ok().filter(|text| !text.trim().is_empty())
        };
        let program = match command("process").or_else(|| command("smudge")) {
            Some(command) => missing_program(host, &command),
            // It is meant to leave files alone when they are checked out.
            None if command("clean").is_some() => None,
            None => Some(None),
        };
        missing.extend(program.map(|program| MissingFilter { name, program }));
    }
    if !missing.is_empty()
        && let Some(used) = used(host, repository, commit)?
    {
        missing.retain(|filter| used.contains(&filter.name));
    }
    Ok(missing)
}

/// Returns the filters that files of a commit have; `None` where git is older than 2.40 and cannot tell.
fn used(host: &Host, repository: &Repository, commit: &str) -> Result<Option<BTreeSet<String>>, GitError> {
    let paths = Tree::open(&repository.top, commit)?.paths()?;
    let command = repository
        .reading_git()
        .args(["check-attr", "-z", "--stdin", "--source", commit, "filter"])
        .input(nul_separated(paths.iter().map(PathBuf::as_path)));
    Ok(host
        .run(&command)
        .ok()
        .map(|output| output.stdout.split('\0').skip(2).step_by(3).map(str::to_owned).collect()))
}

/// Returns the program of a filter's command line if the shell, which git gives it to, does not know it.
fn missing_program(host: &Host, command: &str) -> Option<Option<String>> {
    let word = command.split_whitespace().next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    // The shell has more to say about any other.
    if !word.chars().all(is_plain) {
        return None;
    }
    let ask = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", word]).accept([1, 2, 126, 127]);
    let output = host.run(&ask).ok()?;
    (output.code != 0).then(|| Some(word.to_owned()))
}

/// Looks for files of a staged tree that git could not make what they are meant to be.
pub(crate) fn unfiltered(host: &Host, tree: &StagedTree) -> Result<Unfiltered, GitError> {
    let live = Repository::open(&tree.repository)?;
    let attributes = attributes(&live, &tree.commit)?;
    let mut found = Unfiltered::default();
    let has_lfs = values(&attributes, "filter").contains("lfs");
    let has_encodings = !values(&attributes, "working-tree-encoding").is_empty();
    if !has_lfs && !has_encodings {
        return Ok(found);
    }
    let target = Tree::open(&tree.repository, &tree.commit)?;
    let paths = target.paths()?;
    if has_lfs {
        for path in &paths {
            if is_pointer(&tree.path.join(path)) {
                let live = live.top.join(path);
                let is_lost =
                    fs::symlink_metadata(&live).is_ok_and(|live| live.is_file()) && !is_pointer(&live);
                if is_lost { &mut found.lost } else { &mut found.pointers }.push(path.clone());
            }
        }
    }
    if has_encodings {
        for (path, encoding) in encodings(host, tree, &paths)? {
            let is_there = fs::symlink_metadata(tree.path.join(&path)).is_ok_and(|found| found.is_file());
            if is_there
                && is_left(&tree.path.join(&path), &target.bytes(&path)?.unwrap_or_default(), &encoding)
            {
                found.encodings.push((path, encoding));
            }
        }
    }
    Ok(found)
}

/// Returns the attributes that a commit and the repository give to paths.
fn attributes(repository: &Repository, commit: &str) -> Result<String, GitError> {
    let is_attributes = |path: &Path| path.file_name().is_some_and(|name| name == ".gitattributes");
    let mut texts = Tree::open(&repository.top, commit)?.texts(is_attributes)?;
    let own = repository.git2.commondir().join("info/attributes");
    texts.extend(fs::read_to_string(&own).ok().map(|text| (own, text)));
    Ok(texts.into_iter().map(|(_, text)| text + "\n").collect())
}

/// Returns the values that an attribute is given anywhere.
fn values(attributes: &str, name: &str) -> BTreeSet<String> {
    let lines = attributes.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(|line| line.split_whitespace().skip(1));
    let values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

fn is_pointer(path: &Path) -> bool {
    let is_small = |found: fs::Metadata| found.is_file() && found.len() < LARGEST_POINTER;
    let mut start = [0; POINTER.len()];
    fs::symlink_metadata(path).is_ok_and(is_small)
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == *POINTER
}

/// Returns the files that are to have an encoding of their own.
fn encodings(host: &Host, tree: &StagedTree, paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, GitError> {
    let command = reading_git(&tree.path)
        .args(["check-attr", "-z", "--stdin", "working-tree-encoding"])
        .input(nul_separated(paths.iter().map(PathBuf::as_path)));
    let output = host.run(&command).in_repository(&tree.path)?;
    let fields: Vec<&str> = output.stdout.split('\0').collect();
    let mut found = Vec::new();
    for record in fields.chunks_exact(3) {
        let &[path, _, value] = record else { continue };
        let is_none = ["unspecified", "unset", "set"].contains(&value) || value.eq_ignore_ascii_case("utf-8");
        if !is_none {
            found.push((PathBuf::from(path), value.to_owned()));
        }
    }
    Ok(found)
}

/// Tells whether a file is still what the repository has, in UTF-8, although its encoding writes it otherwise.
fn is_left(path: &Path, blob: &[u8], encoding: &str) -> bool {
    let encoding = encoding.to_ascii_uppercase();
    let writes_otherwise = ["UTF-16", "UTF-32", "UCS"].iter().any(|wide| encoding.starts_with(wide));
    (!blob.is_ascii() || writes_otherwise && !blob.is_empty())
        && fs::read(path).is_ok_and(|found| found == blob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_attributes_and_macros() {
        let text = "# a filter=none\n*.png filter=lfs diff=lfs -text\n[attr]secret filter=crypt\n*.txt -filter\nx filter\n";
        assert_eq!(values(text, "filter"), ["crypt", "lfs"].map(str::to_owned).into());
        assert_eq!(values(text, "working-tree-encoding"), BTreeSet::new());
    }

    #[test]
    fn a_program_that_the_shell_does_not_know_is_missing() {
        let missing = |command| missing_program(&Host::new(), command).flatten();
        assert_eq!(missing("no-such-program-at-all smudge -- %f").as_deref(), Some("no-such-program-at-all"));
        for command in ["cat", "for i in 1; do cat; done", "/bin/sh -c cat", "\"x y\" z", ""] {
            assert_eq!(missing(command), None, "{command}");
        }
    }
}
