//! Where the new version writes: what it wrote into the staged tree is carried over, and what would lie there is migrated in
//! the live checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::django::SiteFacts;
use crate::git::{CarryWritten, StagedTree, Written, counted};

/// The records of what the steps `code`, `static` and `migrate` carried over, in the run's directory.
pub(super) const CODE: &str = "written-code.json";
pub(super) const STATIC: &str = "written-static.json";
pub(super) const MIGRATE: &str = "written-migrate.json";

/// How many paths a plan names.
const SHOWN: usize = 20;

/// What of the new version's data lies in the staged tree instead of the live checkout. All paths are from its top.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Apart {
    /// The files of the databases that are migrated.
    pub databases: Vec<DatabaseFile>,
    /// Directories of uploads that exist in the live checkout. What is written into others is carried over.
    pub uploads: Vec<PathBuf>,
}

/// The file of a database.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DatabaseFile {
    pub alias: String,
    pub path: PathBuf,
    /// Whether neither tree has it yet.
    pub is_new: bool,
}

impl Apart {
    /// Looks where a site that was booted in the staged tree keeps its data.
    pub(super) fn of(site: &SiteFacts, tree: &StagedTree, migrated: &[String]) -> Self {
        let databases = site.databases.iter().filter(|database| migrated.contains(&database.alias));
        let databases = databases.filter_map(|database| {
            let path = inside(database.file.as_deref()?, &tree.path)?;
            let is_new = !tree.path.join(&path).exists() && !tree.repository.join(&path).exists();
            Some(DatabaseFile { alias: database.alias.clone(), path, is_new })
        });
        let uploads = site.uploads.iter().filter_map(|directory| inside(directory, &tree.path));
        let is_live = |path: &PathBuf| tree.repository.join(path).symlink_metadata().is_ok();
        Apart { databases: databases.collect(), uploads: uploads.filter(is_live).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.uploads.is_empty()
    }

    /// Tells whether a database does not exist yet.
    pub(super) fn is_new(&self, alias: &str) -> bool {
        self.new_files().any(|file| file.alias == alias)
    }

    /// Returns the databases that do not exist yet.
    pub(super) fn new_files(&self) -> impl Iterator<Item = &DatabaseFile> {
        self.databases.iter().filter(|file| file.is_new)
    }

    /// Says which database is new, and of what is apart that Django boots in the window for it, if it does: after so long.
    pub(super) fn notice(&self, boot: Option<Duration>) -> Option<String> {
        let database = |file: &DatabaseFile, what| format!("the database `{}` {what}", file.path.display());
        let new = self.new_files().next().map(|file| database(file, "does not exist yet and starts empty"));
        let Some(boot) = boot else { return new };
        let unlinked =
            self.databases.first().map(|file| database(file, "is not linked into the staged tree"));
        let uploads = self.uploads.first().map(|directory| {
            format!("the uploads below `{}` are not linked into the staged tree", directory.display())
        });
        let what = new.or(unlinked).or(uploads)?;
        let seconds = boot.as_secs_f64().ceil();
        Some(format!("{what}: Django boots in the window to migrate (about {seconds} s)"))
    }
}

/// Returns where in a tree a path really lies, from its top; `None`: it leads out of it.
pub(super) fn inside(path: &Path, tree: &Path) -> Option<PathBuf> {
    let tree = fs::canonicalize(tree).ok()?;
    let (real, rest) = path.ancestors().find_map(|above| {
        let real = fs::canonicalize(above).ok()?;
        Some((real, path.strip_prefix(above).ok()?))
    })?;
    real.join(rest).strip_prefix(tree).ok().map(|inside| inside.components().collect())
}

/// What is carried over in the window.
#[derive(Debug)]
pub(super) struct Carrying {
    /// What the preparation wrote.
    pub found: Written,
    pub apart: Apart,
    /// `STATIC_ROOT`, where that is in the tree and not linked.
    pub static_root: Option<PathBuf>,
    pub tree: StagedTree,
    /// Paths of the tree that are handled elsewhere.
    pub excluded: Vec<PathBuf>,
    /// The run's.
    pub directory: PathBuf,
}

impl Carrying {
    fn carry(&self, record: &str) -> CarryWritten {
        CarryWritten {
            tree: self.tree.clone(),
            record: self.directory.join(record),
            looks: true,
            excluded: self.excluded.clone(),
            awaited: Vec::new(),
        }
    }

    /// Returns what carries over what the preparation wrote, if there is anything.
    pub(super) fn at_code(&self) -> Option<CarryWritten> {
        let is_other = |path: &PathBuf| !self.static_root.as_ref().is_some_and(|root| path.starts_with(root));
        let excluded = self.excluded.iter().chain(&self.static_root).cloned().collect();
        self.found.new.iter().any(is_other).then(|| CarryWritten { excluded, ..self.carry(CODE) })
    }

    /// Returns what carries over what it wrote into `STATIC_ROOT`, once the collected files are there.
    pub(super) fn at_static(&self) -> Option<CarryWritten> {
        let root = self.static_root.as_ref()?;
        let is_one = |path: &PathBuf| path.starts_with(root) || root.starts_with(path);
        self.found.new.iter().any(is_one).then(|| self.carry(STATIC))
    }

    /// Names what the preparation wrote.
    pub(super) fn details(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .found
            .new
            .iter()
            .map(|path| format!("+ {}, written by the new version's code", path.display()))
            .collect();
        if lines.len() > SHOWN {
            let more = counted(lines.len() - SHOWN, "more path");
            lines.truncate(SHOWN);
            lines.push(format!("+ … and {more}"));
        }
        lines
    }

    /// Tells whether the migrations run in a Django that is booted in the live checkout.
    pub(super) fn migrates_live(&self) -> bool {
        !self.apart.is_empty()
    }

    /// Returns what carries over what the migrations wrote; with a new database, what removes that again.
    pub(super) fn at_migrate(&self) -> CarryWritten {
        let awaited: Vec<PathBuf> = self.apart.new_files().map(|file| file.path.clone()).collect();
        CarryWritten { looks: !self.migrates_live(), awaited, ..self.carry(MIGRATE) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_lies_where_its_links_lead() {
        let top = tempfile::tempdir().unwrap();
        let [live, tree] = ["live", "tree"].map(|name| top.path().join(name));
        for directory in [live.join("media"), tree.join("data")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(live.join("db.sqlite3"), "").unwrap();
        symlink(live.join("media"), tree.join("media")).unwrap();
        symlink(live.join("db.sqlite3"), tree.join("db.sqlite3")).unwrap();
        let place = |path: &str| inside(&tree.join(path), &tree);
        assert_eq!(place("data/new.sqlite3"), Some(PathBuf::from("data/new.sqlite3")));
        assert_eq!(place("other/deep/new.sqlite3"), Some(PathBuf::from("other/deep/new.sqlite3")));
        assert_eq!((place("media"), place("media/new"), place("db.sqlite3")), (None, None, None));
        assert_eq!(inside(Path::new("/var/lib/media"), &tree), None);
    }
}
