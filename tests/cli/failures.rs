//! Updates that fail: what people are told, and what is left.

use std::fs;
use std::net::TcpListener;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{on, steady, wait_for};
use crate::support::releases::{publish_broken_home, publish_irreversible_migration_and_broken_page};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

/// Leaves out what a log's own clock and processes say.
fn without_log_lines(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let title = line.starts_with("--- new in the log");
        inside = title || inside && line.starts_with("  ");
        title || !inside
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn rolled_back() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_broken_home(site);
    let done = on(site, &["update", "-y"]).run().expect(5);
    assert!(done.stderr.contains("RuntimeError: the home page is broken"), "{}", done.stderr);
    // Its lines were read before the old version wrote more of them.
    let failed = done.stderr.split("--- new in the log of gunicorn").nth(1).unwrap();
    assert_eq!(
        failed.matches("Listening at").count(),
        failed.matches("Handling signal").count() + 1,
        "{failed}"
    );
    assert_data_eq!(without_log_lines(&done.text(Some(site))), str![].raw());
    assert_same(&before, &Snapshot::of(site));
    let document = on(site, &["update", "-y", "--json", "-q"]).run().expect(5);
    assert!(document.stderr.starts_with("\nError: step `smoke-check` failed"), "{}", document.stderr);
    assert_documented("failure", &document.json());
    assert_documented("report", &document.json()["result"]);
    assert_eq!(document.json()["result"]["outcome"], "rolled_back");
    assert_data_eq!(on(site, &["history", "-n", "1"]).run().expect(0).text(Some(site)), str![].raw());
    somebody_else_listens(site);
    assert_same(&before.without("file deploykit.toml"), &Snapshot::of(site).without("file deploykit.toml"));
}

/// Between the stop and the start of gunicorn, another program takes its port.
fn somebody_else_listens(site: &TestSite) {
    let pause = Pause::after(site, "stop-web");
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    let listener = TcpListener::bind(&site.gunicorn_address).unwrap();
    pause.go_on();
    wait_for("the way back", || update.stderr().contains("Going back"));
    drop(listener);
    let done = update.finish().expect(5);
    let logs = done.stderr.split("--- new in the log of gunicorn").nth(1).unwrap();
    assert!(logs.contains("Connection in use"), "{}", done.stderr);
    assert!(done.stderr.contains("Error: step `start-web` failed"), "{}", done.stderr);
}

#[test]
fn held() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{text}\n[database]\nbackup = \"never\"\n")).unwrap();
    publish_irreversible_migration_and_broken_page(site);
    let done = on(site, &["update", "-y"]).run().expect(6);
    assert_data_eq!(without_log_lines(&done.text(Some(site))), str![].raw());
    assert_eq!(site.page("/").unwrap().status, 503);
    assert!(site.processes().values().all(|program| program.state == "STOPPED"));
    assert_data_eq!(on(site, &["status"]).run().expect(0).text(Some(site)), str![].raw());
    assert_data_eq!(on(site, &["update", "-y"]).run().expect(4).text(Some(site)), str![].raw());
    let recover = on(site, &["recover"]).run().expect(6);
    assert_data_eq!(recover.text(Some(site)), str![].raw());
    let document = on(site, &["recover", "--json"]).run().expect(6).json();
    assert_documented("failure", &document);
    assert_documented("report", &document["result"]);
    // A person turned the entries back, and says so.
    let script = "from django.db import connection as c; c.cursor().execute(\"DELETE FROM django_migrations WHERE name = '0002_shout'\")";
    site.manage(&["shell", "-v", "0", "-c", script]).unwrap();
    let recover = on(site, &["recover"]).run().expect(0);
    assert_data_eq!(recover.text(Some(site)), str![].raw());
    assert_eq!(site.page("/").unwrap().status, 200);
    assert_eq!(steady(&on(site, &["recover", "-q"]).run().expect(0).stdout, Some(site)), "");
}
