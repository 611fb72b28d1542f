//! `update --until` and `--continue`: one update by several processes, and what becomes of it when nobody goes on.

use std::fs;

use deploykit::internal::lock::Lock;

use crate::documents::assert_documented;
use crate::run::{Done, on, wait_for};
use crate::support::releases::{publish_column, publish_good};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};

/// A site with its worker, at a point of an update.
fn paused_at(site: &TestSite, point: &str) -> Done {
    on(site, &["update", "-y", "--json", "--until", point]).run().expect(0)
}

fn go_on(site: &TestSite, args: &[&str]) -> Done {
    on(site, &[&["update", "--json", "--continue"], args].concat()).run()
}

/// Returns the status of each service, in the order of the configuration.
pub fn statuses(site: &TestSite) -> Vec<String> {
    let status = on(site, &["services", "status", "--json"]).run().expect(0).json();
    let rows = status["services"].as_array().unwrap();
    rows.iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect()
}

/// Waits for the end of the run, whoever has it.
#[track_caller]
pub fn wait_for_the_end(site: &TestSite) {
    wait_for("the end of the run", || Lock::holder(&site.checkout.join(".deploykit/lock")).is_none());
}

#[test]
fn each_point_by_a_process_of_its_own() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    publish_column(site);
    let done = on(site, &["update", "--json", "--until", "prepared"]).run().expect(0);
    for line in [
        "Before the window, which opens as soon as the run may go beyond `quiet`\n  pause-prepared   until \
         `deploykit update --continue`, for at most 10m, unless the run may go further\n",
        ", and while it pauses (",
    ] {
        assert!(done.stderr.contains(line), "{}", done.stderr);
    }
    let prepared = done.json();
    assert_documented("paused", &prepared);
    assert_eq!(prepared["paused"]["point"], "prepared");
    assert_eq!(site.release().as_deref(), Some("1"), "nothing has changed");
    let status = on(site, &["status"]).run().expect(0).stdout;
    assert!(status.contains("paused at `prepared` since "), "{status}");
    let second = on(site, &["update", "-y"]).run().expect(4).stderr;
    assert!(second.contains("paused at `prepared` since "), "{second}");
    assert!(second.contains("`deploykit update --continue` lets it go on"), "{second}");

    let quiet = go_on(site, &["--until", "quiet"]).expect(0).json();
    assert_eq!(quiet["paused"]["point"], "quiet");
    assert_eq!(statuses(site), ["running", "stopped"]);
    assert_eq!(site.release().as_deref(), Some("1"), "the old version serves, without a page");

    let stopped = go_on(site, &["--until", "stopped"]).expect(0).json();
    assert_eq!(stopped["paused"]["point"], "stopped");
    assert!(!statuses(site).contains(&"running".to_owned()));
    // A connection that was lost is taken up again.
    assert_eq!(go_on(site, &["--until", "stopped"]).expect(0).json()["paused"]["point"], "stopped");
    assert_eq!(go_on(site, &["--until", "prepared"]).expect(0).json()["paused"]["point"], "stopped");

    let placed = go_on(site, &["--until", "placed"]).expect(0);
    assert!(placed.stderr.contains("continued after "), "{}", placed.stderr);
    assert_eq!(placed.json()["paused"]["point"], "placed");
    let migrations = || site.manage(&["showmigrations", "guestbook"]).unwrap();
    assert!(migrations().contains("[ ]"), "{}", migrations());
    assert_eq!(go_on(site, &["--until", "migrated"]).expect(0).json()["paused"]["point"], "migrated");
    assert!(!migrations().contains("[ ]"), "{}", migrations());
    assert_eq!(go_on(site, &["--until", "started"]).expect(0).json()["paused"]["point"], "started");
    assert_eq!(statuses(site)[1], "stopped", "the workers start last");
    assert_ne!(statuses(site)[0], "stopped");

    let report = go_on(site, &[]).expect(0).json();
    assert_eq!(report["outcome"], "updated");
    assert_eq!(statuses(site), ["running", "running"]);
    let nothing = go_on(site, &[]).expect(4).stderr;
    assert!(nothing.contains("no run is paused"), "{nothing}");
}

#[test]
fn the_old_version_comes_back_from_every_point() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_column(site);
    for point in ["prepared", "stopped", "placed", "migrated", "started"] {
        paused_at(site, point);
        let recovered = on(site, &["recover", "--json"]).run().expect(0).json();
        let outcome = if point == "prepared" { "refused" } else { "rolled_back" };
        assert_eq!(recovered["report"]["outcome"], outcome, "{point}");
        assert_same(&before, &Snapshot::of(site));
    }
}

#[test]
fn a_run_that_nobody_continues_rolls_back_by_itself() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, text.replacen("[site]\n", "[site]\npause-limit = \"1s\"\n", 1)).unwrap();
    let before = Snapshot::of(site);
    publish_good(site, "2");
    paused_at(site, "stopped");
    wait_for_the_end(site);
    assert_same(&before, &Snapshot::of(site));
    let history = on(site, &["report"]).run().expect(0).stdout;
    assert!(history.contains("nobody continued the run within 1s (`site.pause-limit`)"), "{history}");
}

#[test]
fn a_run_that_fails_while_it_finishes_with_others_waits_behind_the_page() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let limited = |limit: &str| {
        let text = fs::read_to_string(&site.config).unwrap();
        let text = text.replacen("[site]\n", &format!("[site]\npause-limit = \"{limit}\"\n"), 1);
        format!("{text}\n[[steps]]\nname = \"tell\"\nafter = \"start-workers\"\nrun = [\"false\"]\n")
    };
    let [short, long] = ["8s", "5m"].map(limited);
    fs::write(&site.config, &long).unwrap();
    let before = Snapshot::of(site);
    publish_column(site);
    // Alone, it goes back at once.
    paused_at(site, "migrated");
    go_on(site, &[]).expect(5);
    assert_same(&before, &Snapshot::of(site));

    paused_at(site, "started");
    // Also a command that was repeated because its connection was lost.
    for _ in 0..2 {
        let told = go_on(site, &[]).expect(7).stderr;
        assert!(told.contains("step `tell` failed"), "{told}");
        let waits = "the rollback of this host waits for `deploykit recover`, since other hosts may serve the new version";
        assert!(told.contains(waits), "{told}");
        assert_eq!(site.page("/").unwrap().status, 503, "nobody meets either version");
    }
    let report = on(site, &["recover", "--json"]).run().expect(0).json();
    assert_eq!(report["report"]["outcome"], "rolled_back");
    assert_same(&before, &Snapshot::of(site));

    // Nobody orders it: the other hosts may have the new version for good, or the old one.
    for way in ["--back", "--forward"] {
        fs::write(&site.config, &short).unwrap();
        on(site, &["update", "-y", "--until", "started"]).run().expect(0);
        go_on(site, &[]).expect(7);
        wait_for_the_end(site);
        let held = on(site, &["status", "--json"]).run().expect(0).json();
        assert_eq!(
            (held["can_finish"].as_bool(), held["maintenance_page"].as_bool()),
            (Some(true), Some(true))
        );
        let report = on(site, &["report"]).run().expect(0).stdout;
        assert!(report.contains("nobody ordered the rollback within 8s (`site.pause-limit`)"), "{report}");
        // The step fails again.
        on(site, &["recover", way]).run().expect(if way == "--back" { 0 } else { 5 });
        fs::write(&site.config, &long).unwrap();
        assert_same(&before, &Snapshot::of(site));
    }
}

#[test]
fn a_killed_run_is_recovered_as_ever() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_good(site, "2");
    for ways in ["--back", "--forward"] {
        paused_at(site, "placed");
        let holder = Lock::holder(&site.checkout.join(".deploykit/lock")).unwrap();
        let process = rustix::process::Pid::from_raw(i32::try_from(holder.pid).unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        wait_for_the_end(site);
        let nothing = go_on(site, &[]).expect(4).stderr;
        assert!(nothing.contains("no run is paused"), "{nothing}");
        on(site, &["recover", ways]).run().expect(0);
        if ways == "--back" {
            assert_same(&before, &Snapshot::of(site));
        }
    }
    assert_eq!(site.release().as_deref(), Some("2"));
}

#[test]
fn a_recovery_requests_the_pages_where_the_configuration_says_then() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_good(site, "2");
    paused_at(site, "placed");
    let holder = Lock::holder(&site.checkout.join(".deploykit/lock")).unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(holder.pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    wait_for_the_end(site);
    let right = fs::read_to_string(&site.config).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fs::write(&site.config, right.replace(&site.gunicorn_address.to_string(), &closed)).unwrap();
    let held = on(site, &["recover"]).run().expect(6).stderr;
    assert!(held.contains(&format!("nothing listens at `{closed}`")), "{held}");
    fs::write(&site.config, &right).unwrap();
    // Only the recovery is in order: it starts what is stopped, and removes the page.
    let examined = on(site, &["doctor", "--json"]).run().expect(4).json();
    let findings = examined["findings"].as_array().unwrap().iter();
    let problems: Vec<_> =
        findings.filter(|one| one["level"] == "problem").map(|one| &one["topic"]).collect();
    assert_eq!(problems, ["runs"], "{examined:#}");
    on(site, &["recover"]).run().expect(0);
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn what_cannot_pause_says_so() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    publish_good(site, "2");
    let unconfirmed = on(site, &["update", "--until", "stopped"]).run().expect(4).stderr;
    assert!(unconfirmed.contains("a run that pauses cannot ask for confirmation"), "{unconfirmed}");
    let unknown = on(site, &["update", "-y", "--until", "nowhere"]).run().expect(2).stderr;
    assert!(unknown.contains("expected `prepared`, `quiet`, `stopped`"), "{unknown}");
    let both = on(site, &["update", "--continue", "main"]).run().expect(2).stderr;
    assert!(both.contains("cannot be used with"), "{both}");
    // What ends before the point ends as ever.
    on(site, &["update", "-y"]).run().expect(0);
    let nothing = on(site, &["update", "-y", "--until", "stopped"]).run().expect(0).stdout;
    assert!(nothing.contains("Nothing to do"), "{nothing}");
}
