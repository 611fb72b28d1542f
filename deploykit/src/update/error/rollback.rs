//! Why a rollback did not begin.

use std::path::PathBuf;

use thiserror::Error;

use crate::django::DjangoError;
use crate::git::Head;

/// Why a finished update cannot be rolled back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// There is none.
    #[error("there is no finished update to roll back")]
    Nothing,
    /// There is no such run.
    #[error("there is no run `{run}`")]
    Unknown {
        /// Its name.
        run: String,
    },
    /// The run is not a finished update, or was rolled back.
    #[error("run {run} cannot be rolled back: it failed, was rolled back, or is a rollback itself")]
    NotStanding {
        /// The run.
        run: String,
    },
    /// Another update came after it.
    #[error("run {run} is not the last update: {last} came after it")]
    NotTheLast {
        /// The run.
        run: String,
        /// The last finished update that was not rolled back.
        last: String,
    },
    /// The leader migrated the database that this host shares.
    #[error(
        "the leader migrated the database in run {run}: a rollback of this host alone would start the old version on the new schema"
    )]
    Follower {
        /// The run.
        run: String,
    },
    /// What its rollback needs is not there.
    #[error("what a rollback of run {run} needs is no longer kept: `{}` is missing", what.display())]
    Gone {
        /// The run.
        run: String,
        /// What is missing.
        what: PathBuf,
    },
    /// The checkout was moved.
    #[error("HEAD is at {found}, and run {run} left it at {left}")]
    HeadMoved {
        /// The run.
        run: String,
        /// Where it is.
        found: Box<Head>,
        /// Where it was.
        left: Box<Head>,
    },
    /// The virtualenv leads somewhere else.
    #[error("`{}` is not the virtualenv that run {run} left there", virtualenv.display())]
    VirtualenvMoved {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// The run.
        run: String,
    },
    /// Packages were installed or removed.
    #[error("packages were changed by hand since run {run}; undoing that changes {}", changes.join(", "))]
    PackagesChanged {
        /// The run.
        run: String,
        /// What would undo that.
        changes: Vec<String>,
    },
    /// Migrations were applied or reversed, or tables changed.
    #[error("the database is not as run {run} left it:\n{}", lines.join("\n"))]
    DatabaseMoved {
        /// The run.
        run: String,
        /// What differs.
        lines: Vec<String>,
    },
    /// Migrations cannot be reversed.
    #[error("the migrations cannot be reversed: {}", reasons.join("; "))]
    Irreversible {
        /// Why.
        reasons: Vec<String>,
        /// The copy from before the update, if deploykit can restore it.
        copy: Option<PathBuf>,
    },
    /// The reversal of the migrations fails on a copy of the database.
    #[error("the migrations cannot be reversed on a copy of the database; the site serves as before")]
    ReversalFails {
        /// Why.
        #[source]
        source: DjangoError,
        /// The copy from before the update, if deploykit can restore it.
        copy: Option<PathBuf>,
    },
    /// The previous version does not boot on a copy of the site, where the live version boots.
    #[error("the previous version does not boot on a copy of the site, which serves as before")]
    NoBoot {
        /// Why.
        #[source]
        source: DjangoError,
    },
    /// The update made no copy of the database.
    #[error("run {run} made no copy of the database")]
    NoCopy {
        /// The run.
        run: String,
    },
    /// No configured command restores a copy.
    #[error("the copy of the database `{}` cannot be restored without `database.restore-command`", copy.display())]
    CopyByHand {
        /// The copy.
        copy: PathBuf,
    },
}
