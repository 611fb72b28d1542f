//! Failures while the database is changed, or after it was: it is what it was, or the site is held.

use std::collections::BTreeMap;

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;

#[test]
fn a_migration_that_raises_after_others_were_applied() {
    let Some(site) = TestSite::builder().start() else { return };
    publish_release_2(&site);
    site.publish(|tree| {
        write(
            tree,
            "project/guestbook/migrations/0005_move.py",
            "from django.db import migrations\n\n\ndef move(apps, schema_editor):\n    \
             raise RuntimeError(\"this row cannot be moved\")\n\n\nclass Migration(migrations.Migration):\n    \
             dependencies = [(\"guestbook\", \"0004_sign_entries\")]\n    \
             operations = [migrations.RunPython(move, migrations.RunPython.noop)]\n",
        );
    })
    .unwrap();
    let virtualenv = files_of(&site.virtualenv);
    assert!(virtualenv.len() > 1000, "a virtualenv has many files");
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(files_of(&site.virtualenv), virtualenv, "not the very directory that it was");
    assert_eq!(failure.step, "migrate");
    assert!(failure.error.contains("guestbook.0005_move"), "{}", failure.error);
    let tail = failure.tail.join("\n");
    assert!(tail.contains("Traceback") && tail.contains("RuntimeError: this row cannot be moved"), "{tail}");
    assert!(tail.contains("0005_move.py"), "{tail}");
    for step in ["migrate", "static", "virtualenv", "code", "stop-web", "stop-workers"] {
        assert!(told.undone().contains(&step), "`{step}` is not undone: {:?}", told.undone());
    }
    assert!(report.steps.iter().all(|step| step.undone), "{:#?}", report.steps);
    let transcript = fs::read_to_string(failure.transcript.unwrap()).unwrap();
    assert!(transcript.contains("0004_sign_entries"), "{transcript}");
}

#[test]
fn a_migration_that_cannot_be_reversed_is_taken_back_by_the_backup() {
    let Some(site) = TestSite::builder().start() else { return };
    publish_irreversible_migration_and_broken_page(&site);
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.done().contains(&"backup") && told.undone().contains(&"migrate"), "{told:?}");
    let run = site_state(&site).runs().unwrap().pop().unwrap();
    assert_eq!(Some(run.name), report.run);
    withdraw(&site);

    // Reversing it would bring the column back, and none of its values.
    site.publish(|tree| {
        write(
            tree,
            "project/guestbook/migrations/0002_forget.py",
            "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
             dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [\n        \
             migrations.RemoveIndex(\"entry\", \"entry_author\"),\n        \
             migrations.RemoveField(\"entry\", \"author\"),\n    ]\n",
        );
    })
    .unwrap();
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(failure.error.contains("`/`"), "{}", failure.error);
    assert!(told.done().contains(&"backup") && told.done().contains(&"migrate"), "{told:?}");
}

#[test]
fn without_a_way_back_the_site_is_held_until_a_person_has_made_one() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    configure(&site, "[maintenance]\n", "[database]\nbackup = \"never\"\n\n[maintenance]\n");
    let before = Snapshot::of(&site);
    let commit = publish_irreversible_migration_and_broken_page(&site);

    let loaded = load(&site);
    let mut unheard = |_: &Record| ();
    let Prepared::Ready(update) =
        update::prepare(&loaded, &Request::default(), None, &mut unheard).expect("a plan")
    else {
        panic!("there is something to do")
    };
    let (step, reason) = update.plan().point_of_no_return().expect("it is known beforehand");
    assert_eq!(step.id, "migrate");
    assert_eq!(reason, "`guestbook.0002_shout`: RunPython without `reverse_code`");
    let report = update.run().expect("a report");

    assert_eq!(report.outcome, Outcome::Held, "{:#?}", report.failure);
    assert_eq!((report.to.as_str(), report.from == commit), (commit.as_str(), false));
    let failure = report.failure.clone().unwrap();
    assert_eq!(failure.step, "smoke-check");
    let (step, error) = failure.undo.clone().expect("the undo that failed");
    assert_eq!(step, "migrate");
    assert!(error.contains("guestbook.0002_shout"), "{error}");
    assert!(log_lines(&failure).contains("the home page is broken"), "{:#?}", failure.logs);
    assert_held(&site);
    let run = site_state(&site).runs().unwrap().pop().unwrap();
    assert_eq!(run.report().unwrap(), report);

    let error = run_update(&site).expect_err("the site is held");
    assert!(
        matches!(&error, UpdateError::Unfinished { run, .. } if Some(run) == report.run.as_ref()),
        "{error}"
    );
    assert_held(&site);

    // As long as nothing has changed, a recovery gets no further.
    let again = recover(&site).expect("an unfinished run");
    assert_eq!(again.outcome, Outcome::Held);
    assert_eq!(again.failure.as_ref().unwrap().step, "smoke-check", "what failed first stays in the report");
    assert_eq!(again.failure.unwrap().undo.unwrap().0, "migrate");
    assert_held(&site);

    // A person decides that the rows may stay as they are.
    let mut forget = site.python();
    forget.args([
        "-c",
        "import django; django.setup(); from django.db.migrations.recorder import MigrationRecorder as R; \
         from django.db import connection; R(connection).record_unapplied('guestbook', '0002_shout')",
    ]);
    crate::support::site::demo_site::run(&mut forget).unwrap();
    let last = recover(&site).expect("an unfinished run");
    assert_eq!(last.outcome, Outcome::RolledBack, "{:#?}", last.failure);
    site.wait_until_serving(PATIENCE).unwrap();
    let rows = |snapshot: Snapshot| snapshot.without("database rows").without("page / body");
    assert_same(&rows(before), &rows(Snapshot::of(&site)));
    assert_tidy(&site);
    assert!(recover(&site).is_none());
}

/// Returns every file of a directory with what tells it from any other, and from itself when it was written to; what
/// Python compiles meanwhile is left out.
fn files_of(directory: &Path) -> BTreeMap<PathBuf, [u64; 4]> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let meta = entry.path().symlink_metadata().expect("a file");
        if meta.is_dir() && entry.file_name() != "__pycache__" {
            found.extend(files_of(&entry.path()));
        } else if !meta.is_dir() {
            let facts = [meta.ino(), meta.len(), meta.mode().into(), meta.mtime().cast_unsigned()];
            found.insert(entry.path(), facts);
        }
    }
    found
}

fn recover(site: &DemoSite) -> Option<Report> {
    update::recover(&load(site), None, &mut |_: &Record| ()).expect("a recovery")
}

/// Fails unless visitors see the maintenance page, and nothing else is running.
#[track_caller]
fn assert_held(site: &DemoSite) {
    let page = fs::read_to_string(&site.maintenance_page).expect("the page is up");
    for path in ["/", "/about/"] {
        let answer = site.page(path).expect("nginx answers");
        assert_eq!((answer.status, answer.body.trim()), (503, page.trim()));
    }
    for (name, program) in site.processes() {
        assert_eq!(program.state, "STOPPED", "{name}");
    }
}
