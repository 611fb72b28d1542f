//! A step that failed, and why.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::ActionError;
use crate::django::DjangoError;
use crate::error::error_chain;
use crate::git::GitError;
use crate::host::files::FileError;
use crate::host::{CommandError, Redactor};
use crate::operations::smoke_check::SmokeError;
use crate::plan::{Phase, StepKind};
use crate::python::PythonError;
use crate::services::{NewLines, ServiceError};

/// What failed, and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: StepKind,
    /// The part of the update.
    pub phase: Phase,
    /// The part of deploykit in which it occurred.
    #[serde(default)]
    pub kind: FailureKind,
    /// The error and its causes, in one string.
    pub error: String,
    /// The last lines of the program that failed.
    pub tail: Vec<String>,
    /// Whether the step did not fail, but was interrupted.
    pub interrupted: bool,
    /// The step that could not be undone, and why.
    pub undo: Option<(StepKind, String)>,
    /// New lines in the logs of the services and the site since the run began.
    pub logs: Vec<NewLines>,
    /// Where the whole output of the run is.
    pub transcript: Option<PathBuf>,
    /// The error itself.
    #[serde(skip)]
    pub cause: Cause,
}

/// The part of deploykit in which a failure occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The end of the run was requested.
    Interrupted,
    /// A program of the site's own.
    Command,
    /// A file or directory.
    File,
    /// git.
    Git,
    /// pip or uv.
    Python,
    /// A service.
    Service,
    /// Django.
    Django,
    /// A page or a check command.
    Smoke,
    /// Anything else.
    #[default]
    Other,
}

/// The error behind a failure, for the process that ran the update: it is neither stored nor compared.
#[derive(Clone, Default)]
pub struct Cause(Option<Arc<dyn Error + Send + Sync>>);

impl Cause {
    /// Returns the error; `None` where the failure was read from a file.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}

impl From<Box<dyn Error + Send + Sync>> for Cause {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Cause(Some(error.into()))
    }
}

impl PartialEq for Cause {
    fn eq(&self, _: &Cause) -> bool {
        true
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cause").field(&self.0).finish()
    }
}

impl Failure {
    /// Describes the error of a step, secrets removed.
    #[must_use]
    pub fn new(step: StepKind, phase: Phase, error: &(dyn Error + 'static), redactor: &Redactor) -> Self {
        let kind = FailureKind::of(error);
        Failure {
            step,
            phase,
            kind,
            error: redactor.redact(&error_chain(error)).into_owned(),
            tail: error_tail(error),
            interrupted: kind == FailureKind::Interrupted,
            undo: None,
            logs: Vec::new(),
            transcript: None,
            cause: Cause::default(),
        }
    }
}

impl FailureKind {
    /// Returns the kind of an error of one of deploykit's parts.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(action) = error.downcast_ref::<ActionError>() {
            return match action {
                ActionError::Interrupted => FailureKind::Interrupted,
                ActionError::Command(_) => FailureKind::Command,
                ActionError::File(_) => FailureKind::File,
                ActionError::Git(_) => FailureKind::Git,
                ActionError::Python(_) => FailureKind::Python,
                ActionError::Service(_) => FailureKind::Service,
                ActionError::Django(_) => FailureKind::Django,
                ActionError::Smoke(_) => FailureKind::Smoke,
            };
        }
        let kinds: [(bool, FailureKind); 7] = [
            (error.is::<CommandError>(), FailureKind::Command),
            (error.is::<FileError>(), FailureKind::File),
            (error.is::<GitError>(), FailureKind::Git),
            (error.is::<PythonError>(), FailureKind::Python),
            (error.is::<ServiceError>(), FailureKind::Service),
            (error.is::<DjangoError>(), FailureKind::Django),
            (error.is::<SmokeError>(), FailureKind::Smoke),
        ];
        kinds.into_iter().find(|(is_it, _)| *is_it).map_or(FailureKind::Other, |(_, kind)| kind)
    }
}

/// Returns the last lines of the program that an error or one of its causes is about, oldest first.
#[must_use]
pub fn error_tail(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut current = Some(error);
    while let Some(error) = current {
        let tail = tail_of(error);
        if !tail.is_empty() {
            return tail.to_vec();
        }
        current = error.source();
    }
    Vec::new()
}

fn tail_of<'e>(error: &'e (dyn Error + 'static)) -> &'e [String] {
    if let Some(action) = error.downcast_ref::<ActionError>() {
        return match action {
            ActionError::Command(error) => error.tail(),
            ActionError::Git(error) => tail_of(error),
            ActionError::Python(error) => tail_of(error),
            ActionError::Service(error) => tail_of(error),
            ActionError::Django(error) => tail_of(error),
            ActionError::Smoke(SmokeError::Command(error)) => error.tail(),
            _ => &[],
        };
    }
    if let Some(error) = error.downcast_ref::<CommandError>() {
        return error.tail();
    }
    // A boxed cause has another type than the cause itself.
    if let Some(error) = error.downcast_ref::<Box<CommandError>>() {
        return error.tail();
    }
    if let Some(error) = error.downcast_ref::<Box<ActionError>>() {
        return tail_of(error.as_ref());
    }
    if let Some(error) = error.downcast_ref::<PythonError>() {
        return error.tail();
    }
    if let Some(error) = error.downcast_ref::<ServiceError>() {
        return error.tail();
    }
    if let Some(error) = error.downcast_ref::<DjangoError>() {
        return error.tail();
    }
    if let Some(GitError::Unsigned { tail, .. }) = error.downcast_ref() {
        return tail;
    }
    &[]
}
