//! Runs that are killed, as by `kill -9` or a loss of power: the journal brings the site back.

mod over;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use deploykit::plan::StepKind;
use rustix::process::{Signal, getpid, kill_process};

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::wait_until;
use crate::update::inserted::writes;

/// Where the process that is to be killed finds the configuration, and at which event it ends.
const SITE: &str = "DEPLOYKIT_TEST_CONFIG";
const KILLED_AT: &str = "DEPLOYKIT_TEST_KILLED_AT";
/// The file that an inserted step writes, if there is to be such a step.
const INSERTED: &str = "DEPLOYKIT_TEST_INSERTED";

/// No test, but the process that the tests below start and that kills itself.
#[test]
fn an_update_that_kills_itself() {
    let (Some(config), Ok(at)) = (std::env::var_os(SITE), std::env::var(KILLED_AT)) else { return };
    let mut config = Config::load(Path::new(&config), None).unwrap();
    for name in ["UV_CACHE_DIR", "PATH"] {
        config.site.env.push((name.to_owned(), std::env::var(name).unwrap_or_default()));
    }
    let site = Site::new(config).unwrap();
    let mut watch = |record: &Record| {
        if described(&record.event) == at {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    };
    match update::prepare(&site, &Request::default(), None, &mut watch) {
        Ok(Prepared::Ready(mut update)) => {
            if let Some(file) = std::env::var_os(INSERTED) {
                update.insert_after(&StepKind::Code, writes(Path::new(&file))).unwrap();
            }
            drop(update.run());
        }
        other => panic!("{other:?}"),
    }
}

fn described(event: &Event) -> String {
    match event {
        Event::StepStarted { step, .. } => format!("{step} started"),
        Event::StepFinished { step, .. } => format!("{step} finished"),
        Event::StepUndone { step, .. } => format!("{step} undone"),
        Event::RunFinished { .. } => "run finished".to_owned(),
        _ => String::new(),
    }
}

/// A process that ends with the test.
pub(crate) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start_update(site: &TestSite, at: &str, inserted: Option<&Path>) -> Killed {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    site.dress(&mut command);
    command.args(["--exact", "update::goes_back::killed::an_update_that_kills_itself", "--nocapture"]);
    command.env(SITE, &site.config).env(KILLED_AT, at);
    if let Some(file) = inserted {
        command.env(INSERTED, file);
    }
    let output = fs::File::create(site.root.join("log/killed.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output);
    Killed(command.spawn().expect("this program starts"))
}

/// Updates in a process of its own, which is killed at an event.
#[track_caller]
pub(in crate::update) fn kill_at(site: &TestSite, at: &str) {
    kill_with(site, at, None);
}

/// Updates in a process of its own, which is killed once a file is there.
#[track_caller]
pub(in crate::update) fn kill_once(site: &TestSite, file: &Path) {
    let mut child = start_update(site, "never", None);
    assert!(wait_until(PATIENCE * 2, || file.exists()), "no {}:\n{}", file.display(), site.logs());
    child.0.kill().expect("it lives");
    child.0.wait().expect("a child");
}

/// Likewise, with a step after `code` that writes a file.
#[track_caller]
pub(in crate::update) fn kill_with(site: &TestSite, at: &str, inserted: Option<&Path>) {
    let mut child = start_update(site, at, inserted);
    let begun = Instant::now();
    let status = loop {
        match child.0.try_wait().expect("a child") {
            Some(status) => break status,
            None => assert!(begun.elapsed() < PATIENCE * 2, "`{at}` does not come:\n{}", site.logs()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(9), "`{at}` did not come: {status}\n{}", site.logs());
}

#[test]
fn a_killed_run_is_recovered() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let commit = publish_release_2(&site);
    let before = Snapshot::of(&site);
    let points = [
        "announce started",
        "stop-workers finished",
        "stop-web started",
        "virtualenv finished",
        "static started",
        "migrate finished",
        "start-web started",
        "page-down finished",
        "maintenance-off finished",
    ];
    for at in points {
        kill_at(&site, at);
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
        assert_eq!(report.to, commit);
        let (step, _) = at.split_once(' ').unwrap();
        assert_eq!(report.steps.last().unwrap().step, step);
        assert!(report.notices.iter().any(|notice| notice.contains(&format!("`{step}`"))), "{report:#?}");
        assert_as_before(&site, &before);
        assert!(update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().is_none());
    }

    // Once its end is in the journal there is no going back: the site is over.
    kill_at(&site, "run finished");
    assert!(update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().is_none());
    site.wait_until_serving(PATIENCE).unwrap();
    assert_eq!(site.release().as_deref(), Some("2"));
    let report = run_update(&site).unwrap();
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:#?}");
    assert_tidy(&site);
}

/// Nobody ends a migration in its midst, so the process of a killed run goes on with it.
#[test]
fn a_migration_that_is_still_at_work_is_waited_for() {
    let Some(site) = TestSite::builder().start() else { return };
    let (begun, go) = (site.root.join("begun"), site.root.join("go"));
    site.publish(|tree| {
        let text = format!(
            "import os\nimport time\n\nfrom django.db import migrations\n\n\ndef wait(apps, schema_editor):\n    \
             open({begun:?}, \"w\").close()\n    while os.path.exists({begun:?}) and not os.path.exists({go:?}):\n        time.sleep(0.05)\n    \
             schema_editor.execute(\"CREATE TABLE guestbook_late (id integer)\")\n\n\n\
             def back(apps, schema_editor):\n    schema_editor.execute(\"DROP TABLE guestbook_late\")\n\n\n\
             class Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"0001_initial\")]\n    \
             operations = [migrations.RunPython(wait, back)]\n"
        );
        write(tree, "project/guestbook/migrations/0002_wait.py", &text);
    })
    .unwrap();
    let before = Snapshot::of(&site);
    let child = start_update(&site, "never", None);
    assert!(wait_until(PATIENCE, || begun.exists()), "{}", site.logs());
    drop(child);

    let mut waited = false;
    let mut watch = |record: &Record| {
        if matches!(&record.event, Event::Notice { text } if text.contains("still uses the database")) {
            assert!(!waited, "it is told once");
            waited = true;
            fs::write(&go, "").unwrap();
        }
    };
    let report = update::recover(&load(&site), None, &mut watch).unwrap().expect("an unfinished run");
    assert!(waited, "the recovery did not wait");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_as_before(&site, &before);
}
