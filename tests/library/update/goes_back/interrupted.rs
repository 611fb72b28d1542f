//! Requests to stop, at any time: before the window nothing was touched, in it everything is undone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use deploykit::Cancel;
use deploykit::update::Start;

use super::*;
use crate::support::site::TestSite;

/// Updates, and requests the end whenever `wants` says so of an event.
fn update_and_stop(
    site: &DemoSite,
    request: &Request,
    wants: &(dyn Fn(&Event) -> bool + Sync),
) -> Result<Report, UpdateError> {
    let loaded = load(site);
    let cancel = Cancel::new().expect("a pipe");
    let requested = AtomicU32::new(0);
    let mut watch = |record: &Record| {
        if wants(&record.event) {
            requested.fetch_add(1, Ordering::Relaxed);
            cancel.request();
        }
    };
    let result = match update::prepare(&loaded, request, Some(cancel.clone()), &mut watch) {
        Ok(Prepared::Unchanged(report)) => Ok(*report),
        Ok(Prepared::Ready(update)) => update.run(),
        Err(error) => Err(error),
    };
    assert!(requested.load(Ordering::Relaxed) > 0, "nobody requested the end: {result:#?}\n{}", site.logs());
    result
}

fn starts(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::StepStarted { step, .. } if step == wanted)
}

#[test]
fn at_any_time() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    let at_once = Request::default();

    // In the preparation: at once, and nothing was touched.
    for step in ["fetch", "staged-virtualenv", "check", "collect"] {
        let error = update_and_stop(&site, &at_once, &|event| starts(event, step)).unwrap_err();
        let UpdateError::Prepare { report, .. } = &error else { panic!("{error:?}") };
        assert_eq!(report.outcome, Outcome::Refused);
        let failure = report.failure.as_ref().unwrap();
        assert!(failure.interrupted && failure.error == "interrupted", "{failure:#?}");
        assert_as_before(&site, &before);
    }

    // While it waits for the announced time: the announcement is withdrawn.
    let later = Request { start: Start::In(Duration::from_secs(3600)), ..Request::default() };
    let announced = AtomicBool::new(false);
    let report = update_and_stop(&site, &later, &|event| {
        let waits = matches!(event, Event::Waiting { .. });
        announced.fetch_or(waits && site.maintenance_status.exists(), Ordering::Relaxed);
        waits
    })
    .unwrap();
    assert!(announced.load(Ordering::Relaxed), "users were told");
    assert_eq!(report.outcome, Outcome::Refused);
    let failure = report.failure.unwrap();
    assert!(failure.interrupted && failure.step == "wait", "{failure:#?}");
    assert_as_before(&site, &before);

    // In the window.
    for step in ["stop-web", "migrate", "smoke-check", "start-workers"] {
        let report = update_and_stop(&site, &at_once, &|event| starts(event, step)).unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{step}: {:#?}", report.failure);
        assert!(report.failure.unwrap().interrupted);
        assert_as_before(&site, &before);
    }
}

#[test]
fn twice_and_a_recovery_goes_on() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    let report = update_and_stop(&site, &Request::default(), &|event| {
        starts(event, "smoke-check") || matches!(event, Event::StepUndone { step, .. } if step == "migrate")
    })
    .unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted, "{:#?}", report.failure);
    let undone = |step: &str| report.steps.iter().any(|report| report.step == step && report.undone);
    assert!(undone("migrate") && !undone("code"), "{:#?}", report.steps);
    assert!(site.maintenance_page.exists(), "visitors see the page");
    assert_eq!(site.page("/").unwrap().status, 503);
    let error = run_update(&site).expect_err("it is unfinished");
    assert!(matches!(error, UpdateError::Unfinished { .. }), "{error}");

    let mut told = Vec::new();
    let mut watch = |record: &Record| told.push(record.clone());
    let recovered = update::recover(&load(&site), None, &mut watch).unwrap().expect("an unfinished run");
    assert_eq!(recovered.outcome, Outcome::RolledBack, "{:#?}", recovered.failure);
    assert!(recovered.steps.iter().all(|step| step.undone), "{:#?}", recovered.steps);
    assert!(!Told(told).undone().contains(&"migrate"), "what was undone is not undone again");
    assert_as_before(&site, &before);
}
