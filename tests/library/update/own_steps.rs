//! Where the site's own commands run, and what becomes of those that follow the end.

use deploykit::plan::{Phase, Plan};

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::support::vite;

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
fn a_command_of_the_preparation_finds_the_new_version_at_the_live_path() {
    let Some(site) = TestSite::builder().start() else { return };
    let code = "import os; from django.conf import settings; from django.db import connection; \
                tables = connection.introspection.table_names(); \
                open('made', 'w').write('%s %s %s %s' % (os.getcwd(), settings.REPOSITORY, 'django_migrations' in tables, \
                os.path.exists('guestbook/second.py')))";
    for (name, after) in [("early", "staged-tree"), ("late", "check")] {
        add(
            &site,
            &format!(
                "[[steps]]\nname = \"{name}\"\nafter = \"{after}\"\noutputs = [\"project/{name}\"]\n\
                 manage = [\"shell\", \"--no-imports\", \"-c\", \"{}\"]\n",
                code.replace("made", name)
            ),
        );
    }
    add(
        &site,
        "[[steps]]\nname = \"other\"\nafter = \"check\"\noutputs = [\"where\"]\nrun = [\"sh\", \"-c\", \"pwd > where\"]\n",
    );
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    site.publish(|tree| crate::support::releases::write(tree, "project/guestbook/second.py", "")).unwrap();
    updated(&site);
    let (checkout, staged) = (site.checkout.display(), site.checkout.with_file_name(".site.deploykit-next"));
    let read = |name: &str| fs::read_to_string(site.checkout.join(name)).unwrap();
    for name in ["early", "late"] {
        assert_eq!(read(&format!("project/{name}")), format!("{checkout}/project {checkout} True True"));
    }
    assert_eq!(
        read("where"),
        format!("{}\n", staged.display()),
        "other programs may start what sees another tree"
    );
    let run = load(&site).state().runs().unwrap().pop().unwrap();
    let transcript = fs::read_to_string(run.transcript()).unwrap();
    assert!(transcript.contains("manage.py shell --no-imports -c"), "{transcript}");
    assert_tidy(&site);

    add(
        &site,
        "[[steps]]\nname = \"fails\"\nafter = \"check\"\nmanage = [\"shell\", \"-c\", \"raise SystemExit(7)\"]\n",
    );
    publish_good(&site, "third");
    let error = deploykit::error_chain(&run_update(&site).unwrap_err());
    assert!(error.contains("manage.py shell") && error.contains("exited with code 7"), "{error}");
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

#[test]
fn bundles_of_vite_go_live_and_the_old_ones_stay_for_open_pages() {
    let Some(vite) = vite() else { return };
    let Some(site) = TestSite::builder().start() else { return };
    let root = site.root.display();
    let npm = format!(
        "npm ci --offline --ignore-scripts --no-audit --no-fund --cache {}",
        vite.join("cache").display()
    );
    // As a project's own script has it: installed packages are used again while the lock is the same.
    let script = format!(
        "set -e; cd frontend; if cmp -s package-lock.json node_modules/lock; then echo reused; else {npm}; \
         cp package-lock.json node_modules/lock; fi >> {root}/installed; npx vite build"
    );
    site.publish(|tree| {
        for file in ["package.json", "package-lock.json"] {
            write(tree, &format!("frontend/{file}"), &fs::read_to_string(vite.join(file)).unwrap());
        }
        write(tree, "frontend/main.js", "import './main.css'\nconsole.log('the first')\n");
        write(tree, "frontend/main.css", "body { color: red }\n");
        write(
            tree,
            "frontend/vite.config.js",
            "export default { build: { outDir: '../project/guestbook/static/bundles', emptyOutDir: true,\n\
             rollupOptions: { input: 'main.js' } } }\n",
        );
        write(tree, "build.sh", &script);
        write(
            tree,
            ".gitignore",
            "__pycache__/\n*.pyc\n/deploykit.toml\n/secrets.json\nbundles/\nnode_modules/\n",
        );
    })
    .unwrap();
    add(
        &site,
        "[[steps]]\nname = \"bundles\"\nafter = \"staged-tree\"\nrun = [\"sh\", \"build.sh\"]\n\
         outputs = [\"project/guestbook/static/bundles\"]\ncache = [\"frontend/node_modules\"]\n\
         needs-memory = \"1000000 TB\"\n[static]\nkeep-old = \"7d\"\n",
    );
    // A person installed packages in the live checkout, too.
    write(&site.checkout, "frontend/node_modules/own", "mine\n");
    let before = Snapshot::of(&site);
    let error = run_update(&site).unwrap_err();
    let UpdateError::Prepare { step, source, .. } = &error else { panic!("{error}") };
    assert_eq!(step, "bundles");
    let said = deploykit::error_chain(source.as_ref());
    assert!(said.starts_with("`needs-memory` is 1000000 TB, but only "), "{said}");
    assert_same(&before, &Snapshot::of(&site));

    configure(&site, "needs-memory = \"1000000 TB\"", "needs-memory = \"1 MB\"");
    let cache = ["cache = [\"frontend/node_modules\"]", "cache = [\"frontend\"]"];
    configure(&site, cache[0], cache[1]);
    let UpdateError::Prepare { source, .. } = run_update(&site).unwrap_err() else { panic!("it is refused") };
    assert_eq!(source.to_string(), "git tracks files in `frontend`, the cache of a step");
    configure(&site, cache[1], cache[0]);
    updated(&site);
    let bundles = || -> Vec<String> {
        let names = fs::read_dir(site.static_root.join("bundles/assets")).unwrap().flatten();
        let mut names: Vec<String> = names
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".js"))
            .collect();
        // One of Django's storage has its own hash besides.
        names.retain(|name| name.matches('.').count() == 1);
        names.sort();
        names
    };
    let first = bundles();
    assert_eq!(first.len(), 1, "{first:?}");
    site.publish(|tree| write(tree, "frontend/main.js", "import './main.css'\nconsole.log('the second')\n"))
        .unwrap();
    updated(&site);
    let both = bundles();
    assert!(both.len() == 2 && both.contains(&first[0]), "{both:?}");
    let installed = fs::read_to_string(site.root.join("installed")).unwrap();
    assert!(installed.ends_with("reused\n") && installed.contains("added "), "{installed}");
    let built = fs::read_dir(site.checkout.join("project/guestbook/static/bundles/assets")).unwrap().count();
    assert_eq!(built, 2, "the output has the new bundle and its style");
    assert_eq!(files_in(&site.checkout.join("frontend/node_modules")), ["own"]);
    assert_tidy(&site);

    let rollback = update::rollback(&load(&site), None, &Request::default(), None, |_: &Record| ())
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(rollback.outcome, Outcome::Updated, "{rollback:#?}");
    assert_eq!(bundles(), first);
    assert_eq!(files_in(&site.checkout.join("frontend/node_modules")), ["own"]);
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
