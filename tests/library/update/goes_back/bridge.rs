//! A web server that was started beforehand, and whatever can happen to it.

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;
use crate::support::apart::{bridge, bridge_serves, left_of_bridge, old_bridge};
use crate::support::held::{among_visitors, assert_all_served, entries};
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{Holder, wait_until};
use crate::update::held::{alone, assert_bridged, nobody_notices_a_rollback, site, still};

/// How many answers are looked at.
const ANSWERS: usize = 30;

type Recover = fn(&TestSite) -> Result<Option<Report>, UpdateError>;

pub(super) fn back(site: &TestSite) -> Result<Option<Report>, UpdateError> {
    update::recover(&load(site), None, &mut |_: &Record| ())
}

fn forward(site: &TestSite) -> Result<Option<Report>, UpdateError> {
    update::recover_forward(&load(site), None, &mut |_: &Record| ())
}

#[test]
fn it_ends_with_a_killed_run_or_serves_until_the_recovery() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    publish_release_2(&site);
    let before = still(&site);

    kill_at(&site, "boot-bridge finished");
    ends_by_itself(&site);
    assert_eq!(site.release().as_deref(), Some("1"));
    assert!(back(&site).unwrap().is_none());
    assert_recovered(&site, "boot-bridge finished", "1");

    kill_at(&site, "open-gate started");
    ends_by_itself(&site);
    assert_eq!(back(&site).unwrap().unwrap().outcome, Outcome::RolledBack);
    assert_recovered(&site, "open-gate started", "1");

    let recoveries: [(Recover, _, _); 2] =
        [(back, Outcome::RolledBack, "1"), (forward, Outcome::Updated, "2")];
    for (recover, outcome, release) in recoveries {
        kill_at(&site, "open-gate finished");
        assert!(bridge_serves(&site), "{}", site.logs());
        for _ in 0..ANSWERS {
            let answer = site.page("/version/").unwrap();
            assert_eq!(answer.headers.get("x-deploykit-bridge").map(String::as_str), Some("1"), "{answer:?}");
            assert!(answer.body.contains("\"release\": \"2\""), "{answer:?}");
        }
        let error = run_update(&site).expect_err("it is unfinished");
        assert!(matches!(error, UpdateError::Unfinished { .. }), "{error}");
        assert!(bridge_serves(&site), "a refused update leaves it alone");
        let report = recover(&site).unwrap().expect("an unfinished run");
        assert_eq!(report.outcome, outcome, "{:#?}\n{}", report.failure, site.logs());
        assert_recovered(&site, "open-gate finished", release);
        if release == "1" {
            assert_same(&before, &still(&site));
        }
    }

    // Nobody serves any more: the service's own web is started.
    publish_good(&site, "3");
    kill_at(&site, "open-gate finished");
    kill(&bridge(&site));
    let report = forward(&site).unwrap().expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_recovered(&site, "open-gate finished", "3");
}

/// Kills all processes of the one in a directory.
#[track_caller]
pub(super) fn kill(directory: &Path) {
    let master = fs::read_to_string(directory.join("master")).unwrap();
    let pid = master.split(&[' ', ','][..]).find_map(|word| word.parse().ok()).and_then(Pid::from_raw);
    kill_process_group(pid.unwrap(), Signal::KILL).unwrap();
}

/// Fails unless all its processes end, although nobody recovers.
#[track_caller]
fn ends_by_itself(site: &TestSite) {
    let left = || {
        let files = [bridge(site), old_bridge(site)].map(|files| files.display().to_string());
        left_of_bridge(site).into_iter().filter(|one| !files.contains(one)).collect::<Vec<_>>()
    };
    assert!(wait_until(PATIENCE, || left().is_empty()), "{:#?}", left());
}

#[track_caller]
pub(super) fn assert_recovered(site: &TestSite, killed_at: &str, release: &str) {
    let left = left_of_bridge(site);
    assert!(left.is_empty(), "killed at `{killed_at}`, there are {left:#?}");
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("killed at `{killed_at}`: {error}"));
    let answer = site.page("/version/").unwrap();
    assert!(
        answer.body.contains(&format!("\"release\": \"{release}\"")),
        "killed at `{killed_at}`: {answer:?}"
    );
    assert!(!answer.headers.contains_key("x-deploykit-bridge"), "killed at `{killed_at}`: {answer:?}");
    assert_tidy(site);
}

#[test]
fn the_web_boots_in_the_window_if_it_is_killed() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    publish_column(&site);
    let (report, told) = killed_after_code(&site, &bridge(&site));
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    let served: Vec<_> =
        told.done().into_iter().filter(|step| ["open-gate", "hand-over"].contains(step)).collect();
    assert_eq!(served, ["open-gate", "hand-over"]);
    let left = left_of_bridge(&site);
    assert!(left.is_empty(), "{left:#?}");
    assert_tidy(&site);
}

/// Updates, and kills one of the web servers that were started beforehand in the window. The report names its log.
#[track_caller]
pub(super) fn killed_after_code(site: &TestSite, directory: &Path) -> (Report, Told) {
    let mut told = Vec::new();
    let loaded = load(site);
    let mut watch = |record: &Record| {
        told.push(record.clone());
        if matches!(&record.event, Event::StepFinished { step, .. } if *step == "code") {
            kill(directory);
        }
    };
    let report = match update::prepare(&loaded, &Request::default(), None, &mut watch) {
        Ok(Prepared::Ready(update)) => update.run().unwrap(),
        other => panic!("{other:?}"),
    };
    let name = directory.file_name().unwrap().to_str().unwrap();
    let log = loaded.state().runs().unwrap().pop().unwrap().path.join(format!("{name}.log"));
    let ended = format!("the web server that was started beforehand has ended (see `{}`)", log.display());
    let notice = format!("{ended}; the web service is started instead");
    assert!(report.notices.contains(&notice), "{:#?}", report.notices);
    (report, Told(told))
}

#[test]
fn the_old_version_comes_back_if_the_new_one_fails_behind_the_open_gate() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    publish_migration_and_broken_page(&site);
    let before = still(&site);
    let (result, told) = request(&site, &Request::default());
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(report.failure.unwrap().step, "smoke-check");
    assert!(told.done().contains(&"open-gate") && told.undone().contains(&"open-gate"), "{told:#?}");
    assert_same(&before, &still(&site));
    assert_recovered(&site, "no time", "1");
}

#[test]
fn what_cannot_be_booted_beforehand_boots_in_the_window() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    let wsgi = "project/config/wsgi.py";
    let thread = "\nimport threading, time\nthreading.Thread(target=time.sleep, args=(3600,), name=\"poller\", daemon=True).start()\n";
    let reason = "the application starts thread `poller` when it boots, which would run on the current database schema";
    site.publish(|tree| append(tree, wsgi, thread)).unwrap();
    boots_in_the_window(&site, reason);

    let file = site.checkout.join("booted");
    let writes = format!("\nopen({file:?}, \"w\").close()\n");
    site.publish(|tree| edit(tree, wsgi, thread, &writes)).unwrap();
    boots_in_the_window(&site, &format!("the application writes `{}` when it boots", file.display()));
    assert!(file.exists(), "the service's own web wrote it");

    // The windows before had other steps.
    site.publish(|tree| edit(tree, wsgi, &writes, "")).unwrap();
    let (report, _) = updated(&site);
    let forecast = report.forecast.unwrap();
    assert_eq!((forecast.bridged, forecast.runs), (true, 0));
}

#[track_caller]
fn boots_in_the_window(site: &TestSite, reason: &str) {
    let (report, told) = updated(site);
    assert_eq!(told.skipped("boot-bridge").as_deref(), Some(reason));
    let notice = format!("the web is not started beforehand, so requests wait for its boot: {reason}");
    assert!(report.notices.contains(&notice), "{:#?}", report.notices);
    assert!(!told.done().contains(&"open-gate") && told.done().contains(&"start-web"), "{told:#?}");
    let left = left_of_bridge(site);
    assert!(left.is_empty(), "{left:#?}");
    assert_tidy(site);
}

#[test]
fn a_plan_leaves_nothing_of_it() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    publish_release_2(&site);
    // Behind the gate, the staged tree's `.git` is where the live one is.
    let asks_git = "\nimport subprocess\nCOMMIT = subprocess.check_output([\"git\", \"rev-parse\", \"HEAD\"], cwd=REPOSITORY)\n";
    site.publish(|tree| append(tree, "project/config/settings/base.py", asks_git)).unwrap();
    let request = Request { only_plan: true, ..Request::default() };
    let loaded = load(&site);
    let mut unheard = |_: &Record| ();
    let prepared = update::prepare(&loaded, &request, None, &mut unheard).unwrap();
    let Prepared::Ready(plan) = prepared else { panic!("there is something to do") };
    for bridge in [plan.plan().bridge, plan.plan().old_bridge] {
        assert_eq!(bridge.map(|bridge| bridge.workers), Some(2));
    }
    assert!(!left_of_bridge(&site).is_empty());
    drop(plan);
    let left = left_of_bridge(&site);
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_tidy(&site);
}

/// It serves from the live project, where the Django of the rollback ran, too.
#[test]
fn a_killed_rollback_is_recovered_while_it_serves() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    publish_column(&site);
    updated(&site);
    rolls_back::fails::kill_at(&site, "start-web", false);
    assert!(bridge_serves(&site), "{}", site.logs());
    let report = back(&site).unwrap().expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    let left = left_of_bridge(&site);
    assert!(left.is_empty(), "{left:#?}");
    assert_tidy(&site);
}

/// The bridge serves while the manager's own web and the workers start, and nobody notices that one of them does not.
#[test]
fn the_old_version_comes_back_if_the_service_s_own_web_or_a_worker_does_not_live() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    // Three boots of Django may be over when it dies.
    let stays = "role = \"worker\"\nstay-up = \"10s\"\n";
    configure(&site, "role = \"worker\"\n", stays);
    let before = still(&site);
    publish_dying_worker(&site);
    let failure = nobody_notices_that_it_goes_back(&site);
    assert!(["stay-up", "start-workers"].contains(&failure.step.as_str()), "{failure:#?}");
    assert!(failure.error.contains("`worker`"), "{}", failure.error);
    assert_same(&before, &still(&site));
    withdraw(&site);

    configure(&site, stays, "role = \"worker\"\n");
    // A web that never comes is awaited for so long, while visitors need the bridge to keep up with them.
    configure(&site, "deadline = \"2m\"\n", "deadline = \"20s\"\n");
    let sign = site.root.join("spoilt");
    let spoil = format!("run = [\"touch\", \"{}\"]\n", sign.display());
    add(&site, &format!("[[steps]]\nname = \"spoil\"\nafter = \"page-down\"\n{spoil}"));
    let text =
        format!("\nimport os\n\nif os.path.exists({sign:?}):\n    raise RuntimeError(\"it was spoilt\")\n");
    site.publish(|tree| append(tree, "project/config/wsgi.py", &text)).unwrap();
    let before = still(&site);
    let failure = nobody_notices_that_it_goes_back(&site);
    assert_eq!(failure.step, "hand-over", "{failure:#?}");
    assert_same(&before, &still(&site));
    withdraw(&site);

    // It restarts repeatedly, and responds for a moment each time.
    fs::remove_file(&sign).unwrap();
    let ends = "threading.Timer(0.6, os.kill, (os.getppid(), signal.SIGKILL)).start()";
    let text = format!("\nimport os, signal, threading\n\nif os.path.exists({sign:?}):\n    {ends}\n");
    site.publish(|tree| {
        append(tree, "project/config/settings/base.py", "\nimport time\n\ntime.sleep(2)\n");
        append(tree, "project/config/wsgi.py", &text);
    })
    .unwrap();
    let (failure, ..) = rolled_back(&site);
    assert!(["hand-over", "stay-up"].contains(&failure.step.as_str()), "{failure:#?}");
    assert!(failure.error.contains("gunicorn"), "{}", failure.error);
}

#[track_caller]
fn nobody_notices_that_it_goes_back(site: &TestSite) -> Failure {
    let before = entries(site);
    let ((result, told), seen) = among_visitors(site, || request(site, &Request::default()));
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert!(told.done().contains(&"open-gate") && told.undone().contains(&"start-workers"), "{told:#?}");
    assert_all_served(site, before, &seen, &["1"]);
    assert_recovered(site, "no time", "1");
    report.failure.unwrap()
}

/// What the previous version imports when it serves is at the path of the virtualenv, which the update had moved aside.
#[test]
fn a_rollback_to_a_virtualenv_that_was_a_directory_is_served_at_once() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    let lazily = "    import pathlib\n    from django.contrib.syndication import views\n    \
                  assert str(pathlib.Path(views.__file__).resolve()) == views.__file__\n    \
                  return JsonResponse({\"lazily\": views.__file__, ";
    site.publish(|tree| {
        let version = "    return JsonResponse(\n        {";
        edit(tree, "project/guestbook/views.py", version, lazily);
    })
    .unwrap();
    updated(&site);
    publish_release_2(&site);
    updated(&site);
    assert!(site.virtualenv.is_symlink());

    rolls_back::fails::kill_at(&site, "start-web", false);
    assert!(bridge_serves(&site), "{}", site.logs());
    let library = site.virtualenv.canonicalize().unwrap().join("lib");
    let answer = site.page("/version/").unwrap();
    assert!(answer.headers.contains_key("x-deploykit-bridge"), "{answer:?}");
    assert!(answer.body.contains(&format!("\"lazily\": \"{}/", library.display())), "{answer:?}");
    assert!(!site.virtualenv.is_symlink());
    assert_eq!(back(&site).unwrap().unwrap().outcome, Outcome::RolledBack);
    assert_recovered(&site, "start-web", "2");

    nobody_notices_a_rollback(&site, ["2", "1"]);
    assert!(!site.virtualenv.is_symlink());
    let left = left_of_bridge(&site);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn packages_that_are_exchanged_in_place_are_served_at_once() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    fs::create_dir(site.virtualenv.join("conda-meta")).unwrap();
    configure(&site, "[python]\n", "[python]\nin-place = true\n");
    publish_release_2(&site);
    let (_, told) = updated(&site);
    assert_bridged(&told);
    nobody_notices_a_rollback(&site, ["2", "1"]);
}

#[test]
fn packages_of_the_checkout_are_served_at_once() {
    let _alone = alone();
    let Some(site) = site(Holder::Supervisor) else { return };
    let file = site.checkout.canonicalize().unwrap().join("lib/extra.py");
    site.publish(|tree| {
        add_editable(tree, &file);
    })
    .unwrap();
    let (_, told) = updated(&site);
    assert_bridged(&told);
}
