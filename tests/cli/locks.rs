//! One run at a time: who waits, who is told, and what is left of one that was killed.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::run::{on, wait_for};
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

#[test]
fn two_updates_at_once_and_one_that_is_killed() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let config = fs::read_to_string(&site.config).unwrap();
    publish_good(site, "first");

    // Killed while it prepares: nothing was begun, and the lock is free at once.
    let pause = Pause::after(site, "check");
    let before = Snapshot::of(site);
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    let holder = on(site, &["status", "--json"]).run().expect(0).json()["running"].clone();
    let refused = on(site, &["update", "-y"]).run().expect(4);
    let (user, pid) = (holder["user"].as_str().unwrap(), holder["pid"].as_u64().unwrap());
    let told = format!("Error: the site is locked by {user} (process {pid}) since ");
    assert!(refused.stderr.starts_with(&told), "{}", refused.stderr);
    assert!(refused.stderr.contains(": prepare an update\n"), "{}", refused.stderr);
    update.signal(Signal::KILL);
    assert_eq!(update.finish().code, None);
    let status = on(site, &["status", "--json"]).run().expect(0).json();
    assert!(status["running"].is_null() && status["unfinished_run"].is_null(), "{status:#}");
    assert_same(&before, &Snapshot::of(site));

    // Another one waits for the end of one that works, and then finds nothing to do.
    fs::write(&site.config, &config).unwrap();
    pause.rearm();
    let pause = Pause::after(site, "code");
    let first = on(site, &["update", "-y"]).start();
    pause.wait();
    let second = on(site, &["update", "-y", "--lock-wait", "10m"]).start();
    let impatient = on(site, &["update", "-y", "--lock-wait", "1s"]).run().expect(4);
    assert!(impatient.stderr.contains(": update to "), "{}", impatient.stderr);
    for reader in [&["history"][..], &["status"], &["logs"], &["env"], &["secrets", "check"]] {
        on(site, reader).run().expect(0);
    }
    pause.go_on();
    first.finish().expect(0);
    let waited = second.finish().expect(0);
    assert!(waited.stdout.contains("Nothing to do"), "{}", waited.stdout);

    // One that waits is told to stop waiting, and takes nothing with it.
    publish_good(site, "second");
    pause.rearm();
    let first = on(site, &["update", "-y"]).start();
    pause.wait();
    let second = on(site, &["update", "-y", "--lock-wait", "10m"]).start();
    wait_for("the second one", || second.stderr().contains("waiting for the end of another run: "));
    second.signal(Signal::TERM);
    let done = second.finish().expect(4);
    assert!(done.stderr.contains("the site is locked by "), "{}", done.stderr);

    // Killed in its window: the lock is free, and whoever comes next is shown the way out.
    let before = Snapshot::of(site);
    first.signal(Signal::KILL);
    first.finish();
    let refused = on(site, &["update", "-y", "--lock-wait", "10m"]).run().expect(4);
    assert!(refused.stderr.contains("is unfinished: it was interrupted\n"), "{}", refused.stderr);
    assert!(refused.stderr.contains("deploykit recover"), "{}", refused.stderr);
    pause.go_on();
    on(site, &["recover", "-y"]).run().expect(0);
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_ne!(before, Snapshot::of(site), "it was in its window");
    assert_eq!(site.release().as_deref(), Some("first"));
    on(site, &["update", "-y"]).run().expect(0);
    assert_eq!(site.release().as_deref(), Some("second"));

    // A step does not wait for the run that it is a part of.
    let inside = format!(
        "{config}\n[[steps]]\nname = \"inside\"\nafter = \"code\"\nrun = [\"{}\", \"-c\", \"{}\", \"update\", \"-y\", \"--lock-wait\", \"10m\"]\n",
        env!("CARGO_BIN_EXE_deploykit"),
        site.config.display(),
    );
    fs::write(&site.config, inside).unwrap();
    publish_good(site, "third");
    let done = on(site, &["update", "-y"]).run().expect(5);
    let told = "Error: this command was called inside the run that has locked the site: ";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    assert!(done.stderr.contains("`python manage.py …` instead of `deploykit manage`"), "{}", done.stderr);
    assert_eq!(site.release().as_deref(), Some("second"));
}
