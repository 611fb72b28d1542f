//! Terminals that vanish or stop, pipes that nobody reads: a run that was begun goes on to its end.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::run::{full_pipe, on, pipe, wait_for};
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

/// Tells whether the site is at a commit, and no run has its lock any more.
fn is_over(site: &TestSite, commit: &str) -> bool {
    let head = site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap();
    head.trim() == commit && on(site, &["status", "--json"]).run().expect(0).json()["running"].is_null()
}

#[test]
fn a_terminal_that_vanishes_or_stops() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let config = fs::read_to_string(&site.config).unwrap();

    // It is gone in the midst of the preparation.
    let commit = publish_good(site, "unseen");
    let pause = Pause::after(site, "check");
    let Some(terminal) = on(site, &["update", "-y"]).on_terminal() else { return };
    pause.wait();
    let update = terminal.hang_up();
    pause.go_on();
    update.finish().expect(0);
    assert!(is_over(site, &commit));

    // Ctrl-Z and Ctrl-S in the window, to the whole foreground group of a real terminal.
    fs::write(&site.config, &config).unwrap();
    pause.rearm();
    let pause = Pause::after(site, "stop-web");
    let commit = publish_good(site, "stopped");
    let Some(mut terminal) = on(site, &["update", "-y"]).on_terminal() else { return };
    pause.wait();
    terminal.type_in("\u{1a}");
    terminal.type_in("\u{13}");
    pause.go_on();
    wait_for("the end of the run", || is_over(site, &commit));
    // What it has to say waits until somebody reads it again.
    terminal.type_in("\u{11}");
    let done = terminal.finish().expect(0);
    assert!(done.stdout.contains("Updated to "), "{}", done.stdout);

    // Ctrl-\ is a request to end, not a death without an undo.
    fs::write(&site.config, &config).unwrap();
    pause.rearm();
    let pause = Pause::after(site, "code");
    publish_good(site, "quit");
    let before = Snapshot::of(site);
    let Some(mut terminal) = on(site, &["update", "-y"]).on_terminal() else { return };
    pause.wait();
    terminal.type_in("\u{1c}");
    terminal.finish().expect(5);
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn pipes_that_nobody_reads() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;

    // Both are full, and every command is logged.
    let commit = publish_good(site, "unread");
    let ((out_read, out), (err_read, err)) = (full_pipe(), full_pipe());
    let update = on(site, &["update", "-y", "-vv", "--json"]).stdout(out).stderr(err).start();
    wait_for("the end of the run", || is_over(site, &commit));
    drop((out_read, err_read));
    update.finish().expect(0);

    // Nobody was ever there.
    let commit = publish_good(site, "closed");
    let ((out_read, out), (err_read, err)) = (pipe(), pipe());
    drop((out_read, err_read));
    on(site, &["update", "-y", "-vv"]).stdout(out).stderr(err).run().expect(0);
    assert!(is_over(site, &commit));

    // The events go into a pipe whose reader sleeps.
    let commit = publish_good(site, "piped");
    let events = site.root.join("run/events");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &events,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let reader: File = OpenOptions::new().read(true).custom_flags(nonblock).open(&events).unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let update = on(site, &["update", "-y", "--events", events.to_str().unwrap()]).start();
    wait_for("the end of the run", || is_over(site, &commit));
    update.finish().expect(0);
    drop(reader);
}

#[test]
fn signals_while_users_are_told() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    publish_good(site, "later");
    let before = Snapshot::of(site);
    let update = on(site, &["update", "-y", "--in", "40m"]).start();
    wait_for("the announcement", || update.stderr().contains("waiting until"));
    assert!(site.maintenance_status.exists(), "users are told");
    update.signal(Signal::HUP);
    update.signal(Signal::TSTP);
    let status = on(site, &["status", "--json"]).run().expect(0).json();
    assert!(status["running"]["purpose"].as_str().unwrap().starts_with("update to "), "{status:#}");
    update.signal(Signal::TERM);
    let done = update.finish().expect(4);
    assert!(done.stderr.contains("Interrupted during step `wait`"), "{}", done.stderr);
    assert_same(&before, &Snapshot::of(site));
}
