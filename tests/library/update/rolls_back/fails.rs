//! A rollback that fails, or is interrupted: the new version serves again, with everything that was written into it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Signal, getpid, kill_process};

use super::*;

/// Where the process that is to be killed finds the configuration, and before which step it ends.
const SITE: &str = "DEPLOYKIT_TEST_ROLLBACK";
const KILLED_AT: &str = "DEPLOYKIT_TEST_KILLED_AT";
/// Set: the copy of the update is put back.
const FROM_COPY: &str = "DEPLOYKIT_TEST_FROM_COPY";

/// A release that breaks where a file is, and release 2 on top, with rows in what it brought.
fn two_releases(site: &DemoSite) -> Snapshot {
    let broken = site.root.join("broken");
    site.publish(|tree| {
        let text = format!(
            "\nif os.path.exists({broken:?}):\n    raise RuntimeError(\"it does not work any more\")\n"
        );
        append(tree, "project/guestbook/views.py", &text);
    })
    .unwrap();
    updated(site);
    publish_release_2(site);
    updated(site);
    site.write_entry("Ada", "written since").unwrap();
    reply(site);
    Snapshot::of(site)
}

/// Fails unless release 2 is whole, and its rollback still possible.
#[track_caller]
fn assert_as_after(site: &DemoSite, after: &Snapshot) {
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_same(after, &Snapshot::of(site));
    assert_tidy(site);
}

#[test]
fn the_old_version_does_not_work_any_more() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let after = two_releases(&site);
    assert!(after.facts["database rows guestbook_reply"].contains("indeed"), "{after:#?}");
    fs::write(site.root.join("broken"), "").unwrap();
    let (result, told) = rollback_of(&site, None, |_| (), &mut |_| ());
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    let failure = report.failure.unwrap();
    assert_eq!((failure.step.as_str(), failure.undo), ("smoke-check", None));
    for step in ["migrate", "static", "virtualenv", "code", "stop-web"] {
        assert!(told.undone().contains(&step), "`{step}` is not undone: {:?}", told.undone());
    }
    assert_as_after(&site, &after);

    // Nothing of what a rollback needs was lost by that.
    fs::remove_file(site.root.join("broken")).unwrap();
    rolled_back(&site);
    assert_eq!(site.release().as_deref(), Some("1"));
}

/// No test, but the process that the test below starts and that kills itself.
#[test]
fn a_rollback_that_kills_itself() {
    let (Some(config), Ok(at)) = (std::env::var_os(SITE), std::env::var(KILLED_AT)) else { return };
    let site = Site::new(Config::load(Path::new(&config), None).unwrap()).unwrap();
    let mut watch = |record: &Record| {
        let is_open = |phase| phase != deploykit::plan::Phase::Prepare;
        if matches!(&record.event, Event::StepStarted { step, phase, .. } if *step == at.as_str() && is_open(*phase))
        {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    };
    let request = Request { from_copy: std::env::var_os(FROM_COPY).is_some(), ..Request::default() };
    let rollback = update::rollback(&site, None, &request, None, &mut watch);
    drop(rollback.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error))).run());
}

#[track_caller]
pub(in crate::update) fn kill_at(site: &TestSite, at: &str, from_copy: bool) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    site.dress(&mut command);
    command.args(["--exact", "update::rolls_back::fails::a_rollback_that_kills_itself", "--nocapture"]);
    command.env(SITE, &site.config).env(KILLED_AT, at);
    if from_copy {
        command.env(FROM_COPY, "1");
    }
    let output = fs::File::create(site.root.join("log/killed.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output);
    let mut child = command.spawn().expect("this program starts");
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE * 2 => {
                let _ = child.kill();
                panic!("`{at}` does not come:\n{}", site.logs());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(9), "`{at}` did not come: {status}\n{}", site.logs());
}

#[test]
fn a_killed_rollback_is_recovered() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let after = two_releases(&site);
    for at in
        ["announce", "backup", "migrate", "static", "virtualenv", "code", "start-web", "maintenance-off"]
    {
        kill_at(&site, at, false);
        let error = run_update(&site).expect_err("it is unfinished");
        assert!(matches!(error, UpdateError::Unfinished { .. }), "killed at `{at}`: {error}");
        let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap();
        let report = report.expect("an unfinished run");
        assert_eq!(
            report.outcome,
            Outcome::RolledBack,
            "killed at `{at}`: {:#?}\n{}",
            report.failure,
            site.logs()
        );
        assert!(report.rolls_back.is_some(), "{report:#?}");
        assert!(report.window_ms.is_none_or(|window| window <= report.duration_ms), "{report:#?}");
        assert_as_after(&site, &after);
    }
    rolled_back(&site);
    assert_eq!(site.release().as_deref(), Some("1"));
}
