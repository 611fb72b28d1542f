//! Updates while somebody else than gunicorn keeps its listening socket: requests wait, and none fails.
//!
//! Sockets of `deploykit hold-socket` are in `tests/cli/hold_socket.rs`.

use std::sync::{Mutex, MutexGuard};

use super::goes_back::{kill_at, withdraw};
use super::*;
use crate::support::harness::lock;
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{Holder, NEW_SECRET};
use crate::support::snapshot::{Snapshot, assert_same};
use crate::support::systemd::{inside, systemctl, unit, until_unit_is};

/// Visitors of two sites at once would be more than a small machine can serve.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    lock(&ALONE)
}

#[test]
fn by_supervisor() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    nobody_notices_a_migration_that_fails(&site);
    nobody_notices_three_migrations(&site, "process ");
    publish_good(&site, "third");
    updated(&site);
    nobody_notices_a_rollback(&site, ["third", "2"]);
}

#[test]
fn by_systemd() {
    let _alone = alone();
    if !inside(&by_systemd) {
        return;
    }
    let Some(site) = site(Holder::Systemd) else { return };
    nobody_notices_a_migration_that_fails(&site);
    requests_wait_for_a_recovery(&site);
    what_is_held_has_its_page(&site);
    nobody_notices_three_migrations(&site, "`gunicorn.socket`");
    a_longer_window_is_announced(&site);
}

/// A site that serves, with nginx in front.
pub(super) fn site(holder: Holder) -> Option<TestSite> {
    let mut site = patient(holder)?;
    if holder == Holder::Systemd {
        for (name, text) in site.units() {
            unit(name, &text);
        }
        systemctl(&["start", "gunicorn.socket"]);
    }
    site.start().unwrap_or_else(|error| panic!("{error}"));
    Some(site)
}

/// A site whose requests may wait for a minute, before it starts.
pub(super) fn patient(holder: Holder) -> Option<TestSite> {
    let site = TestSite::builder().nginx().held_by(holder).build()?;
    configure(&site, "[smoke]\n", "[smoke]\ntimeout = \"60s\"\n");
    configure(&site, "deadline = \"20s\"\n", "deadline = \"2m\"\n");
    configure(&site, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
    Some(site)
}

fn nobody_notices_three_migrations(site: &TestSite, holder: &str) {
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let before = entries(site);
    let ((result, told), seen) = among_visitors(site, || request(site, &Request::default()));
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert!(report.requests_wait, "{told:#?}");
    for skipped in ["announce", "page-up"] {
        let reason = told.skipped(skipped);
        assert_eq!(reason.as_deref(), Some("the window will be short, and requests wait meanwhile"));
    }
    assert_eq!(told.outcome("migrate").as_deref(), Some("3 migrations"));
    assert_bridged(&told);
    let run = load(site).state().runs().unwrap().pop().unwrap();
    let journal = fs::read_to_string(run.journal()).unwrap();
    assert!(journal.contains(&format!("\"holder\":\"{holder}")), "{journal}");
    assert_all_served(site, before, &seen, &["1", "2"]);
    assert_eq!(site.release().as_deref(), Some("2"));
    assert_tidy(site);
}

/// The previous version is started beforehand, too.
pub(super) fn nobody_notices_a_rollback(site: &TestSite, releases: [&str; 2]) {
    let before = entries(site);
    let roll_back = || {
        let mut records: Vec<Record> = Vec::new();
        let mut watch = |record: &Record| records.push(record.clone());
        let rollback = update::rollback(&load(site), None, &Request::default(), None, &mut watch);
        (rollback.and_then(|rollback| rollback.run()).unwrap(), Told(records))
    };
    let ((report, told), seen) = among_visitors(site, roll_back);
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_bridged(&told);
    assert_all_served(site, before, &seen, &releases);
    assert_eq!(site.release().as_deref(), Some(releases[1]));
    assert_tidy(site);
}

/// The version was started beforehand, and handed over.
#[track_caller]
pub(super) fn assert_bridged(told: &Told) {
    let skipped = || told.skipped("boot-bridge");
    let booted = told.outcome("boot-bridge").unwrap_or_else(|| panic!("no bridge: {:?}", skipped()));
    assert!(booted.contains(" ready and waiting, "), "{booted}");
    let done = told.done();
    let served = ["open-gate", "start-web", "start-workers", "hand-over"];
    let in_order = done.iter().filter(|step| served.contains(step));
    assert_eq!(in_order.copied().collect::<Vec<_>>(), served, "{told:#?}");
    assert!(!told.notices().contains("instead"), "{told:#?}");
}

fn nobody_notices_a_migration_that_fails(site: &TestSite) {
    publish_failing_migration(site);
    let (snapshot, before) = (still(site), entries(site));
    let (report, seen) = among_visitors(site, || run_update(site).unwrap());
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert!(report.requests_wait);
    assert_eq!(report.failure.unwrap().step, "migrate");
    assert_all_served(site, before, &seen, &["1"]);
    assert_same(&snapshot, &still(site));
    assert_tidy(site);
    withdraw(site);
}

/// The site but for what visitors write.
pub(super) fn still(site: &TestSite) -> Snapshot {
    Snapshot::of(site).without_entries()
}

/// After a crash the socket still starts nothing; requests wait for the recovery.
fn requests_wait_for_a_recovery(site: &TestSite) {
    publish_failing_migration(site);
    let snapshot = still(site);
    kill_at(site, "code finished");
    let answer = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| site.page("/version/"));
        until_unit_is("gunicorn.service", "activating");
        let error = run_update(site).expect_err("it is unfinished");
        assert!(matches!(error, UpdateError::Unfinished { .. }), "{error}");
        assert!(!visitor.is_finished());
        let report = update::recover(&load(site), None, &mut |_: &Record| ()).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
        assert!(report.requests_wait);
        visitor.join().unwrap()
    });
    assert!(answer.unwrap().body.contains("\"release\": \"1\""));
    assert_same(&snapshot, &still(site));
    assert_tidy(site);
    withdraw(site);
}

/// A site that cannot be brought back has its page, although the window was to be without; it goes with the recovery.
fn what_is_held_has_its_page(site: &TestSite) {
    let (text, snapshot) = (fs::read_to_string(&site.config).unwrap(), still(site));
    let unit = "/etc/systemd/system/gunicorn.service";
    let script = format!("mv {unit} /run/aside && systemctl daemon-reload && false");
    add(
        site,
        &format!("[[steps]]\nname = \"break\"\nafter = \"code\"\nrun = [\"sh\", \"-c\", \"{script}\"]\n"),
    );
    publish_good(site, "held");
    let report = run_update(site).unwrap();
    assert_eq!(report.outcome, Outcome::Held, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(site.page("/").unwrap().status, 503);
    fs::copy("/run/aside", unit).unwrap();
    systemctl(&["daemon-reload"]);
    fs::write(&site.config, text).unwrap();
    let report = update::recover(&load(site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_same(&snapshot, &still(site));
    assert_tidy(site);
    withdraw(site);
}

/// A window that takes longer than requests may wait has its page, and is announced.
fn a_longer_window_is_announced(site: &TestSite) {
    configure(site, "hold = \"1m\"\n", "hold = \"1ms\"\n");
    publish_good(site, "longer");
    let (report, told) = updated(site);
    assert!(!report.requests_wait);
    assert!(told.done().contains(&"announce") && told.done().contains(&"page-up"), "{told:#?}");
    assert_eq!(site.release().as_deref(), Some("longer"));
    assert_tidy(site);
}
