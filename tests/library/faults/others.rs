//! What the site needs of others goes away or hangs: the database, the package index, supervisord, a service that will
//! not end, the directory above the checkout.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::support::disk::{Disk, sh};
use crate::support::releases::{append, edit, publish_column};
use crate::support::site::demo_site::supervisor::call;
use crate::support::site::demo_site::wait_until;

/// Holds a lock on a SQLite file until it is dropped.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_database_is_locked_or_goes_away() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let faulty = Faulty::of(site);
    publish_column(site);
    // Nobody has the patience of production in a test.
    let base = "project/config/settings/base.py";
    site.publish(|tree| edit(tree, base, "\"timeout\": 20", "\"timeout\": 1")).unwrap();
    let go = site.root.join("run/locked");
    let locker = |how: &str| {
        let script = format!(
            "import sqlite3, time\ndb = sqlite3.connect({:?}, timeout=60, isolation_level=None)\n\
             db.execute('BEGIN {how}')\nopen({:?}, 'w').close()\ntime.sleep(600)\n",
            site.database, go
        );
        let _ = fs::remove_file(&go);
        let mut command = Command::new(&site.options.python);
        let child = command.args(["-c", &script]).stdin(Stdio::null()).spawn().expect("Python starts");
        let writer = Writer(child);
        assert!(wait_until(PATIENCE, || go.exists()), "no lock");
        writer
    };

    // While preparing, where it can only be read by waiting for it.
    faulty.inject("stop-web", "");
    let before = Snapshot::of(site);
    let writer = locker("EXCLUSIVE");
    let text = faulty.refused("migrations");
    assert!(text.contains("database is locked"), "{text}");
    drop(writer);
    assert_as_before(site, &before);

    // In the window: by somebody who writes, and by somebody who lets nobody read either.
    for (how, wanted) in [("IMMEDIATE", Outcome::RolledBack), ("EXCLUSIVE", Outcome::Held)] {
        let wait = format!("touch {0}.go; while ! test -e {0}; do sleep 0.05; done", go.display());
        faulty.inject("static", &wait);
        let _ = fs::remove_file(&go);
        let started = go.with_extension("go");
        let _ = fs::remove_file(&started);
        let before = Snapshot::of(site);
        let (failure, writer) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                assert!(wait_until(PATIENCE, || started.exists()), "the window does not open");
                locker(how)
            });
            let (failure, ..) = faulty.update(wanted);
            (failure, writer.join().expect("a lock"))
        });
        assert_eq!(failure.step, "migrate");
        assert!(failure.error.contains("database is locked"), "{}", failure.error);
        if wanted == Outcome::Held {
            assert_eq!(failure.undo.expect("an undo that failed").0, "migrate");
            assert_held(site);
        }
        drop(writer);
        if wanted == Outcome::Held {
            faulty.recover();
        }
        assert_as_before(site, &before);
    }

    // Gone, and back again.
    let (database, elsewhere) = (site.database.display(), site.root.join("data/elsewhere"));
    faulty.inject("static", &format!("mv {database} {}", elsewhere.display()));
    let before = Snapshot::of(site);
    let (failure, ..) = faulty.update(Outcome::Held);
    assert_eq!(failure.step, "migrate");
    assert_held(site);
    fs::rename(&elsewhere, &site.database).unwrap();
    faulty.recover();
    assert_as_before(site, &before);
}

#[test]
fn supervisord_dies_in_the_window() {
    let Some(mut site) = TestSite::builder().nginx().start() else { return };
    publish_column(&site);
    let before;
    {
        let faulty = Faulty::of(&site);
        let pid = site.root.join("run/supervisord.pid");
        faulty.inject("stop-web", &format!("kill -KILL $(cat {})", pid.display()));
        before = Snapshot::of(&site);
        let (failure, ..) = faulty.update(Outcome::Held);
        assert_eq!(failure.step, "start-web");
        assert!(failure.error.contains("supervisord does not run"), "{}", failure.error);
        let (step, error) = failure.undo.expect("an undo that failed");
        assert_eq!(step, "start-web");
        assert!(error.contains("supervisord does not run"), "{error}");
        assert!(site.maintenance_page.exists(), "visitors see the page");
        assert_eq!(site.page("/").unwrap().status, 503);
        // As long as it is gone, a recovery gets no further.
        assert_eq!(recover(&site).expect("an unfinished run").outcome, Outcome::Held);
        faulty.disarm();
    }
    // It starts all of its programs by itself; the page stays up.
    site.start_supervisord().unwrap();
    assert!(wait_until(PATIENCE, || site.processes().contains_key("worker")), "{}", site.logs());
    assert_eq!(site.page("/").unwrap().status, 503);
    let report = recover(&site).expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_as_before(&site, &before);
}

#[test]
fn a_service_that_does_not_end_when_it_is_told_to() {
    let Some(mut site) = TestSite::builder().build() else { return };
    // supervisor kills it in the end, later than deploykit waits.
    let stubborn = "exec 9<>/dev/null; trap '' TERM; while :; do sleep 0.2; done";
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let program = format!("\n[program:stubborn]\ncommand=/bin/sh -c \"{stubborn}\"\nstopwaitsecs=8\n");
    fs::write(&site.supervisor_config, text + &program).unwrap();
    let config = site.supervisor_config.display().to_string();
    add(
        &site,
        &format!(
            "[[services]]\nname = \"stubborn\"\nmanager = \"supervisor\"\nconfig = \"{config}\"\nrole = \"web\"\n\
             stop-timeout = \"2s\"\n"
        ),
    );
    site.start().unwrap();
    publish_column(&site);
    let before = Snapshot::of(&site);
    let faulty = Faulty::of(&site);
    let (failure, _, told) = faulty.update(Outcome::RolledBack);
    assert_eq!(failure.step, "stop-web");
    assert!(failure.error.contains("stubborn"), "{}", failure.error);
    assert!(!told.done().contains(&"code"), "{told:?}");
    assert_as_before(&site, &before);
}

#[test]
fn an_index_that_hangs_and_a_directory_that_cannot_be_written() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let faulty = Faulty::of(site);
    // It accepts and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let index = format!("--default-index=http://{}/simple", silent.local_addr().unwrap());
    site.publish(|tree| append(tree, "requirements/production.txt", "demo-package-that-nobody-made\n"))
        .unwrap();
    let text = fs::read_to_string(&site.config).unwrap();
    let text = text
        .replace("\"--no-index\"", &format!("\"{index}\""))
        .replace("[python]\n", "[python]\ndeadline = \"3s\"\n");
    fs::write(&site.config, text.replace("env = {", "env = { UV_NO_INDEX = \"0\",")).unwrap();
    let before = Snapshot::of(site);
    let text = faulty.refused("staged-virtualenv");
    assert!(text.contains("did not finish within 3 s"), "{text}");
    assert_as_before(site, &before);

    // Nothing can be made beside the checkout, whose directory is a mount of its own here.
    fs::write(&site.config, &faulty.config).unwrap();
    let Some(_disk) = Disk::around(&site.checkout) else { return };
    let before = Snapshot::of(site);
    let root = site.root.display();
    sh(&format!("mount --rbind {root} {root} && mount -o remount,bind,ro {root}"));
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faulty.refused("staged-tree")));
    sh(&format!("umount --lazy {root}"));
    let text = refused.expect("a refusal");
    assert!(text.contains("Read-only file system") && text.contains(".site.deploykit-next"), "{text}");
    // The worker, which could not write either, has died of it, or is about to; or supervisor has given it up.
    for order in ["stopProcess", "startProcess"] {
        let _ = call(&site.supervisor_socket, &format!("supervisor.{order}"), &["worker"]);
    }
    assert_as_before(site, &before);
}
