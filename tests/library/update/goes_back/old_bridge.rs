//! The old version's web server, which is started a second time beforehand and serves when an update is undone.

use super::bridge::{assert_recovered, back, killed_after_code};
use super::killed::kill_once;
use super::*;
use crate::support::apart::old_bridge;
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::Holder;
use crate::update::held::{alone, patient, site, still};

/// How long each worker boots.
const BOOT: Duration = Duration::from_secs(5);

/// A site whose socket is held, and whose web boots slowly.
fn slow_site() -> Option<TestSite> {
    let site = site(Holder::Supervisor)?;
    slow_down(&site);
    Some(site)
}

fn slow_down(site: &TestSite) {
    let slow = format!("\nimport time\n\ntime.sleep({})\n", BOOT.as_secs());
    site.publish(|tree| append(tree, "project/config/wsgi.py", &slow)).unwrap();
    updated(site);
}

#[test]
fn requests_do_not_wait_for_the_boot_of_the_old_version() {
    let _alone = alone();
    let Some(site) = slow_site() else { return };
    let before = still(&site);
    publish_failing_migration(&site);
    undone_at_once(&site, "migrate", is_stop);
    assert_same(&before, &still(&site));
    withdraw(&site);

    // It fails behind the open gate of the new version.
    add(&site, "[[steps]]\nname = \"fails\"\nafter = \"page-down\"\nrun = [\"false\"]\n");
    publish_column(&site);
    let before = still(&site);
    undone_at_once(&site, "fails", is_stop);
    assert_same(&before, &still(&site));
}

/// The new version serves until then, and no request waits for the old one's boot after that.
#[test]
fn requests_do_not_wait_for_a_boot_if_the_hand_over_fails() {
    let _alone = alone();
    let Some(mut site) = patient(Holder::Supervisor) else { return };
    // supervisor gives up what ends within 10 s twice.
    let patience = "stopwaitsecs=35\n";
    edit(&site.root, "supervisor.conf", patience, &format!("{patience}startsecs=10\nstartretries=1\n"));
    site.start().unwrap_or_else(|error| panic!("{error}"));
    slow_down(&site);
    let sign = site.root.join("spoilt");
    let spoil = format!("run = [\"touch\", \"{}\"]\n", sign.display());
    add(&site, &format!("[[steps]]\nname = \"spoil\"\nafter = \"page-down\"\n{spoil}"));
    site.publish(|tree| prepend(tree, "project/config/wsgi.py", &raises_with(&sign))).unwrap();
    let before = still(&site);
    undone_at_once(&site, "hand-over", |event| matches!(event, Event::UndoStarted { .. }));
    assert_same(&before, &still(&site));
}

fn is_stop(event: &Event) -> bool {
    matches!(event, Event::StepStarted { step, .. } if *step == "stop-web")
}

/// Requests wait for less than a boot after something was told, and the window of the report is over before that boot.
#[track_caller]
fn undone_at_once(site: &TestSite, failed: &str, since: fn(&Event) -> bool) {
    let before = entries(site);
    let ((result, told), seen) = among_visitors(site, || request(site, &Request::default()));
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(report.failure.unwrap().step, failed);
    let skipped = told.skipped("boot-old-bridge");
    let booted = told.outcome("boot-old-bridge").unwrap_or_else(|| panic!("no old bridge: {skipped:?}"));
    assert!(booted.starts_with("2 workers ready and waiting, "), "{booted}");
    assert!(!told.notices().contains("instead"), "{told:#?}");
    assert_all_served(site, before, &seen, &["1"]);
    // The step is undone when the service's own web has booted, which no request has waited for.
    let since = told.at(since);
    let undone = told.at(|event| matches!(event, Event::StepUndone { step, .. } if *step == "stop-web"));
    let waited = seen.iter().filter(|one| one.asked + one.waited > since).map(|one| one.waited);
    let (longest, took) = (waited.max().unwrap(), undone - since);
    assert!(longest + BOOT <= took, "one request waited {longest:?} of {took:?}");
    let (window, took) = (Duration::from_millis(report.window_ms.unwrap()), undone - told.at(is_stop));
    assert!(window + BOOT <= took, "the window lasted for {window:?} of {took:?}");
    assert_recovered(site, "no time", "1");
}

#[test]
fn it_serves_until_the_recovery() {
    let _alone = alone();
    let Some(site) = slow_site() else { return };
    let before = still(&site);
    publish_failing_migration(&site);
    kill_once(&site, &old_bridge(&site).join("free"));
    let answer = site.page("/version/").unwrap();
    assert!(answer.headers.contains_key("x-deploykit-bridge"), "{answer:?}");
    assert!(answer.body.contains("\"release\": \"1\""), "{answer:?}");
    let error = run_update(&site).expect_err("it is unfinished");
    assert!(matches!(error, UpdateError::Unfinished { .. }), "{error}");
    assert_eq!(back(&site).unwrap().unwrap().outcome, Outcome::RolledBack);
    assert_recovered(&site, "old-bridge/free", "1");
    assert_same(&before, &still(&site));
}

#[test]
fn the_old_version_boots_if_it_is_killed() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    let before = still(&site);
    publish_failing_migration(&site);
    let (report, _) = killed_after_code(&site, &old_bridge(&site));
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_recovered(&site, "no time", "1");
    assert_same(&before, &still(&site));
}

#[test]
fn what_it_writes_is_shown_if_its_pages_are_wrong() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    let sign = site.root.join("spoilt");
    let fails = format!(
        "\ninner = application\n\n\ndef application(*args):\n    if os.path.exists({sign:?}):\n        \
         raise RuntimeError(\"it was spoilt\")\n    return inner(*args)\n"
    );
    site.publish(|tree| append(tree, "project/config/wsgi.py", &fails)).unwrap();
    updated(&site);
    let spoil = format!("touch {}; false", sign.display());
    let step = format!("run = [\"sh\", \"-c\", \"{spoil}\"]\n");
    add(&site, &format!("[[steps]]\nname = \"spoil\"\nafter = \"code\"\n{step}"));
    publish_good(&site, "next");
    let before = still(&site);
    let report = run_update(&site).unwrap();
    assert_eq!(report.outcome, Outcome::Held, "{report:#?}");
    let failure = report.failure.unwrap();
    assert_eq!(failure.step, "spoil");
    let (step, error) = failure.undo.as_ref().unwrap();
    assert!(*step == "stop-web" && error.contains("got 500"), "{step}: {error}");
    let log = failure.logs.iter().find(|log| log.source.ends_with("old-bridge.log"));
    let log = log.unwrap_or_else(|| panic!("{:#?}", failure.logs));
    assert!(log.lines.iter().any(|line| line.contains("it was spoilt")), "{:#?}", log.lines);

    fs::remove_file(&sign).unwrap();
    assert_eq!(back(&site).unwrap().unwrap().outcome, Outcome::RolledBack);
    assert_recovered(&site, "no time", "1");
    assert_same(&before, &still(&site));
}
