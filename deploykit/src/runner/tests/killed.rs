//! Runs that are killed, stopped on request, or robbed of their journal.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::*;
use crate::host::Cancel;

/// A journal in memory, which can be closed to writing while it is open.
fn sealable_journal(directory: &Directory) -> OwnedFd {
    let memory = memfd_create("journal", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    let number = memory.as_raw_fd();
    symlink(format!("/proc/self/fd/{number}"), directory.journal()).unwrap();
    memory
}

#[test]
fn wherever_a_run_is_killed_the_journal_alone_brings_everything_back() {
    let mut number = 0;
    loop {
        // The journal as it is, and as it is when the last entry did not get to the disk although its deed was done.
        for (unfinished, torn) in [(false, ""), (false, "{\"entry\":\"step_sta"), (true, ""), (true, "{\"en")]
        {
            let directory = Directory::new();
            let before = directory.facts();
            if !directory.run_until(&directory.steps(), number) {
                assert!(number > 15, "there are more events than {number}");
                return;
            }
            let journal = fs::read_to_string(directory.journal()).unwrap();
            let mut lines: Vec<&str> = journal.split_inclusive('\n').collect();
            if unfinished && lines.last().is_some_and(|line| line.contains("step_finished")) {
                lines.pop();
            }
            fs::write(directory.journal(), lines.concat() + torn).unwrap();
            assert_eq!(directory.recover(NEVER), Some(Outcome::RolledBack));
            assert_eq!(directory.facts(), before, "killed at event {number}, {unfinished}, `{torn}`");
            assert!(left_to_undo(&Journal::read(&directory.journal()).unwrap()).is_empty());
        }
        number += 1;
    }
}

#[test]
fn a_recovery_that_is_killed_is_gone_on_with() {
    for number in 0..=4 {
        let directory = Directory::new();
        let before = directory.facts();
        let mut steps = directory.steps();
        steps.push(Step::with_actions("stay-up", Phase::Finish, "", vec![wait()], Vec::new()));
        assert!(directory.run_until(&steps, 18), "killed in the last step");
        assert_eq!(directory.recover(number), None, "killed at event {number}");
        assert_ne!(directory.facts(), before, "there is something left to do");
        assert_eq!(directory.recover(NEVER), Some(Outcome::RolledBack));
        assert_eq!(directory.facts(), before, "killed at event {number}");
        // Whatever was undone already is left alone.
        fs::write(directory.site("settings"), "edited since").unwrap();
        assert_eq!(directory.recover(NEVER), Some(Outcome::RolledBack));
        assert_eq!(fs::read_to_string(directory.site("settings")).unwrap(), "edited since");
    }
}

#[test]
fn a_request_before_the_first_step_changes_nothing() {
    let directory = Directory::new();
    let before = directory.facts();
    let cancel = Cancel::new().unwrap();
    cancel.request();
    let ran = directory.run(&directory.steps(), Host::new().with_cancel(cancel), &[], &mut |_| ());
    assert_eq!(ran.outcome(), Outcome::Refused);
    assert!(ran.failure().interrupted);
    assert_eq!(ran.failure().error, "interrupted");
    assert_eq!(directory.facts(), before);
}

#[test]
fn a_request_ends_a_wait_or_a_program_at_once_and_everything_is_undone() {
    let long = Timestamp::now() + Duration::from_secs(3600);
    let actions = [
        Action::Wait { until: long, reason: "a long time".to_owned() },
        run("sh", &["-c", "sleep 3600 & wait"]),
    ];
    for action in actions {
        let directory = Directory::new();
        let before = directory.facts();
        let mut steps = directory.steps();
        steps[4].change.actions.push(action);
        let cancel = Cancel::new().unwrap();
        let host = Host::new().with_cancel(cancel.clone());
        let ran = directory.run(&steps, host, &[], &mut |event| {
            if started(event, "static") {
                cancel.request();
            }
        });
        assert_eq!(ran.outcome(), Outcome::RolledBack);
        assert!(ran.failure().interrupted);
        assert_eq!(directory.facts(), before);
    }
}

#[test]
fn a_request_in_the_last_step_is_too_late() {
    let directory = Directory::new();
    let cancel = Cancel::new().unwrap();
    let ran = directory.run(&directory.steps(), Host::new().with_cancel(cancel.clone()), &[], &mut |event| {
        if matches!(event, Event::StepFinished { step, .. } if step == "link") {
            cancel.request();
        }
    });
    assert_eq!(ran.outcome(), Outcome::Updated);
}

#[test]
fn a_second_request_stops_between_two_undos_and_the_journal_knows_the_rest() {
    let directory = Directory::new();
    let before = directory.facts();
    let cancel = Cancel::new().unwrap();
    let ran = directory.run(&directory.steps(), Host::new().with_cancel(cancel.clone()), &[], &mut |event| {
        if started(event, "link") || undone(event, "static") {
            cancel.request();
        }
    });
    assert_eq!(ran.outcome(), Outcome::Interrupted);
    assert_eq!(ran.told().last().unwrap(), "static undone");
    assert_ne!(directory.facts(), before);
    let entries = Journal::read(&directory.journal()).unwrap();
    assert!(!is_finished(&entries));
    let left: Vec<&str> = left_to_undo(&entries).iter().map(|begun| begun.step.as_str()).collect();
    assert_eq!(left, ["code", "page-up", "announce"]);
    assert_eq!(directory.recover(NEVER), Some(Outcome::RolledBack));
    assert_eq!(directory.facts(), before);
}

#[test]
fn a_journal_that_cannot_be_written_stops_a_run_before_anything_is_done() {
    let directory = Directory::new();
    let before = directory.facts();
    let memory = sealable_journal(&directory);
    fcntl_add_seals(&memory, SealFlags::GROW).unwrap();
    let ran = directory.run_plainly(&directory.steps());
    let error = ran.course.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write the journal `{}`", directory.journal().display()));
    assert_eq!(directory.facts(), before);
    assert!(ran.told.iter().all(|event| matches!(event, Event::PhaseStarted { .. })), "{:?}", ran.told);
}

#[test]
fn a_journal_that_can_be_written_no_longer_is_a_failure_like_another() {
    for at in ["page-up", "static"] {
        let directory = Directory::new();
        let before = directory.facts();
        let memory = sealable_journal(&directory);
        let ran = directory.run(&directory.steps(), Host::new(), &[], &mut |event| {
            if started(event, at) {
                fcntl_add_seals(&memory, SealFlags::GROW).unwrap();
            }
        });
        assert_eq!(ran.outcome(), Outcome::RolledBack);
        assert!(ran.failure().error.starts_with("cannot write the journal"), "{}", ran.failure().error);
        assert_eq!(ran.failure().step, at);
        assert_eq!(directory.facts(), before);
        // The journal that is left brings nothing into disorder.
        let entries = Journal::read(&directory.journal()).unwrap();
        for begun in left_to_undo(&entries) {
            begun.undo.iter().try_for_each(|action| action.perform(&mut Context::default())).unwrap();
        }
        assert_eq!(directory.facts(), before);
    }
}

#[test]
fn a_journal_goes_on_behind_a_torn_line() {
    let directory = Directory::new();
    let before = directory.facts();
    assert!(directory.run_until(&directory.steps(), 8));
    let mut file = fs::OpenOptions::new().append(true).open(directory.journal()).unwrap();
    file.write_all(b"{\"entry\":\"step_fin").unwrap();
    assert_eq!(directory.recover(1), None, "killed after the first undo");
    assert_eq!(directory.recover(NEVER), Some(Outcome::RolledBack));
    assert_eq!(directory.facts(), before);
}
