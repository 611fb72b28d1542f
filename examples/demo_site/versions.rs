//! New versions of the demo site, pushed to its remote.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::{Error, copy_tree, io_error};
use super::{DemoSite, release_directory};

impl DemoSite {
    /// Commits a change to the newest version and pushes it; returns the new commit.
    pub fn publish(&self, change: impl FnOnce(&Path)) -> Result<String, Error> {
        self.publish_as("A new version", change)
    }

    /// Like [`DemoSite::publish`], with a message for the commit.
    pub fn publish_as(&self, message: &str, change: impl FnOnce(&Path)) -> Result<String, Error> {
        let scratch = self.newest()?;
        change(&scratch);
        self.git(&scratch, &["add", "-A"])?;
        self.git(&scratch, &["commit", "-q", "--allow-empty", "-m", message])?;
        self.git(&scratch, &["push", "-q", "origin", "HEAD:main"])?;
        Ok(self.git(&scratch, &["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Returns a checkout of what the remote has now, to commit in.
    pub fn newest(&self) -> Result<PathBuf, Error> {
        let scratch = self.scratch();
        self.git(&scratch, &["fetch", "-q", "origin", "main"])?;
        self.git(&scratch, &["reset", "-q", "--hard", "FETCH_HEAD"])?;
        Ok(scratch)
    }

    /// Publishes release 2: another package, three migrations, changed, new and removed static files, and a setting
    /// that wants [`NEW_SECRET`](super::NEW_SECRET).
    pub fn publish_release_2(&self) -> Result<String, Error> {
        let directory = release_directory(2);
        let deleted = directory.join("DELETED");
        let deleted =
            fs::read_to_string(&deleted).map_err(io_error(format!("read {}", deleted.display())))?;
        let mut copied = Ok(());
        let commit = self.publish_as("Release 2", |tree| {
            copied = copy_tree(&directory, tree);
            for path in deleted.lines().chain(["DELETED"]) {
                let _ = fs::remove_file(tree.join(path));
            }
        })?;
        copied.map(|()| commit)
    }
}
