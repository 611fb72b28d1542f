//! Rehearsals that are killed or interrupted leave nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use deploykit::Cancel;
use deploykit::event::{Event, Outcome, Record};
use deploykit::update::{self, Prepared, Request, UpdateError};

use crate::support::database::{Database, Engine};
use crate::support::releases::{edit, prepend, publish_column, write};
use crate::support::site::TestSite;
use crate::support::site::demo_site::{DemoSite, wait_until};
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::goes_back::killed::start_update;
use crate::update::load;

/// Timeout for the begin of a rehearsal, and for the end of its processes after it was killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Timeout for the end of an interrupted rehearsal.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Returns the processes with their working directory or a path of their command line in the site.
fn processes(site: &DemoSite) -> BTreeSet<(u32, String)> {
    let root = site.root.to_string_lossy().into_owned();
    let all = fs::read_dir("/proc").expect("a list").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found = numbers.filter(|number| *number != std::process::id()).filter_map(|number: u32| {
        let directory = Path::new("/proc").join(number.to_string());
        let line = fs::read_to_string(directory.join("cmdline")).ok()?.replace('\0', " ");
        let home = fs::read_link(directory.join("cwd")).is_ok_and(|home| home.starts_with(&site.root));
        (home || line.contains(&root)).then_some((number, line))
    });
    found.collect()
}

/// Returns the rehearsal's directory and staged files, as far as they exist.
fn left(site: &DemoSite) -> Vec<String> {
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let own = names(&site.checkout.join(".deploykit")).into_iter().filter(|name| name == "rehearsal");
    let staged = names(&site.root).into_iter().filter(|name| name.contains("deploykit-"));
    own.chain(staged).collect()
}

fn assert_nothing_left(site: &DemoSite, before: &Snapshot, running: &BTreeSet<(u32, String)>) {
    // A process that was killed takes a moment to exit.
    wait_until(AT_ONCE, || processes(site) == *running);
    assert_eq!(processes(site), *running);
    assert_eq!(left(site), [""; 0]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a list");
    assert!(!mounts.contains(&*site.root.to_string_lossy()), "{mounts}");
    assert_same(before, &Snapshot::of(site));
}

/// Publishes a release whose migration and page take these times.
fn linger(site: &DemoSite, seconds: [u32; 2]) {
    site.publish(|tree| {
        write(
            tree,
            "project/guestbook/migrations/0003_wait.py",
            &format!(
                "import time\n\nfrom django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
                 dependencies = [(\"guestbook\", \"0002_entry_mood\")]\n    operations = [migrations.RunPython(lambda *_: \
                 time.sleep({}), migrations.RunPython.noop)]\n",
                seconds[0]
            ),
        );
        write(tree, "project/guestbook/wait.py", &format!("SECONDS = {}\n", seconds[1]));
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

/// Prepares an update, and interrupts it a while after a step has begun. Returns how long the end took.
fn interrupted(site: &DemoSite, wanted: &str, after: Duration) -> Duration {
    let cancel = Cancel::new().expect("a pipe");
    let mut requested = None;
    let mut watch = |record: &Record| {
        if matches!(&record.event, Event::StepStarted { step, .. } if step == wanted) {
            let cancel = cancel.clone();
            requested = Some(Instant::now() + after);
            thread::spawn(move || {
                thread::sleep(after);
                cancel.request();
            });
        }
    };
    let request = Request { only_plan: true, ..Request::default() };
    let loaded = load(site);
    match update::prepare(&loaded, &request, Some(cancel.clone()), &mut watch) {
        Err(UpdateError::Prepare { step, report, .. }) => {
            assert_eq!((step.as_str(), report.outcome), (wanted, Outcome::Refused));
            let failure = report.failure.expect("it failed");
            assert!(failure.interrupted, "{failure:#?}");
        }
        Ok(Prepared::Ready(_)) => panic!("{wanted} was not interrupted"),
        other => panic!("{other:?}"),
    }
    requested.expect("the step began").elapsed()
}

#[test]
fn leave_nothing() {
    // Without the programs of a server, the copy is a file.
    let database = Database::new(Engine::PostgreSql);
    let mut builder = TestSite::builder().rehearsal();
    if let Some(database) = &database {
        builder = builder.database(database);
    }
    let Some(site) = builder.start() else { return };
    publish_column(&site);
    site.publish(|tree| {
        let views = "project/guestbook/views.py";
        prepend(tree, views, "import time\n\nfrom . import wait\n");
        let home = "    entries = Entry.objects.all()\n";
        edit(tree, views, home, &format!("    time.sleep(wait.SECONDS)\n{home}"));
    })
    .unwrap_or_else(|error| panic!("{error}"));
    linger(&site, [1, 1]);
    let (before, running) = (Snapshot::of(&site), processes(&site));
    let scratch = site.checkout.join(".deploykit/rehearsal");

    // `kill -9` while it copies, makes the namespaces, migrates, reverses, and requests the pages.
    for milliseconds in [20, 900, 2100, 4300] {
        let child = start_update(&site, "never", None);
        assert!(wait_until(PATIENCE, || scratch.exists()), "{}", site.logs());
        thread::sleep(Duration::from_millis(milliseconds));
        drop(child);
        let ended = wait_until(PATIENCE, || processes(&site) == running);
        assert!(ended, "after {milliseconds} ms: {:#?}", processes(&site).difference(&running));
    }

    // The next run removes what was left. An interruption ends it at once, whatever it waits for.
    for (step, seconds, after) in
        [("rehearse-migrations", [600, 0], 3000), ("rehearse-pages", [0, 600], 1000)]
    {
        linger(&site, seconds);
        let took = interrupted(&site, step, Duration::from_millis(after));
        assert!(took < AT_ONCE, "{step} ended after {took:?}");
        assert_nothing_left(&site, &before, &running);
    }
}
