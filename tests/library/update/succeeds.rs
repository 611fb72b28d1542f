//! An update with which nothing is wrong: the new release serves, and what was the server's own is still there.

use deploykit::event::Outcome;

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;
use crate::support::snapshot::{Snapshot, assert_same};

#[test]
fn release_2_comes_whole() {
    let Some(site) = TestSite::builder().start() else { return };
    let before = Snapshot::of(&site);
    let commit = site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let (report, told) = updated(&site);
    eprintln!("{report:#?} {told:#?}");
    let after = Snapshot::of(&site);
    eprintln!("{:#?}", before.differences(&after));
    assert_tidy(&site);
}
