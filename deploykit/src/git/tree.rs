//! The files of a commit, read without checking them out.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid};

use super::error::{GitError, Reading};
use super::repository::{Repository, oid};

/// The files of a commit.
///
/// Texts are what the commit holds: filters (LFS, line ends) are not applied.
///
/// # Examples
///
/// ```no_run
/// use deploykit::internal::git::Tree;
/// use std::path::Path;
///
/// let tree = Tree::open(Path::new("/srv/site"), "4b825dc642cb6eb9a060e54bf8d69288fbee4904")?;
/// if let Some(text) = tree.text(Path::new("requirements.txt"))? {
///     assert!(text.contains("Django"));
/// }
/// # Ok::<(), deploykit::errors::GitError>(())
/// ```
pub struct Tree {
    repository: Repository,
    commit: Oid,
}

impl Tree {
    /// Opens the tree of a commit by its full id.
    ///
    /// # Errors
    ///
    /// When the repository cannot be opened, or has no such commit.
    pub fn open(repository: &Path, commit: &str) -> Result<Self, GitError> {
        let repository = Repository::open(repository)?;
        let commit = oid(commit)?;
        repository.tree(commit)?;
        Ok(Tree { repository, commit })
    }

    /// Returns the text of a file, decoded leniently; `None` when the commit has no file there. The text of a symbolic
    /// link is the path that it points to.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn text(&self, path: &Path) -> Result<Option<String>, GitError> {
        Ok(self.bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Returns the contents of a file; `None` when the commit has no file there.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn bytes(&self, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let tree = self.repository.tree(self.commit)?;
        let entry = match tree.get_path(path) {
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => entry,
            Ok(_) => return Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error).reading(format!("`{}`", path.display())),
        };
        let blob = self.repository.git2.find_blob(entry.id());
        let blob = blob.reading(format!("`{}` of `{}`", path.display(), self.commit))?;
        Ok(Some(blob.content().to_vec()))
    }

    /// Returns the paths of all files, from the top of the checkout; submodules are left out.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn paths(&self) -> Result<Vec<PathBuf>, GitError> {
        self.entries(ObjectType::Blob)
    }

    /// Returns the texts of the files that `wanted` picks by their path.
    ///
    /// # Errors
    ///
    /// When the object store cannot be read.
    pub fn texts(&self, mut wanted: impl FnMut(&Path) -> bool) -> Result<Vec<(PathBuf, String)>, GitError> {
        let mut texts = Vec::new();
        for path in self.paths()? {
            if wanted(&path)
                && let Some(text) = self.text(&path)?
            {
                texts.push((path, text));
            }
        }
        Ok(texts)
    }

    /// Returns the paths of the submodules.
    pub(crate) fn submodules(&self) -> Result<Vec<PathBuf>, GitError> {
        self.entries(ObjectType::Commit)
    }

    /// Tells whether the commit has a file, directory or submodule at this path.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.repository.tree(self.commit).is_ok_and(|tree| tree.get_path(path).is_ok())
    }

    /// Returns the blob that a path has.
    pub(crate) fn blob(&self, path: &Path) -> Result<Option<Oid>, GitError> {
        let entry = self.repository.tree(self.commit)?.get_path(path).ok();
        Ok(entry.filter(|entry| entry.kind() == Some(ObjectType::Blob)).map(|entry| entry.id()))
    }

    fn entries(&self, kind: ObjectType) -> Result<Vec<PathBuf>, GitError> {
        use std::os::unix::ffi::OsStrExt;
        let mut paths = Vec::new();
        let mut directories = vec![(PathBuf::new(), self.repository.tree(self.commit)?)];
        while let Some((directory, tree)) = directories.pop() {
            for entry in &tree {
                let path = directory.join(std::ffi::OsStr::from_bytes(entry.name_bytes()));
                if entry.kind() == Some(ObjectType::Tree) {
                    let inner = self.repository.git2.find_tree(entry.id());
                    directories.push((path.clone(), inner.reading(format!("`{}`", path.display()))?));
                } else if entry.kind() == Some(kind) {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        Ok(paths)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("repository", &self.repository.top)
            .field("commit", &self.commit)
            .finish()
    }
}

/// Returns the names below a directory that one of these commits tracks; none for a directory outside of the checkout.
///
/// # Errors
///
/// When a commit cannot be read.
pub(crate) fn tracked_below(
    repository: &Path,
    directory: &Path,
    commits: &[&str],
) -> Result<BTreeSet<String>, GitError> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (directory, top) = (whole(directory), whole(repository));
    let mut names = BTreeSet::new();
    let Ok(inside) = directory.strip_prefix(&top) else { return Ok(names) };
    for commit in commits {
        let tree = Tree::open(repository, commit)?;
        if inside.as_os_str().is_empty() || tree.holds(inside) {
            let paths = tree.paths()?;
            let below = paths.iter().filter_map(|path| path.strip_prefix(inside).ok());
            names.extend(below.map(crate::names::text));
        }
    }
    Ok(names)
}
