//! Where the site's own commands run, and what becomes of those that follow the end.

use deploykit::plan::{Phase, Plan};

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;

/// A step that writes where it runs into a file of its name.
fn writes(site: &DemoSite, name: &str, after: &str, more: &str) -> String {
    let path = site.root.join(name);
    let code = format!(
        "import os, sys, config; open('{}', 'w').write('%s %s %s' % ('deploykit_probe' in sys.modules, \
         os.getcwd(), config.__file__)); print('said by {name}')",
        path.display()
    );
    let manage = format!("manage = [\"shell\", \"--no-imports\", \"-c\", \"{code}\"]");
    format!("[[steps]]\nname = \"{name}\"\nafter = \"{after}\"\n{manage}\n{more}\n")
}

fn plan(site: &DemoSite) -> Plan {
    let loaded = load(site);
    match update::prepare(&loaded, &Request { only_plan: true, ..Request::default() }, None, |_: &Record| ())
    {
        Ok(Prepared::Ready(update)) => update.plan().clone(),
        other => panic!("{other:?}"),
    }
}

fn detail<'p>(plan: &'p Plan, name: &str) -> &'p str {
    let step = plan.steps.iter().find(|step| step.id == *name).expect(name);
    step.change.details.first().expect("it says where it runs")
}

#[test]
fn commands_of_the_new_version_run_in_forks_of_it() {
    let Some(site) = TestSite::builder().start() else { return };
    for (name, after, more) in [
        ("early", "stop-web", ""),
        ("built", "static", ""),
        ("migrated", "migrate", ""),
        ("alone", "migrate", "process = true"),
        ("last", "finish", ""),
    ] {
        add(&site, &writes(&site, name, after, more));
    }
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let planned = plan(&site);
    assert_eq!(detail(&planned, "early"), "in a process of its own: the new version is not live yet");
    assert_eq!(detail(&planned, "alone"), "in a process of its own: `process` is set");
    for name in ["built", "migrated", "last"] {
        assert_eq!(detail(&planned, name), "in a fork of the waiting Django");
    }
    assert_eq!(planned.steps.last().map(|step| (step.id.as_str(), step.phase)), Some(("last", Phase::After)));

    let (report, told) = updated(&site);
    assert_eq!(told.done().last(), Some(&"last"));
    assert_eq!(report.steps.last().unwrap().step, "last");
    let project = site.checkout.join("project").display().to_string();
    for (name, forked) in
        [("early", false), ("built", true), ("migrated", true), ("alone", false), ("last", true)]
    {
        let written = fs::read_to_string(site.root.join(name)).unwrap();
        let forked = if forked { "True" } else { "False" };
        assert_eq!(written.split(' ').next(), Some(forked), "{name}: {written}");
        assert!(written.contains(&project) && !written.contains("deploykit-next"), "{name}: {written}");
    }
    let run = load(&site).state().runs().unwrap().pop().unwrap();
    let [journal, transcript] =
        [run.journal(), run.transcript()].map(|path| fs::read_to_string(path).unwrap());
    assert!(transcript.contains("\nsaid by migrated\n"), "{transcript}");
    let lines: Vec<&str> = journal.lines().filter(|line| line.contains("\"step\":\"migrated\"")).collect();
    assert!(lines[0].contains("\"action\":\"run\""), "as a process of its own: {}", lines[0]);
    assert_tidy(&site);
}

#[test]
fn a_command_that_fails_in_a_fork_rolls_back() {
    let Some(site) = TestSite::builder().start() else { return };
    add(
        &site,
        "[[steps]]\nname = \"index\"\nafter = \"migrate\"\n\
         manage = [\"shell\", \"--no-imports\", \"-c\", \"print('halfway'); raise SystemExit(7)\"]\n",
    );
    publish_good(&site, "second");
    let report = run_update(&site).unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:#?}");
    let failure = report.failure.unwrap();
    assert_eq!(failure.step, "index");
    assert!(
        failure.error.contains("manage.py shell") && failure.error.contains("exited with code 7"),
        "{failure:#?}"
    );
    assert_eq!(failure.tail, ["halfway"]);
    assert_tidy(&site);
}

#[test]
fn what_fails_after_the_end_undoes_nothing() {
    let Some(site) = TestSite::builder().start() else { return };
    let hook = site.root.join("hook.json");
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"index\"\nafter = \"finish\"\nrun = [\"sh\", \"-c\", \"echo too little memory; exit 3\"]\n\
             [[steps]]\nname = \"clean\"\nafter = \"finish\"\nrun = [\"touch\", \"cleaned\"]\n\
             [hooks]\nafter-failure = [[\"sh\", \"-c\", \"cat > {}\"]]\n",
            hook.display()
        ),
    );
    publish_good(&site, "second");
    let (report, told) = updated(&site);
    let failure = report.failure.as_ref().unwrap();
    assert_eq!((failure.step.as_str(), failure.phase), ("index", Phase::After));
    assert_eq!(failure.tail, ["too little memory"]);
    assert!(told.undone().is_empty());
    assert_eq!(site.release().as_deref(), Some("second"));
    assert!(told.notices().contains("these steps were not run: `clean`"), "{}", told.notices());
    assert!(!site.checkout.join("cleaned").exists());
    let hooked: Report = serde_json::from_str(&fs::read_to_string(hook).unwrap()).unwrap();
    assert_eq!(hooked.failure.map(|failure| failure.step), Some("index".into()));
    assert_tidy(&site);
    // The run is over: it is nothing to recover, and can be rolled back.
    assert!(update::recover(&load(&site), None, |_: &Record| ()).unwrap().is_none());
    let loaded = load(&site);
    let rollback = update::rollback(&loaded, None, &Request::default(), None, |_: &Record| ()).unwrap();
    assert_eq!(rollback.run().unwrap().outcome, Outcome::Updated);
    assert_ne!(site.release().as_deref(), Some("second"));
}
