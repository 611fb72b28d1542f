//! One run per site: a lock that says who holds it, and dies with its process.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{OFlags, fcntl_setfl};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::host::Host;
use crate::host::files::{self, FileError, InPath};

/// How often a waiting run looks whether the lock is free.
const LOOK: Duration = Duration::from_millis(50);

/// How long everybody waits: a reader that asks who holds the lock has it for an instant.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The user.
    pub user: String,
    /// The process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// What for: `update to 3f2a9c1`.
    pub purpose: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        write!(f, "{} (process {}) since {since}: {}", self.user, self.pid, self.purpose)
    }
}

/// Why the lock is not ours.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else has it.
    #[error("the site is locked by {}", holder.as_ref().map_or("another run".to_owned(), Holder::to_string))]
    Held {
        /// Who, if it could be read.
        holder: Option<Holder>,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A held lock; dropping it, or the end of the process, frees it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    holder: Holder,
}

impl Lock {
    /// Takes the lock; when somebody has it, waits for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] with who holds it; [`LockError::File`] when the file cannot be used.
    pub fn take(path: &Path, purpose: &str, patience: Duration, host: &Host) -> Result<Self, LockError> {
        let file = files::open_private(path)?;
        // It is written in place.
        fcntl_setfl(&file, OFlags::empty()).at("open", path)?;
        let end = Instant::now() + patience.max(LEAST_PATIENCE);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end && host.wait(LOOK) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: Lock::holder(path) }),
                Err(TryLockError::Error(source)) => {
                    return Err(FileError { what: "lock", path: path.to_owned(), source }.into());
                }
            }
        }
        let holder = Holder {
            user: user_name(),
            pid: std::process::id(),
            since: Timestamp::now(),
            purpose: purpose.to_owned(),
        };
        let mut lock = Lock { file, path: path.to_owned(), holder };
        lock.write()?;
        Ok(lock)
    }

    /// Says what the lock is held for now.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn set_purpose(&mut self, purpose: &str) -> Result<(), LockError> {
        purpose.clone_into(&mut self.holder.purpose);
        self.write()
    }

    fn write(&mut self) -> Result<(), LockError> {
        let text = serde_json::to_string(&self.holder).unwrap_or_default();
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            // Made empty first, it would be written to the disk when it is closed.
            self.file.set_len(text.len() as u64)
        };
        write().at("write", &self.path)?;
        Ok(())
    }

    /// Returns who holds the lock; `None` when it is free or nobody can tell. Takes nothing.
    #[must_use]
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut file = File::open(path).ok()?;
        if file.try_lock_shared().is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// Returns the name of the user who runs this process, or its number.
pub(crate) fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    std::fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
            })
        })
        .unwrap_or_else(|| format!("user {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_has_it_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let host = Host::new();
        let mut first = Lock::take(&path, "update", Duration::ZERO, &host).unwrap();
        first.set_purpose("update to 3f2a9c1").unwrap();
        let error = Lock::take(&path, "update", Duration::ZERO, &host).unwrap_err();
        let message = error.to_string();
        assert!(message.ends_with(": update to 3f2a9c1"), "{message}");
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        assert!(Lock::holder(&path).is_some());
        drop(first);
        assert_eq!(Lock::holder(&path), None);
        let _second = Lock::take(&path, "update", Duration::ZERO, &host).unwrap();
        assert_eq!(
            Lock::holder(&path).unwrap().purpose,
            "update",
            "nothing is left of what stood there before"
        );
    }
}
