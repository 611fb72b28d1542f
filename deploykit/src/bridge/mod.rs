//! A second web server, started beside the live one on the same listening socket: a bridge. Its workers wait at a gate.
//!
//! It is a gunicorn, uvicorn or hypercorn. A bridge of the new version sees the staged tree, the staged static files and the new packages
//! at the live paths, in a mount namespace of its own, until its gate opens; one of the live version needs no namespace. A bridge outlives
//! this process: while its gate is shut, it ends by itself once its owner has ended; afterwards it serves until it is told to end.

mod boot;
mod error;
mod web;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub(crate) use boot::{Boot, Booted, Bridges};
pub use error::BridgeError;
pub(crate) use error::Unfit;
pub(crate) use web::Web;

use crate::host::files::{self, FileError, InPath};
use crate::host::processes::{self, with_descendants};
use crate::services::ProcessId;

/// How often a file or the end of a process is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// How long a killed process may take to end.
const KILLED: Duration = Duration::from_secs(10);

/// How long the gate may take to open.
const OPENS: Duration = Duration::from_secs(10);

/// A web server that was started beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// What it says of itself, and its gate.
    #[serde(with = "crate::names::one")]
    pub directory: PathBuf,
    /// Where its output goes.
    #[serde(with = "crate::names::one")]
    pub log: PathBuf,
    /// Its main process, whose number is also that of its process group.
    pub main: ProcessId,
    /// The process that may open the gate.
    pub owner: ProcessId,
    /// The boot of the machine that they belong to.
    pub boot: String,
    /// How long its requests may take to end; then it is killed.
    #[serde(rename = "stop_timeout_ms", with = "crate::millis")]
    pub stop_timeout: Duration,
}

impl Bridge {
    /// Tells whether its main process lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot == processes::boot() && self.main.is_alive()
    }

    /// Tells whether its workers serve.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_alive() && self.directory.join("free").exists()
    }

    /// Tells whether this process may open the gate.
    pub(crate) fn is_ours(&self) -> bool {
        ProcessId::own() == self.owner
    }

    /// Opens the gate, and returns once the workers serve. Does nothing if it is open.
    ///
    /// # Errors
    ///
    /// When it has ended, or belongs to a process that has.
    pub(crate) fn open(&self) -> Result<(), BridgeError> {
        if !self.is_alive() {
            return Err(self.ended());
        }
        let open = self.directory.join("gate");
        if !open.exists() {
            if !self.is_ours() {
                return Err(BridgeError::NotOurs);
            }
            files::write_whole(&open, b"", 0o600)?;
        }
        let since = Instant::now();
        while !self.is_open() {
            if !self.is_alive() {
                return Err(self.ended());
            }
            if since.elapsed() > OPENS {
                return Err(BridgeError::Shut { after: OPENS, log: self.log.clone() });
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Tells the bridge to finish its requests and to end, and kills it after [`Bridge::stop_timeout`]. Returns once none of its
    /// processes is left.
    ///
    /// # Errors
    ///
    /// When one of them cannot be ended, even 10 s after it was killed.
    pub fn end(&self) -> Result<(), BridgeError> {
        if self.boot != processes::boot() {
            return self.remove();
        }
        let family = || -> Vec<ProcessId> {
            with_descendants(&[self.main]).into_iter().filter(ProcessId::is_alive).collect()
        };
        let mut left = family();
        let refused = |source: rustix::io::Errno| BridgeError::Stays { source: source.into() };
        // Without their main process, nobody else tells the others.
        let first = if self.main.is_alive() { vec![self.main] } else { left.clone() };
        first.iter().try_for_each(|process| process.signal(Signal::TERM)).map_err(refused)?;
        let since = Instant::now();
        while !left.is_empty() {
            if since.elapsed() > self.stop_timeout + KILLED {
                return Err(refused(rustix::io::Errno::TIMEDOUT));
            }
            if since.elapsed() > self.stop_timeout {
                left.iter().try_for_each(|process| process.signal(Signal::KILL)).map_err(refused)?;
            }
            std::thread::sleep(LOOK);
            left.retain(ProcessId::is_alive);
            if left.is_empty() {
                // They may have started others.
                left = family();
            }
        }
        self.remove()
    }

    fn ended(&self) -> BridgeError {
        BridgeError::Ended { log: self.log.clone() }
    }

    fn remove(&self) -> Result<(), BridgeError> {
        Ok(files::remove_tree(&self.directory)?)
    }

    /// Returns the bridge in a directory; `None`: there is none.
    ///
    /// # Errors
    ///
    /// When its record cannot be read.
    pub fn left_in(directory: &Path) -> Result<Option<Self>, FileError> {
        let path = directory.join("bridge.json");
        let Some(text) = files::read(&path).at("read", &path)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(std::io::Error::from).at("read", &path)
    }
}
