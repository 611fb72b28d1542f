//! Copies that the site's own commands make.

use super::*;
use crate::support::releases::{append, publish_irreversible_migration_and_broken_page};
use crate::support::site::TestSite;
use crate::support::site::demo_site::run as run_program;

#[test]
fn a_copy_of_the_site_s_own_is_put_back_by_its_command_or_by_a_person() {
    let Some(_) = crate::support::program("sqlite3") else { return };
    let Some(site) = TestSite::builder().start() else { return };
    let database = site.database.display();
    let copy = format!(
        "backup-command = [\"sh\", \"-c\", \"sqlite3 {database} '.backup '$DEPLOYKIT_BACKUP && echo copied\"]\n"
    );
    let put_back = format!("restore-command = [\"sh\", \"-c\", \"cp $DEPLOYKIT_BACKUP {database}\"]\n");
    configure(&site, "[maintenance]\n", &format!("[database]\n{copy}{put_back}\n[maintenance]\n"));
    publish_irreversible_migration_and_broken_page(&site);
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.done().contains(&"backup") && told.undone().contains(&"migrate"), "{told:?}");

    configure(&site, &put_back, "");
    let before = Snapshot::of(&site);
    let loaded = load(&site);
    let mut unheard = |_: &Record| ();
    let prepared = update::prepare(&loaded, &Request::default(), None, &mut unheard).expect("a plan");
    let Prepared::Ready(update) = prepared else { panic!("there is something to do") };
    let plan = update.plan();
    let backup = plan.steps.iter().find(|step| step.id == "backup").unwrap();
    assert_eq!(
        backup.change.reason,
        "by `database.backup-command`; you have to restore it yourself: only the copy can undo the migrations"
    );
    assert_eq!(backup.change.details, ["`guestbook.0002_shout`: RunPython without `reverse_code`"]);
    let (step, reason) = plan.point_of_no_return().expect("it is known beforehand");
    assert_eq!(
        (step.id.as_str(), reason),
        ("migrate", "`guestbook.0002_shout`: RunPython without `reverse_code`")
    );
    let report = update.run().expect("a report");
    assert_eq!(report.outcome, Outcome::Held, "{:#?}", report.failure);
    let (step, error) = report.failure.unwrap().undo.expect("the undo that failed");
    let copy = site_state(&site).runs().unwrap().pop().unwrap().path.join("backup");
    assert_eq!(step, "migrate");
    assert!(
        error.contains(&format!("its copy from before the migrations is `{}`", copy.display())),
        "{error}"
    );

    fs::copy(&copy, &site.database).unwrap();
    let last = update::recover(&load(&site), None, &mut |_: &Record| ()).expect("a recovery").unwrap();
    assert_eq!(last.outcome, Outcome::RolledBack, "{:#?}", last.failure);
    assert_as_before(&site, &before);
}

#[test]
fn a_copy_that_has_no_room_is_refused_beforehand_and_old_ones_go() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "[maintenance]\n", "[database]\nbackup = \"always\"\n\n[maintenance]\n");
    publish_release_2(&site);
    let state = site_state(&site);
    state.create().unwrap();
    let run = |name: &str| {
        let directory = state.directory().join("runs").join(name);
        // As deploykit makes it.
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&directory).unwrap();
        directory
    };
    // The last copy was so large that no disk has room for the next one.
    let (old, large) = (run("20260101-1"), run("20260101-2"));
    for name in ["backup.dump", "backup.sql.restored", "backup.json", "output.log"] {
        fs::write(old.join(name), "").unwrap();
    }
    let record =
        r#"{"vendor": "sqlite", "size_bytes": 1000, "file_bytes": 1000000000000000, "duration_ms": 1}"#;
    fs::write(large.join("backup.json"), record).unwrap();
    let before = Snapshot::of(&site);
    let error = run_update(&site).expect_err("there is no room");
    let UpdateError::Prepare { step, .. } = &error else { panic!("{error}") };
    assert_eq!(step, "migrations");
    let text = deploykit::error_chain(&error);
    assert!(text.contains(" GB, and ") && text.contains("a backup of the database takes about "), "{text}");
    assert_same(&before, &Snapshot::of(&site));
    assert!(old.join("backup.dump").exists());

    fs::remove_file(large.join("backup.json")).unwrap();
    let kept = ["20260101-3", "20260101-4", "20260101-5"].map(run);
    for directory in &kept {
        fs::write(directory.join("backup.dump"), "").unwrap();
    }
    // Other databases are left alone, and it is said so.
    site.publish(|tree| {
        let others = "for name in (\"archive\", \"broken\"):\n    DATABASES[name] = {\"ENGINE\": \
            \"django.db.backends.sqlite3\", \"NAME\": DATA / (name + \".db\")}\n";
        append(tree, "project/config/settings/base.py", others);
    })
    .unwrap();
    let archive = site.root.join("data/archive.db");
    let sql = "CREATE TABLE django_migrations (id integer, app text, name text, applied datetime)";
    run_program(std::process::Command::new("sqlite3").arg(&archive).arg(sql)).unwrap();
    fs::write(site.root.join("data/broken.db"), "this is not a database, however long it is looked at")
        .unwrap();
    let before = fs::read(&archive).unwrap();
    let (_, told) = updated(&site);
    assert!(told.done().contains(&"backup"), "{told:?}");
    let notices = told.notices();
    assert!(
        notices.contains("alias `archive` has 6 pending migrations, and is not in `database.migrate`"),
        "{notices}"
    );
    assert!(
        notices.contains(
            "alias `broken` is not in `database.migrate`, and which of its migrations are applied is not known (DatabaseError)"
        ),
        "{notices}"
    );
    assert_eq!(fs::read(&archive).unwrap(), before);
    // Beside this one the last three that made a copy keep theirs; those that made none do not count.
    let left = |directory: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(left(&old), ["backup.json", "output.log"]);
    assert!(kept.iter().all(|directory| left(directory) == ["backup.dump"]));
    let last = left(&state.runs().unwrap().pop().unwrap().path);
    assert!(
        last.iter().any(|name| name == "backup.sqlite3") && last.iter().any(|name| name == "backup.json"),
        "{last:?}"
    );
}
