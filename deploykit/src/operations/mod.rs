//! The six operations: each prepares beside the live site, and returns actions with their undo.
//!
//! An operation consists of settings only. [`prepare`](Operation::prepare) reads the present state, and builds beside the live
//! site what can be built there. [`change`](Operation::change) returns the change: the actions, their undo, and the texts
//! about them. [`apply`] performs the actions of a single operation, an [`Update`](crate::update::Update) those of all
//! operations.
//!
//! # Examples
//!
//! ```no_run
//! use deploykit::operations::{self, AnyOperation};
//! use deploykit::operations::git_update::GitUpdate;
//! use deploykit::operations::smoke_check::{Page, SmokeCheck};
//! use deploykit::Context;
//!
//! let pages = vec![Page::new("http://127.0.0.1:8000/")];
//! let all: Vec<Box<dyn AnyOperation>> =
//!     vec![Box::new(GitUpdate::new("/srv/site")), Box::new(SmokeCheck { pages, ..SmokeCheck::default() })];
//! for operation in &all {
//!     operations::apply(operation.as_ref(), &mut Context::default())?;
//! }
//! # Ok::<(), operations::ApplyError>(())
//! ```

pub mod django_manage;
pub mod git_update;
pub mod maintenance;
pub mod pip_install;
pub mod service_control;
pub mod smoke_check;

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::{Action, ActionError, Context, executor};
use crate::django::MigrationOnCopy;
use crate::error::error_chain;
use crate::git::{Commit, Exclude};
use crate::host::Host;
use crate::python::PackageChange;

/// A unit of work on a site.
pub trait Operation: Debug + Send + Sync {
    /// What was read and built beside the live site. Dropping it removes what only the preparation needed.
    type Prepared;
    /// Why it cannot say what it would do.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns its name: `git-update`.
    fn name(&self) -> &'static str;

    /// Reads the present state, and builds beside the live site what can be built there. Touches nothing that the site uses.
    ///
    /// # Errors
    ///
    /// When the facts cannot be observed, or when they forbid the change.
    fn prepare(&self, context: &mut Context) -> Result<Self::Prepared, Self::Error>;

    /// Says what would change, and why.
    fn change(&self, prepared: &Self::Prepared) -> Check;

    /// Keeps what the undo of a performed change needs. It is called unless all of the change was undone. By default everything is
    /// dropped.
    fn keep(&self, prepared: Self::Prepared) {
        drop(prepared);
    }

    /// Prepares, says what would change, and removes what was prepared.
    ///
    /// # Errors
    ///
    /// Like [`prepare`](Operation::prepare).
    fn check(&self, host: &Host) -> Result<Check, Self::Error> {
        let mut context = Context::from(host.clone());
        let check = self.prepare(&mut context).map(|prepared| self.change(&prepared));
        context.close();
        check
    }
}

/// Any operation, whatever its prepared type: for lists of operations.
pub trait AnyOperation: Debug + Send + Sync {
    /// Returns its name: `git-update`.
    fn name(&self) -> &'static str;

    /// Prepares the operation and performs its actions.
    ///
    /// # Errors
    ///
    /// See [`ApplyError`].
    fn apply(&self, context: &mut Context) -> Result<Check, ApplyError>;

    /// Says what it would change.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Prepare`].
    fn check(&self, host: &Host) -> Result<Check, ApplyError>;
}

impl<O: Operation> AnyOperation for O {
    fn name(&self) -> &'static str {
        Operation::name(self)
    }

    fn apply(&self, context: &mut Context) -> Result<Check, ApplyError> {
        let prepared = self.prepare(context).map_err(ApplyError::prepare)?;
        let check = self.change(&prepared);
        if let Check::Change(change) = &check {
            let performed = perform(change, context);
            if !matches!(performed, Err(ApplyError::Undone { .. })) {
                self.keep(prepared);
            }
            performed?;
        }
        Ok(check)
    }

    fn check(&self, host: &Host) -> Result<Check, ApplyError> {
        Operation::check(self, host).map_err(ApplyError::prepare)
    }
}

/// What an operation would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one for each step")]
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
    /// The commits that come or go, newest first; of a very large number only the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<Commit>,
    /// The packages that are added, removed or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageChange>,
    /// The migrations that were rehearsed, with their durations, locks and statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<MigrationOnCopy>,
    /// What is to be done, in order. Each action is a state to reach, so doing it twice does no harm.
    pub actions: Vec<Action>,
    /// What restores the previous state, in order; may be done twice, and after half of the actions.
    pub undo: Vec<Action>,
    /// Why this cannot be undone once it is done; `None`: it can.
    pub irreversible: Option<String>,
}

impl Check {
    /// Adds an action after all others; its undo comes first.
    pub(crate) fn then(self, action: Action, undo: Action) -> Self {
        let mut change = self.into_change();
        change.actions.push(action);
        change.undo.insert(0, undo);
        Check::Change(change)
    }

    /// Adds an action before all others; its undo comes last.
    pub(crate) fn first(self, action: Action, undo: Action) -> Self {
        let mut change = self.into_change();
        change.actions.insert(0, action);
        change.undo.push(undo);
        Check::Change(change)
    }

    /// Returns the change; without actions when nothing is to do.
    #[must_use]
    pub fn into_change(self) -> Change {
        match self {
            Check::Change(change) => change,
            Check::Unchanged { reason } => Change { reason, ..Change::default() },
        }
    }

    /// Hides from git what the change makes in a checkout, until it is undone.
    pub(crate) fn hiding(self, hides: Option<&(Exclude, Exclude)>) -> Self {
        match hides {
            Some((hide, show)) => self.first(Action::Exclude(hide.clone()), Action::Exclude(show.clone())),
            None => self,
        }
    }

    /// Removes `before` and `after` where the details say more.
    pub(crate) fn brief(self) -> Self {
        match self {
            Check::Change(change) => {
                Check::Change(Change { before: String::new(), after: String::new(), ..change })
            }
            unchanged @ Check::Unchanged { .. } => unchanged,
        }
    }

    /// Makes the answer that nothing is to do.
    pub(crate) fn unchanged(reason: impl Into<String>) -> Self {
        Check::Unchanged { reason: reason.into() }
    }
}

/// Makes one change of those of each database, in this order; undone in the reverse order. `several`: each is named.
pub(crate) fn of_databases(several: bool, changes: Vec<(&str, Change)>) -> Option<Change> {
    if !several {
        return changes.into_iter().next().map(|(_, change)| change);
    }
    let named = |alias: &str, text: &str| format!("`{alias}`: {text}");
    let mut whole = Change::default();
    let (mut reasons, mut irreversible) = (Vec::new(), Vec::new());
    for (alias, change) in changes {
        reasons.push(named(alias, &change.reason));
        irreversible.extend(change.irreversible.map(|reason| named(alias, &reason)));
        whole.details.extend(change.details.iter().map(|line| named(alias, line)));
        whole.migrations.extend(change.migrations);
        whole.actions.extend(change.actions);
        whole.undo.splice(0..0, change.undo);
    }
    whole.reason = reasons.join("; ");
    whole.irreversible = (!irreversible.is_empty()).then(|| irreversible.join("; "));
    (!reasons.is_empty()).then_some(whole)
}

/// An operation that failed, and whether its changes were undone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It could not be prepared; nothing was touched.
    #[error(transparent)]
    Prepare(Arc<dyn std::error::Error + Send + Sync>),
    /// An action failed, and everything was undone.
    #[error("all changes were undone because the operation failed")]
    Undone {
        /// What failed.
        #[source]
        failed: Box<ActionError>,
    },
    /// An action failed, and undoing it failed too.
    #[error("the changes could not be undone ({}) after the operation failed", error_chain(undo.as_ref()))]
    NotUndone {
        /// What failed.
        #[source]
        failed: Box<ActionError>,
        /// Why it could not be undone.
        undo: Box<ActionError>,
    },
}

impl ApplyError {
    fn prepare(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        ApplyError::Prepare(Arc::new(error))
    }
}

/// Prepares an operation and performs its actions; when one fails, everything is undone.
///
/// # Errors
///
/// See [`ApplyError`].
pub fn apply(operation: &dyn AnyOperation, context: &mut Context) -> Result<Check, ApplyError> {
    operation.apply(context)
}

/// Performs a change; when an action fails, everything is undone.
///
/// # Errors
///
/// See [`ApplyError`].
pub fn perform(change: &Change, context: &mut Context) -> Result<(), ApplyError> {
    let Err(failed) = executor::perform(&change.actions, context, |_| ()) else { return Ok(()) };
    let failed = Box::new(failed);
    Err(match undo(change, context) {
        Ok(()) => ApplyError::Undone { failed },
        Err(undo) => ApplyError::NotUndone { failed, undo: Box::new(undo) },
    })
}

/// Undoes a change.
///
/// # Errors
///
/// The first action that fails.
pub fn undo(change: &Change, context: &mut Context) -> Result<(), ActionError> {
    executor::undo(&change.undo, context)
}
