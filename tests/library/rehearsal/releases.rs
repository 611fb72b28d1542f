//! Broken releases are refused while the site serves, and healthy ones are not.

use std::path::Path;

use deploykit::error_chain;
use deploykit::event::Record;
use deploykit::update::{self, Prepared, Request, UpdateError};

use crate::support::corpus::{BROKEN, HEALTHY, Release};
use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::load;

/// Broken releases that may go into the window, in percent.
const UNSEEN: usize = 5;

/// One release of so many is tried by default.
const SAMPLE: usize = 6;

/// What came of the preparation of a release.
pub(super) enum Came {
    Ready(Vec<String>),
    /// The step, and why.
    Refused(String, String),
}

#[test]
fn are_told_apart() {
    let Some(mut site) = TestSite::builder().rehearsal().build() else { return };
    prepare_site(&mut site);
    score(&site, "SQLite");
}

/// Lets the site serve pages that a release can break.
fn prepare_site(site: &mut TestSite) {
    let config = std::fs::read_to_string(&site.config).expect("a configuration");
    let config = config.replace("{ path = \"/about/\"", "\"/version/\", { path = \"/about/\"");
    std::fs::write(&site.config, config).expect("a configuration");
    site.start().unwrap_or_else(|error| panic!("{error}"));
}

/// Prepares every release, and prints how many are taken for what they are.
fn score(site: &DemoSite, database: &str) {
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    // Which ones: `all`, or those whose name contains this; by default a sample, since each takes its time.
    let wanted = std::env::var("RELEASES").ok();
    let is_wanted = |(number, release): &(usize, &Release)| match wanted.as_deref() {
        None => number % SAMPLE == 0,
        Some("all") => true,
        Some(part) => release.name.contains(part),
    };
    let chosen = |releases: &'static [Release]| {
        releases.iter().enumerate().filter(is_wanted).map(|(_, release)| release)
    };
    let (before, processes) = (Snapshot::of(site), site.processes());
    let (mut unseen, mut wrong) = (Vec::new(), Vec::new());
    let (mut broken, mut healthy) = (0, 0);
    for release in chosen(BROKEN) {
        broken += 1;
        match came(site, &first, release.name, release.change) {
            Came::Refused(step, why) => eprintln!("refused by {step}: {}: {why}", release.name),
            Came::Ready(notices) => unseen.push(format!("{}: {notices:?}", release.name)),
        }
    }
    for release in chosen(HEALTHY) {
        healthy += 1;
        match came(site, &first, release.name, release.change) {
            Came::Refused(step, why) => wrong.push(format!("{} by {step}: {why}", release.name)),
            Came::Ready(notices) => eprintln!("ready: {}: {notices:?}", release.name),
        }
    }
    println!(
        "{database}: {broken} broken releases: {} refused, {} not seen; {healthy} healthy ones: {} refused",
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
pub(super) fn came(site: &DemoSite, first: &str, name: &str, change: impl FnOnce(&Path)) -> Came {
    let git =
        |directory: &Path, args: &[&str]| site.git(directory, args).unwrap_or_else(|error| panic!("{error}"));
    site.publish_as(name, change).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut records: Vec<Record> = Vec::new();
    let request = Request { only_plan: true, ..Request::default() };
    let loaded = load(site);
    let mut watch = |record: &Record| records.push(record.clone());
    let came = match update::prepare(&loaded, &request, None, &mut watch) {
        Ok(Prepared::Ready(update)) => {
            let notices = update.plan().notices.clone();
            update.discard();
            Came::Ready(notices)
        }
        Ok(Prepared::Unchanged(report)) => panic!("{name}: nothing to do: {:?}", report.notices),
        Err(UpdateError::Prepare { step, source, .. }) => {
            Came::Refused(step.to_string(), error_chain(source.as_ref()))
        }
        Err(error) => panic!("{name}: {}", error_chain(&error)),
    };
    let newest = site.newest().expect("a scratch tree");
    git(&newest, &["push", "-q", "--force", "origin", &format!("{first}:main")]);
    git(&site.checkout, &["fetch", "-q", "origin"]);
    came
}
