//! Updates that only their copy of the database brings back.

use deploykit::plan::{LaterRollback, RollbackWay};
use deploykit::update::RollbackError;

use super::fails::kill_at;
use super::refuses::refused;
use super::*;

/// Fails unless the copy is not put back, and returns why.
#[track_caller]
fn not_from_copy(site: &DemoSite) -> String {
    let before = Snapshot::of(site);
    let error = try_from_copy(site).0.expect_err("not refused");
    let UpdateError::Prepare { step, .. } = &error else { panic!("{error:?}") };
    assert_eq!(step, "migrations");
    assert_same(&before, &Snapshot::of(site));
    deploykit::error_chain(&error)
}

/// Refused without the copy; then brought back by it: after a failure, after kills, and in the end.
#[test]
fn what_cannot_be_reversed_is_put_back_from_the_copy() {
    let Some(site) = TestSite::builder().start() else { return };
    let broken = site.root.join("broken");
    let (views, text) = (
        "project/guestbook/views.py",
        format!("\nif os.path.exists({broken:?}):\n    raise RuntimeError(\"it does not work any more\")\n"),
    );
    site.publish(|tree| append(tree, views, &text)).unwrap();
    updated(&site);
    let said = not_from_copy(&site);
    assert!(said.contains("made no copy of the database"), "{said}");

    site.write_entry("Ada", "written before").unwrap();
    let before = Snapshot::of(&site);
    site.publish(|tree| edit(tree, views, &text, "")).unwrap();
    publish_irreversible_migration(&site);
    let (report, _) = updated(&site);
    let reason = "`guestbook.0002_shout`: RunPython without `reverse_code`".to_owned();
    let later = LaterRollback { way: RollbackWay::FromCopy, reason: Some(reason.clone()) };
    assert_eq!(report.rollback, Some(later));
    site.write_entry("Ada", "written since").unwrap();
    site.write_entry("Ada", "and more").unwrap();
    let after = Snapshot::of(&site);
    let text = &after.facts["database rows guestbook_entry"];
    assert!(text.contains("WRITTEN BEFORE") && text.contains("written since"), "{text}");
    refused(&site, None, "migrations", &format!("the migrations cannot be reversed: {reason}"));

    // What fails on the way brings the rows back that were written since.
    fs::write(&broken, "").unwrap();
    let report = try_from_copy(&site).0.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(report.failure.unwrap().undo, None);
    site.wait_until_serving(PATIENCE).unwrap();
    assert_same(&after, &Snapshot::of(&site));
    fs::remove_file(&broken).unwrap();
    for at in ["backup", "migrate", "code"] {
        kill_at(&site, at, true);
        let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "killed at `{at}`: {:#?}", report.failure);
        site.wait_until_serving(PATIENCE).unwrap();
        assert_same(&after, &Snapshot::of(&site));
    }

    // Without the copy nothing is touched.
    let runs = load(&site).state().runs().unwrap();
    let copies = runs.iter().map(|run| run.path.join("backup.sqlite3"));
    let copy = copies.into_iter().find(|path| path.exists()).unwrap();
    let aside = site.root.join("aside.sqlite3");
    fs::rename(&copy, &aside).unwrap();
    let said = not_from_copy(&site);
    assert!(said.contains(&format!("`{}` is missing", copy.display())), "{said}");
    let error = rollback_of(&site, None, |_| (), &mut |_| ()).0.unwrap_err();
    let UpdateError::Prepare { source, .. } = &error else { panic!("{error:?}") };
    let copy_of = |error: &RollbackError| match error {
        RollbackError::Irreversible { copy, .. } => copy.clone(),
        other => panic!("{other}"),
    };
    assert_eq!(copy_of(source.downcast_ref().unwrap()), None);
    fs::rename(&aside, &copy).unwrap();

    let (_, told) = from_copy(&site);
    let notices = told.notices();
    assert!(notices.contains("what was written to the database since then is lost"), "{notices}");
    assert!(notices.contains("`guestbook_entry` has 2 rows more"), "{notices}");
    assert_same(&before, &Snapshot::of(&site));
}
