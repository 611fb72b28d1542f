//! Updates among visitors where uvicorn or hypercorn serves at a held socket.

use super::held::{alone, assert_bridged, patient};
use super::*;
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::publish_good;
use crate::support::services::server;
use crate::support::site::TestSite;
use crate::support::site::demo_site::Holder;
use crate::support::systemd::{inside, systemctl, unit};
use crate::support::visitor::Seen;

/// In lower case.
const HEADER: &str = "x-deploykit-bridge";

const UVICORN: &str = "uvicorn --workers 2 --interface wsgi config.wsgi:application --fd";
const HYPERCORN: &str = "hypercorn config.wsgi:application -b fd://";

#[test]
fn uvicorn() {
    let _alone = alone();
    nobody_notices("uvicorn", &format!("{UVICORN} 0"), 2, Holder::Supervisor);
}

#[test]
fn hypercorn() {
    let _alone = alone();
    nobody_notices("hypercorn", &format!("{HYPERCORN}0"), 1, Holder::Supervisor);
}

#[test]
fn uvicorn_under_systemd() {
    let _alone = alone();
    if inside(&uvicorn_under_systemd) {
        nobody_notices("uvicorn", &format!("{UVICORN} 3"), 2, Holder::Systemd);
    }
}

#[test]
fn hypercorn_under_systemd() {
    let _alone = alone();
    if inside(&hypercorn_under_systemd) {
        nobody_notices("hypercorn", &format!("{HYPERCORN}3"), 1, Holder::Systemd);
    }
}

/// Updates a site that this Python module serves.
fn nobody_notices(name: &str, module: &str, workers: usize, holder: Holder) {
    let Some(program) = server(name) else { return };
    let Some(mut site) = patient(holder) else { return };
    // The server is outside of the site's virtualenv, as a person's own choice may be.
    let packages = program.parent().unwrap().parent().unwrap().join("lib");
    let packages = fs::read_dir(&packages).unwrap().next().unwrap().unwrap().path().join("site-packages");
    let bin = site.virtualenv.join("bin");
    let (packages, bin) = (packages.display(), bin.display());
    let served = |text: &str, gunicorn: &str| {
        let gunicorn = format!("{bin}/gunicorn {gunicorn}");
        assert!(text.contains(&gunicorn), "{text}");
        text.replace(&gunicorn, &format!("/usr/bin/env PYTHONPATH={packages} {bin}/python -m {module}"))
    };
    if holder == Holder::Systemd {
        let [(socket, listens), (service, serves)] = site.units();
        unit(socket, &listens);
        // Only gunicorn tells systemd when it is ready.
        let serves = serves.replace("Type=notify", "Type=exec");
        unit(service, &served(&serves, "--workers 2 config.wsgi"));
        systemctl(&["start", socket]);
    } else {
        let text = fs::read_to_string(&site.supervisor_config).unwrap();
        fs::write(&site.supervisor_config, served(&text, "--workers 2 -b fd://0 config.wsgi")).unwrap();
    }
    site.start().unwrap_or_else(|error| panic!("{error}"));
    publish_good(&site, "next");
    let before = entries(&site);
    let ((result, told), seen) = among_visitors(&site, || request(&site, &Request::default()));
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_bridged(&told);
    let booted = told.outcome("boot-bridge").unwrap_or_default();
    assert!(booted.starts_with(&format!("{workers} worker")), "{booted}");
    assert_all_served(&site, before, &without_the_interrupted(&site, &told, seen), &["1", "next"]);
    assert_eq!(site.release().as_deref(), Some("next"));
    assert_tidy(&site);
}

/// Leaves out the few whose connections the old server had accepted, and not yet read from, when it ended: it closes them. Fails
/// unless the header tells who answered.
fn without_the_interrupted(site: &TestSite, told: &Told, seen: Vec<Seen>) -> Vec<Seen> {
    let is_next = |one: &Seen| one.answer.as_ref().is_ok_and(|it| it.body.contains("\"release\": \"next\""));
    let is_marked = |one: &Seen| one.answer.as_ref().is_ok_and(|it| it.headers.contains_key(HEADER));
    let next = seen.iter().filter(|one| is_next(one)).map(|one| one.asked + one.waited).min().unwrap();
    let marked: Vec<&Seen> = seen.iter().filter(|one| is_marked(one)).collect();
    assert!(marked.iter().any(|one| is_next(one)), "nothing came from the bridge");
    let opened = told.begun("open-gate");
    assert!(marked.iter().all(|one| one.asked + one.waited >= opened), "the bridge was too early");
    assert!(!is_marked(seen.last().unwrap()), "the bridge serves still");
    let (good, bad): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(Seen::is_good);
    let is_early = bad.iter().all(|one| one.asked + one.waited < next);
    assert!(bad.len() <= 3 && is_early, "{bad:#?}\n{}", site.logs());
    good
}
