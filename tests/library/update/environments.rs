//! What the environments other than production do differently.

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::snapshot::Snapshot;

const ABOUT: &str = "project/guestbook/templates/guestbook/about.html";
const HOME: &str = "project/guestbook/templates/guestbook/home.html";

#[test]
fn staging_tells_nobody_and_development_touches_no_service() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "environment = \"production\"", "environment = \"staging\"");
    let old = site.processes();
    publish_good(&site, "staged");
    let (report, told) = updated(&site);
    assert_eq!(report.environment, "staging");
    assert_eq!(told.skipped("announce").as_deref(), Some("maintenance is announced in production only"));
    assert!(told.skipped("maintenance-off").is_some());
    let new = site.processes();
    assert!(new.iter().all(|(name, program)| old[name].pid != program.pid), "{old:?} {new:?}");
    assert_eq!(site.release().as_deref(), Some("staged"));
    assert_tidy(&site);

    configure(&site, "environment = \"staging\"", "environment = \"development\"");
    append(&site.checkout, HOME, "<!-- at work -->\n");
    publish_good(&site, "developed");
    let before = Snapshot::of(&site);
    let (report, told) = updated(&site);
    assert_eq!(report.environment, "development");
    for step in ["announce", "stop-workers", "page-up", "stop-web", "start-web", "start-workers"] {
        assert!(told.skipped(step).is_some(), "{step}: {:?}", told.done());
    }
    assert_eq!(told.outcome("smoke-check").as_deref(), Some("/, /about/"));
    assert_eq!(new, site.processes());
    let after = Snapshot::of(&site);
    assert_eq!(before.facts["git status"], after.facts["git status"]);
    assert!(fs::read_to_string(site.checkout.join(HOME)).unwrap().ends_with("<!-- at work -->\n"));
    assert!(fs::read_to_string(site.checkout.join(ABOUT)).unwrap().contains("<!-- developed -->"));
    assert_tidy(&site);

    // Pages are checked there as well, where something answers.
    configure(&site, "contains = \"Guestbook\"", "contains = \"Visitors\"");
    publish_good(&site, "checked");
    let report = run_update(&site).unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.failure.unwrap().step, "smoke-check");
    let after = Snapshot::of(&site);
    assert_eq!(before.facts["git status"], after.facts["git status"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    configure(&site, &format!("connect = \"{}\"", site.gunicorn_address), &format!("connect = \"{closed}\""));
    let (_, told) = updated(&site);
    let why = "nothing answered before, and no services are managed in development";
    assert_eq!(told.skipped("smoke-check").as_deref(), Some(why));
    assert_tidy(&site);
}
