//! The rehearsal refuses broken releases while the site serves, and no healthy ones.

use std::path::Path;

use deploykit::error_chain;
use deploykit::event::Record;
use deploykit::plan::Plan;
use deploykit::update::{self, Prepared, Request, UpdateError};

use crate::database::on_each_engine;
use crate::support::corpus::Release;
use crate::support::corpus::broken::{BROKEN, BROKEN_ON_POSTGRESQL, BROKEN_ON_SERVERS};
use crate::support::corpus::healthy::{HEALTHY, HEALTHY_ON_POSTGRESQL, HEALTHY_ON_SERVERS};
use crate::support::database::{Database, Engine};
use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::load;

/// Maximum share of broken releases that are not refused, in percent.
const UNSEEN: usize = 5;

/// By default, one release of so many is rehearsed; on a server, only the releases for servers, since each takes its time.
const SAMPLE: usize = 6;

/// The releases to rehearse.
struct Releases {
    broken: Vec<&'static Release>,
    healthy: Vec<&'static Release>,
}

/// The outcome of the preparation of a release.
pub(super) enum Outcome {
    Ready(Box<Plan>),
    /// The step, and why.
    Refused(String, String),
}

#[test]
fn are_told_apart() {
    let Some(mut site) = TestSite::builder().rehearsal().build() else { return };
    prepare_site(&mut site);
    score(&site, "SQLite", &Releases::of(|_, number| number % SAMPLE == 0, &[BROKEN], &[HEALTHY]));
}

on_each_engine! {
    are_told_apart_on,
}

fn are_told_apart_on(engine: Engine) {
    let Some(database) = Database::new(engine) else { return };
    let Some(mut site) = TestSite::builder().database(&database).rehearsal().build() else { return };
    prepare_site(&mut site);
    score_on(engine, &site, &format!("{engine:?}"));
}

/// Prepares the releases for a server.
pub(super) fn score_on(engine: Engine, site: &DemoSite, database: &str) {
    let only: (&[Release], &[Release]) = match engine {
        Engine::PostgreSql => (BROKEN_ON_POSTGRESQL, HEALTHY_ON_POSTGRESQL),
        Engine::MariaDb => (&[], &[]),
    };
    let releases = Releases::of(
        |list, _| list > 0,
        &[BROKEN, BROKEN_ON_SERVERS, only.0],
        &[HEALTHY, HEALTHY_ON_SERVERS, only.1],
    );
    score(site, database, &releases);
}

impl Releases {
    /// Chooses releases of these lists by the variable `RELEASES`: `all`, or those whose names contain it. By default, `is_sample`
    /// chooses by the number of the list and that of the release.
    fn of(
        is_sample: impl Fn(usize, usize) -> bool,
        broken: &[&'static [Release]],
        healthy: &[&'static [Release]],
    ) -> Releases {
        let wanted = std::env::var("RELEASES").ok();
        let chosen = |lists: &[&'static [Release]]| {
            let all = lists.iter().enumerate().flat_map(|(list, releases)| {
                releases.iter().enumerate().map(move |(number, release)| (list, number, release))
            });
            let wanted = all.filter(|(list, number, release)| match wanted.as_deref() {
                None => is_sample(*list, *number),
                Some("all") => true,
                Some(part) => release.name.contains(part),
            });
            wanted.map(|(_, _, release)| release).collect()
        };
        Releases { broken: chosen(broken), healthy: chosen(healthy) }
    }
}

/// Adds a page to the configuration, and starts the site.
pub(super) fn prepare_site(site: &mut TestSite) {
    let config = std::fs::read_to_string(&site.config).expect("a configuration");
    let config = config.replace("{ path = \"/about/\"", "\"/version/\", { path = \"/about/\"");
    std::fs::write(&site.config, config).expect("a configuration");
    site.start().unwrap_or_else(|error| panic!("{error}"));
}

/// Prepares every release, and prints how many are judged correctly.
fn score(site: &DemoSite, database: &str, releases: &Releases) {
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let (before, processes) = (Snapshot::of(site), site.processes());
    let (mut unseen, mut wrong) = (Vec::new(), Vec::new());
    for release in &releases.broken {
        match outcome_of(site, &first, release.name, release.change) {
            Outcome::Refused(step, why) => eprintln!("refused by {step}: {}: {why}", release.name),
            Outcome::Ready(plan) => unseen.push(format!("{}: {:?}", release.name, plan.notices)),
        }
    }
    for release in &releases.healthy {
        match outcome_of(site, &first, release.name, release.change) {
            Outcome::Refused(step, why) => wrong.push(format!("{} by {step}: {why}", release.name)),
            Outcome::Ready(plan) => {
                eprintln!("ready: {}: {:?}", release.name, plan.notices);
                if plan.notices.iter().any(|notice| notice.starts_with("the update was not rehearsed")) {
                    wrong.push(format!("{} was not rehearsed", release.name));
                }
            }
        }
    }
    let (broken, healthy) = (releases.broken.len(), releases.healthy.len());
    println!(
        "{database}: {broken} broken releases: {} refused, {} not refused; {healthy} healthy ones: {} refused",
        broken - unseen.len(),
        unseen.len(),
        wrong.len()
    );
    assert_same(&before, &Snapshot::of(site));
    assert_eq!(processes, site.processes());
    assert!(wrong.is_empty(), "healthy releases were refused:\n{}", wrong.join("\n"));
    assert!(unseen.len() * 100 <= broken * UNSEEN, "broken releases were not seen:\n{}", unseen.join("\n"));
}

/// Publishes a release on top of the first one, and prepares the update.
pub(super) fn outcome_of(site: &DemoSite, first: &str, name: &str, change: impl FnOnce(&Path)) -> Outcome {
    let git =
        |directory: &Path, args: &[&str]| site.git(directory, args).unwrap_or_else(|error| panic!("{error}"));
    site.publish_as(name, change).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut records: Vec<Record> = Vec::new();
    let request = Request { only_plan: true, ..Request::default() };
    let loaded = load(site);
    let mut watch = |record: &Record| records.push(record.clone());
    let outcome = match update::prepare(&loaded, &request, None, &mut watch) {
        Ok(Prepared::Ready(update)) => {
            let plan = update.plan().clone();
            update.discard();
            Outcome::Ready(Box::new(plan))
        }
        Ok(Prepared::Unchanged(report)) => panic!("{name}: nothing to do: {:?}", report.notices),
        Err(UpdateError::Prepare { step, source, .. }) => {
            Outcome::Refused(step.to_string(), error_chain(source.as_ref()))
        }
        Err(error) => panic!("{name}: {}", error_chain(&error)),
    };
    let newest = site.newest().expect("a scratch tree");
    git(&newest, &["push", "-q", "--force", "origin", &format!("{first}:main")]);
    git(&site.checkout, &["fetch", "-q", "origin"]);
    outcome
}
