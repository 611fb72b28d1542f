//! What an undo does and tells, and what becomes of a site when it fails.

use super::*;

#[test]
fn undo_goes_backwards_and_is_told() {
    let directory = Directory::new();
    let mut steps = directory.steps();
    steps[3].change.actions = vec![run("sh", &["-c", "echo one; echo two >&2; exit 3"])];
    let ran = directory.run_plainly(&steps);
    assert_eq!(
        ran.told()[7..],
        ["code started", "code failed", "undo of 3", "code undone", "page-up undone", "announce undone"]
    );
    let failure = ran.failure();
    let mut tail = failure.tail.clone();
    tail.sort();
    assert_eq!(tail, ["one", "two"]);
    let entries = Journal::read(&directory.journal()).unwrap();
    assert!(
        matches!(
            &entries[4..],
            [
                Entry::StepStarted { .. },
                Entry::StepFailed { .. },
                Entry::StepUndone { .. },
                Entry::StepUndone { .. },
                Entry::StepUndone { .. },
            ]
        ),
        "{entries:?}"
    );
}

#[test]
fn undoing_twice_does_no_harm() {
    let directory = Directory::new();
    let before = directory.facts();
    let steps = directory.steps();
    assert_eq!(directory.run_plainly(&steps).outcome(), Outcome::Updated);
    for _ in 0..2 {
        for action in steps.iter().rev().flat_map(|step| &step.change.undo) {
            action.perform(&mut Context::default()).unwrap();
        }
        assert_eq!(directory.facts(), before);
    }
}

#[test]
fn an_undo_that_fails_holds_the_site() {
    let directory = Directory::new();
    let mut steps = directory.steps();
    steps[3].change.undo.insert(1, run("false", &[]));
    steps[4].change.actions.insert(0, run("false", &[]));
    let hold = [directory.write("held", ""), run("false", &["held"]), directory.write("services", "stopped")];
    let ran = directory.run(&steps, Host::new(), &hold, &mut |_| ());
    assert_eq!(ran.outcome(), Outcome::Held);
    let (step, error) = ran.failure().undo.clone().unwrap();
    assert_eq!(step, "code");
    assert!(error.starts_with("`false` exited with code 1"), "{error}");
    assert_eq!(ran.failure().step, "static");
    // Each part of the hold is tried, and what comes before the failing undo stays as it is.
    assert!(
        directory.site("held").exists()
            && directory.site("services").exists()
            && directory.site("page").exists()
    );
    let told = ran.told();
    assert_eq!(told[told.len() - 4..told.len() - 1], ["undo of 4", "static undone", "code not undone"]);
    assert!(told[told.len() - 1].contains("while holding the site in maintenance: `false held`"), "{told:?}");
    let undone: Vec<(String, bool)> = ran
        .course
        .unwrap()
        .steps
        .into_iter()
        .map(|report| (report.step.to_string(), report.undone))
        .collect();
    let expected = [("announce", false), ("page-up", false), ("code", false), ("static", true)];
    assert_eq!(undone, expected.map(|(step, undone)| (step.to_owned(), undone)));
    let entries = Journal::read(&directory.journal()).unwrap();
    assert!(!is_finished(&entries));
    let left: Vec<&str> = left_to_undo(&entries).iter().map(|begun| begun.step.as_str()).collect();
    assert_eq!(left, ["code", "page-up", "announce"]);
}

#[test]
fn a_site_that_noticed_nothing_is_not_held_down() {
    let directory = Directory::new();
    let mut steps = directory.steps();
    steps[0].change.actions.push(run("false", &[]));
    steps[0].change.undo.push(run("false", &[]));
    let ran = directory.run(&steps, Host::new(), &[directory.write("held", "")], &mut |_| ());
    assert_eq!(ran.outcome(), Outcome::Held);
    assert!(!directory.site("held").exists());
}
