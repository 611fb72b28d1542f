//! The built-in steps: their names, their phases, and which of them open or close the window.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Phase;
use crate::pause::PausePoint;

/// A kind of step. It is stored and shown by its name, such as `stop-web`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
#[non_exhaustive]
pub enum StepKind {
    /// Finds the update that a rollback undoes.
    Run,
    /// Asks the remote for commits.
    Fetch,
    /// Reads the status of the services.
    Services,
    /// Requests the pages while the old version serves.
    Pages,
    /// Checks the target out into the staged tree.
    StagedTree,
    /// Compares the secrets that the target asks for with those in the secrets file.
    Secrets,
    /// Builds the staged virtualenv.
    StagedVirtualenv,
    /// Checks that the previous packages are still there, for a rollback.
    Packages,
    /// Boots Django and runs the system checks.
    Check,
    /// Finds the pending migrations.
    Migrations,
    /// Collects the staged static files.
    Collect,
    /// Boots the live version once more: the undo of a failed update starts it again.
    LiveCheck,
    /// Applies the pending migrations to copies of the databases, and reverses them.
    RehearseMigrations,
    /// Requests the pages from the new version on these copies.
    RehearsePages,
    /// Boots the new version's web server beside the live one, on the same socket.
    BootBridge,
    /// Boots the live version's web server a second time: an undo lets it serve at once.
    BootOldBridge,
    /// Makes the plan.
    Plan,
    /// Waits until the run may go on to the announcement (`--until`).
    PausePrepared,
    /// Announces the maintenance to users.
    Announce,
    /// Waits until the announced time.
    Wait,
    /// Waits until the jobs of `deploykit exec` have ended.
    Jobs,
    /// Stops the timers and the workers.
    StopWorkers,
    /// Waits until the run may go on to the window (`--until`).
    PauseQuiet,
    /// Shows the maintenance page.
    PageUp,
    /// Stops the web.
    StopWeb,
    /// The same, once everything is stopped.
    PauseStopped,
    /// Copies the database.
    Backup,
    /// Checks the target out in the live checkout.
    Code,
    /// Brings the outputs of the site's own steps live.
    Outputs,
    /// Brings the staged virtualenv live.
    Virtualenv,
    /// Brings the static files live.
    Static,
    /// The same, once the code, the packages and the static files are live.
    PausePlaced,
    /// Starts the web before the migrations (`maintenance.start-early`).
    StartEarly,
    /// Applies the pending migrations, or reverses them.
    Migrate,
    /// The same, once the migrations are applied.
    PauseMigrated,
    /// Starts the services with `role = "required"`.
    StartRequired,
    /// Lets the web server that was started beforehand serve.
    OpenGate,
    /// Starts the web.
    StartWeb,
    /// Requests the pages until they are as expected.
    SmokeCheck,
    /// The same, once the web is started and its pages are as expected.
    PauseStarted,
    /// Removes the maintenance page.
    PageDown,
    /// Starts the workers and the timers.
    StartWorkers,
    /// Waits until the web service serves beside the web server that was started beforehand, and ends the latter.
    HandOver,
    /// Waits until the started services have run for their `stay-up` time.
    StayUp,
    /// Ends the announcement.
    MaintenanceOff,
    /// The end of the run, which only own steps follow; it does nothing itself.
    Finish,
    /// An own step of the site, by its name.
    Own(String),
}

use StepKind::{
    Announce, Backup, BootBridge, BootOldBridge, Check, Code, Collect, Fetch, Finish, HandOver, Jobs,
    LiveCheck, MaintenanceOff, Migrate, Migrations, OpenGate, Outputs, Own, Packages, PageDown, PageUp,
    Pages, PauseMigrated, PausePlaced, PausePrepared, PauseQuiet, PauseStarted, PauseStopped, Plan,
    RehearseMigrations, RehearsePages, Run, Secrets, Services, SmokeCheck, StagedTree, StagedVirtualenv,
    StartEarly, StartRequired, StartWeb, StartWorkers, Static, StayUp, StopWeb, StopWorkers, Virtualenv,
    Wait,
};

/// Whether a step of the site's own may follow.
const ANCHOR: bool = true;

/// The built-in steps, in the order of an update.
const STEPS: [(StepKind, &str, Phase, bool); 46] = [
    (Run, "run", Phase::Prepare, !ANCHOR),
    (Fetch, "fetch", Phase::Prepare, !ANCHOR),
    (Services, "services", Phase::Prepare, !ANCHOR),
    (Pages, "pages", Phase::Prepare, !ANCHOR),
    (StagedTree, "staged-tree", Phase::Prepare, ANCHOR),
    (Secrets, "secrets", Phase::Prepare, !ANCHOR),
    (StagedVirtualenv, "staged-virtualenv", Phase::Prepare, ANCHOR),
    (Packages, "packages", Phase::Prepare, !ANCHOR),
    (Check, "check", Phase::Prepare, ANCHOR),
    (Migrations, "migrations", Phase::Prepare, !ANCHOR),
    (Collect, "collect", Phase::Prepare, ANCHOR),
    (LiveCheck, "live-check", Phase::Prepare, !ANCHOR),
    (RehearseMigrations, "rehearse-migrations", Phase::Prepare, !ANCHOR),
    (RehearsePages, "rehearse-pages", Phase::Prepare, !ANCHOR),
    (BootBridge, "boot-bridge", Phase::Prepare, !ANCHOR),
    (BootOldBridge, "boot-old-bridge", Phase::Prepare, !ANCHOR),
    (Plan, "plan", Phase::Prepare, !ANCHOR),
    (PausePrepared, "pause-prepared", Phase::Announce, !ANCHOR),
    (Announce, "announce", Phase::Announce, !ANCHOR),
    (Wait, "wait", Phase::Announce, !ANCHOR),
    (Jobs, "jobs", Phase::Announce, !ANCHOR),
    (StopWorkers, "stop-workers", Phase::Announce, ANCHOR),
    (PauseQuiet, "pause-quiet", Phase::Announce, !ANCHOR),
    (PageUp, "page-up", Phase::Window, ANCHOR),
    (StopWeb, "stop-web", Phase::Window, ANCHOR),
    (PauseStopped, "pause-stopped", Phase::Window, !ANCHOR),
    (Backup, "backup", Phase::Window, !ANCHOR),
    (Code, "code", Phase::Window, ANCHOR),
    (Outputs, "outputs", Phase::Window, !ANCHOR),
    (Virtualenv, "virtualenv", Phase::Window, ANCHOR),
    (Static, "static", Phase::Window, ANCHOR),
    (PausePlaced, "pause-placed", Phase::Window, !ANCHOR),
    (StartEarly, "start-early", Phase::Window, !ANCHOR),
    (Migrate, "migrate", Phase::Window, ANCHOR),
    (PauseMigrated, "pause-migrated", Phase::Window, !ANCHOR),
    (StartRequired, "start-required", Phase::Window, !ANCHOR),
    (OpenGate, "open-gate", Phase::Window, !ANCHOR),
    (StartWeb, "start-web", Phase::Window, ANCHOR),
    (SmokeCheck, "smoke-check", Phase::Window, !ANCHOR),
    (PauseStarted, "pause-started", Phase::Window, !ANCHOR),
    (PageDown, "page-down", Phase::Window, ANCHOR),
    (StartWorkers, "start-workers", Phase::Finish, ANCHOR),
    (HandOver, "hand-over", Phase::Finish, !ANCHOR),
    (StayUp, "stay-up", Phase::Finish, !ANCHOR),
    (MaintenanceOff, "maintenance-off", Phase::Finish, !ANCHOR),
    (Finish, "finish", Phase::After, ANCHOR),
];

/// Names that earlier versions wrote into journals, reports and configurations, with their current names.
const FORMER: [(&str, &str); 3] =
    [("next-tree", "staged-tree"), ("next-environment", "staged-virtualenv"), ("environment", "virtualenv")];

impl StepKind {
    /// Returns its name, such as `stop-web`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Own(name) => name,
            known => STEPS.iter().find(|(kind, ..)| kind == known).map_or("", |(_, name, ..)| name),
        }
    }

    /// Returns the phase that it belongs to; a step of the site's own has that of the step that it follows.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        STEPS.iter().find(|(kind, ..)| kind == self).map(|(_, _, phase, _)| *phase)
    }

    /// Returns the steps that a step of the site's own may follow, in the order of an update.
    pub fn anchors() -> impl Iterator<Item = StepKind> {
        STEPS.into_iter().filter(|(.., is_anchor)| *is_anchor).map(|(kind, ..)| kind)
    }

    /// Tells whether it is a step of the site's own or of a tool.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Own(_))
    }

    /// Returns the step that pauses a run at this point.
    #[must_use]
    pub fn pause(point: PausePoint) -> StepKind {
        match point {
            PausePoint::Prepared => PausePrepared,
            PausePoint::Quiet => PauseQuiet,
            PausePoint::Stopped => PauseStopped,
            PausePoint::Placed => PausePlaced,
            PausePoint::Migrated => PauseMigrated,
            PausePoint::Started => PauseStarted,
        }
    }

    /// Tells whether it pauses a run.
    #[must_use]
    pub fn is_pause(&self) -> bool {
        PausePoint::ALL.into_iter().any(|point| StepKind::pause(point) == *self)
    }

    /// Tells whether the old version stops serving when this step begins.
    #[must_use]
    pub fn opens_window(&self) -> bool {
        *self == StopWeb
    }

    /// Tells whether the new version may serve when this step is done; the last such step of the window closes it.
    #[must_use]
    pub fn closes_window(&self) -> bool {
        matches!(self, OpenGate | StartWeb | SmokeCheck)
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<String> for StepKind {
    fn from(name: String) -> Self {
        let current =
            FORMER.iter().find(|(former, _)| *former == name).map_or(&*name, |(_, current)| current);
        let known = STEPS.into_iter().find(|(_, known, ..)| *known == current);
        known.map_or(Own(name), |(kind, ..)| kind)
    }
}

impl From<&str> for StepKind {
    fn from(name: &str) -> Self {
        name.to_owned().into()
    }
}

impl From<StepKind> for String {
    fn from(kind: StepKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl PartialEq<str> for StepKind {
    fn eq(&self, name: &str) -> bool {
        self.as_str() == name
    }
}

impl PartialEq<&str> for StepKind {
    fn eq(&self, name: &&str) -> bool {
        self.as_str() == *name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_stored_by_its_name() {
        for (kind, name, phase, _) in STEPS {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<StepKind>(&format!("\"{name}\"")).unwrap(), kind);
            assert_eq!(kind.phase(), Some(phase));
        }
        let own: StepKind = serde_json::from_str("\"compress\"").unwrap();
        assert_eq!(own, Own("compress".to_owned()));
        assert_eq!((own.as_str(), own.phase()), ("compress", None));
        for (former, current) in FORMER {
            assert_eq!(StepKind::from(former).as_str(), current);
        }
    }

    #[test]
    fn the_order_is_that_of_an_update() {
        assert!(STEPS.is_sorted_by_key(|(_, _, phase, _)| *phase));
        assert!(STEPS.is_sorted_by(|(one, ..), (other, ..)| one < other), "the enum has the same order");
    }
}
