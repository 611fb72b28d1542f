//! Pauses of a run: it waits until another process lets it go on, or tells it to undo everything.
//!
//! Two files in the state directory belong to a run that can pause. In one, the run says that it waits; in the other, others say
//! how far it may go. Each names the process of the run, so neither is mistaken for that of another run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::warn;
use crate::host::files::{self, FileError};
use crate::host::{Host, ProcessId};
use crate::keys::written;

/// Polling interval of a run that waits.
const LOOK: Duration = Duration::from_millis(50);

/// Where a run can pause: what it has done by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausePoint {
    /// Everything that can be done while the old version serves.
    Prepared,
    /// Users are told, the announced time has come, and the timers and workers are stopped. The old version still serves.
    Quiet,
    /// The workers and the web are stopped.
    Stopped,
    /// The code, the packages and the static files are live.
    Placed,
    /// The migrations are applied.
    Migrated,
    /// The web is started, and its pages are as expected. The maintenance page is still shown.
    Started,
}

impl PausePoint {
    /// All of them, in the order of an update.
    pub const ALL: [PausePoint; 6] = [
        PausePoint::Prepared,
        PausePoint::Quiet,
        PausePoint::Stopped,
        PausePoint::Placed,
        PausePoint::Migrated,
        PausePoint::Started,
    ];

    /// Returns its name, such as `stopped`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PausePoint::Prepared => "prepared",
            PausePoint::Quiet => "quiet",
            PausePoint::Stopped => "stopped",
            PausePoint::Placed => "placed",
            PausePoint::Migrated => "migrated",
            PausePoint::Started => "started",
        }
    }
}

impl fmt::Display for PausePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PausePoint {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = PausePoint::ALL.into_iter().find(|point| point.as_str() == name);
        found.ok_or_else(|| {
            "expected `prepared`, `quiet`, `stopped`, `placed`, `migrated` or `started`".to_owned()
        })
    }
}

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Its process.
    pub process: ProcessId,
    /// What it has done.
    pub point: PausePoint,
    /// The digest of its plan, which hosts that serve one site must have in common.
    pub digest: String,
    /// Whether there is something to do between [`Placed`](PausePoint::Placed) and [`Migrated`](PausePoint::Migrated), for which other
    /// hosts have to wait.
    #[serde(default = "unknown")]
    pub migrates: bool,
    /// What the code of the old version could fail at once the migrations are applied, as in [`Plan`](crate::plan::Plan::old_code_risk).
    #[serde(default)]
    pub old_code_risk: Option<String>,
    /// Since when it waits.
    pub since: Timestamp,
    /// When it undoes everything, unless it is told to go on before.
    pub until: Timestamp,
}

/// What a run of an earlier deploykit migrates is not known: others wait.
fn unknown() -> bool {
    true
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "paused at `{}` since {:.0}; it rolls back at {:.0} unless it is continued",
            self.point, self.since, self.until
        )
    }
}

/// How far a run may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// To this point.
    Until(PausePoint),
    /// To its end.
    ToEnd,
    /// To its end, like others that serve the same site: if it fails, it waits before it is undone.
    Together,
    /// No further: everything is undone.
    Back,
}

/// An order on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    process: ProcessId,
    order: Order,
}

/// Why a run does not go on after a pause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PauseError {
    /// Nobody let it go on.
    #[error("nobody continued the run within {} (`site.pause-limit`)", written(*limit))]
    TooLong {
        /// How long it waited.
        limit: Duration,
    },
    /// It was told to undo everything.
    #[error("it was told to roll back")]
    Back,
    /// It failed, and nobody told it to undo everything.
    #[error(
        "nobody ordered the rollback within {} (`site.pause-limit`), and other hosts may serve the new version",
        written(*limit)
    )]
    NotOrdered {
        /// How long it waited.
        limit: Duration,
    },
    /// The end of the run was requested.
    #[error("the pause was interrupted")]
    Cancelled,
    /// The files of the pause cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The two files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    #[serde(with = "crate::names::one")]
    directory: PathBuf,
}

impl Pauses {
    /// Names them in a state directory.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Pauses { directory: directory.to_owned() }
    }

    /// Returns the run that waits; `None`: none does.
    #[must_use]
    pub fn paused(&self) -> Option<Paused> {
        let text = files::read_private(&self.paused_file()).ok()??;
        serde_json::from_slice(&text).ok().filter(|paused: &Paused| paused.process.is_alive())
    }

    /// Says how far the run of a process may go.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn give(&self, process: ProcessId, order: Order) -> Result<(), FileError> {
        let text = serde_json::to_string(&Given { process, order }).unwrap_or_default();
        files::write_whole(&self.order_file(), text.as_bytes(), 0o600)
    }

    /// Returns how far the run of a process may go; `None`: nobody has said.
    #[must_use]
    pub fn order(&self, process: ProcessId) -> Option<Order> {
        let text = files::read_private(&self.order_file()).ok()??;
        let given: Given = serde_json::from_slice(&text).ok()?;
        (given.process == process).then_some(given.order)
    }

    /// Removes both.
    ///
    /// # Errors
    ///
    /// When one cannot be removed.
    pub fn forget(&self) -> Result<(), FileError> {
        files::remove_file(&self.paused_file())?;
        files::remove_file(&self.order_file())
    }

    fn paused_file(&self) -> PathBuf {
        self.directory.join("paused.json")
    }

    fn order_file(&self) -> PathBuf {
        self.directory.join("order.json")
    }
}

/// Waits, if the run may not go further than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is done.
    pub point: PausePoint,
    /// The digest of the plan.
    pub digest: String,
    /// Whether there is something to do between [`Placed`](PausePoint::Placed) and [`Migrated`](PausePoint::Migrated).
    #[serde(default = "unknown")]
    pub migrates: bool,
    /// What the code of the old version could fail at, as the plan says.
    #[serde(default)]
    pub old_code_risk: Option<String>,
    /// Where it is said how far the run may go.
    pub pauses: Pauses,
    /// How long it waits.
    pub limit: Duration,
}

impl Pause {
    /// Waits, and says how long it waited.
    ///
    /// # Errors
    ///
    /// See [`PauseError`]; the run is then undone.
    pub fn perform(&self, host: &Host) -> Result<(), PauseError> {
        let process = ProcessId::own();
        // Dropped at the end of the pause.
        let mut paused = None;
        let since = Instant::now();
        loop {
            match self.pauses.order(process) {
                Some(Order::Back) => return Err(PauseError::Back),
                Some(Order::ToEnd | Order::Together) => break,
                Some(Order::Until(point)) if point > self.point => break,
                _ => {}
            }
            if since.elapsed() >= self.limit {
                return Err(PauseError::TooLong { limit: self.limit });
            }
            if paused.is_none() {
                paused = Some(self.wait_as(process)?);
            }
            if !host.wait(LOOK) {
                return Err(PauseError::Cancelled);
            }
        }
        host.say_outcome(&match paused {
            None => "the run may go further".to_owned(),
            Some(_) => format!("continued after {:.1} s", since.elapsed().as_secs_f64()),
        });
        Ok(())
    }

    /// Says that the run of a process waits, as long as the value lives.
    fn wait_as(&self, process: ProcessId) -> Result<Waits<'_>, FileError> {
        let since = Timestamp::now();
        let until = since.checked_add(self.limit).unwrap_or(Timestamp::MAX);
        let Pause { point, digest, migrates, old_code_risk, .. } = self.clone();
        let paused = Paused { process, point, digest, migrates, old_code_risk, since, until };
        let text = serde_json::to_string(&paused).unwrap_or_default();
        files::write_whole(&self.pauses.paused_file(), text.as_bytes(), 0o600)?;
        Ok(Waits(&self.pauses))
    }
}

/// Waits until the rollback is ordered, if the run was to end [together with others](Order::Together). These may serve the new
/// version already, and must not do so while this host serves the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitRollback {
    /// Where the order is found.
    pub pauses: Pauses,
    /// How long to wait.
    pub limit: Duration,
}

impl AwaitRollback {
    /// Tells whether this process has to wait. A recovery was ordered, and need not.
    pub(crate) fn is_due(&self) -> bool {
        self.pauses.order(ProcessId::own()) == Some(Order::Together)
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// [`PauseError::NotOrdered`]; the site is then held.
    pub fn perform(&self, host: &Host) -> Result<(), PauseError> {
        let since = Instant::now();
        while self.is_due() {
            if since.elapsed() >= self.limit || !host.wait(LOOK) {
                return Err(PauseError::NotOrdered { limit: self.limit });
            }
        }
        Ok(())
    }
}

/// Removes what says that a run waits.
struct Waits<'p>(&'p Pauses);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        warn(files::remove_file(&self.0.paused_file()));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn pause(directory: &Path, limit: Duration) -> Pause {
        let pauses = Pauses::at(directory);
        Pause {
            point: PausePoint::Placed,
            digest: "d".to_owned(),
            migrates: true,
            old_code_risk: None,
            pauses,
            limit,
        }
    }

    #[test]
    fn a_run_passes_a_pause_that_it_may_pass() {
        let directory = tempfile::tempdir().unwrap();
        let pause = pause(directory.path(), Duration::ZERO);
        let own = ProcessId::own();
        for order in [Order::ToEnd, Order::Until(PausePoint::Migrated)] {
            pause.pauses.give(own, order).unwrap();
            pause.perform(&Host::new()).unwrap();
        }
        for order in [Order::Until(PausePoint::Placed), Order::Until(PausePoint::Stopped)] {
            pause.pauses.give(own, order).unwrap();
            assert!(matches!(pause.perform(&Host::new()).unwrap_err(), PauseError::TooLong { .. }));
        }
        // Another run's order is not its own.
        pause.pauses.give(ProcessId { started: own.started + 1, ..own }, Order::ToEnd).unwrap();
        assert!(matches!(pause.perform(&Host::new()).unwrap_err(), PauseError::TooLong { .. }));
    }

    #[test]
    fn others_see_that_it_waits_and_tell_it_to_go_back() {
        let directory = tempfile::tempdir().unwrap();
        let pause = pause(directory.path(), Duration::from_secs(60));
        let own = ProcessId::own();
        pause.pauses.give(own, Order::Until(PausePoint::Prepared)).unwrap();
        assert_eq!(pause.pauses.paused(), None);
        let waiting = thread::spawn({
            let pause = pause.clone();
            move || pause.perform(&Host::new())
        });
        let found = loop {
            match pause.pauses.paused() {
                Some(found) => break found,
                None => thread::yield_now(),
            }
        };
        assert_eq!((found.process, found.point, found.digest.as_str()), (own, PausePoint::Placed, "d"));
        pause.pauses.give(own, Order::Back).unwrap();
        assert!(matches!(waiting.join().unwrap().unwrap_err(), PauseError::Back));
        assert_eq!(pause.pauses.paused(), None);
        pause.pauses.forget().unwrap();
        assert_eq!(pause.pauses.order(own), None);
    }

    #[test]
    fn points_have_their_names_and_the_order_of_an_update() {
        assert!(PausePoint::ALL.is_sorted());
        for point in PausePoint::ALL {
            assert_eq!(point.as_str().parse(), Ok(point));
            assert_eq!(serde_json::to_string(&point).unwrap(), format!("\"{point}\""));
        }
        assert!("nowhere".parse::<PausePoint>().is_err());
    }
}
