//! Why an update did not begin.

use std::error::Error;
use std::path::PathBuf;

use thiserror::Error;

use crate::git::counted;
use crate::host::files::FileError;
use crate::journal::JournalError;
use crate::lock::LockError;
use crate::report::Report;
use crate::secrets::Missing;

/// Why an update did not begin; the site noticed nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Another run has the lock.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// An earlier run was cut off, or is held for a person.
    #[error("run {run} is unfinished: it was cut off, or the site is held in maintenance")]
    Unfinished {
        /// The run.
        run: String,
    },
    /// An unfinished run cannot be finished, only undone.
    #[error("run {run} can only go back: {reason}")]
    NoWayForward {
        /// The run.
        run: String,
        /// Why.
        reason: &'static str,
    },
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] FileError),
    /// A journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A step of the preparation failed.
    #[error("step `{step}` failed")]
    Prepare {
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
        /// What is kept in the history.
        report: Box<Report>,
    },
}

/// What can be wrong with the new version, beside what its parts say themselves.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PreparationError {
    /// The code asks for secrets that the file lacks.
    #[error("secrets are missing in `{}`: {}", file.display(), names(missing))]
    SecretsMissing {
        /// The file.
        file: PathBuf,
        /// The secrets, each with where it is asked for.
        missing: Vec<Missing>,
    },
    /// `manage.py check` finds errors in the new version.
    #[error("the new version has {} of `manage.py check`:\n{}", counted(errors.len(), "error"), errors.join("\n"))]
    CheckFailed {
        /// The errors.
        errors: Vec<String>,
    },
    /// The project cannot be run from another folder than its own.
    #[error("the next version loads `{module}` from the live checkout (`{}`), so it cannot be checked beside it", path.display())]
    NotRelocatable {
        /// A module.
        module: String,
        /// Where it came from.
        path: PathBuf,
    },
    /// The migrations need a backup that deploykit cannot make.
    #[error("the migrations cannot be taken back ({reason}), and a backup of {engine} is not supported")]
    BackupUnsupported {
        /// The database.
        engine: String,
        /// Why a backup is needed.
        reason: String,
    },
    /// Services run as another user, who cannot reach the new environment.
    #[error("service `{service}` runs as user {user}, who cannot pass `{}` to the new environment", folder.display())]
    EnvironmentShut {
        /// The service.
        service: String,
        /// The number of its user.
        user: u32,
        /// The folder that shuts others out.
        folder: PathBuf,
    },
    /// A service runs a program of the live environment that is in none of the packages that the requirements ask for.
    #[error("service `{service}` runs `{}`, and no package that the requirements ask for brings that program", program.display())]
    ProgramMissing {
        /// The service.
        service: String,
        /// The program, in the live environment.
        program: PathBuf,
    },
    /// The end was requested.
    #[error("interrupted")]
    Interrupted,
}

fn names(missing: &[Missing]) -> String {
    let name = |missing: &Missing| match missing.asked_in.first() {
        Some(place) => format!("`{}` (asked for in {place})", missing.name),
        None => format!("`{}` (required by the configuration)", missing.name),
    };
    missing.iter().map(name).collect::<Vec<_>>().join(", ")
}
