//! Updates a checkout to the newest commit of its branch, and undoes that.
//!
//! It makes a repository and its clone in a temporary directory.
//!
//! ```sh
//! cargo run -p deploykit --example git_update
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use deploykit::operations::{self, git_update::GitUpdate};
use deploykit::{Check, Context, Host};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (upstream, site) = (directory.path().join("upstream"), directory.path().join("site"));
    git(directory.path(), &["init", "-q", "--initial-branch=main", "upstream"])?;
    commit(&upstream, "release 1")?;
    git(directory.path(), &["clone", "-q", "upstream", "site"])?;
    commit(&upstream, "release 2")?;

    let host = Host::new();
    let update = GitUpdate { branch: "main".into(), ..GitUpdate::new(&site) };
    update.fetch(&host)?;
    let mut context = Context::from(host);
    let Check::Change(change) = operations::apply(&update, &mut context)? else {
        return Err("the new commit was not found".into());
    };
    println!("{} → {}: {}", change.before, change.after, change.reason);
    assert_eq!(fs::read_to_string(site.join("version"))?, "release 2");

    operations::undo(&change, &mut context)?;
    assert_eq!(fs::read_to_string(site.join("version"))?, "release 1");
    println!("undone: {}", change.before);
    Ok(())
}

fn commit(repository: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::write(repository.join("version"), text)?;
    git(repository, &["add", "version"])?;
    git(repository, &["-c", "user.name=You", "-c", "user.email=you@example.org", "commit", "-qm", text])
}

fn git(directory: &Path, args: &[&str]) -> Result<(), Box<dyn Error>> {
    let status = Command::new("git").arg("-C").arg(directory).args(args).status()?;
    if status.success() { Ok(()) } else { Err(format!("git {args:?} failed").into()) }
}
