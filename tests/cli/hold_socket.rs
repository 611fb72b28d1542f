//! `deploykit hold-socket`: whole updates while it keeps the socket, and what it does with servers, signals and addresses.

mod program;

use std::fs;
use std::sync::{Mutex, MutexGuard};

use rustix::process::Signal;

use crate::run::{on, wait_for};
use crate::support::apart::{bridge, left_of_bridge, old_bridge, waits};
use crate::support::harness::lock;
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::{publish_failing_migration, publish_good};
use crate::support::site::TestSite;
use crate::support::site::demo_site::{Holder, NEW_SECRET};
use crate::support::snapshot::{Snapshot, assert_same};
use crate::support::systemd::{inside, systemctl, unit};
use crate::updates::Pause;

const HOLDER: Holder = Holder::Keeper(env!("CARGO_BIN_EXE_deploykit"));

/// Visitors of two sites at once would be more than a small machine can serve.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    lock(&ALONE)
}

/// Changes the configuration so that requests wait for a minute.
fn patient(site: &TestSite) {
    configure(site, "[smoke]\n", "[smoke]\ntimeout = \"60s\"\n");
    configure(site, "deadline = \"20s\"\n", "deadline = \"2m\"\n");
    configure(site, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
}

fn configure(site: &TestSite, old: &str, new: &str) {
    let text = fs::read_to_string(&site.config).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(&site.config, text.replace(old, new)).unwrap();
}

/// Updates the site among visitors, none of whom notices.
fn nobody_notices(site: &TestSite, code: i32, releases: &[&str]) {
    let before = entries(site);
    let (done, seen) = among_visitors(site, || on(site, &["update", "-y"]).run().expect(code));
    let report = on(site, &["report", "--json"]).run().expect(0).json();
    assert_eq!(report["requests_wait"], true, "{}", done.stdout);
    assert_all_served(site, before, &seen, releases);
    assert!(!site.checkout.join(".deploykit/hold/gunicorn").exists());
}

#[test]
fn nobody_notices_an_update_under_supervisor() {
    let _alone = alone();
    let Some(mut site) = TestSite::builder().nginx().held_by(HOLDER).build() else { return };
    patient(&site);
    site.start().unwrap_or_else(|error| panic!("{error}"));
    let keeper = site.processes()["gunicorn"].pid;
    publish_failing_migration(&site);
    let snapshot = Snapshot::of(&site).without_entries();
    nobody_notices(&site, 5, &["1"]);
    assert_same(&snapshot, &Snapshot::of(&site).without_entries());
    let head = site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap();
    let scratch = site.newest().unwrap();
    site.git(&scratch, &["push", "-q", "--force", "origin", &format!("{}:main", head.trim())]).unwrap();

    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let plan = on(&site, &["plan"]).run().expect(0).stdout;
    assert!(plan.contains("(`deploykit`) holds the socket of `gunicorn`"), "{plan}");
    nobody_notices(&site, 0, &["1", "2"]);
    assert_eq!(site.release().as_deref(), Some("2"));
    let log = fs::read_to_string(site.root.join("log/gunicorn.log")).unwrap();
    assert!(log.contains("deploykit: keeps the server stopped, and requests waiting, while `"), "{log}");

    // Requests wait while the service is stopped, too; supervisor sees the same process all the time.
    on(&site, &["services", "stop", "gunicorn"]).run().expect(0);
    let status = on(&site, &["services", "status", "gunicorn"]).run().expect(0).stdout;
    assert!(
        status.contains("stopped") && status.contains("holds its socket; the command is stopped"),
        "{status}"
    );
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| site.page("/version/").unwrap().status);
        on(&site, &["services", "start", "gunicorn"]).run().expect(0);
        assert_eq!(visitor.join().unwrap(), 200);
    });
    assert_eq!(site.processes()["gunicorn"].pid, keeper);

    // The same program, known by gunicorn's pidfile or by commands.
    let managers = ["supervisor", "gunicorn", "command"];
    let services = managers.map(|name| site.documented(&format!("toml {name}")));
    for (change, name) in services.windows(2).zip(["by its pidfile", "by commands"]) {
        configure(&site, &change[0], &change[1]);
        publish_good(&site, name);
        nobody_notices(&site, 0, &["2", "by its pidfile", "by commands"]);
        assert_eq!(site.release().as_deref(), Some(name));
    }
    assert_eq!(site.processes()["gunicorn"].pid, keeper);
}

#[test]
fn nobody_notices_an_update_that_is_interrupted_in_the_window() {
    let _alone = alone();
    let Some(mut site) = TestSite::builder().nginx().held_by(HOLDER).build() else { return };
    patient(&site);
    site.start().unwrap_or_else(|error| panic!("{error}"));
    let pause = Pause::after(&site, "code");
    publish_good(&site, "next");
    let (before, snapshot) = (entries(&site), Snapshot::of(&site).without_entries());
    let (done, seen) = among_visitors(&site, || {
        let update = on(&site, &["update", "-y"]).start();
        pause.wait();
        assert!(waits(&bridge(&site)) && waits(&old_bridge(&site)));
        update.signal(Signal::INT);
        update.finish().expect(5)
    });
    assert_all_served(&site, before, &seen, &["1"]);
    assert!(done.stderr.contains("Interrupted during step `pause`\n"), "{}", done.stderr);
    assert!(done.stderr.contains(" serves again; requests waited for "), "{}", done.stderr);
    assert!(!done.stderr.contains("instead"), "{}", done.stderr);
    let left = left_of_bridge(&site);
    assert!(left.is_empty(), "{left:#?}");
    let answer = site.page("/version/").unwrap();
    assert!(!answer.headers.contains_key("x-deploykit-bridge"), "{answer:?}");
    assert_same(&snapshot, &Snapshot::of(&site).without_entries());
}

#[test]
fn nobody_notices_an_update_at_a_unix_socket() {
    let _alone = alone();
    let Some(mut site) = TestSite::builder().nginx().unix_socket().held_by(HOLDER).build() else { return };
    patient(&site);
    site.start().unwrap_or_else(|error| panic!("{error}"));
    publish_good(&site, "next");
    nobody_notices(&site, 0, &["1", "next"]);
    assert_eq!(site.release().as_deref(), Some("next"));
}

#[test]
fn nobody_notices_an_update_under_systemd() {
    let _alone = alone();
    if !inside(&nobody_notices_an_update_under_systemd) {
        return;
    }
    let Some(mut site) = TestSite::builder().nginx().held_by(HOLDER).build() else { return };
    let services = ["supervisor", "systemd"].map(|name| site.documented(&format!("toml {name}")));
    configure(&site, &services[0], &services[1]);
    patient(&site);
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let program = site.documented("supervisor");
    assert!(text.contains(&program));
    fs::write(&site.supervisor_config, text.replace(&program, "")).unwrap();
    unit("gunicorn.service", &site.documented("hold-socket.service"));
    systemctl(&["start", "gunicorn.service"]);
    site.start_servers().unwrap_or_else(|error| panic!("{error}"));
    wait_for("the site", || site.page("/").is_ok_and(|page| page.status == 200));
    let main = || systemctl(&["show", "--property=MainPID", "gunicorn.service"]);
    let keeper = main();
    publish_good(&site, "next");
    nobody_notices(&site, 0, &["1", "next"]);
    assert_eq!(site.release().as_deref(), Some("next"));
    assert_eq!(main(), keeper);
}
