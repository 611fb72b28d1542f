//! Directories that git tracks for their names only: what is in them is the site's own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Tree};

/// Files that keep a directory or say what git has to leave alone in it. The site reads none of them.
///
/// An empty `__init__.py` is none: it makes a package, and what is in a package is code.
const KEEPERS: [&str; 7] =
    [".gitkeep", ".keep", ".hgkeep", ".gitignore", ".gitattributes", ".placeholder", ".empty"];

/// Files that say to people what a directory is for, as long as both versions say the same.
const EXPLANATIONS: [&str; 5] = ["README", "README.md", "README.rst", "README.txt", "readme.md"];

/// A directory in which both versions track nothing but placeholders.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    /// From the top of the checkout.
    pub path: PathBuf,
    /// Whether the new version has it, too.
    pub in_target: bool,
}

/// Tells whether a path of this name is tracked for its directory only.
pub(super) fn is_keeper(path: &Path) -> bool {
    path.file_name().is_some_and(|name| KEEPERS.iter().any(|keeper| name == *keeper))
}

/// Finds the topmost of these directories.
pub(super) fn find(repository: &git2::Repository, target: Oid, live: Oid) -> Result<Vec<Kept>, git2::Error> {
    let tree = |commit| repository.find_commit(commit)?.tree();
    let mut search = Search { repository, found: Vec::new() };
    search.look(Path::new(""), Some(&tree(target)?), Some(&tree(live)?))?;
    Ok(search.found)
}

struct Search<'r> {
    repository: &'r git2::Repository,
    found: Vec<Kept>,
}

/// One entry of a tree.
type Entry = (ObjectType, i32, Oid);

impl Search<'_> {
    /// Tells whether a directory holds placeholders only; otherwise keeps those of its directories that do.
    fn look(
        &mut self,
        path: &Path,
        target: Option<&Tree<'_>>,
        live: Option<&Tree<'_>>,
    ) -> Result<bool, git2::Error> {
        let mut entries: BTreeMap<Vec<u8>, [Option<Entry>; 2]> = BTreeMap::new();
        for (side, tree) in [target, live].into_iter().enumerate() {
            for entry in tree.into_iter().flat_map(Tree::iter) {
                let found = (entry.kind().unwrap_or(ObjectType::Any), entry.filemode(), entry.id());
                let both = entries.entry(entry.name_bytes().to_owned()).or_default();
                both.iter_mut().skip(side).take(1).for_each(|place| *place = Some(found));
            }
        }
        let (mut only, mut inner) = (true, Vec::new());
        for (name, both) in entries {
            let name = Path::new(OsStr::from_bytes(&name));
            let trees = both.iter().flatten().filter(|(kind, ..)| *kind == ObjectType::Tree).count();
            if trees == 0 || trees < both.iter().flatten().count() {
                only &= is_placeholder(name, both);
                continue;
            }
            let [target, live] =
                both.map(|entry| entry.and_then(|(.., id)| self.repository.find_tree(id).ok()));
            let path = path.join(name);
            if self.look(&path, target.as_ref(), live.as_ref())? {
                inner.push(Kept { path, in_target: target.is_some() });
            } else {
                only = false;
            }
        }
        if !only || path.as_os_str().is_empty() {
            self.found.append(&mut inner);
            return Ok(false);
        }
        Ok(true)
    }
}

fn is_placeholder(name: &Path, both: [Option<Entry>; 2]) -> bool {
    let is_file = |entry: &Entry| matches!(entry.1, 0o100_644 | 0o100_755);
    if !both.iter().flatten().all(is_file) {
        return false;
    }
    let explains = EXPLANATIONS.iter().any(|known| name == Path::new(known));
    is_keeper(name)
        || explains && both[0].is_some() && both[0].map(|entry| entry.2) == both[1].map(|entry| entry.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits these files, and returns the commit.
    fn commit(repository: &git2::Repository, files: &[(&str, &str)]) -> Oid {
        let mut index = git2::Index::new().unwrap();
        let time = git2::IndexTime::new(0, 0);
        for (path, text) in files {
            let mode = if *text == "a link" { 0o120_000 } else { 0o100_644 };
            let id = repository.blob(text.as_bytes()).unwrap();
            let path = path.as_bytes().to_vec();
            let (ctime, mtime) = (time, time);
            let entry = git2::IndexEntry {
                ctime,
                mtime,
                dev: 0,
                ino: 0,
                mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path,
            };
            index.add(&entry).unwrap();
        }
        let tree = repository.find_tree(index.write_tree_to(repository).unwrap()).unwrap();
        let who = git2::Signature::now("somebody", "somebody@example.org").unwrap();
        repository.commit(None, &who, &who, "a commit", &tree, &[]).unwrap()
    }

    #[test]
    fn directories_that_both_versions_keep_for_their_names_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init(directory.path()).unwrap();
        let both = [
            (".gitignore", "media/*"),
            ("media/.gitkeep", ""),
            ("var/log/.keep", ""),
            ("var/run/.gitignore", "*"),
            ("docs/README.md", "uploads of manuals"),
            ("app/__init__.py", ""),
            ("app/local/.gitkeep", ""),
            ("mixed/a.txt", "a"),
            ("mixed/.gitkeep", ""),
            ("linked/.gitkeep", "a link"),
        ];
        let with = |more: &[(&'static str, &'static str)]| {
            let files: Vec<_> = both.iter().chain(more).copied().collect();
            commit(&repository, &files)
        };
        let live =
            with(&[("old/.gitkeep", ""), ("code/was.py", ""), ("code/.gitkeep", ""), ("text/README", "1")]);
        let target = with(&[("new/.gitkeep", ""), ("code/.gitkeep", ""), ("text/README", "2")]);
        let found = find(&repository, target, live).unwrap();
        let found: Vec<(&str, bool)> =
            found.iter().map(|kept| (kept.path.to_str().unwrap(), kept.in_target)).collect();
        let expected = [
            ("app/local", true),
            ("docs", true),
            ("media", true),
            ("new", true),
            ("old", false),
            ("var", true),
        ];
        assert_eq!(found, expected);
    }
}
