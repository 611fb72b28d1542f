//! What came of an update: for the caller, for the history, for a person the next morning.

mod failure;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Outcome;
use crate::plan::{Forecast, LaterRollback, Phase, Rehearsal, StepKind};

pub use failure::{Cause, Failure, FailureKind, error_tail, find_source};

/// What came of one run. Its JSON form is what `--json` prints and what the history keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form; 1.
    pub version: u32,
    /// The run; `None` when it ended before it had to change anything.
    pub run: Option<String>,
    /// `production`, `staging` or `development`.
    pub environment: String,
    /// The commit that served before.
    pub from: String,
    /// The commit that was wanted.
    pub to: String,
    /// The finished update that was to be rolled back; `None`: it was an update itself.
    #[serde(default)]
    pub rolls_back: Option<String>,
    /// Whether it can be rolled back, as its plan said; `None`: it was a rollback itself, or this is unknown.
    #[serde(default)]
    pub rollback: Option<LaterRollback>,
    /// The result of the rehearsal, as far as it came; `None`: none was wanted, or there was nothing to rehearse.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// From its beginning to its end.
    pub duration_ms: u64,
    /// From the stop of the web to its first good page.
    pub window_ms: Option<u64>,
    /// Requests waited meanwhile: another program held the web's socket, and no page was shown.
    #[serde(default)]
    pub requests_wait: bool,
    /// What was expected of the window.
    pub forecast: Option<Forecast>,
    /// The steps that were done, in order, with how long they took.
    pub steps: Vec<StepReport>,
    /// What failed, when something did.
    pub failure: Option<Failure>,
    /// What was said on the way.
    pub notices: Vec<String>,
    /// Files that have changed since the services started, which they read then; only where nothing was to do.
    #[serde(default, with = "crate::names::many")]
    pub unread: Vec<PathBuf>,
}

impl Report {
    /// Makes the report of a run of which only its beginning is known.
    pub(crate) fn begun(run: Option<String>, environment: String, started: Timestamp) -> Self {
        Report { run, environment, started, ..Report::default() }
    }
}

/// A report of version 1 that says nothing: interrupted, at the beginning of 1970.
impl Default for Report {
    fn default() -> Self {
        Report {
            version: 1,
            run: None,
            environment: String::new(),
            from: String::new(),
            to: String::new(),
            rolls_back: None,
            rollback: None,
            rehearsal: None,
            outcome: Outcome::Interrupted,
            started: Timestamp::UNIX_EPOCH,
            duration_ms: 0,
            window_ms: None,
            requests_wait: false,
            forecast: None,
            steps: Vec::new(),
            failure: None,
            notices: Vec::new(),
            unread: Vec::new(),
        }
    }
}

/// One step that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub step: StepKind,
    /// The part of the update.
    pub phase: Phase,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it was undone afterwards, or left nothing to undo.
    pub undone: bool,
    /// Whether it leaves the site unchanged, as a wait or a check does, so that there is nothing to undo.
    #[serde(default)]
    pub leaves_nothing: bool,
}
