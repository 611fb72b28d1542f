//! A step that failed, and why.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::ActionError;
use crate::bridge::BridgeError;
use crate::django::DjangoError;
use crate::error::error_chain;
use crate::git::GitError;
use crate::host::files::FileError;
use crate::host::{CommandError, Redactor};
use crate::operations::ApplyError;
use crate::operations::django_manage::DjangoManageError;
use crate::operations::maintenance::MaintenanceError;
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
    /// New lines in the logs of the services and the site since the run began: until the failure, and, if a step could not be undone,
    /// also while it was.
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

/// The error behind a failure, for the process that ran the update: it is neither stored nor compared. [`find_source`] finds
/// what is behind it.
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

    /// Adds lines that were written later.
    pub(crate) fn add_logs(&mut self, later: Vec<NewLines>) {
        for new in later {
            match self.logs.iter_mut().find(|log| log.source == new.source) {
                Some(log) => log.lines.extend(new.lines),
                None => self.logs.push(new),
            }
        }
    }
}

impl FailureKind {
    /// Returns the kind of an error of one of deploykit's parts.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let action = error.downcast_ref::<ActionError>();
        if let Some(ActionError::Interrupted) = action {
            return FailureKind::Interrupted;
        }
        let error = action.and_then(|_| wrapped(error)).unwrap_or(error);
        let kinds: [(bool, FailureKind); 8] = [
            (error.is::<CommandError>(), FailureKind::Command),
            (error.is::<FileError>(), FailureKind::File),
            (error.is::<GitError>(), FailureKind::Git),
            (error.is::<PythonError>(), FailureKind::Python),
            (error.is::<ServiceError>(), FailureKind::Service),
            (error.is::<BridgeError>(), FailureKind::Service),
            (error.is::<DjangoError>(), FailureKind::Django),
            (error.is::<SmokeError>(), FailureKind::Smoke),
        ];
        kinds.into_iter().find(|(is_it, _)| *is_it).map_or(FailureKind::Other, |(_, kind)| kind)
    }
}

/// Returns the last lines of the program that an error or one of its causes is about, oldest first.
#[must_use]
pub fn error_tail(error: &(dyn Error + 'static)) -> Vec<String> {
    chain(error).map(tail_of).find(|tail| !tail.is_empty()).unwrap_or_default().to_vec()
}

/// Returns the error itself or the first of its causes that has this type, such as [`CommandError`] or [`std::io::Error`].
///
/// [`Error::source`] alone does not lead there: an error that only passes another one on has that one's text and source.
///
/// # Examples
///
/// ```
/// use deploykit::report::Failure;
/// use deploykit::{CommandError, find_source};
///
/// /// Tells whether it is worth trying again later.
/// fn is_temporary(failure: &Failure) -> bool {
///     let Some(error) = failure.cause.error() else { return false };
///     let full = find_source::<std::io::Error>(error)
///         .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
///     full || matches!(find_source(error), Some(CommandError::DeadlinePassed { .. }))
/// }
/// ```
#[must_use]
pub fn find_source<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    chain(error).find_map(|error| error.downcast_ref::<E>())
}

/// Returns an error and its causes, those that it only passes on as well.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| wrapped(error).or_else(move || error.source()))
}

/// Returns the error inside, if the error is one of these variants.
macro_rules! passed_on {
    ($error:ident; $($kind:ident::$variant:ident,)+) => {
        $(if let Some($kind::$variant(inside)) = $error.downcast_ref() {
            return Some(inside);
        })+
    };
}

/// Returns the error that this one only passes on.
fn wrapped<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(action) = error.downcast_ref::<ActionError>() {
        return match action {
            ActionError::Interrupted => None,
            ActionError::Command(error) => Some(error),
            ActionError::File(error) => Some(error),
            ActionError::Jobs(error) => Some(error),
            ActionError::Pause(error) => Some(error),
            ActionError::Memory(error) => Some(error),
            ActionError::Git(error) => Some(error),
            ActionError::Python(error) => Some(error),
            ActionError::Service(error) => Some(error),
            ActionError::Django(error) => Some(error),
            ActionError::Smoke(error) => Some(error),
            ActionError::Bridge(error) => Some(error),
        };
    }
    // A boxed cause has another type than the cause itself.
    if let Some(error) = error.downcast_ref::<Box<ActionError>>() {
        return Some(error.as_ref());
    }
    if let Some(error) = error.downcast_ref::<Box<CommandError>>() {
        return Some(error.as_ref());
    }
    if let Some(ApplyError::Prepare(error)) = error.downcast_ref() {
        return Some(error.as_ref());
    }
    passed_on!(error;
        SmokeError::Command, SmokeError::Settings, PythonError::Command, PythonError::File,
        DjangoError::Command, DjangoError::File, DjangoManageError::Django, DjangoManageError::Git,
        MaintenanceError::Django, GitError::File, ServiceError::File,
    );
    None
}

fn tail_of<'e>(error: &'e (dyn Error + 'static)) -> &'e [String] {
    if let Some(GitError::Unsigned { tail, .. }) = error.downcast_ref() {
        return tail;
    }
    let tail = error.downcast_ref().map(CommandError::tail);
    let tail = tail.or_else(|| error.downcast_ref().map(PythonError::tail));
    let tail = tail.or_else(|| error.downcast_ref().map(ServiceError::tail));
    tail.or_else(|| error.downcast_ref().map(DjangoError::tail)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Context};
    use crate::command::Command;
    use crate::operations::{self, Change};

    fn failed(action: Action) -> ApplyError {
        let change = Change { actions: vec![action], ..Change::default() };
        operations::perform(&change, &mut Context::default()).unwrap_err()
    }

    #[test]
    fn the_cause_of_a_failure_is_found_by_its_type() {
        let path = tempfile::tempdir().unwrap().path().join("gone/file");
        let error = failed(Action::WriteFile { path, contents: String::new(), mode: 0o644 });
        let system = find_source::<std::io::Error>(&error).expect("what the system says");
        assert_eq!(system.kind(), std::io::ErrorKind::NotFound);
        assert!(find_source::<FileError>(&error).is_some() && find_source::<CommandError>(&error).is_none());

        let error = failed(Action::Run { command: Command::new("sh").args(["-c", "echo why; exit 3"]) });
        assert_eq!(find_source::<CommandError>(&error).and_then(CommandError::code), Some(3));
        assert_eq!(error_tail(&error), ["why"]);
        let action = find_source::<ActionError>(&error).expect("the action");
        assert_eq!(FailureKind::of(action), FailureKind::Command);
    }

    #[test]
    fn the_cause_of_a_preparation_that_failed_is_found_by_its_type() {
        let inner = || Box::new(CommandError::NotFound { program: "docker".to_owned() });
        let service = ServiceError::Command { service: "web".to_owned(), what: "start", source: inner() };
        let error = ApplyError::Prepare(Arc::new(service));
        assert!(matches!(find_source(&error), Some(CommandError::NotFound { .. })));
        assert!(find_source::<ServiceError>(&error).is_some());
        let error = DjangoManageError::Django(DjangoError::Command(*inner()));
        assert!(matches!(find_source(&error), Some(CommandError::NotFound { .. })));
    }
}
