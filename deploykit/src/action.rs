//! Everything that can change a site, as values: performed by one function, journalled before it happens.

mod bridge;
mod early;
pub(crate) mod executor;
mod pages;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::command::Command;
pub use crate::django::Context;
use crate::django::DjangoError;
use crate::host::Swap;
use crate::host::files::{self, FileError};
use crate::host::{CommandError, Host, with_umask};
use crate::services::{Goal, ServiceAction, stop_together};
pub use bridge::{HandOver, OpenGate};
pub use early::{KeepEarly, StartEarly};
pub use pages::ServedPages;

/// One change of the site: a state to reach, so that performing it twice, or after half of it, does no harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Runs a program. Whoever puts it into an undo sees to it that it can run twice.
    Run {
        /// The program.
        command: Command,
    },
    /// Writes a file whole.
    WriteFile {
        /// The file.
        #[serde(with = "crate::names::one")]
        path: PathBuf,
        /// Its text, which must not be secret.
        contents: String,
        /// The permissions of a new file, such as `0o644`.
        mode: u32,
    },
    /// Removes a file.
    RemoveFile {
        /// The file.
        #[serde(with = "crate::names::one")]
        path: PathBuf,
    },
    /// Removes a directory that deploykit made.
    RemoveTree {
        /// The directory.
        #[serde(with = "crate::names::one")]
        path: PathBuf,
    },
    /// Waits until a time.
    Wait {
        /// Until then.
        until: Timestamp,
        /// What for.
        reason: String,
    },
    /// Fails if less memory is available than a step needs.
    NeedMemory(crate::host::NeedsMemory),
    /// Waits until no job of the site runs.
    WaitForJobs(crate::jobs::WaitForJobs),
    /// Waits until another process lets the run go on.
    Pause(crate::pause::Pause),
    /// Waits until the rollback of a failed run is ordered, if other hosts may serve the new version.
    AwaitRollback(crate::pause::AwaitRollback),
    /// Exchanges two neighbours on the disk.
    Swap(Swap),
    /// Brings to the checkout what a step of the site's own made in the staged tree, or what was there before.
    SwapOutput(Swap),
    /// Takes files that appeared meanwhile over to the static files that go live.
    LinkLateFiles(crate::django::LateFiles),
    /// Brings static files to their places one by one, or back.
    PlaceFiles(crate::django::PlacedFiles),
    /// Hides from git what deploykit makes in the checkout, or does so no longer.
    Exclude(crate::git::Exclude),
    /// Moves the checkout to a commit.
    Checkout(crate::git::Checkout),
    /// Brings bytecode to the checkout that was compiled beforehand.
    #[serde(alias = "place_byte_code")]
    PlaceBytecode(crate::python::Bytecode),
    /// Removes bytecode that was brought to the checkout.
    #[serde(alias = "remove_byte_code")]
    RemoveBytecode(crate::python::Bytecode),
    /// Carries over to the live checkout what the new version's code wrote into the staged tree.
    CarryWritten(crate::git::CarryWritten),
    /// Takes that out of the live checkout again.
    TakeOutWritten(crate::git::CarryWritten),
    /// Brings an environment to the path that the site uses, or back.
    #[serde(alias = "switch_environment")]
    SwitchVirtualenv(crate::python::Switch),
    /// Builds a virtualenv beside the live one.
    #[serde(alias = "build_environment")]
    BuildVirtualenv(crate::python::Build),
    /// Stops or starts a service and waits until it has.
    Service(ServiceAction),
    /// Applies migrations.
    Migrate(crate::django::Migrate),
    /// Migrates by a command of the site's own.
    MigrateByCommand(crate::django::MigrateByCommand),
    /// Waits until the leader of several hosts has applied migrations, or has undone them.
    FollowMigrations(crate::django::FollowMigrations),
    /// Copies the database into a file.
    BackupDatabase(crate::django::BackupDatabase),
    /// Restores the database to a recorded state.
    RestoreDatabase(crate::django::RestoreDatabase),
    /// Runs one of the site's maintenance commands and checks its result.
    Announce(crate::django::Announce),
    /// Asks for pages until they are as expected, or known not to be.
    SmokeCheck(ServedPages),
    /// Lets the web server that was started beforehand serve.
    OpenGate(OpenGate),
    /// Ends the web server that was started beforehand.
    EndBridge(crate::bridge::Bridge),
    /// Waits until the web service serves beside that web server, and ends the latter.
    HandOver(HandOver),
    /// Starts the web before the migrations if the maintenance page is shown to everybody.
    StartEarly(StartEarly),
    /// Stops a web that was started before the migrations, unless it serves as expected after them.
    KeepEarly(KeepEarly),
}

/// Why an action failed: the error of the part that performed it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file or directory could not be changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The end of the run was requested.
    #[error("interrupted")]
    Interrupted,
    /// There is less memory than a step needs.
    #[error(transparent)]
    Memory(#[from] crate::host::MemoryError),
    /// A job.
    #[error(transparent)]
    Jobs(#[from] crate::jobs::JobsError),
    /// A pause.
    #[error(transparent)]
    Pause(#[from] crate::pause::PauseError),
    /// git.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// pip or uv.
    #[error(transparent)]
    Python(#[from] crate::python::PythonError),
    /// A service.
    #[error(transparent)]
    Service(#[from] crate::services::ServiceError),
    /// Django.
    #[error(transparent)]
    Django(#[from] crate::django::DjangoError),
    /// A page or a check command.
    #[error(transparent)]
    Smoke(#[from] crate::smoke::SmokeError),
    /// The web server that was started beforehand.
    #[error(transparent)]
    Bridge(#[from] crate::bridge::BridgeError),
}

/// Makes a function that returns what an action of one kind holds; `None` of any other kind.
macro_rules! held_by {
    ($kind:ident) => {
        |action: &Action| match action {
            Action::$kind(held) => Some(held.clone()),
            _ => None,
        }
    };
}

pub(crate) use held_by;

/// Tells whether a step with these actions and this undo leaves nothing to undo.
pub(crate) fn leave_nothing(actions: &[Action], undo: &[Action]) -> bool {
    undo.is_empty() && actions.iter().all(Action::leaves_nothing)
}

impl Action {
    /// Tells whether the action leaves the site unchanged, so that nothing is to undo.
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        match self {
            Action::Wait { .. }
            | Action::WaitForJobs(_)
            | Action::Pause(_)
            | Action::AwaitRollback(_)
            | Action::NeedMemory(_)
            | Action::SmokeCheck(_)
            | Action::HandOver(_)
            | Action::FollowMigrations(_)
            | Action::BackupDatabase(_) => true,
            Action::Service(action) => action.goal == Goal::StaysUp,
            _ => false,
        }
    }

    /// Tells whether it may end at any moment when the end of a run is requested: it looks or waits, works beside the site, or is
    /// a program of the site's own, whose effect is unknown anyway.
    #[must_use]
    pub fn can_be_cut_short(&self) -> bool {
        matches!(
            self,
            Action::Wait { .. }
                | Action::WaitForJobs(_)
                | Action::Pause(_)
                | Action::SmokeCheck(_)
                | Action::HandOver(_)
                | Action::FollowMigrations(_)
                | Action::Run { .. }
                | Action::BuildVirtualenv(_)
        )
    }

    /// Says for how long at most it waits for other hosts in an undo, and for what, if it does.
    pub(crate) fn waits_for_hosts(&self) -> Option<(Duration, &'static str)> {
        match self {
            Action::AwaitRollback(wait) if wait.is_due() => {
                Some((wait.limit, "for `deploykit recover`, since other hosts may serve the new version"))
            }
            Action::FollowMigrations(follow) if follow.undone => {
                Some((follow.limit, "for the leader to undo its migrations"))
            }
            _ => None,
        }
    }

    /// Tells whether it can be performed long after the run that planned it: it needs no file that a run removes at its end.
    pub(crate) fn outlives_its_run(&self) -> bool {
        matches!(
            self,
            Action::Run { .. }
                | Action::WriteFile { .. }
                | Action::RemoveFile { .. }
                | Action::RemoveTree { .. }
                | Action::Wait { .. }
                | Action::Service(_)
                | Action::SmokeCheck(_)
        )
    }

    /// Reaches the state that the action describes.
    ///
    /// # Errors
    ///
    /// The error of the part that performs it; the state may then be half reached.
    pub fn perform(&self, context: &mut Context) -> Result<(), ActionError> {
        with_umask(context.host.umask(), || self.reach(context))
    }

    fn reach(&self, context: &mut Context) -> Result<(), ActionError> {
        match self {
            Action::Run { command } => context.run(command).map_err(|error| match error {
                DjangoError::Command(error) => error.into(),
                error => ActionError::from(error),
            })?,
            Action::WriteFile { path, contents, mode } => {
                files::write_whole(path, contents.as_bytes(), *mode)?;
            }
            Action::RemoveFile { path } => files::remove_file(path)?,
            Action::RemoveTree { path } => files::remove_tree(path)?,
            Action::Wait { until, .. } => wait(*until, &context.host, Timestamp::now)?,
            Action::NeedMemory(need) => need.check()?,
            Action::WaitForJobs(wait) => wait.perform(&context.host)?,
            Action::Pause(pause) => pause.perform(&context.host)?,
            Action::AwaitRollback(wait) => wait.perform(&context.host)?,
            Action::Swap(swap) | Action::SwapOutput(swap) => swap.perform()?,
            Action::PlaceFiles(placed) => placed.perform()?,
            Action::LinkLateFiles(late) => late.perform(&context.host).map(|_| ())?,
            Action::Exclude(exclude) => exclude.perform()?,
            Action::Checkout(checkout) => checkout.perform(&context.host)?,
            Action::PlaceBytecode(code) => code.place(),
            Action::RemoveBytecode(code) => code.remove(),
            Action::CarryWritten(carry) => carry.perform(&context.host)?,
            Action::TakeOutWritten(carry) => carry.undo()?,
            Action::BuildVirtualenv(build) => build.perform(&context.host)?,
            Action::SwitchVirtualenv(switch) => switch.perform()?,
            Action::Service(service) => service.perform(&context.host)?,
            Action::Migrate(migrate) => migrate.perform(context)?,
            Action::MigrateByCommand(migrate) => migrate.perform(context)?,
            Action::FollowMigrations(follow) => follow.perform(context)?,
            Action::BackupDatabase(backup) => backup.perform(context)?,
            Action::RestoreDatabase(restore) => restore.perform(context)?,
            Action::Announce(announce) => announce.perform_within(context)?,
            Action::SmokeCheck(check) => check.perform(&context.host)?,
            Action::OpenGate(gate) => gate.perform(&context.host)?,
            Action::EndBridge(bridge) => bridge.end()?,
            Action::HandOver(hand_over) => hand_over.perform(&context.host)?,
            Action::StartEarly(early) => early.perform(&context.host)?,
            Action::KeepEarly(early) => early.perform(&context.host)?,
        }
        Ok(())
    }
}

/// What is performed at once.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    /// Any action but a stop.
    One(&'a Action),
    /// The stops of services of one role, which end at the same time.
    Stops(Vec<&'a ServiceAction>),
}

/// Splits actions into what is performed one after another.
pub(crate) fn parts<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for action in actions {
        match (action, parts.last_mut()) {
            (Action::Service(stop), last) if stop.goal == Goal::Stopped => match last {
                Some(Part::Stops(stops)) if stops.iter().all(|one| one.service.role == stop.service.role) => {
                    stops.push(stop);
                }
                _ => parts.push(Part::Stops(vec![stop])),
            },
            _ => parts.push(Part::One(action)),
        }
    }
    parts
}

impl Part<'_> {
    /// Reaches the state that it describes.
    pub(crate) fn perform(&self, context: &mut Context) -> Result<(), ActionError> {
        match self {
            Part::One(action) => action.perform(context),
            Part::Stops(stops) => Ok(stop_together(stops, &context.host)?),
        }
    }
}

/// Waits by the wall clock, looking again every second: it may be set meanwhile.
fn wait(until: Timestamp, host: &Host, mut now: impl FnMut() -> Timestamp) -> Result<(), ActionError> {
    loop {
        let left = Duration::try_from(until.duration_since(now())).unwrap_or_default();
        if left.is_zero() {
            return Ok(());
        }
        if !host.wait(left.min(Duration::from_secs(1))) {
            return Err(ActionError::Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Before, CommandManager, Manager, Role, Service, Socket};

    #[test]
    fn adjacent_stops_of_one_role_are_one_part() {
        let to = |goal, role, name: &str| {
            let service = Service::new(name, role, Manager::Command(CommandManager::default()));
            Action::Service(ServiceAction {
                service,
                goal,
                old: Vec::new(),
                before: Before::default(),
                socket: Socket::default(),
            })
        };
        let actions = [
            to(Goal::Stopped, Role::Worker, "beat"),
            to(Goal::Stopped, Role::Worker, "celery"),
            to(Goal::Stopped, Role::Web, "gunicorn"),
            to(Goal::Running, Role::Web, "gunicorn"),
            to(Goal::Running, Role::Worker, "celery"),
            to(Goal::StaysUp, Role::Worker, "celery"),
            to(Goal::Stopped, Role::Worker, "celery"),
            Action::RemoveFile { path: "/srv/www/maintenance.html".into() },
            to(Goal::Stopped, Role::Worker, "beat"),
        ];
        let lengths = parts(&actions).into_iter().map(|part| match part {
            Part::One(_) => 1,
            Part::Stops(stops) => stops.len(),
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [2, 1, 1, 1, 1, 1, 1, 1]);
        let Part::Stops(first) = &parts(&actions)[0] else { panic!("they stop") };
        assert_eq!(first[1].service.name, "celery", "the order stays");
        assert!(parts(&[]).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_meanwhile_is_believed() {
        let until: Timestamp = "2026-11-22T18:30:00Z".parse().unwrap();
        // Half a millisecond to go; set back; as before; set forward by a day.
        let clock =
            ["18:29:59.9995Z", "18:29:59.9980Z", "18:29:59.9995Z"].map(|time| format!("2026-11-22T{time}"));
        let mut clock = clock.into_iter().chain(["2026-11-23T18:30:00Z".to_owned()]);
        let mut looks = 0;
        let now = || {
            looks += 1;
            clock.next().expect("it waits no longer").parse().unwrap()
        };
        wait(until, &Host::new(), now).unwrap();
        assert_eq!(looks, 4);
    }
}
