//! What came of an update: for the caller, for the history, for a person the next morning.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Outcome;
use crate::plan::{Forecast, LaterRollback, Phase};
use crate::services::NewLines;

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
    /// The finished update that was to be taken back; `None`: it was an update itself.
    #[serde(default)]
    pub rolls_back: Option<String>,
    /// Whether it can be rolled back, as its plan said; `None`: it was a rollback itself, or nobody knows.
    #[serde(default)]
    pub rollback: Option<LaterRollback>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// From its beginning to its end.
    pub duration_ms: u64,
    /// From the stop of the web to its first good page.
    pub window_ms: Option<u64>,
    /// Requests waited meanwhile: somebody else kept the web's socket, and no page was shown.
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
        Report {
            version: 1,
            run,
            environment,
            from: String::new(),
            to: String::new(),
            rolls_back: None,
            rollback: None,
            outcome: Outcome::Interrupted,
            started,
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
    pub step: String,
    /// The part of the update.
    pub phase: Phase,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it was undone afterwards, or left nothing to undo.
    pub undone: bool,
}

/// What failed, and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// The part of the update.
    pub phase: Phase,
    /// Why, with its causes, in one text.
    pub error: String,
    /// The last lines of the program that failed.
    pub tail: Vec<String>,
    /// Whether it was not a failure but a request to stop.
    pub interrupted: bool,
    /// The step that could not be undone, and why.
    pub undo: Option<(String, String)>,
    /// What the services and the site's log files say since the run began.
    pub logs: Vec<NewLines>,
    /// Where the whole output of the run is.
    pub transcript: Option<PathBuf>,
    /// The error itself, for whoever called the run.
    #[serde(skip)]
    pub cause: Cause,
}

/// An error as a value; a report that is read from the disk has none. What it says is the report's text, so all are equal.
#[derive(Clone, Debug, Default)]
pub struct Cause(Option<Arc<dyn Error + Send + Sync>>);

impl Cause {
    /// Keeps an error.
    pub fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Cause(Some(Arc::new(error)))
    }

    /// Returns the error, if it is known.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}

impl PartialEq for Cause {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
