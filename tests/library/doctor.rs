//! What is found about sites: on a database server, in development, and by who does not wait.

use std::fs;

use deploykit::doctor::{self, Examination, ExamineError, Level, Topic};
use deploykit::{Cancel, Site};
use rustix::process::Signal;

use crate::support::database::{Database, Engine};
use crate::support::site::TestSite;

fn examined(site: &TestSite, environment: Option<&str>) -> Examination {
    let site = Site::load(&site.config, environment).unwrap();
    doctor::examine(&site, None).unwrap()
}

/// Returns what was found about a topic.
fn about(found: &Examination, topic: Topic) -> Vec<(Level, &str)> {
    let of = found.findings.iter().filter(|finding| finding.topic == topic);
    of.map(|finding| (finding.level, finding.text.as_str())).collect()
}

#[test]
fn a_database_that_does_not_answer_is_named_and_nothing_else_is_lost() {
    let Some(database) = Database::alone(Engine::PostgreSql) else { return };
    let Some(site) = TestSite::builder().database(&database).rehearsal().build() else { return };
    let before = database.facts();
    let up = examined(&site, None);
    let [(level, text)] = about(&up, Topic::Database)[..] else { panic!("{up:#?}") };
    assert!(level == Level::Good && text.starts_with("`default` answers; a copy takes about "), "{text}");
    assert_eq!(about(&up, Topic::Rehearsal), [(Level::Good, "possible, as far as is known")]);
    assert_eq!(database.facts(), before, "it was only read");

    // A setting that the driver ignores for Unix sockets, and that no copy could satisfy.
    let local = site.checkout.join("project/config/settings/local.py");
    let verifies = "from .base import DATABASES\n\nDATABASES[\"default\"][\"OPTIONS\"] = {\"sslmode\": \"verify-full\"}\n";
    fs::write(&local, verifies).unwrap();
    let odd = examined(&site, None);
    fs::remove_file(&local).unwrap();
    let reason = "database `default` cannot be copied: its clients verify the server's certificate (`sslmode=verify-full`)";
    assert_eq!(about(&odd, Topic::Rehearsal), [(Level::Advice, reason)]);
    assert_eq!(about(&odd, Topic::Database), about(&up, Topic::Database));

    database.signal(Signal::KILL);
    let down = examined(&site, None);
    let [(level, text)] = about(&down, Topic::Database)[..] else { panic!("{down:#?}") };
    assert!(level == Level::Problem && text.contains("onnection"), "{text}");
    // Django boots without it.
    for topic in [Topic::Git, Topic::Python, Topic::Secrets, Topic::Django] {
        assert_eq!(about(&down, topic), about(&up, topic));
    }
    for finding in &down.findings {
        assert_eq!(finding.level == Level::Good, finding.way_out.is_none(), "{finding:?}");
    }
}

/// In development there are neither visitors nor services, so nothing is said about windows.
#[test]
fn what_does_not_apply_is_not_mentioned_and_who_cancels_does_not_wait() {
    let Some(site) = TestSite::builder().build() else { return };
    let found = examined(&site, Some("development"));
    for topic in [Topic::Socket, Topic::Page, Topic::Maintenance, Topic::Window, Topic::Rehearsal] {
        assert_eq!(about(&found, topic), [], "{topic}");
    }
    assert_eq!(about(&found, Topic::Services), [(Level::Good, "none is managed in development")]);

    let site = Site::load(&site.config, None).unwrap();
    let cancel = Cancel::new().unwrap();
    cancel.request();
    assert!(matches!(doctor::examine(&site, Some(cancel)), Err(ExamineError::Interrupted)));
}
