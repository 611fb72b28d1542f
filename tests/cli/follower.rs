//! A host whose database another one migrates. The tests migrate by hand, as the leader.

use std::fs;

use jiff::{SignedDuration, Timestamp};

use crate::phases::{statuses, wait_for_the_end};
use crate::run::{on, wait_for};
use crate::support::releases::{publish_column, publish_migration_and_broken_page};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};

/// A follower that waits for so long.
fn follower(limit: &str) -> Option<TestSite> {
    let site = TestSite::builder().nginx().start()?;
    let text = fs::read_to_string(&site.config).unwrap();
    let keys = format!("[site]\nrole = \"follower\"\npause-limit = \"{limit}\"\n");
    fs::write(&site.config, text.replacen("[site]\n", &keys, 1)).unwrap();
    Some(site)
}

/// Fails unless the old version comes back, now that the database is as before.
#[track_caller]
fn comes_back(site: &TestSite, before: &Snapshot) {
    on(site, &["recover"]).run().expect(0);
    assert_same(before, &Snapshot::of(site));
}

#[test]
fn it_goes_back_unless_the_leader_migrates() {
    let Some(site) = follower("2s") else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_column(site);
    let failed = on(site, &["update", "-y", "--json"]).run().expect(5).json();
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("step `migrate` failed: the leader has not applied the migrations within 2s"),
        "{error}"
    );
    assert!(error.contains("is not applied"), "{error}");
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn it_goes_on_once_the_leader_has_migrated_and_back_once_it_has_undone_that() {
    let Some(site) = follower("20s") else { return };
    let site = &site;
    // The leader tells users, and waits until it is time.
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, text.replacen("notice = \"0s\"\n", "notice = \"20m\"\n", 1)).unwrap();
    let before = Snapshot::of(site);
    publish_column(site);
    let plan = on(site, &["plan", "--json"]).run().expect(0).json();
    let digest = plan["plan"]["digest"].as_str().unwrap().to_owned();
    let prepared = on(site, &["update", "--json", "--until", "prepared"]).run().expect(0).json();
    let [since, until] =
        ["since", "until"].map(|key| prepared["paused"][key].as_str().unwrap().parse::<Timestamp>().unwrap());
    assert!(until.duration_since(since) > SignedDuration::from_mins(20), "{prepared}");
    on(site, &["update", "--continue", "--until", "placed"]).run().expect(0);
    let other = on(site, &["update", "--continue", "--digest", "0123"]).run().expect(4).stderr;
    assert!(
        other.contains("not 0123: it brings another version, other packages or other migrations"),
        "{other}"
    );
    site.manage(&["migrate", "-v", "0"]).unwrap();
    let go_on = ["update", "--json", "--continue", "--digest", &digest, "--until", "started"];
    let paused = on(site, &go_on).run().expect(0).json();
    assert_eq!(paused["paused"]["point"], "started");

    // The leader goes back as well, and takes its time.
    std::thread::scope(|scope| {
        let back = scope.spawn(|| on(site, &["recover", "--json"]).run().expect(0).json());
        wait_for("the stop of the web", || statuses(site)[0] == "stopped");
        site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
        assert_eq!(back.join().unwrap()["report"]["outcome"], "rolled_back");
    });
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn it_is_held_as_long_as_the_leader_has_not_gone_back() {
    let Some(site) = follower("10s") else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_column(site);
    on(site, &["update", "-y", "--until", "placed"]).run().expect(0);
    site.manage(&["migrate", "-v", "0"]).unwrap();
    on(site, &["update", "--continue", "--until", "migrated"]).run().expect(0);
    let held = on(site, &["recover"]).run().expect(6).stderr;
    assert!(held.contains("the leader has not undone the migrations within 10s"), "{held}");
    assert_eq!(site.page("/").unwrap().status, 503, "nobody meets the old code on the new schema");
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    comes_back(site, &before);
}

#[test]
fn it_is_held_if_nobody_continues_it_after_the_leader_has_migrated() {
    let Some(site) = follower("2s") else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_column(site);
    on(site, &["update", "-y", "--until", "placed"]).run().expect(0);
    site.manage(&["migrate", "-v", "0"]).unwrap();
    wait_for_the_end(site);
    assert_eq!(site.page("/").unwrap().status, 503, "nobody meets the old code on the new schema");
    // The leader still has the code that reverses its migration.
    let migration = "project/guestbook/migrations/0002_entry_mood.py";
    site.git(&site.checkout, &["checkout", "-q", "origin/main", "--", migration]).unwrap();
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    site.git(&site.checkout, &["rm", "-q", "-f", migration]).unwrap();
    comes_back(site, &before);
}

#[test]
fn it_is_completed_once_the_leader_has_finished_without_it() {
    let Some(site) = follower("10s") else { return };
    let site = &site;
    publish_column(site);
    on(site, &["update", "-y", "--until", "placed"]).run().expect(0);
    site.manage(&["migrate", "-v", "0"]).unwrap();
    on(site, &["update", "--continue", "--until", "started"]).run().expect(0);
    wait_for_the_end(site);
    let held = on(site, &["status", "--json"]).run().expect(0).json();
    assert_eq!((held["can_finish"].as_bool(), held["maintenance_page"].as_bool()), (Some(true), Some(true)));
    on(site, &["recover"]).run().expect(6);
    let report = on(site, &["recover", "--forward", "--json"]).run().expect(0).json();
    assert_eq!(report["report"]["outcome"], "updated");
    assert_eq!(site.page("/").unwrap().status, 200);
    assert!(statuses(site).iter().all(|status| status == "running"));
}

#[test]
fn it_is_rolled_back_only_after_the_leader() {
    let Some(site) = follower("20s") else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_column(site);
    on(site, &["update", "-y", "--until", "placed"]).run().expect(0);
    site.manage(&["migrate", "-v", "0"]).unwrap();
    let report = on(site, &["update", "--json", "--continue"]).run().expect(0).json();
    assert_eq!(report["rollback"]["way"], "impossible");
    let refused = on(site, &["rollback", "-y"]).run().expect(4).stderr;
    assert!(
        refused.contains("a rollback of this host alone would start the old version on the new schema"),
        "{refused}"
    );
    assert!(refused.contains("roll the leader back first; or revert the commits upstream"), "{refused}");
    assert_eq!(site.page("/").unwrap().status, 200);
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    // The new version fails without its column.
    on(site, &["rollback", "-y", "--broken"]).run().expect(0);
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn it_tells_a_failure_although_its_undo_waits_for_the_leader() {
    let Some(site) = follower("30s") else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_migration_and_broken_page(site);
    on(site, &["update", "-y", "--until", "placed"]).run().expect(0);
    site.manage(&["migrate", "-v", "0"]).unwrap();
    // Also a command that was repeated because its connection was lost.
    for _ in 0..2 {
        let told = on(site, &["update", "--continue", "--until", "started"]).run().expect(7).stderr;
        assert!(told.contains("step `smoke-check` failed: "), "{told}");
        assert!(told.contains("run `deploykit recover` on the leader, and then here"), "{told}");
    }
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    comes_back(site, &before);
}
