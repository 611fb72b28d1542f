//! Disks that are full, of blocks or of inodes, or read-only: before the window, in it, and on the way back.

use super::*;
use crate::support::database::{Database, Engine};
use crate::support::disk::{Disk, sh};
use crate::support::releases::{publish_column, publish_irreversible_migration};
use crate::support::site::demo_site::{run, wait_until};

#[test]
fn the_state_directory_s_disk_fills() {
    let Some(site) = TestSite::builder().start() else { return };
    let state = load(&site).state();
    state.create().unwrap();
    let Some(disk) = Disk::mount(state.directory(), "3m") else { return };
    let faulty = Faulty::of(&site);
    publish_column(&site);

    // Before anything: nothing can be recorded, so nothing is done.
    faulty.inject("code", "");
    let before = Snapshot::of(&site);
    sh(&disk.fill());
    let error = crate::update::run_update(&site).expect_err("nothing can be written");
    let text = deploykit::error_chain(&error);
    assert!(text.contains("No space left on device"), "{text}");
    disk.free();
    assert_as_before(&site, &before);

    // In the window: the journal cannot go on, so the run goes back.
    faulty.inject("stop-web", &disk.fill());
    let before = Snapshot::of(&site);
    let (failure, _, told) = faulty.update(Outcome::RolledBack);
    // The last block may still take a few entries.
    assert!(["fault", "code", "migrate", "static"].contains(&failure.step.as_str()), "{failure:#?}");
    let is_told =
        failure.error.starts_with("cannot write the journal") && failure.error.contains("No space left");
    assert!(is_told, "{}", failure.error);
    site.wait_until_serving(PATIENCE).unwrap();
    disk.free();
    // Short entries may still have found room.
    if is_unfinished(&site) {
        let notices = told.notices();
        assert!(notices.contains("run `deploykit recover` once it can be written"), "{notices}");
        faulty.recover();
    }
    assert_as_before(&site, &before);

    // A journal that is open needs no inode. What is written after its end does, and that the site is not told of.
    faulty.inject("migrate", &disk.use_up_inodes());
    let (result, told) = request(&site, &Request::default());
    assert_eq!(result.unwrap().outcome, Outcome::Updated);
    assert!(told.notices().contains("No space left on device"), "{}", told.notices());
    disk.free();
    assert!(!is_unfinished(&site));
    assert_tidy(&site);
}

#[test]
fn the_data_s_disk_fills_or_turns_read_only() {
    let Some(mut site) = TestSite::builder().build() else { return };
    let Some(disk) = Disk::with_contents(&site.root.join("data"), "4m") else { return };
    site.start().unwrap();
    let site = &site;
    let faulty = Faulty::of(site);
    publish_column(site);

    // While preparing: there is no room for the static files.
    faulty.inject("stop-web", "");
    let before = Snapshot::of(site);
    let read_only = disk.make_read_only();
    for (fault, said) in [
        (&disk.fill(), "No space left on device"),
        (&disk.use_up_inodes(), "No space left on device"),
        (&read_only, "Read-only file system"),
    ] {
        sh(fault);
        let text = faulty.refused("collect");
        assert!(text.contains(said), "{text}");
        if *fault == read_only {
            disk.make_writable()
        } else {
            disk.free()
        }
        until_the_worker_runs(site);
        assert_as_before(site, &before);
    }

    // In the window, while the database is changed: there is room for what was there before.
    for fault in [disk.fill(), disk.use_up_inodes()] {
        faulty.inject("static", &fault);
        let before = Snapshot::of(site);
        let (failure, report, _) = faulty.update_to(&[Outcome::RolledBack, Outcome::Held]);
        assert_eq!(failure.step, "migrate");
        let held = report.outcome == Outcome::Held;
        if held {
            // All is back, but the old worker does not live where it cannot write its sign of life.
            let (step, error) = failure.undo.expect("an undo that failed");
            assert_eq!(step, "stop-workers", "{error}");
            assert_held(site);
        }
        disk.free();
        if held {
            faulty.recover();
        }
        until_the_worker_runs(site);
        assert_as_before(site, &before);
    }

    // Where nothing at all can be written the announcement cannot be withdrawn.
    faulty.inject("stop-web", &read_only);
    let before = Snapshot::of(site);
    let (failure, ..) = faulty.update(Outcome::Held);
    assert_eq!(failure.step, "static");
    assert!(failure.error.contains("Read-only file system"), "{}", failure.error);
    assert_held(site);
    disk.make_writable();
    faulty.recover();
    assert_as_before(site, &before);
}

/// Waits until the worker runs, which died whenever it could not write its sign of life.
#[track_caller]
fn until_the_worker_runs(site: &DemoSite) {
    let runs = || {
        let state = site.processes()["worker"].state.clone();
        if state == "FATAL" {
            let start = ["start", "worker"];
            let mut supervisorctl = site.command(&site.supervisorctl);
            run(supervisorctl.arg("-c").arg(&site.supervisor_config).args(start)).unwrap();
        }
        state == "RUNNING"
    };
    assert!(wait_until(PATIENCE, runs), "{}", site.logs());
}

#[test]
fn the_checkout_s_disk_fills_or_turns_read_only_on_the_way_back() {
    let Some(mut site) = TestSite::builder().build() else { return };
    let Some(disk) = Disk::with_contents(&site.checkout, "4m") else { return };
    site.start().unwrap();
    let site = &site;
    let faulty = Faulty::of(site);
    publish_column(site);
    let state = load(site).state();
    state.create().unwrap();
    let Some(_state) = Disk::mount(state.directory(), "3m") else { return };
    let read_only = disk.make_read_only();
    for fault in [&disk.fill(), &disk.use_up_inodes(), &read_only] {
        // The site's own step fails, and then nothing more can be written.
        faulty.inject("code", &format!("{fault}; exit 3"));
        let before = Snapshot::of(site);
        // What git takes away first may leave it room enough.
        let wanted: &[Outcome] =
            if *fault == read_only { &[Outcome::Held] } else { &[Outcome::Held, Outcome::RolledBack] };
        let (failure, report, _) = faulty.update_to(wanted);
        if report.outcome == Outcome::Held {
            let (step, error) = failure.undo.expect("an undo that failed");
            assert_eq!(step, "code", "{error}");
            assert_held(site);
        }
        if *fault == read_only {
            disk.make_writable()
        } else {
            disk.free()
        }
        if report.outcome == Outcome::Held {
            faulty.recover();
        }
        assert_as_before(site, &before);
    }
}

#[test]
fn the_copy_of_the_database_fills_the_disk() {
    let Some(database) = Database::new(Engine::MariaDb) else { return };
    let Some(site) = TestSite::builder().database(&database).start() else { return };
    let state = load(&site).state();
    state.create().unwrap();
    let Some(disk) = Disk::mount(state.directory(), "4m") else { return };
    // Four megabytes, and as text eight.
    database.sql("CREATE TABLE bytes (b longblob); INSERT INTO bytes VALUES (random_bytes(1024))");
    for _ in 0..12 {
        database.sql("INSERT INTO bytes SELECT random_bytes(1024) FROM bytes");
    }
    database.sql("ANALYZE TABLE bytes");
    let faulty = Faulty::of(&site);
    publish_irreversible_migration(&site);

    // It would not find room by what is expected.
    let before = Snapshot::of(&site);
    let text = faulty.refused("migrations");
    assert!(
        text.contains("a backup of the database takes about")
            && text.contains(&state.directory().display().to_string()),
        "{text}"
    );
    assert_as_before(&site, &before);

    // Somebody else took what there was.
    disk.resize("20m");
    faulty.inject("stop-web", &format!("head -c 14M /dev/zero > {}/.filler", state.directory().display()));
    let before = Snapshot::of(&site);
    let (failure, ..) = faulty.update(Outcome::RolledBack);
    assert_eq!(failure.step, "backup");
    assert!(failure.error.contains("mariadb-dump: Got errno 28 on write"), "{}", failure.error);
    let left = crate::support::disk::names_with(state.directory(), "backup");
    assert!(left.is_empty(), "half a copy is left: {left:?}");
    assert_as_before(&site, &before);

    disk.free();
    faulty.disarm();
    assert_eq!(crate::update::run_update(&site).unwrap().outcome, Outcome::Updated);
}
