//! A finished update that is taken back: the site is what it was before, wholly; or, when that fails, what it was after.

mod checkout;
mod copies;
pub mod fails;
mod outputs;
mod prunes;
mod refuses;
mod rehearsed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deploykit::internal::state::RunDirectory;
use deploykit::plan::Plan;
use deploykit::update::Update;

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{NEW_SECRET, run};
use crate::support::snapshot::{Snapshot, assert_same};

/// How long a site may take until all of it is up.
const PATIENCE: Duration = Duration::from_secs(120);
const ABOUT: &str = "project/guestbook/templates/guestbook/about.html";
const STYLES: &str = "project/guestbook/static/guestbook/site.css";

/// Prepares a rollback, shows its plan and runs it; also returns what was told on the way.
fn rollback_of(
    site: &DemoSite,
    run: Option<&str>,
    look: impl FnOnce(&Plan),
    during: &mut (dyn FnMut(&Event) + Send),
) -> (Result<Report, UpdateError>, Told) {
    let loaded = load(site);
    let mut records: Vec<Record> = Vec::new();
    let mut watch = |record: &Record| {
        records.push(record.clone());
        during(&record.event);
    };
    let go = |update: Box<Update<'_>>| {
        look(update.plan());
        update.run()
    };
    let result = update::rollback(&loaded, run, &Request::default(), None, &mut watch).and_then(go);
    (result, Told(records))
}

/// Prepares a rollback by the copy of the update, and runs it.
fn try_from_copy(site: &DemoSite) -> (Result<Report, UpdateError>, Told) {
    let loaded = load(site);
    let mut records: Vec<Record> = Vec::new();
    let mut watch = |record: &Record| records.push(record.clone());
    let request = Request { from_copy: true, ..Request::default() };
    let mut notices = Vec::new();
    let result = update::rollback(&loaded, None, &request, None, &mut watch).and_then(|rollback| {
        notices.clone_from(&rollback.plan().notices);
        rollback.run()
    });
    let told = notices.into_iter().map(|text| Record { event: Event::Notice { text }, ..records[0].clone() });
    let told = told.collect::<Vec<_>>();
    (result, Told(records.into_iter().chain(told).collect()))
}

/// Rolls the last update back by its copy, and fails the test unless that ends well.
#[track_caller]
pub fn from_copy(site: &DemoSite) -> (Report, Told) {
    let (result, told) = try_from_copy(site);
    let report = result.unwrap_or_else(|error| panic!("{}\n{}", deploykit::error_chain(&error), site.logs()));
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_tidy(site);
    (report, told)
}

/// Rolls the last update back, and fails the test unless that ends well.
#[track_caller]
pub fn rolled_back(site: &DemoSite) -> (Report, Told) {
    let (result, told) = rollback_of(site, None, |_| (), &mut |_| ());
    match result {
        Ok(report) if report.outcome == Outcome::Updated => {
            site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
            assert_tidy(site);
            (report, told)
        }
        Ok(report) => panic!("{:?}: {:#?}\n{}", report.outcome, report.failure, site.logs()),
        Err(error) => panic!("{}\n{}", deploykit::error_chain(&error), site.logs()),
    }
}

#[track_caller]
fn publish_release_2(site: &DemoSite) -> String {
    site.add_secret(NEW_SECRET, "a salt for visitors").expect("a secret");
    site.publish_release_2().expect("a release")
}

/// Writes a reply into the table that release 2 made, as a visitor of that release might.
fn reply(site: &DemoSite) {
    let text = "import django; django.setup(); from guestbook.models import *; \
                Reply.objects.create(entry=Entry.objects.first(), text='indeed')";
    run(site.python().args(["-c", text])).unwrap_or_else(|error| panic!("{error}"));
}

fn last_run(site: &DemoSite) -> RunDirectory {
    load(site).state().runs().expect("runs").pop().expect("a run")
}

/// Package, static files, three migrations: all of it goes, and visitors see the old version, the page and the new one.
#[test]
fn a_whole_release_goes_while_visitors_look() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    configure(&site, "[git]\n", "[git]\nlocal-changes = \"keep\"\n");
    append(&site.checkout, "README.md", "\nEdited on the server.\n");
    write(&site.checkout, "project/notes.txt", "untracked\n");
    let before = Snapshot::of(&site);
    let commit = publish_release_2(&site);
    let (update, _) = updated(&site);
    let old = update.run.clone().unwrap();

    let over = AtomicBool::new(false);
    let mut needed = Vec::new();
    let mut notices = Vec::new();
    let look = |plan: &Plan| {
        assert_eq!((plan.rolls_back.as_ref(), &plan.from), (Some(&old), &commit));
        let steps = plan.steps.iter().filter(|step| step.is_needed());
        needed = steps.map(|step| step.id.clone()).collect();
        notices.clone_from(&plan.notices);
    };
    let (report, told, answers) = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                answers.push(site.page("/").map(|answer| (answer.status, answer.body)));
            }
            answers
        });
        let (result, told) = rollback_of(&site, Some(&old), look, &mut |_| ());
        over.store(true, Ordering::Relaxed);
        (result, told, visitor.join().unwrap())
    });
    let report = report.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!((report.rolls_back, &report.from, &report.to), (Some(old), &update.to, &update.from));
    let expected = [
        "announce",
        "stop-workers",
        "page-up",
        "stop-web",
        "backup",
        "migrate",
        "static",
        "virtualenv",
        "code",
        "start-web",
        "smoke-check",
        "page-down",
        "start-workers",
        "stay-up",
        "maintenance-off",
    ];
    assert_eq!(needed, expected);
    assert!(told.done().ends_with(&expected), "{:?}", told.done());
    let losses = [
        "`guestbook.0003_reply` is reversed: the rows of `Reply` are lost",
        "the values of `entry.signature`",
    ];
    assert!(losses.iter().all(|loss| notices.join("\n").contains(loss)), "{notices:#?}");
    let mut seen = [false; 3];
    for answer in answers {
        match answer.unwrap() {
            (200, body) if body.contains("Release 2") => seen[0] = true,
            (200, body) if body.contains("Release 1") => seen[1] = true,
            (503, body) if body.contains("The site is being updated") => seen[2] = true,
            // nginx's own words: the page went after nginx had seen it.
            (503, _) => {}
            (status, body) => panic!("a visitor saw {status}: {body}"),
        }
    }
    assert_eq!(seen, [true; 3], "the new release, the old one and the page: {told:#?}");
    site.wait_until_serving(PATIENCE).unwrap();
    // The secret that the new release asked for stays.
    let same = |snapshot: Snapshot| snapshot.without("file secrets.json");
    assert_same(&same(before.clone()), &same(Snapshot::of(&site)));
    assert!(fs::symlink_metadata(&site.virtualenv).unwrap().is_dir(), "it is the directory that it was");
    assert_tidy(&site);

    // The next update brings it again, and says what became of it.
    let upload = |name: &str, text: &str| {
        let uploads = site.static_root.join("uploads");
        fs::create_dir_all(&uploads).unwrap();
        fs::write(uploads.join("new"), text).unwrap();
        fs::rename(uploads.join("new"), uploads.join(name)).unwrap();
        uploads.join(name)
    };
    let portrait = upload("portrait.txt", "of before");
    let deleted = upload("deleted.txt", "of before");
    let (_, told) = updated(&site);
    let said = format!("{} was rolled back at ", &commit[..7]);
    assert!(told.notices().contains(&said), "{}", told.notices());
    assert_eq!(site.release().as_deref(), Some("2"));
    let (_, told) = request(&site, &Request::default());
    assert!(!told.notices().contains("rolled back"), "{}", told.notices());

    // What came since stays, but for what only the new version has room for.
    site.write_entry("Ada", "written since").unwrap();
    reply(&site);
    let late = upload("late.txt", "late");
    upload("portrait.txt", "of now");
    fs::remove_file(&deleted).unwrap();
    append(&site.virtualenv, "bin/activate", "export SINCE=update\n");
    let (_, told) = rolled_back(&site);
    let said = "changed in the virtualenv since the update, and not in the previous one: `bin/activate`";
    assert!(told.notices().contains(said), "{}", told.notices());
    let rest = |snapshot: Snapshot| same(snapshot).without("database rows").without("page / body");
    let after = Snapshot::of(&site);
    assert!(after.facts["database rows guestbook_entry"].contains("written since"), "{after:#?}");
    assert_eq!(fs::read_to_string(&late).unwrap(), "late");
    assert_eq!(fs::read_to_string(&portrait).unwrap(), "of now");
    assert!(!deleted.exists(), "somebody deleted it");
    fs::remove_dir_all(late.parent().unwrap()).unwrap();
    assert_same(&rest(before), &rest(Snapshot::of(&site)));
}

#[test]
fn only_what_was_changed_goes_back() {
    let Some(site) = TestSite::builder().start() else { return };
    let built = site.static_root.join("app.js");
    fs::write(&built, "first\n").unwrap();
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"compress\"\nafter = \"static\"\nrun = [\"sh\", \"-c\", \"echo next > {}\"]\n",
            built.display()
        ),
    );
    publish_good(&site, "one");
    site.publish(|tree| append(tree, STYLES, "p { color: red }\n")).unwrap();
    updated(&site);
    assert_eq!(fs::read_to_string(&built).unwrap(), "next\n");
    publish_good(&site, "two");
    updated(&site);
    let mut notices = String::new();
    let look = |plan: &Plan| notices = plan.notices.join("\n");
    let (result, told) = rollback_of(&site, None, look, &mut |_| ());
    assert_eq!(result.unwrap().outcome, Outcome::Updated);
    for (step, reason) in [
        ("backup", "no migrations are reversed"),
        ("migrate", "the update applied no migrations"),
        ("static", "the update changed no static files"),
        ("virtualenv", "the update changed no packages"),
    ] {
        assert_eq!(told.skipped(step).as_deref(), Some(reason));
    }
    assert_eq!(notices, "the site's own steps are not run: `compress`");
    assert!(!told.done().contains(&"compress"), "{:?}", told.done());
    assert_eq!(site.release().as_deref(), Some("one"));
    // A rollback is none that could be rolled back: the update before is next.
    rolled_back(&site);
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(&built).unwrap(), "first\n", "the step wrote into the new one only");
}

/// The commits of before are there whatever becomes of the branches.
#[test]
fn commits_of_the_server_s_own_come_back() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "[git]\n", "[git]\nlocal-commits = \"rebase\"\n");
    append(&site.checkout, "README.md", "\nOn this server it is at home.\n");
    site.git(&site.checkout, &["commit", "-q", "-m", "A local change", "README.md"]).unwrap();
    let head = || site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap().trim().to_owned();
    let own = head();
    publish_good(&site, "below");
    updated(&site);
    assert_ne!(head(), own);
    for args in [["reflog", "expire", "--expire=now", "--all"].as_slice(), &["gc", "-q", "--prune=now"]] {
        site.git(&site.checkout, args).unwrap();
    }
    rolled_back(&site);
    assert_eq!(head(), own);
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_eq!(site.git(&site.checkout, &["for-each-ref", "refs/deploykit"]).unwrap(), "");
}
