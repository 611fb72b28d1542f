//! Steps that a tool adds to a plan.

use std::path::Path;

use deploykit::operations::{Change, Check};
use deploykit::plan::{Step, StepKind};
use deploykit::update::InsertError;
use deploykit::{Action, Command};

use super::goes_back::killed::kill_with;
use super::goes_back::{assert_as_before, publish_release_2};
use super::*;
use crate::support::site::TestSite;
use crate::support::snapshot::Snapshot;

/// A step that writes a file; its undo removes the file.
pub fn writes(path: &Path) -> Step {
    let change = Change {
        reason: "a file of the tool".to_owned(),
        actions: vec![Action::WriteFile { path: path.to_owned(), contents: "new".to_owned(), mode: 0o644 }],
        undo: vec![Action::RemoveFile { path: path.to_owned() }],
        ..Change::default()
    };
    Step::new(StepKind::from("tool"), Check::Change(change))
}

#[test]
fn an_inserted_step_is_done_undone_and_recovered() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    publish_release_2(&site);
    let (before, file) = (Snapshot::of(&site), site.root.join("tool"));
    let prepared = || {
        let prepared = update::prepare(&load(&site), &Request::default(), None, |_: &Record| ()).unwrap();
        let Prepared::Ready(mut update) = prepared else { panic!("there is something to do") };
        update.insert_after(&StepKind::Code, writes(&file)).unwrap();
        update
    };

    // A later step fails.
    let mut update = prepared();
    let error = update.insert_after(&StepKind::SmokeCheck, writes(&file)).unwrap_err();
    assert!(matches!(error, InsertError::NoAnchor { .. }), "{error}");
    let fails = vec![Action::Run { command: Command::new("false") }];
    let fails = Change { actions: fails, ..Change::default() };
    update.insert_after(&StepKind::Migrate, Step::new("fails".into(), Check::Change(fails))).unwrap();
    let notices = &update.plan().notices;
    let told = |step: &str| notices.contains(&format!("a later rollback does not undo the step `{step}`"));
    assert!(told("fails") && !told("tool"), "{notices:?}");
    let report = update.run().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_eq!(report.failure.unwrap().step, "fails");
    assert!(report.steps.iter().any(|step| step.step == "tool" && step.undone), "{:#?}", report.steps);
    assert!(!file.exists());
    assert_as_before(&site, &before);

    // The process is killed: another one undoes the step, or completes the update.
    for at in ["tool started", "tool finished", "start-web started"] {
        kill_with(&site, at, Some(&file));
        let report = update::recover(&load(&site), None, |_: &Record| ()).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "killed at `{at}`: {:#?}", report.failure);
        assert!(!file.exists(), "killed at `{at}`");
        assert_as_before(&site, &before);
    }
    kill_with(&site, "code finished", Some(&file));
    let report = update::recover_forward(&load(&site), None, |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}", report.failure);
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    let order: Vec<&str> = report.steps.iter().map(|step| step.step.as_str()).collect();
    let code = order.iter().position(|step| *step == "code").unwrap();
    assert_eq!(order[code + 1], "tool", "{order:?}");

    // A killed rollback of the update, which knows of the step from the journal alone, is recovered.
    for at in ["tool", "code", "start-web"] {
        rolls_back::fails::kill_at(&site, at, false);
        assert_eq!(file.exists(), at == "tool", "killed at `{at}`");
        let report = update::recover(&load(&site), None, |_: &Record| ()).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "killed at `{at}`: {:#?}", report.failure);
        assert_eq!(fs::read_to_string(&file).unwrap(), "new", "killed at `{at}`");
    }

    fs::write(&file, "edited").unwrap();
    let rollback = update::rollback(&load(&site), None, &Request::default(), None, |_: &Record| ()).unwrap();
    let notices = &rollback.plan().notices;
    let edited = format!("`{}` has changed since the step `tool` wrote it", file.display());
    assert!(notices.contains(&edited), "{notices:?}");
    let report = rollback.run().unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}", report.failure);
    let order: Vec<&str> = report.steps.iter().map(|step| step.step.as_str()).collect();
    let code = order.iter().position(|step| *step == "code").unwrap();
    assert_eq!(order[code - 1], "tool", "{order:?}");
    assert!(!file.exists());
    assert_eq!(site.release().as_deref(), Some("1"));
}
