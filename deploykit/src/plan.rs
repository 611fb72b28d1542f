//! What an update will do: steps with their actions and undos, all known before anything stops.

mod rehearsal;
mod step_kind;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::operations::{Change, Check};

pub use rehearsal::{DatabaseCopy, NotRehearsed, Rehearsal, RehearsedDatabase, RehearsedPage};
pub use step_kind::StepKind;

/// The parts of an update, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The site serves; nothing that it uses is touched.
    Prepare,
    /// Users are told; workers stop; the web still serves.
    Announce,
    /// The web is down, or its requests wait.
    Window,
    /// The web serves the new version; workers start.
    Finish,
    /// The run is over; what follows undoes nothing when it fails.
    After,
}

impl Phase {
    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Announce => "announce",
            Phase::Window => "window",
            Phase::Finish => "finish",
            Phase::After => "after",
        }
    }
}

/// One step of a plan. A step without actions is one that is not needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its kind, unique in the plan.
    pub id: StepKind,
    /// The part of the update that it belongs to.
    pub phase: Phase,
    /// What is done and why, or why nothing is.
    pub change: Change,
}

impl Step {
    /// Makes a step of what an operation answered.
    #[must_use]
    pub fn new(id: StepKind, check: Check) -> Self {
        Step { phase: id.phase().unwrap_or(Phase::Window), id, change: check.into_change() }
    }

    /// Makes a step of these actions, in this phase.
    #[must_use]
    pub fn with_actions(
        id: impl Into<StepKind>,
        phase: Phase,
        reason: &str,
        actions: Vec<Action>,
        undo: Vec<Action>,
    ) -> Self {
        let change = Change { reason: reason.to_owned(), actions, undo, ..Change::default() };
        Step { id: id.into(), phase, change }
    }

    /// Tells whether there is anything to do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.change.actions.is_empty()
    }
}

/// What an update will do. The default has no steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `production`, `staging` or `development`.
    pub environment: String,
    /// The commit that is live.
    pub from: String,
    /// The commit that will be; pinned, wherever the branch moves meanwhile.
    pub to: String,
    /// The finished update that it rolls back; `None`: it is an update itself.
    pub rolls_back: Option<String>,
    /// What hosts that serve one site must have in common: a digest of the target, the packages and the pending migrations; `None`
    /// in a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the code of the old version could fail at once the migrations are applied. `None`: nothing, so that several hosts
    /// that serve one site can be updated one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_code_risk: Option<String>,
    /// Whether it can be rolled back once it is finished; `None`: it is a rollback itself.
    #[serde(default)]
    pub rollback: Option<LaterRollback>,
    /// The result of the rehearsal; `None`: none was wanted, or there was nothing to rehearse.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
    /// The new version's web server, which waits at its gate; `None`: the web boots in the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<PlannedBridge>,
    /// The live version's second web server, which serves if the run is undone; `None`: the web boots in an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_bridge: Option<PlannedBridge>,
    /// When users are told that the site goes down; `None`: they are not told.
    pub starts: Option<Timestamp>,
    /// All steps after the preparation, in order.
    pub steps: Vec<Step>,
    /// What a person ought to know.
    pub notices: Vec<String>,
    /// How long the window is expected to be.
    pub forecast: Forecast,
    /// What keeps the site in maintenance when it can be brought neither back nor over.
    pub hold: Vec<Action>,
}

/// A web server that was started beforehand, beside the live one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBridge {
    /// How many workers wait at the gate.
    pub workers: usize,
    /// The memory that it takes until it ends, in bytes.
    pub memory_bytes: u64,
}

/// Whether a finished update can be rolled back, as far as its migrations are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterRollback {
    /// How.
    pub way: RollbackWay,
    /// Why its migrations cannot be reversed, where they cannot.
    pub reason: Option<String>,
}

/// How a finished update can be rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackWay {
    /// Its migrations can be reversed, as long as the values fit.
    Possible,
    /// Only by restoring the copy of the database; what is written after the copy is then lost.
    FromCopy,
    /// It cannot.
    Impossible,
}

/// Tells whether the web is stopped while another program holds its socket and no page is shown, so that requests wait.
#[must_use]
pub fn requests_wait(steps: &[Step]) -> bool {
    let is_held = |action: &Action| match action {
        Action::Service(service) => service.socket.holder.is_some(),
        _ => true,
    };
    let needed = |kind: StepKind| steps.iter().find(move |step| step.id == kind && step.is_needed());
    needed(StepKind::StopWeb).is_some_and(|stop| stop.change.actions.iter().all(is_held))
        && needed(StepKind::PageUp).is_none()
}

/// How long the window is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Milliseconds from the stop of the web to its first good page.
    pub window_ms: u64,
    /// How many earlier runs of this site its steps were looked up in; 0: it is a rule of thumb.
    pub runs: usize,
    /// Milliseconds that Django took to boot in the preparation; 0: not known.
    #[serde(default)]
    pub boot_ms: u64,
    /// The web server is started beforehand, so no visitor waits for its boot.
    #[serde(default)]
    pub bridged: bool,
    /// The web boots while the migrations run (`maintenance.start-early`).
    #[serde(default)]
    pub early: bool,
    /// The window holds one more boot of Django, for the migrations.
    #[serde(default)]
    pub boots_to_migrate: bool,
    /// How many migrations the window holds.
    #[serde(default)]
    pub migrations: usize,
    /// No earlier run tells how long migrations take on this site: they count as very short.
    #[serde(default)]
    pub unmeasured: bool,
}

impl Forecast {
    /// Returns it as a duration.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}

impl Plan {
    /// Returns the first step that cannot be undone, with the reason, if there is one.
    #[must_use]
    pub fn point_of_no_return(&self) -> Option<(&Step, &str)> {
        self.steps.iter().find_map(|step| Some((step, step.change.irreversible.as_deref()?)))
    }

    /// Returns the directories beside those of the site that were made for the plan, or that it leaves there.
    #[must_use]
    pub fn beside(&self) -> Vec<PathBuf> {
        if self.rolls_back.is_some() {
            // What a rollback swaps in was kept for it, and is needed again should it fail.
            return Vec::new();
        }
        let actions = self.steps.iter().flat_map(|step| &step.change.actions);
        let swapped = actions.filter_map(|action| match action {
            Action::Swap(swap) => Some(swap.aside.clone()),
            Action::PlaceFiles(placed) => Some(placed.aside.clone()),
            _ => None,
        });
        swapped.collect()
    }

    /// Tells whether requests wait while the web is stopped, instead of failing.
    #[must_use]
    pub fn requests_wait(&self) -> bool {
        requests_wait(&self.steps)
    }

    /// Tells whether the site goes down for it.
    #[must_use]
    pub fn has_window(&self) -> bool {
        self.steps.iter().any(|step| step.phase == Phase::Window && step.is_needed())
    }
}
