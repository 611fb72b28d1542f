//! One run per site: a lock that says who holds it, and dies with its process.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{OFlags, fcntl_setfl};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::host::files::{self, FileError, InPath};
use crate::host::processes::own_line;
use crate::host::{Host, users};
use crate::pause::{Paused, Pauses};

/// Polling interval while a run waits for the lock.
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
    /// Where it pauses; `None`: it does not.
    #[serde(default)]
    pub paused: Option<Box<Paused>>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}) since {:.0}: {}", self.user, self.pid, self.since, self.purpose)?;
        self.paused.as_ref().map_or(Ok(()), |paused| write!(f, ", {paused}"))
    }
}

/// Why the lock is not ours.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("the site is locked by {}", holder.as_ref().map_or("another run".to_owned(), Holder::to_string))]
    Held {
        /// Who, if it could be read.
        holder: Option<Holder>,
    },
    /// The run that has the lock started this process, as a step or a hook: it would wait for itself.
    #[error("this command was called inside the run that has locked the site: {holder}")]
    Inside {
        /// Who has the lock.
        holder: Holder,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A held lock; dropping it, or the end of the process, frees it.
///
/// The directory of the lock file is locked as well: removing the file, which looks like a leftover, releases nothing.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// `None`: the file system cannot lock directories, as NFS.
    _directory: Option<File>,
    path: PathBuf,
    holder: Holder,
}

impl Lock {
    /// Takes the lock; when another process has it, waits for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] with who holds it; [`LockError::Inside`], without a wait, when that process started this one;
    /// [`LockError::File`] when the file cannot be used.
    pub fn take(path: &Path, purpose: &str, patience: Duration, host: &Host) -> Result<Self, LockError> {
        let end = Instant::now() + patience.max(LEAST_PATIENCE);
        if let Some(holder) = Lock::holder(path).filter(|holder| is_above(holder.pid)) {
            return Err(LockError::Inside { holder });
        }
        let directory = files::parent(path);
        let directory = File::open(directory).at("open", directory)?;
        let directory = match wait_for(&directory, end, host) {
            Ok(true) => Some(directory),
            Ok(false) => return Err(LockError::Held { holder: Lock::holder(path) }),
            Err(_) => None,
        };
        let file = loop {
            let file = files::open_private(path)?;
            if !wait_for(&file, end, host).at("lock", path)? {
                return Err(LockError::Held { holder: Lock::holder(path) });
            }
            // After a wait, the file may be one that was removed meanwhile.
            if file.metadata().at("look at", path)?.ino() == files::inode(path).unwrap_or_default() {
                break file;
            }
        };
        // It is written in place.
        fcntl_setfl(&file, OFlags::empty()).at("open", path)?;
        let holder = Holder {
            user: users::own_name(),
            pid: std::process::id(),
            since: Timestamp::now(),
            purpose: purpose.to_owned(),
            paused: None,
        };
        let mut lock = Lock { file, _directory: directory, path: path.to_owned(), holder };
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

    /// Tells whether the process that holds the lock started this one, as a step or a hook.
    #[must_use]
    pub fn is_inside(path: &Path) -> bool {
        Lock::holder(path).is_some_and(|holder| is_above(holder.pid))
    }

    /// Returns who holds the lock; `None` when it is free or the holder is unknown. Takes nothing.
    #[must_use]
    pub fn holder(path: &Path) -> Option<Holder> {
        let file = File::open(path);
        let is_held = |file: &File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        if let Ok(mut file) = file
            && is_held(&file)
        {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            let holder: Holder = serde_json::from_str(&text).ok()?;
            let paused = Pauses::at(files::parent(path)).paused();
            let paused = paused.filter(|paused| u32::try_from(paused.process.pid) == Ok(holder.pid));
            return Some(Holder { paused: paused.map(Box::new), ..holder });
        }
        let directory = File::open(files::parent(path)).ok()?;
        is_held(&directory).then(|| nameless(&directory))
    }
}

/// Tells whether a process started this one, directly or not.
fn is_above(pid: u32) -> bool {
    pid != std::process::id() && i32::try_from(pid).is_ok_and(|pid| own_line().contains(&pid))
}

/// Waits until a file is locked; `false` when another process has it until the end, or the wait was interrupted.
fn wait_for(file: &File, end: Instant, host: &Host) -> std::io::Result<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end && host.wait(LOOK) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
}

/// Describes the holder of a lock whose file was removed: the kernel knows the process.
fn nameless(directory: &File) -> Holder {
    let inode = directory.metadata().map(|found| found.ino()).unwrap_or_default();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = locks.lines().find_map(|line| process_of(line, inode)).unwrap_or_default();
    let since = std::fs::metadata(format!("/proc/{pid}")).and_then(|found| found.modified());
    let since = since.ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now);
    let (user, purpose) = (users::own_name(), "a run whose lock file was removed".to_owned());
    Holder { user, pid, since, purpose, paused: None }
}

/// Reads a line of `/proc/locks`, such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:393217 0 EOF`.
fn process_of(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
    let (pid, file) = (words.next()?, words.next()?);
    (file.rsplit(':').next()?.parse() == Ok(inode)).then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_has_it_and_gets_it_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
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

    #[test]
    fn what_the_holder_started_does_not_wait_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut lock = Lock::take(&path, "update", Duration::ZERO, &Host::new()).unwrap();
        lock.holder.pid = std::os::unix::process::parent_id();
        lock.write().unwrap();
        let error = Lock::take(&path, "manage", Duration::from_secs(60), &Host::new()).unwrap_err();
        assert!(matches!(error, LockError::Inside { .. }), "{error}");
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_held_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let host = Host::new();
        let first = Lock::take(&path, "update", Duration::ZERO, &host).unwrap();
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            let error = Lock::take(&path, "recover", Duration::ZERO, &host).unwrap_err();
            assert!(matches!(error, LockError::Held { .. }), "{error}");
            let holder = Lock::holder(&path).unwrap();
            assert_eq!(
                (holder.pid, holder.purpose.as_str()),
                (std::process::id(), "a run whose lock file was removed")
            );
            // A person or another program may create it again.
            std::fs::write(&path, "").unwrap();
        }
        drop(first);
        assert_eq!(Lock::holder(&path), None);
        Lock::take(&path, "recover", Duration::ZERO, &host).unwrap();
    }

    #[test]
    fn a_file_that_was_removed_while_somebody_waited_for_it_is_not_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        // As an earlier version holds it, which locks the file alone.
        let first = files::open_private(&path).unwrap();
        first.lock().unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || Lock::take(&path, "second", Duration::from_secs(60), &Host::new()))
        };
        // The directory is locked by the second one as soon as it waits for the file.
        let directory = File::open(directory.path()).unwrap();
        while directory.try_lock_shared().is_ok() {
            directory.unlock().unwrap();
            std::thread::yield_now();
        }
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let _second = waiting.join().unwrap().unwrap();
        assert_eq!(Lock::holder(&path).unwrap().purpose, "second", "it holds the file that is there");
    }
}
