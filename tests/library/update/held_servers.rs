//! Updates among visitors where uvicorn or hypercorn serves at a held socket.

use super::held::{alone, assert_bridged, patient};
use super::*;
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::publish_good;
use crate::support::services::server;
use crate::support::site::TestSite;
use crate::support::site::demo_site::Holder;
use crate::support::visitor::Seen;

/// In lower case.
const HEADER: &str = "x-deploykit-bridge";

#[test]
fn uvicorn() {
    nobody_notices("uvicorn", "uvicorn --workers 2 --fd 0 --interface wsgi config.wsgi:application", 2);
}

#[test]
fn hypercorn() {
    nobody_notices("hypercorn", "hypercorn -b fd://0 config.wsgi:application", 1);
}

/// Updates a site that this Python module serves.
fn nobody_notices(name: &str, module: &str, workers: usize) {
    let _alone = alone();
    let Some(program) = server(name) else { return };
    let Some(mut site) = patient(Holder::Supervisor) else { return };
    // The server is outside of the site's virtualenv, as a person's own choice may be.
    let packages = program.parent().unwrap().parent().unwrap().join("lib");
    let packages = fs::read_dir(&packages).unwrap().next().unwrap().unwrap().path().join("site-packages");
    let bin = site.virtualenv.join("bin");
    let (packages, bin) = (packages.display(), bin.display());
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let gunicorn = format!("{bin}/gunicorn --workers 2 -b fd://0 config.wsgi");
    assert!(text.contains(&gunicorn), "{text}");
    let command = format!("env PYTHONPATH={packages} {bin}/python -m {module}");
    fs::write(&site.supervisor_config, text.replace(&gunicorn, &command)).unwrap();
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
