//! Steps that a tool adds to a plan.

use thiserror::Error;

use crate::action::Action;
use crate::operations::Change;
use crate::plan::{Phase, Step, StepKind};
use crate::update::Update;
use crate::update::past::Past;
use crate::update::recipe::mind_own_steps;

/// Why a step cannot be added to a plan.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InsertError {
    /// No step of a tool may follow that one.
    #[error("no step can be inserted after `{anchor}`")]
    NoAnchor {
        /// The step that was named.
        anchor: StepKind,
    },
    /// The plan does not have that step; those of the preparation are over.
    #[error("the plan has no step `{anchor}`")]
    NotPlanned {
        /// The step that was named.
        anchor: StepKind,
    },
    /// The name belongs to another step.
    #[error("there is a step `{step}` already")]
    Taken {
        /// The step that was to be inserted.
        step: StepKind,
    },
}

impl Update<'_> {
    /// Adds a step after another one, and after those that were added there before. The anchor is one of
    /// [`StepKind::anchors`] but for `finish`, or a step of the site's own; the step takes its phase from the anchor.
    ///
    /// The step is journalled, undone and recovered like any other: its actions and their undo are data, which another
    /// process performs after a crash. A [rollback](crate::update::rollback) of the finished update performs the recorded
    /// undo, too, also in another process. It does not if the step has no undo, is [irreversible](crate::Change::irreversible),
    /// or has actions other than to run programs, write and remove files, control services and wait; a notice of the plan says
    /// so. A rollback can be given a step of its own.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]; the plan is then as it was.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use deploykit::plan::{Step, StepKind};
    /// use deploykit::{Action, Change, Check};
    /// # fn insert(update: &mut deploykit::update::Update<'_>) -> Result<(), deploykit::update::InsertError> {
    ///
    /// let path = std::path::PathBuf::from("/srv/www/version");
    /// let change = Change {
    ///     reason: "the page footer shows the commit".to_owned(),
    ///     actions: vec![Action::WriteFile { path: path.clone(), contents: update.plan().to.clone(), mode: 0o644 }],
    ///     undo: vec![Action::WriteFile { path, contents: update.plan().from.clone(), mode: 0o644 }],
    ///     ..Change::default()
    /// };
    /// update.insert_after(&StepKind::Code, Step::new(StepKind::from("version"), Check::Change(change)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert_after(&mut self, anchor: &StepKind, step: Step) -> Result<(), InsertError> {
        let stays = self.plan.rolls_back.is_none() && changes(&step) && !is_reversible(&step);
        let notice = stays.then(|| format!("a later rollback does not undo the step `{}`", step.id));
        insert(&mut self.plan.steps, anchor, step)?;
        self.plan.notices.extend(notice);
        Ok(())
    }
}

/// Tells whether a step leaves something behind.
fn changes(step: &Step) -> bool {
    !step.change.actions.iter().all(Action::leaves_nothing)
}

/// Tells whether the rollback of the finished update can undo a step.
fn is_reversible(step: &Step) -> bool {
    let Change { actions, undo, irreversible, .. } = &step.change;
    let mut all = actions.iter().chain(undo);
    irreversible.is_none() && !undo.is_empty() && all.all(Action::outlives_its_run)
}

/// The steps of a tool, in a rollback of the finished update.
#[derive(Default)]
pub(super) struct Inserted {
    /// What undoes them, newest first, each with the built-in step that it followed in the update.
    pub undone: Vec<(StepKind, Step)>,
    /// What a person ought to know.
    pub notices: Vec<String>,
}

impl Inserted {
    /// Reverses the steps of a finished update that are not `known` from the configuration.
    pub(super) fn of(past: &Past, known: impl Fn(&StepKind) -> bool) -> Self {
        let mut found = Inserted::default();
        for (anchor, step) in past.own_steps() {
            if known(&step.id) || !changes(&step) {
                continue;
            }
            if !is_reversible(&step) {
                found.notices.push(format!("the step `{}` of the update is not undone", step.id));
                continue;
            }
            found.notices.extend(step.change.actions.iter().filter_map(|action| match action {
                Action::WriteFile { path, contents, .. } => {
                    let is_left = std::fs::read(path).is_ok_and(|found| found == contents.as_bytes());
                    (!is_left).then(|| {
                        format!("`{}` has changed since the step `{}` wrote it", path.display(), step.id)
                    })
                }
                _ => None,
            }));
            let change = Change {
                reason: format!("undoes the step of run {}", past.run.name),
                actions: step.change.undo,
                undo: step.change.actions,
                ..Change::default()
            };
            found.undone.push((anchor, Step { change, ..step }));
        }
        found
    }
}

fn insert(steps: &mut Vec<Step>, anchor: &StepKind, mut step: Step) -> Result<(), InsertError> {
    let is_own = |step: &Step| step.id.is_own();
    // What follows the end is in no journal, so that no rollback could undo it.
    let is_anchor = StepKind::anchors().any(|known| known == *anchor) && *anchor != StepKind::Finish;
    if !anchor.is_own() && !is_anchor {
        return Err(InsertError::NoAnchor { anchor: anchor.clone() });
    }
    if !is_own(&step) || steps.iter().any(|other| other.id == step.id) {
        return Err(InsertError::Taken { step: step.id });
    }
    let Some(at) = steps.iter().position(|step| step.id == *anchor) else {
        return Err(InsertError::NotPlanned { anchor: anchor.clone() });
    };
    if steps[at].phase == Phase::After {
        return Err(InsertError::NoAnchor { anchor: anchor.clone() });
    }
    step.phase = steps[at].phase;
    let own = steps[at + 1..].iter().take_while(|step| is_own(step)).count();
    steps.insert(at + 1 + own, step);
    mind_own_steps(steps);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Check;

    fn steps(names: &[&str]) -> Vec<Step> {
        names.iter().map(|name| Step::new(StepKind::from(*name), Check::unchanged(""))).collect()
    }

    fn names(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn steps_follow_their_anchor_in_the_order_of_their_insertion() {
        let mut plan = steps(&["stop-web", "code", "compress", "static", "start-workers"]);
        for (anchor, name) in
            [("code", "one"), ("code", "two"), ("start-workers", "last"), ("last", "very-last")]
        {
            insert(&mut plan, &anchor.into(), steps(&[name]).remove(0)).unwrap();
        }
        let expected =
            ["stop-web", "code", "compress", "one", "two", "static", "start-workers", "last", "very-last"];
        assert_eq!(names(&plan), expected);
        let phases: Vec<Phase> = plan[6..].iter().map(|step| step.phase).collect();
        assert_eq!(phases, [Phase::Finish; 3]);
    }

    #[test]
    fn a_wrong_anchor_or_name_changes_nothing() {
        let mut plan = steps(&["stop-web", "code", "compress"]);
        let mut error = |anchor: &str, name: &str| {
            let error = insert(&mut plan, &anchor.into(), steps(&[name]).remove(0)).unwrap_err().to_string();
            assert_eq!(names(&plan), ["stop-web", "code", "compress"]);
            error
        };
        assert_eq!(error("smoke-check", "one"), "no step can be inserted after `smoke-check`");
        assert_eq!(error("check", "one"), "the plan has no step `check`");
        assert_eq!(error("unknown", "one"), "the plan has no step `unknown`");
        assert_eq!(error("code", "compress"), "there is a step `compress` already");
        assert_eq!(error("code", "static"), "there is a step `static` already");
        plan[2].phase = Phase::After;
        let error = insert(&mut plan, &"compress".into(), steps(&["one"]).remove(0)).unwrap_err();
        assert_eq!(error.to_string(), "no step can be inserted after `compress`");
    }
}
