//! What the way back of migrations comes to on copies of the databases.

use std::fs;
use std::path::Path;

use deploykit::plan::{Plan, RehearsedDatabase, StepKind};

use super::releases::{Outcome, outcome_of};
use crate::support::releases::write;
use crate::support::site::TestSite;

/// Adds a migration that runs one function forwards and another one backwards.
fn migration(tree: &Path, functions: &str, ways: &str) {
    let text = format!(
        "from django.db import migrations\n\n\n{functions}\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [migrations.RunPython({ways})]\n"
    );
    write(tree, "project/guestbook/migrations/0002_change.py", &text);
}

/// Returns what was seen of the only database, and why the window copies it.
fn seen(plan: &Plan) -> (RehearsedDatabase, Vec<String>) {
    let rehearsal = plan.rehearsal.clone().expect("a rehearsal");
    let good = rehearsal.pages.iter().filter(|page| page.problems.is_empty()).count();
    assert_eq!((good, rehearsal.pages.len()), (2, 2), "{:?}", rehearsal.pages);
    let backup = plan.steps.iter().find(|step| step.id == StepKind::Backup).expect("a step");
    (rehearsal.databases.into_iter().next().expect("a database"), backup.change.details.clone())
}

#[test]
fn a_database_whose_copy_would_take_too_long_is_copied_without_its_rows() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let record = site.checkout.join(".deploykit/copied.json");
    let now = jiff::Timestamp::now();
    let slow = format!(r#"{{"default":{{"size_bytes":1000,"duration_ms":60000,"ended":"{now}"}}}}"#);
    // Its time is to be that of the window: it has the usual priority.
    let nice = rustix::process::getpriority_process(None).expect("a priority");
    let check = format!(
        "def check(apps, editor):\n    import os\n    assert os.nice(0) == {nice}\n    \
         apps.get_model(\"guestbook\", \"Entry\").objects.filter(text=\"hush\").count()\n"
    );
    let ways = "check, migrations.RunPython.noop";
    let planned = || match outcome_of(&site, &first, "a check", |tree| migration(tree, &check, ways)) {
        Outcome::Ready(plan) => plan,
        Outcome::Refused(step, why) => panic!("{step}: {why}"),
    };
    let plan = planned();
    assert!(seen(&plan).0.all_rows, "{:?}", plan.notices);
    assert!(fs::read_to_string(&record).expect("a record").contains("size_bytes"));

    let migrate = plan.steps.iter().find(|step| step.id == StepKind::Migrate).expect("a step");
    let statements = &migrate.change.migrations[0].statements;
    let counted = statements.iter().find(|one| one.sql.starts_with("SELECT COUNT(*)")).expect("a statement");
    assert!(
        counted.count == 1 && counted.sql.ends_with(r#"WHERE "guestbook_entry"."text" = %s"#),
        "{counted:?}"
    );

    fs::write(&record, &slow).expect("a record");
    let plan = planned();
    let said: Vec<_> = plan.notices.iter().filter(|text| text.contains("`rehearsal.time-limit`")).collect();
    let begins = "database `default` was copied without its rows";
    assert!(matches!(said[..], [text] if text.starts_with(begins)), "{:?}", plan.notices);
    assert!(!seen(&plan).0.all_rows);
    assert_eq!(fs::read_to_string(&record).expect("a record"), slow);
}

#[test]
fn the_way_back_decides_whether_the_window_copies_the_database() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let ready = |name: &str, functions: &str, ways: &str| match outcome_of(&site, &first, name, |tree| {
        migration(tree, functions, ways)
    }) {
        Outcome::Ready(plan) => seen(&plan),
        Outcome::Refused(step, why) => panic!("{name}: {step}: {why}"),
    };
    let swap = "def swap(apps, editor):\n    for entry in apps.get_model(\"guestbook\", \"Entry\").objects.all():\n        \
                entry.text = entry.text.swapcase()\n        entry.save()\n";
    let (seen, why) = ready("it restores everything", swap, "swap, swap");
    assert_eq!((seen.lost, seen.all_rows, why), (Vec::new(), true, Vec::new()));

    // The same row once more is an error.
    let make = "def make(apps, editor):\n    apps.get_model(\"guestbook\", \"Entry\").objects.create(pk=987654, text=\"new\")\n";
    let (seen, why) = ready("it leaves a row", make, "make, migrations.RunPython.noop");
    assert_eq!(seen.lost, ["`guestbook_entry` has 4 rows instead of 3"]);
    assert!(seen.reversed.is_some() && why.iter().any(|why| why.contains("4 rows instead of 3")), "{why:?}");

    // What it would do where it reaches the address, nobody knows.
    let asks = "def ask(apps, editor):\n    import urllib.request\n    try:\n        \
                urllib.request.urlopen(\"http://192.0.2.1/\", timeout=1)\n    except OSError:\n        pass\n";
    let (seen, why) = ready("it asks another machine", asks, "ask, migrations.RunPython.noop");
    assert_eq!((seen.lost, seen.all_rows), (Vec::new(), true));
    assert_eq!(why, ["`guestbook.0002_change`: RunPython: what its code changes is not known"]);

    // Its reversal lacks something of the machine: that says nothing about the live one.
    let (seen, why) =
        ready("only its reversal asks", &asks.replace("pass", "raise"), "migrations.RunPython.noop, ask");
    let fault = seen.fault.expect("it fails");
    assert!(
        fault.starts_with("a migration tries to connect to 192.0.2.1:80, which a rehearsal cannot reach: "),
        "{fault}"
    );
    let [why] = &why[..] else { panic!("{why:?}") };
    assert!(why.contains("its reversal could not be rehearsed: a migration tries to connect"), "{why}");
}
