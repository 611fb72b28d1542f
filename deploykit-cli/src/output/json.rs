//! The documents of `--json` that are not the library's own; `docs/json.md` describes them all.

use deploykit::action::Action;
use deploykit::internal::django::MigrationOnCopy;
use deploykit::internal::git::Commit;
use deploykit::internal::python::PackageChange;
use deploykit::operations::{Change, Check};
use deploykit::plan::{Forecast, LaterRollback, Phase, Plan, PlannedBridge, Rehearsal, StepKind};
use jiff::Timestamp;
use serde::Serialize;

use super::human::with_times;
use super::visible::line;

/// A document with the version of its form.
#[derive(Debug, Serialize)]
pub struct Document<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

impl<T> Document<T> {
    /// Returns what it says.
    pub fn body(&self) -> &T {
        &self.body
    }
}

/// Gives a document its version.
pub fn document<T: Serialize>(body: T) -> Document<T> {
    Document { version: 1, body }
}

/// What an update would do. What each step does in detail is the engine's own business and not part of it.
#[derive(Debug, Serialize)]
pub struct Planned<'p> {
    environment: &'p str,
    from: &'p str,
    to: &'p str,
    digest: Option<&'p str>,
    old_code_risk: Option<&'p str>,
    starts: Option<Timestamp>,
    forecast: Forecast,
    requests_wait: bool,
    bridge: Option<PlannedBridge>,
    old_bridge: Option<PlannedBridge>,
    point_of_no_return: Option<&'p str>,
    rollback: Option<&'p LaterRollback>,
    rehearsal: Option<&'p Rehearsal>,
    steps: Vec<PlannedStep<'p>>,
    notices: &'p [String],
}

/// One step of it.
#[derive(Debug, Serialize)]
struct PlannedStep<'p> {
    step: &'p StepKind,
    phase: Phase,
    needed: bool,
    #[serde(flatten)]
    told: Told,
    migrations: &'p [MigrationOnCopy],
    irreversible: Option<&'p str>,
}

impl<'p> From<&'p Plan> for Planned<'p> {
    fn from(plan: &'p Plan) -> Self {
        let steps = plan.steps.iter().map(|step| PlannedStep {
            step: &step.id,
            phase: step.phase,
            needed: step.is_needed(),
            told: Told::from(&step.change),
            migrations: &step.change.migrations,
            irreversible: step.change.irreversible.as_deref(),
        });
        Planned {
            environment: &plan.environment,
            from: &plan.from,
            to: &plan.to,
            digest: plan.digest.as_deref(),
            old_code_risk: plan.old_code_risk.as_deref(),
            starts: plan.starts,
            forecast: plan.forecast,
            requests_wait: plan.requests_wait(),
            bridge: plan.bridge,
            old_bridge: plan.old_bridge,
            rollback: plan.rollback.as_ref(),
            rehearsal: plan.rehearsal.as_ref(),
            point_of_no_return: plan.point_of_no_return().map(|(step, _)| step.id.as_str()),
            steps: steps.collect(),
            notices: &plan.notices,
        }
    }
}

/// What a change says: its texts, and the same as data.
#[derive(Debug, Default, Serialize)]
struct Told {
    reason: String,
    before: String,
    after: String,
    details: Vec<String>,
    commits: Vec<Commit>,
    packages: Vec<PackageChange>,
}

impl From<&Change> for Told {
    fn from(change: &Change) -> Self {
        let moved = change.actions.iter().find_map(|action| match action {
            Action::Checkout(checkout) => {
                Some([&checkout.from.commit, &checkout.to.commit].map(String::clone))
            }
            _ => None,
        });
        let [before, after] = moved.unwrap_or_else(|| [change.before.clone(), change.after.clone()]);
        let (reason, details) = (change.reason.clone(), change.details.clone());
        let (commits, packages) = (change.commits.clone(), change.packages.clone());
        Told { reason, before, after, details, commits, packages }
    }
}

/// What a one-liner did, or would do.
#[derive(Debug, Serialize)]
pub struct Done {
    version: u32,
    /// The operation: `git-update`.
    operation: &'static str,
    /// Whether anything was changed, or with `--check` would be.
    pub changed: bool,
    #[serde(flatten)]
    told: Told,
    /// What was there, and what is there now, for a person: ids of commits are short.
    #[serde(skip)]
    moved: [String; 2],
}

impl Done {
    pub fn new(operation: &'static str, check: &Check) -> Self {
        let (changed, told, moved) = match check {
            Check::Unchanged { reason } => {
                (false, Told { reason: reason.clone(), ..Told::default() }, <[String; 2]>::default())
            }
            Check::Change(change) => (true, change.into(), [change.before.clone(), change.after.clone()]),
        };
        Done { version: 1, operation, changed, told, moved }
    }

    /// Writes the same for a person.
    pub fn text(&self) -> String {
        if !self.changed {
            return format!("{}: nothing to do: {}\n", self.operation, with_times(&self.told.reason));
        }
        let moved = match &self.moved {
            [_, after] if after.is_empty() => String::new(),
            [before, after] if before.is_empty() => format!("{after}: "),
            [before, after] => format!("{before} → {after}: "),
        };
        let mut text = with_times(&format!("{}: {moved}{}\n", self.operation, self.told.reason)).into_owned();
        for detail in &self.told.details {
            text.push_str(&format!("  {}\n", line(&with_times(detail))));
        }
        text
    }
}
