//! The six typed operations: each looks, decides, and answers with actions and their undo.
//!
//! An operation is settings and nothing else. Its `check` observes facts, hands them to a pure decision, and returns what
//! would change and why; it changes nothing. Whoever wants the change performs the returned actions: [`apply`] for one
//! operation alone, the [`runner`](crate::runner) for a whole update.

pub mod django_manage;
pub mod git_update;
pub mod maintenance;
pub mod pip_install;
pub mod service_control;
pub mod smoke_check;

use std::fmt::Debug;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::{Action, ActionError, Context, executor};
use crate::git::Exclude;
use crate::host::Host;

/// A unit of work on a site.
pub trait Operation: Debug {
    /// Why it cannot say what it would do.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns its name: `git-update`.
    fn name(&self) -> &'static str;

    /// Says what would change, and why; changes nothing.
    ///
    /// # Errors
    ///
    /// When the facts cannot be observed, or when they forbid the change.
    fn check(&self, host: &Host) -> Result<Check, Self::Error>;
}

/// What an operation would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Everything is as it should be.
    Unchanged {
        /// Why nothing is to do, as a fragment: "no new commits on origin/main".
        reason: String,
    },
    /// Something is to do.
    Change(Change),
}

/// What an operation would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Why, as a fragment: "3 new commits on origin/main".
    pub reason: String,
    /// What is there now, in a few words.
    pub before: String,
    /// What will be there, in a few words.
    pub after: String,
    /// Lines for a person: commits, packages, migrations.
    pub details: Vec<String>,
    /// What is to be done, in order. Each action is a state to reach, so doing it twice does no harm.
    pub actions: Vec<Action>,
    /// What brings the state of before back, in order; safe twice, and after half of the actions.
    pub undo: Vec<Action>,
    /// Why this cannot be taken back once it is done, when it cannot.
    pub irreversible: Option<String>,
}

/// An operation that failed, and whether the state of before is back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApplyError<E: std::error::Error + 'static> {
    /// It could not be planned; nothing was touched.
    #[error(transparent)]
    Check(E),
    /// An action failed, and everything was taken back.
    #[error("{failed}; what was done is undone")]
    Undone {
        /// What failed.
        failed: Box<ActionError>,
    },
    /// An action failed, and taking it back failed too.
    #[error("{failed}; undoing it failed as well: {undo}")]
    NotUndone {
        /// What failed.
        failed: Box<ActionError>,
        /// Why it could not be undone.
        undo: Box<ActionError>,
    },
}

/// Checks an operation and performs what it asks for; when an action fails, everything is taken back.
///
/// # Errors
///
/// See [`ApplyError`].
pub fn apply<O: Operation>(operation: &O, context: &mut Context) -> Result<Check, ApplyError<O::Error>> {
    let check = operation.check(&context.host).map_err(ApplyError::Check)?;
    if let Check::Change(change) = &check {
        perform(change, context)?;
    }
    Ok(check)
}

/// Hides from git what a change makes in a checkout, for as long as it is there.
pub(crate) fn hide(change: &mut Change, paths: &[PathBuf]) {
    if let Some((there, back)) = Exclude::pair(paths) {
        change.actions.insert(0, Action::Exclude(there));
        change.undo.push(Action::Exclude(back));
    }
}

/// Performs a change that was checked before; when an action fails, everything is taken back.
///
/// # Errors
///
/// See [`ApplyError`].
pub fn perform<E: std::error::Error>(change: &Change, context: &mut Context) -> Result<(), ApplyError<E>> {
    let Err(failed) = executor::perform(&change.actions, context, |_| ()) else { return Ok(()) };
    let failed = Box::new(failed);
    Err(match undo(change, context) {
        Ok(()) => ApplyError::Undone { failed },
        Err(undo) => ApplyError::NotUndone { failed, undo: Box::new(undo) },
    })
}

/// Takes a change back.
///
/// # Errors
///
/// The first action that fails.
pub fn undo(change: &Change, context: &mut Context) -> Result<(), ActionError> {
    executor::undo(&change.undo, context)
}
