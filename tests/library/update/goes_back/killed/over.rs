//! Runs that were killed and are finished.

use deploykit::internal::journal::{Entry, Journal};

use super::*;

fn forward(site: &TestSite) -> Result<Option<Report>, UpdateError> {
    update::recover_forward(&load(site), None, &mut |_: &Record| ())
}

#[test]
fn a_killed_run_is_finished() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let heard = site.root.join("run/heard");
    add(&site, &format!("[hooks]\nafter-success = [[\"sh\", \"-c\", \"cat >> {}\"]]\n", heard.display()));
    site.add_secret(NEW_SECRET, "a salt for visitors").unwrap();
    let before = Snapshot::of(&site);
    let points =
        ["announce started", "stop-web finished", "code started", "start-web started", "page-down finished"];
    for (number, at) in points.iter().enumerate() {
        // The first release has it all; the others change code and static files.
        let name = if number == 0 { "2".to_owned() } else { format!("after {at}") };
        let commit = if number == 0 { site.publish_release_2().unwrap() } else { publish_good(&site, &name) };
        kill_at(&site, at);
        let report = forward(&site).unwrap().expect("an unfinished run");
        assert_eq!(
            report.outcome,
            Outcome::Updated,
            "killed at `{at}`: {:#?}\n{}",
            report.failure,
            site.logs()
        );
        assert_eq!(report.to, commit);
        assert_eq!(report.steps.last().unwrap().step, "maintenance-off", "{:#?}", report.steps);
        assert!(!report.steps.iter().any(|step| step.undone));
        assert!(report.window_ms.is_some(), "the site was down: killed at `{at}`");
        site.wait_until_serving(PATIENCE).unwrap();
        assert_eq!(site.release(), Some(name), "killed at `{at}`");
        assert_tidy(&site);
        assert!(forward(&site).unwrap().is_none());
        let report = run_update(&site).unwrap();
        assert_eq!(report.outcome, Outcome::Unchanged, "killed at `{at}`: {report:#?}");
        // It is an update like another: who wants to know heard of it, and it can be rolled back.
        let told = fs::read_to_string(&heard).unwrap();
        assert!(told.contains(&commit) && told.contains("\"outcome\":\"updated\""), "{told}");
        assert!(site_state(&site).runs().unwrap().last().unwrap().kept().is_some(), "killed at `{at}`");
        if number == 0 {
            let loaded = load(&site);
            let mut unheard = |_: &Record| ();
            let back = update::rollback(&loaded, None, &Request::default(), None, &mut unheard);
            let report = back.and_then(|back| back.run()).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(report.outcome, Outcome::Updated, "{:#?}", report.failure);
            site.wait_until_serving(PATIENCE).unwrap();
            assert_same(&before, &Snapshot::of(&site));
        }
    }
}

#[test]
fn a_finish_that_fails_goes_back_and_then_only_back() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    kill_at(&site, "static finished");
    // What the smoke check asks for, and the new pages lack, stands in the plan.
    let run = site_state(&site).unfinished().unwrap().expect("an unfinished run").0;
    let journal = fs::read_to_string(run.journal()).unwrap();
    let at = journal.find("\"id\":\"smoke-check\"").expect("the plan");
    let (head, plan) = journal.split_at(at);
    assert!(plan.contains("\"Guestbook\""), "{plan}");
    fs::write(run.journal(), head.to_owned() + &plan.replacen("\"Guestbook\"", "\"Nobody\"", 1)).unwrap();
    let report = forward(&site).unwrap().expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(report.failure.as_ref().unwrap().step, "smoke-check");
    assert_as_before(&site, &before);
    // What the killed process had done went back as well, and whoever asks later is told the same.
    let undone: Vec<&str> =
        report.steps.iter().filter(|step| step.undone).map(|step| step.step.as_str()).collect();
    assert!(
        ["announce", "stop-workers", "stop-web", "code", "static"].iter().all(|step| undone.contains(step)),
        "{report:#?}"
    );
    assert_eq!(undone.len(), report.steps.len(), "{:#?}", report.steps);
    assert!(
        !report.notices.iter().any(|notice| notice.contains("completed the run")),
        "{:#?}",
        report.notices
    );
    assert_eq!(run.report().as_ref(), Some(&report));
    assert_eq!(update::report_of(&run).as_ref(), Some(&report));
    assert!(run.kept().is_none(), "there is nothing to roll back");
    assert_eq!(site_state(&site).unfinished().unwrap().map(|(run, _)| run.name), None);

    kill_at(&site, "static finished");
    let run = site_state(&site).unfinished().unwrap().expect("an unfinished run").0;
    Journal::open(&run.journal()).unwrap().append(&Entry::StepUndone { step: "static".into() }).unwrap();
    let error = forward(&site).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("run {} cannot be completed, only undone: its undo has begun", run.name)
    );
    let mut lines = fs::read_to_string(run.journal()).unwrap();
    lines.truncate(lines.trim_end().rfind('\n').unwrap() + 1);
    fs::write(run.journal(), lines).unwrap();
    let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_as_before(&site, &before);
}

/// After a loss of power a manager starts what it starts by itself, whatever code is there.
#[test]
fn what_was_started_meanwhile_is_stopped() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    kill_at(&site, "static finished");
    let mut command = site.command(&site.supervisorctl);
    command.arg("-c").arg(&site.supervisor_config).args(["start", "gunicorn"]);
    assert!(command.status().unwrap().success());
    let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_as_before(&site, &before);
    assert_eq!(site.release().as_deref(), Some("1"));
}

#[test]
fn what_a_killed_preparation_left_goes() {
    let Some(site) = TestSite::builder().start() else { return };
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    let state = site_state(&site);
    let left = [
        site.checkout.join(".git/refs/remotes/origin/main.lock"),
        site.checkout.join(".git/objects/maintenance.lock"),
        site.root.join(".deploykit-link-1.unfinished"),
        state.virtualenvs().join("0123456789abcdef/lib"),
    ];
    let [.., link, environment] = &left;
    for way in ["recover", "update"] {
        kill_at(&site, "collect finished");
        assert!(
            site.root.join(".site.deploykit-next").is_dir()
                && site.root.join("data/.static.deploykit-next").is_dir()
        );
        left[..3].iter().for_each(|file| fs::write(file, "").unwrap());
        fs::create_dir_all(environment).unwrap();
        if way == "recover" {
            assert!(update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().is_none());
            assert_as_before(&site, &before);
        } else {
            updated(&site);
            assert_tidy(&site);
        }
        for path in &left {
            assert!(!path.exists(), "{way}: {} is left", path.display());
        }
        assert!(!environment.parent().unwrap().exists());
        assert!(state.beside().is_none());
    }
    // Nobody was killed: what lies there is somebody's.
    fs::write(link, "").unwrap();
    assert!(update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().is_none());
    assert!(link.exists());
}

#[test]
fn a_command_of_a_killed_preparation_leaves_nothing() {
    let Some(site) = TestSite::builder().start() else { return };
    let begun = site.root.join("begun");
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"waits\"\nafter = \"check\"\n\
             manage = [\"shell\", \"-c\", \"import time; open('{}', 'w').close(); time.sleep(60)\"]\n",
            begun.display()
        ),
    );
    publish_release_2(&site);
    let before = Snapshot::of(&site);
    let child = start_update(&site, "never", None);
    assert!(wait_until(PATIENCE, || begun.exists()), "{}", site.logs());
    drop(child);
    fs::remove_file(&begun).unwrap();
    let place = site.root.join(".site.live.deploykit-next");
    assert!(place.is_dir(), "the live checkout is there for the command, which may go on");
    assert!(update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().is_none());
    assert!(!place.exists());
    assert_as_before(&site, &before);
}

#[test]
fn a_journal_that_cannot_be_read_is_an_error_or_harmless() {
    let Some(site) = TestSite::builder().build() else { return };
    let loaded = load(&site);
    let state = loaded.state();
    state.create().unwrap();
    let run = state.new_run().unwrap();
    let recover = || update::recover(&loaded, None, &mut |_: &Record| ());
    let finished = r#"{"entry":"step_undone","step":"code"}"#;
    let started = r#"{"entry":"run_started","version":9}"#;
    let error = |reason: &str| Some(format!("the journal `{}` {reason}", run.journal().display()));
    let cases = [
        // Nothing was begun: there is no journal, it is empty, or its first line was not written whole.
        (None, None),
        (Some(String::new()), None),
        (Some(started[..20].to_owned()), None),
        (Some("\0".repeat(50)), None),
        (Some(format!("{started}\n")), error("has format 9, and this deploykit reads up to 1")),
        (Some(format!("{finished}\n")), error("is damaged in line 1")),
        (Some(format!("nonsense\n{finished}\n")), error("is damaged in line 1")),
    ];
    for (text, wanted) in cases {
        if let Some(text) = &text {
            fs::write(run.journal(), text).unwrap();
        }
        let said = recover().map(|report| assert!(report.is_none())).map_err(|error| error.to_string());
        assert_eq!(said.err(), wanted, "{text:?}");
        if let Some(text) = text {
            assert_eq!(fs::read_to_string(run.journal()).unwrap(), text, "it is not touched");
        }
    }
}

/// Half of a migration that does not go whole would be done twice.
#[test]
fn a_migration_that_stays_half_done_is_begun_anew_from_the_copy() {
    let Some(site) = TestSite::builder().start() else { return };
    let [begun, die, go, rows] = ["begun", "die", "go", "rows"].map(|name| site.root.join(name));
    site.publish(|tree| {
        let text = format!(
            "import os\nimport time\n\nfrom django.db import migrations\n\n\ndef wait(apps, schema_editor):\n    \
             rows = os.path.exists({rows:?})\n    \
             schema_editor.execute(\"UPDATE guestbook_entry SET text = text || '!'\" if rows else \
             \"CREATE TABLE guestbook_late (id integer)\")\n    open({begun:?}, \"w\").close()\n    \
             end = time.monotonic() + 60\n    while not os.path.exists({go:?}) and time.monotonic() < end:\n        \
             if os.path.exists({die:?}):\n            os._exit(9)\n        time.sleep(0.05)\n    \
             if rows:\n        raise RuntimeError(\"it fails again\")\n\n\n\
             class Migration(migrations.Migration):\n    atomic = False\n    \
             dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [migrations.RunPython(wait)]\n"
        );
        write(tree, "project/guestbook/migrations/0002_wait.py", &text);
    })
    .unwrap();
    let die_and_go_on = || {
        let child = start_update(&site, "never", None);
        assert!(wait_until(PATIENCE, || begun.exists()), "{}", site.logs());
        drop(child);
        fs::write(&die, "").unwrap();
        let mut go_on = |record: &Record| {
            if matches!(&record.event, Event::StepStarted { step, .. } if step == "migrate") {
                fs::write(&go, "").unwrap();
            }
        };
        let report = update::recover_forward(&load(&site), None, &mut go_on).unwrap();
        [&begun, &die, &go].into_iter().for_each(|file| fs::remove_file(file).unwrap());
        report.expect("an unfinished run")
    };
    // It changes rows alone, and fails the second time as well: the copy is restored twice.
    fs::write(&rows, "").unwrap();
    let before = Snapshot::of(&site);
    let report = die_and_go_on();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_as_before(&site, &before);

    fs::remove_file(&rows).unwrap();
    let report = die_and_go_on();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}", report.failure);
    site.wait_until_serving(PATIENCE).unwrap();
    assert_tidy(&site);
}
