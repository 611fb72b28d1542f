//! What happens during an update, as it happens: the library's only output besides what its functions return.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::{Phase, Rehearsal, StepKind};

/// Something that happened. The JSON form is one object with `event` as its tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// An update or a rollback began.
    RunStarted {
        /// Its name.
        run: String,
        /// The environment.
        environment: String,
        /// The live commit.
        from: String,
        /// The commit to come.
        to: String,
        /// The finished update that is rolled back; `None`: it is an update itself.
        #[serde(default)]
        rolls_back: Option<String>,
    },
    /// A part of the update began.
    PhaseStarted {
        /// The part.
        phase: Phase,
    },
    /// A step began.
    StepStarted {
        /// The part that it belongs to.
        phase: Phase,
        /// The step.
        step: StepKind,
        /// Why it is done.
        reason: String,
    },
    /// A step is not needed, or cannot be rehearsed, which may show only after it has started.
    StepSkipped {
        /// The part that it belongs to.
        phase: Phase,
        /// The step.
        step: StepKind,
        /// Why not.
        reason: String,
    },
    /// A step was done.
    StepFinished {
        /// The part that it belongs to.
        phase: Phase,
        /// The step.
        step: StepKind,
        /// What came of it, in a few words; may be empty.
        outcome: String,
        /// How long it took.
        duration_ms: u64,
    },
    /// A step failed.
    StepFailed {
        /// The part that it belongs to.
        phase: Phase,
        /// The step.
        step: StepKind,
        /// Why.
        error: String,
        /// The last lines of the program that failed.
        tail: Vec<String>,
    },
    /// The run waits until a time.
    Waiting {
        /// Until then.
        until: Timestamp,
        /// What for.
        reason: String,
    },
    /// What was done is being undone.
    UndoStarted {
        /// How many steps.
        steps: usize,
    },
    /// A step was undone.
    StepUndone {
        /// The step.
        step: StepKind,
        /// How long it took.
        duration_ms: u64,
    },
    /// A step could not be undone.
    UndoFailed {
        /// The step.
        step: StepKind,
        /// Why.
        error: String,
    },
    /// Something that a person ought to know.
    Notice {
        /// What.
        text: String,
    },
    /// The rehearsal is over.
    Rehearsed {
        /// What it came to.
        rehearsal: Box<Rehearsal>,
    },
    /// The end of the update.
    RunFinished {
        /// Its name.
        run: String,
        /// How it ended.
        outcome: Outcome,
        /// From its beginning to its end.
        duration_ms: u64,
        /// From the stop of the web to its first good page, when there was a window.
        window_ms: Option<u64>,
    },
}

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The new version serves.
    Updated,
    /// There was nothing to do.
    Unchanged,
    /// It ended before the site noticed anything.
    Refused,
    /// It failed, and the previous version serves again.
    RolledBack,
    /// It failed and could not be brought back: the site is held in maintenance.
    Held,
    /// It was stopped twice, in the middle of rolling back.
    Interrupted,
}

/// An event with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened.
    pub time: Timestamp,
    /// Milliseconds since the beginning of the run.
    pub elapsed_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Receives the events. An observer cannot fail a run. A closure is one; another observer is lent to an
/// update as `|record: &Record| observer.observe(record)`.
pub trait Observer: Send {
    /// Takes one event.
    fn observe(&mut self, record: &Record);
}

impl<F: FnMut(&Record) + Send> Observer for F {
    fn observe(&mut self, record: &Record) {
        self(record);
    }
}
