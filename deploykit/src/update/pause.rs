//! Where a run pauses, and how another process lets it go on.

use std::time::Duration;

use thiserror::Error;

use crate::action::Action;
use crate::host::ProcessId;
use crate::host::files::FileError;
use crate::keys::written;
use crate::lock::{Holder, Lock};
use crate::operations::{Change, Check};
use crate::pause::{AwaitRollback, Order, Pause, PausePoint, Pauses};
use crate::plan::{Step, StepKind};
use crate::site::{HostRole, Site};

/// Why there is no run to be let go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GoOnError {
    /// No run has the lock.
    #[error("no run is paused")]
    NoRun,
    /// The run that has the lock does not pause.
    #[error("the run that has locked the site does not pause: {holder}")]
    CannotPause {
        /// That run.
        holder: Box<Holder>,
    },
    /// It was prepared for something else than the other hosts.
    #[error(
        "the paused run has the digest {digest}, not {wanted}: it brings another version, other packages or other migrations"
    )]
    OtherPlan {
        /// Its digest.
        digest: String,
        /// The one of the other hosts.
        wanted: String,
    },
    /// The order cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Lets the paused run of a site go on to this point, or to its end, and returns that run. One that may go further already still
/// may. With a `digest`, its [plan](crate::plan::Plan::digest) must have that.
///
/// # Errors
///
/// When there is no such run, or when it cannot be told.
pub fn go_on(site: &Site, until: Option<PausePoint>, digest: Option<&str>) -> Result<Holder, GoOnError> {
    let (holder, process, given) = pausing(site)?;
    if let (Some(wanted), Some(paused)) = (digest, &holder.paused)
        && paused.digest != wanted
    {
        return Err(GoOnError::OtherPlan { digest: paused.digest.clone(), wanted: wanted.to_owned() });
    }
    let wanted = match (until, given) {
        (Some(point), _) => Order::Until(point),
        // Who lets it finish separately does so on several hosts at once.
        (None, Order::Until(PausePoint::Started)) => Order::Together,
        (None, _) => Order::ToEnd,
    };
    let is_further = match (given, wanted) {
        (Order::Until(given), Order::Until(wanted)) => wanted > given,
        (Order::Until(_), _) => true,
        _ => false,
    };
    if is_further {
        pauses(site).give(process, wanted)?;
    }
    Ok(holder)
}

/// Lets the paused run of a site undo everything, and returns that run.
///
/// # Errors
///
/// Like [`go_on`].
pub fn go_back(site: &Site) -> Result<Holder, GoOnError> {
    let (holder, process, _) = pausing(site)?;
    pauses(site).give(process, Order::Back)?;
    Ok(holder)
}

/// Returns the run that can pause, and how far it may go.
fn pausing(site: &Site) -> Result<(Holder, ProcessId, Order), GoOnError> {
    let holder = Lock::holder(&site.state().lock()).ok_or(GoOnError::NoRun)?;
    let process = i32::try_from(holder.pid).ok().and_then(ProcessId::of).ok_or(GoOnError::NoRun)?;
    match pauses(site).order(process) {
        Some(order) => Ok((holder, process, order)),
        None => Err(GoOnError::CannotPause { holder: Box::new(holder) }),
    }
}

pub(super) fn pauses(site: &Site) -> Pauses {
    Pauses::at(site.state().directory())
}

/// Inserts a pause at each point. `opens_in` is how long the leader tells users beforehand; a prepared follower waits meanwhile.
pub(super) fn insert(
    steps: &mut Vec<Step>,
    site: &Site,
    opens_in: Duration,
    digest: &str,
    old_code_risk: Option<&str>,
) {
    let config = &site.config().site;
    let migrates = steps[place(steps, PausePoint::Placed)..place(steps, PausePoint::Migrated)]
        .iter()
        .any(Step::is_needed);
    for point in PausePoint::ALL {
        let waits_for_leader = point == PausePoint::Prepared && config.role == HostRole::Follower;
        let limit = config.pause_limit + if waits_for_leader { opens_in } else { Duration::ZERO };
        let pause = Check::Change(Change {
            reason: format!(
                "until `deploykit update --continue`, for at most {}, unless the run may go further",
                written(limit)
            ),
            actions: vec![Action::Pause(Pause {
                point,
                digest: digest.to_owned(),
                migrates,
                old_code_risk: old_code_risk.map(str::to_owned),
                pauses: pauses(site),
                limit,
            })],
            // From here on, other hosts may serve the new version.
            undo: match point {
                PausePoint::Started => {
                    vec![Action::AwaitRollback(AwaitRollback { pauses: pauses(site), limit })]
                }
                _ => Vec::new(),
            },
            ..Change::default()
        });
        steps.insert(place(steps, point), Step::new(StepKind::pause(point), pause));
    }
}

/// Returns the index of the first step after a point.
fn place(steps: &[Step], point: PausePoint) -> usize {
    let pause = StepKind::pause(point);
    steps.iter().position(|one| !one.id.is_own() && one.id > pause).unwrap_or(steps.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_follows_what_it_is_named_after_and_the_site_s_own_steps_there() {
        let names = [
            "announce",
            "stop-workers",
            "page-up",
            "stop-web",
            "own",
            "backup",
            "code",
            "virtualenv",
            "static",
            "migrate",
            "start-required",
            "start-web",
            "smoke-check",
            "page-down",
            "start-workers",
            "finish",
        ];
        let mut steps: Vec<Step> =
            names.iter().map(|name| Step::new(StepKind::from(*name), Check::unchanged(""))).collect();
        insert(&mut steps, &site("leader"), Duration::ZERO, "d", None);
        assert!(!migrates(&steps));
        let names: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(
            names.join(" "),
            "pause-prepared announce stop-workers pause-quiet page-up stop-web own pause-stopped backup code virtualenv static \
             pause-placed migrate pause-migrated start-required start-web smoke-check pause-started page-down \
             start-workers finish"
        );
    }

    #[test]
    fn what_is_done_between_placed_and_migrated_is_told() {
        for (needed, expected) in [("static", false), ("migrate", true), ("own", true), ("start-web", false)]
        {
            let step = |name: &&str| {
                let change =
                    Change { actions: vec![Action::RemoveFile { path: "f".into() }], ..Change::default() };
                let check = if *name == needed { Check::Change(change) } else { Check::unchanged("") };
                Step::new(StepKind::from(*name), check)
            };
            let mut steps: Vec<Step> = ["static", "migrate", "own", "start-web"].iter().map(step).collect();
            insert(&mut steps, &site("leader"), Duration::ZERO, "d", None);
            assert_eq!(migrates(&steps), expected, "{needed}");
        }
    }

    #[test]
    fn a_prepared_follower_waits_while_the_leader_s_users_are_told() {
        let limits = |role: &str| {
            let mut steps = Vec::new();
            insert(&mut steps, &site(role), Duration::from_secs(1200), "d", None);
            pauses(&steps).map(|pause| pause.limit.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(limits("follower"), [1800, 600, 600, 600, 600, 600]);
        assert_eq!(limits("leader"), [600; 6]);
    }

    fn site(role: &str) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deploykit.toml");
        std::fs::write(&file, format!("[site]\nsettings = \"s\"\nrole = \"{role}\"\n")).unwrap();
        Site::load_partial(&file, None).unwrap()
    }

    fn pauses(steps: &[Step]) -> impl Iterator<Item = &Pause> {
        steps.iter().flat_map(|step| &step.change.actions).filter_map(|action| match action {
            Action::Pause(pause) => Some(pause),
            _ => None,
        })
    }

    fn migrates(steps: &[Step]) -> bool {
        let told: Vec<bool> = pauses(steps).map(|pause| pause.migrates).collect();
        assert!(told.iter().all(|one| *one == told[0]), "all pauses say the same");
        told[0]
    }
}
