//! Whose a state directory is: a record of the site, the machine and the directory, written when it is first used.
//!
//! Journals name absolute paths. Obeyed in a copy, they would change the original.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{RunDirectory, State, order};
use crate::digest;
use crate::host::files::{self, FileError, InPath};
use crate::journal::{Entry, Journal, JournalError, is_finished};

/// The version of the record.
const VERSION: u32 = 1;

/// The name of the record, in the state directory.
const RECORD: &str = "site.json";

/// What `statfs` says of file systems whose inode numbers are not the same after the next mount: FUSE and 9P.
const UNSTABLE: [rustix::fs::FsWord; 2] = [0x6573_5546, 0x0102_1997];

/// Whose a state directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The version of the record.
    pub version: u32,
    /// A random number that the journals of its runs carry as well: no commit can know it.
    pub id: String,
    /// The state directory, without symbolic links.
    pub directory: PathBuf,
    /// The inode of the directory; `None`: the file system gives it another one at times.
    pub inode: Option<u64>,
    /// What identifies the machine; `None`: nothing does.
    pub machine: Option<String>,
    /// The configuration that used it first.
    pub configuration: PathBuf,
    /// The checkout, without symbolic links.
    pub repository: PathBuf,
    /// Who used it first.
    pub user: String,
    /// The newest run from before the record was made, whose journal does not contain the number.
    #[serde(default)]
    pub earlier: Option<String>,
}

/// Why a state directory is not this site's.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// It was made for another place: the directory was copied, moved or renamed.
    #[error("`{}` was made for the site in `{}`: it was copied or moved here", directory.display(), made_in.display())]
    Elsewhere {
        /// The state directory.
        directory: PathBuf,
        /// Where it was made.
        made_in: PathBuf,
    },
    /// It was made for another checkout.
    #[error("`{}` was made for the checkout `{}`, and the configuration names `{}`", directory.display(), made_for.display(), repository.display())]
    Repository {
        /// The state directory.
        directory: PathBuf,
        /// The checkout that it was made for.
        made_for: PathBuf,
        /// The checkout that the configuration names.
        repository: PathBuf,
    },
    /// It was made on another machine.
    #[error("`{}` was made on another machine", directory.display())]
    Machine {
        /// The state directory.
        directory: PathBuf,
    },
    /// It is a copy in the place of the original.
    #[error("`{}` is a copy of what was there before, as from a backup", directory.display())]
    Restored {
        /// The state directory.
        directory: PathBuf,
    },
    /// It has no record, and something in it names another site.
    #[error("`{}` does not say whose it is, and {what}", directory.display())]
    Unknown {
        /// The state directory.
        directory: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The record cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Owner {
    /// Describes this site, with a number of its own.
    ///
    /// # Errors
    ///
    /// When the directory cannot be looked at.
    pub fn here(state: &State, configuration: &Path, repository: &Path) -> Result<Self, FileError> {
        let directory = real(state.directory());
        let stable = rustix::fs::statfs(&directory).is_ok_and(|found| !UNSTABLE.contains(&found.f_type));
        let found = fs::metadata(&directory).at("look at", &directory)?;
        Ok(Owner {
            version: VERSION,
            id: random()?,
            inode: stable.then(|| found.ino()),
            machine: machine(),
            configuration: configuration.to_owned(),
            repository: real(repository),
            user: crate::host::users::own_name(),
            earlier: None,
            directory,
        })
    }

    /// Compares the record with the site that uses the directory now.
    ///
    /// # Errors
    ///
    /// When it is another one.
    pub fn compare(&self, here: &Owner) -> Result<(), OwnerError> {
        let directory = here.directory.clone();
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
        };
        if self.directory != here.directory {
            return Err(OwnerError::Elsewhere {
                directory,
                made_in: files::parent(&self.directory).to_owned(),
            });
        }
        if self.repository != here.repository {
            let (made_for, repository) = (self.repository.clone(), here.repository.clone());
            return Err(OwnerError::Repository { directory, made_for, repository });
        }
        if differ(&self.machine, &here.machine) {
            return Err(OwnerError::Machine { directory });
        }
        match (self.inode, here.inode) {
            (Some(recorded), Some(found)) if recorded != found => Err(OwnerError::Restored { directory }),
            _ => Ok(()),
        }
    }
}

impl State {
    /// Returns the record of whose it is; `None`: there is none yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn owner(&self) -> Result<Option<Owner>, FileError> {
        let path = self.directory.join(RECORD);
        let Some(bytes) = files::read_private(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).at("read", &path)
    }

    /// Writes the record.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_owner(&self, owner: &Owner) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(owner).unwrap_or_default();
        files::write_whole(&self.directory.join(RECORD), text.as_bytes(), 0o600)
    }

    /// Checks that this site may use it: it does not exist, it is recorded as this site's, or nothing in it contradicts
    /// that. Writes nothing.
    ///
    /// # Errors
    ///
    /// When it is, or may be, another site's.
    pub fn belongs_to(&self, configuration: &Path, repository: &Path) -> Result<Option<Owner>, OwnerError> {
        if files::look(&self.directory) == files::Found::Nothing {
            return Ok(None);
        }
        // What is in its place, and whose it is on the disk.
        files::own_directory(&self.directory, None)?;
        let here = Owner::here(self, configuration, repository)?;
        if let Some(owner) = self.owner()? {
            owner.compare(&here)?;
            return Ok(Some(owner));
        }
        self.names_only(&here)?;
        Ok(None)
    }

    /// Records this site as the owner unless that was done.
    ///
    /// # Errors
    ///
    /// When it is, or may be, another site's, or the record cannot be written.
    pub fn record_owner(&self, configuration: &Path, repository: &Path) -> Result<Owner, OwnerError> {
        if let Some(owner) = self.belongs_to(configuration, repository)? {
            return Ok(owner);
        }
        let mut owner = Owner::here(self, configuration, repository)?;
        owner.earlier = self.runs()?.pop().map(|run| run.name);
        self.set_owner(&owner)?;
        Ok(owner)
    }

    /// Returns the newest run if it is unfinished, no matter which site wrote it.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read.
    pub(crate) fn unfinished_of_anybody(&self) -> Result<Option<RunDirectory>, JournalError> {
        let newest = self.runs()?.into_iter().rev().find(|run| run.journal().exists());
        let is_over = |run: &RunDirectory| Journal::read(&run.journal()).map(|entries| is_finished(&entries));
        match newest {
            Some(run) if !is_over(&run)? => Ok(Some(run)),
            _ => Ok(None),
        }
    }

    /// Sets aside what names another site, and returns where it is: runs and what is known of them, and the virtualenvs if
    /// nothing here uses them. What names the checkout elsewhere in the staged tree that waits goes with it.
    ///
    /// # Errors
    ///
    /// When the system refuses; what was not moved yet still stands there, and it can be done again.
    pub(crate) fn set_aside(&self, virtualenvs: bool) -> Result<PathBuf, FileError> {
        let aside = self.directory.join("before");
        files::private_directory(&aside)?;
        let day = jiff::Zoned::now().strftime("%Y%m%d").to_string();
        let free = (1_u32..).map(|number| aside.join(format!("{day}-{number}"))).find(|path| !path.exists());
        let aside = free.unwrap_or(aside);
        files::private_directory(&aside)?;
        files::remove_tree(&self.staged_tree())?;
        // The record goes last: until then the directory is another site's.
        let names =
            ["runs", "current.json", "started.json", "beside.json", "plan.log", "environments", RECORD];
        for name in names.into_iter().filter(|name| virtualenvs || *name != "environments") {
            let path = self.directory.join(name);
            if files::look(&path) != files::Found::Nothing {
                files::rename(&path, &aside.join(name))?;
            }
        }
        self.create()?;
        Ok(aside)
    }

    /// Refuses a journal that was not written by this site: it lacks the number that only its record knows.
    pub(super) fn is_own(&self, run: &str, path: &Path, entries: &[Entry]) -> Result<(), JournalError> {
        let Some(owner) = self.owner()? else { return Ok(()) };
        if owner.earlier.as_deref().and_then(order) >= order(run) {
            return Ok(());
        }
        match entries.first() {
            Some(Entry::RunStarted { state: Some(id), .. }) if *id == owner.id => Ok(()),
            None => Ok(()),
            _ => Err(JournalError::Foreign { path: path.to_owned() }),
        }
    }

    /// Reads the journals from before the record was made: all that they name must be this site's.
    fn names_only(&self, here: &Owner) -> Result<(), OwnerError> {
        let wrong = |what| Err(OwnerError::Unknown { directory: here.directory.clone(), what });
        for run in self.runs()? {
            for path in [run.path.clone(), run.journal()] {
                let Ok(found) = fs::symlink_metadata(&path) else { continue };
                // What deploykit makes is for its owner alone; what a checkout makes is not.
                if found.is_symlink() || found.mode() & 0o077 != 0 {
                    return wrong(format!(
                        "others may read `{}`, which deploykit would not have made so",
                        path.display()
                    ));
                }
            }
            for named in named_in(&files::read_private(&run.journal())?.unwrap_or_default()) {
                let ours = match &named {
                    Named::State(path) => real(path) == here.directory,
                    Named::Repository(path) => real(path) == here.repository,
                };
                if !ours {
                    let (Named::State(path) | Named::Repository(path)) = named;
                    return wrong(format!("run {} names `{}`", run.name, path.display()));
                }
            }
        }
        Ok(())
    }
}

/// What a journal names of a site.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    State(PathBuf),
    Repository(PathBuf),
}

/// Returns the state directories and checkouts that a journal names.
fn named_in(journal: &[u8]) -> Vec<Named> {
    let mut named = Vec::new();
    for line in journal.split(|byte| *byte == b'\n') {
        // A torn line is as if it had not been written.
        if let Ok(entry) = serde_json::from_slice::<Value>(line) {
            look_for_names(&entry, &mut named);
        }
    }
    named
}

fn look_for_names(value: &Value, named: &mut Vec<Named>) {
    let mut add = |name: Named| {
        if !named.contains(&name) {
            named.push(name);
        }
    };
    match value {
        Value::String(text) => {
            let path = Path::new(text);
            if let Some(state) = state_above(path).filter(|_| path.is_absolute()) {
                add(Named::State(state.to_owned()));
            }
        }
        Value::Array(values) => values.iter().for_each(|value| look_for_names(value, named)),
        Value::Object(fields) => {
            if let Some(Value::String(path)) = fields.get("repository") {
                add(Named::Repository(path.into()));
            }
            fields.values().for_each(|value| look_for_names(value, named));
        }
        _ => {}
    }
}

/// Returns the state directory that a path leads into.
pub(crate) fn state_above(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.file_name().is_some_and(|name| name == ".deploykit"))
}

/// Returns a path without symbolic links, as far as it is there.
pub(crate) fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.components().collect())
}

/// Returns what identifies this machine, without showing its number to others.
fn machine() -> Option<String> {
    let text = fs::read_to_string("/etc/machine-id").ok()?;
    let id = Some(text.trim()).filter(|id| !id.is_empty() && *id != "uninitialized")?;
    let digest = Sha256::digest(format!("deploykit {id}").as_bytes());
    Some(digest::hex(&digest[..8]))
}

fn random() -> Result<String, FileError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).at("read", path)?;
    Ok(digest::hex(&bytes))
}

#[cfg(test)]
mod tests;
