//! An update that fails, or is interrupted, after it was begun: the site is as it was, wholly, and serves.

mod bridge;
mod database;
mod in_place;
mod interrupted;
mod keeps;
pub mod killed;
mod old_bridge;
mod own_backup;
mod window;

pub(super) use killed::kill_at;

use std::fs;
use std::time::Duration;

use deploykit::report::Failure;

use super::*;
use crate::support::site::demo_site::NEW_SECRET;
use crate::support::snapshot::{Snapshot, assert_same};

/// How long a site may take until all of it is up: a worker is `STARTING` for a second at least.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Updates, and fails the test unless that is rolled back, with the site wholly as it was.
#[track_caller]
pub(super) fn rolled_back(site: &DemoSite) -> (Failure, Report, Told) {
    let before = Snapshot::of(site);
    let (result, told) = request(site, &Request::default());
    let report = match result {
        Ok(report) => report,
        Err(error) => panic!("{}\n{}", deploykit::error_chain(&error), site.logs()),
    };
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_as_before(site, &before);
    let failure = report.failure.clone().expect("a failure");
    assert!(failure.undo.is_none() && !failure.interrupted, "{failure:#?}");
    assert_eq!(site_state(site).unfinished().expect("a journal").map(|(run, _)| run.name), None);
    (failure, report, told)
}

/// Fails unless the site is wholly as it was, with nothing beside it, and its virtualenv a directory of its own again.
#[track_caller]
pub(super) fn assert_as_before(site: &DemoSite, before: &Snapshot) {
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_same(before, &Snapshot::of(site));
    assert_tidy(site);
    let virtualenv = fs::symlink_metadata(&site.virtualenv).expect("a virtualenv");
    assert!(virtualenv.is_dir(), "the virtualenv is not the directory that it was");
    let kept = site.virtualenv.with_file_name(".venv.deploykit-original");
    assert!(!kept.exists(), "{} is left", kept.display());
}

/// Takes back what the remote has and the site has not.
#[track_caller]
pub(super) fn withdraw(site: &DemoSite) {
    let head = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit");
    let scratch = site.newest().expect("the remote's newest");
    site.git(&scratch, &["push", "-q", "--force", "origin", &format!("{}:main", head.trim())])
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Publishes release 2, with all that is new in it, and the secret that it asks for.
#[track_caller]
pub(super) fn publish_release_2(site: &DemoSite) -> String {
    site.add_secret(NEW_SECRET, "a salt for visitors").expect("a secret");
    site.publish_release_2().expect("a release")
}

pub(super) fn site_state(site: &DemoSite) -> deploykit::internal::state::State {
    load(site).state()
}

/// Returns all new lines of logs that a failure shows.
fn log_lines(failure: &Failure) -> String {
    failure.logs.iter().flat_map(|log| log.lines.iter()).map(|line| format!("{line}\n")).collect()
}
