//! The documents of `--json` that are not the library's own; `docs/json.md` describes them all.

use deploykit::operations::Check;
use deploykit::plan::{Forecast, LaterRollback, Phase, Plan, StepKind};
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
    starts: Option<Timestamp>,
    forecast: Forecast,
    requests_wait: bool,
    point_of_no_return: Option<&'p str>,
    rollback: Option<&'p LaterRollback>,
    steps: Vec<PlannedStep<'p>>,
    notices: &'p [String],
}

/// One step of it.
#[derive(Debug, Serialize)]
struct PlannedStep<'p> {
    step: &'p StepKind,
    phase: Phase,
    needed: bool,
    reason: &'p str,
    before: &'p str,
    after: &'p str,
    details: &'p [String],
    irreversible: Option<&'p str>,
}

impl<'p> From<&'p Plan> for Planned<'p> {
    fn from(plan: &'p Plan) -> Self {
        let steps = plan.steps.iter().map(|step| PlannedStep {
            step: &step.id,
            phase: step.phase,
            needed: step.is_needed(),
            reason: &step.change.reason,
            before: &step.change.before,
            after: &step.change.after,
            details: &step.change.details,
            irreversible: step.change.irreversible.as_deref(),
        });
        Planned {
            environment: &plan.environment,
            from: &plan.from,
            to: &plan.to,
            starts: plan.starts,
            forecast: plan.forecast,
            requests_wait: plan.requests_wait(),
            rollback: plan.rollback.as_ref(),
            point_of_no_return: plan.point_of_no_return().map(|(step, _)| step.id.as_str()),
            steps: steps.collect(),
            notices: &plan.notices,
        }
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
    /// Why, or why not.
    reason: String,
    /// What was there.
    before: String,
    /// What is there, or would be.
    after: String,
    /// Commits, packages, migrations.
    details: Vec<String>,
}

impl Done {
    pub fn new(operation: &'static str, check: &Check) -> Self {
        match check {
            Check::Unchanged { reason } => Done {
                version: 1,
                operation,
                changed: false,
                reason: reason.clone(),
                before: String::new(),
                after: String::new(),
                details: Vec::new(),
            },
            Check::Change(change) => Done {
                version: 1,
                operation,
                changed: true,
                reason: change.reason.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
                details: change.details.clone(),
            },
        }
    }

    /// Writes the same for a person.
    pub fn text(&self) -> String {
        if !self.changed {
            return format!("{}: nothing to do: {}\n", self.operation, with_times(&self.reason));
        }
        let moved = match (self.before.is_empty(), self.after.is_empty()) {
            (false, false) => format!("{} → {}: ", self.before, self.after),
            (true, false) => format!("{}: ", self.after),
            _ => String::new(),
        };
        let mut text = with_times(&format!("{}: {moved}{}\n", self.operation, self.reason)).into_owned();
        for detail in &self.details {
            text.push_str(&format!("  {}\n", line(&with_times(detail))));
        }
        text
    }
}
