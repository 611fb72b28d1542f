//! What says which packages a site needs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::PythonError;
use super::lock::Lock;
use super::requirements::Requirements;

/// What says which packages are to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// Requirements files; absolute. An installer resolves them.
    Requirements(Vec<PathBuf>),
    /// A lock file: exactly its packages, and no others.
    Lock(Lock),
}

impl Wanted {
    /// Tells whether there is neither a requirements file nor a lock.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Wanted::Requirements(files) if files.is_empty())
    }

    /// Returns the files that say it: requirements files, or a lock and what it was made from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Wanted::Requirements(files) => files.clone(),
            Wanted::Lock(lock) => lock.files().unwrap_or_else(|_| vec![lock.file.clone()]),
        }
    }

    /// Reads what can be known without a program.
    pub(crate) fn read(&self, directory: &Path, extra_args: &[String]) -> Result<Requirements, PythonError> {
        match self {
            Wanted::Requirements(files) => Requirements::read(files, directory, extra_args),
            Wanted::Lock(lock) => {
                let fingerprint = lock.fingerprint(extra_args)?;
                Ok(Requirements { files: lock.files()?, fingerprint, ..Requirements::default() })
            }
        }
    }
}

/// What is compared with the installed packages: `the requirements`, `` `uv.lock` ``.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Requirements(_) => f.write_str("the requirements"),
            Wanted::Lock(lock) => {
                write!(f, "`{}`", lock.file.file_name().unwrap_or_default().to_string_lossy())
            }
        }
    }
}

impl From<Vec<PathBuf>> for Wanted {
    fn from(files: Vec<PathBuf>) -> Self {
        Wanted::Requirements(files)
    }
}

impl From<Lock> for Wanted {
    fn from(lock: Lock) -> Self {
        Wanted::Lock(lock)
    }
}
