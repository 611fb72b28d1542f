//! Failures in the window and after it: of the code, the services, the pages, the site's own steps.

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;

/// The steps that a failing smoke check of a new page makes undone.
const UNDONE: [&str; 6] = ["start-web", "code", "stop-web", "page-up", "stop-workers", "announce"];

#[test]
fn pages_that_are_not_as_expected() {
    let Some(site) = TestSite::builder().nginx().start() else { return };

    publish_broken_home(&site);
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    let error = &failure.error;
    assert!(error.contains("`/`: expected status 200, got 500"), "{error}");
    assert!(error.starts_with("1 of 2 pages is not as expected"), "{error}");
    let lines = log_lines(&failure);
    assert!(lines.contains("the home page is broken"), "the logs explain the error: {:#?}", failure.logs);
    let undone: Vec<&str> = told.undone().into_iter().filter(|step| UNDONE.contains(step)).collect();
    assert_eq!(undone, UNDONE);
    assert!(report.steps.iter().all(|step| step.undone), "{:#?}", report.steps);
    assert!(report.window_ms.is_some());
    let transcript = failure.transcript.expect("a transcript");
    assert!(fs::read_to_string(transcript).unwrap().contains("git"));
    withdraw(&site);

    publish_wrong_text(&site);
    let (failure, ..) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(failure.error.contains("Guestbook"), "{}", failure.error);
    withdraw(&site);

    publish_silent_home(&site);
    let (failure, ..) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(failure.error.contains("`/`"), "{}", failure.error);
}

#[test]
fn services_that_do_not_live() {
    let Some(mut site) = TestSite::builder().build() else { return };
    // However slowly it boots, supervisor gives up gunicorn when that has ended twice.
    let gunicorn = "[program:gunicorn]\n";
    edit(&site.root, "supervisor.conf", gunicorn, &format!("{gunicorn}startsecs=8\nstartretries=1\n"));
    site.start().unwrap_or_else(|error| panic!("{error}"));

    // It dies later than it has to live by default, and before Django could have booted three times.
    publish_dying_worker(&site);
    let slow = "\nimport time\n\ntime.sleep(2)\n";
    site.publish(|tree| append(tree, "project/config/settings/base.py", slow)).unwrap();
    let (failure, report, _) = rolled_back(&site);
    assert!(["stay-up", "start-workers"].contains(&failure.step.as_str()), "{failure:#?}");
    assert!(failure.error.contains("worker"), "{}", failure.error);
    assert!(report.steps.iter().any(|step| step.step == "page-down" || step.step == "smoke-check"));
    withdraw(&site);

    // Django's own check loads the application, too: only under gunicorn does it fail.
    site.publish(|tree| {
        append(
            tree,
            "project/config/wsgi.py",
            "\nimport sys\n\nif sys.argv[0].endswith(\"gunicorn\"):\n    \
             raise RuntimeError(\"the application cannot be wrapped\")\n",
        );
    })
    .unwrap();
    // Supervisor gives it up long before.
    configure(&site, "deadline = \"20s\"", "deadline = \"10m\"");
    let (failure, ..) = rolled_back(&site);
    assert!(["smoke-check", "start-web"].contains(&failure.step.as_str()), "{failure:#?}");
    let given_up = "service `gunicorn` has failed, and is not started again";
    assert!(failure.step == "start-web" || failure.error.contains(given_up), "{}", failure.error);
    let told = log_lines(&failure) + &failure.tail.join("\n");
    assert!(told.contains("the application cannot be wrapped"), "{failure:#?}");
}

#[test]
fn steps_and_checks_of_the_site_s_own() {
    let Some(site) = TestSite::builder().start() else { return };
    let release = site.checkout.join("project/config/release.py");
    let release = release.display();

    // In the window the step sees the new code. What it writes into is what goes live, and not what comes back.
    let collected = site.static_root.join("guestbook/flower.svg");
    assert!(collected.exists(), "{}", collected.display());
    write(&site.static_root, "built/app.js", "old\n");
    let written = format!("{} {}", site.static_root.join("built/app.js").display(), collected.display());
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"compress\"\nafter = \"static\"\n\
             run = [\"sh\", \"-c\", \"echo halfway; if grep -q second {release}; then \
             for file in {written}; do echo new > $file; done; exit 7; fi\"]\n"
        ),
    );
    publish_good(&site, "second");
    site.publish(|tree| append(tree, "project/guestbook/static/guestbook/site.css", "p { color: red }\n"))
        .unwrap();
    let (failure, report, told) = rolled_back(&site);
    assert_eq!((failure.step.as_str(), failure.phase), ("compress", deploykit::plan::Phase::Window));
    assert!(failure.error.contains("exited with code 7"), "{}", failure.error);
    assert_eq!(failure.tail, ["halfway"]);
    assert!(!told.done().contains(&"start-web"), "{:?}", told.done());
    let stays: Vec<&str> =
        report.steps.iter().filter(|step| !step.undone).map(|step| step.step.as_str()).collect();
    assert_eq!(stays, ["compress"], "nobody knows how to take it back");
    let transcript = fs::read_to_string(failure.transcript.unwrap()).unwrap();
    assert!(transcript.contains("halfway"), "{transcript}");
    withdraw(&site);

    configure(
        &site,
        "[smoke]\n",
        &format!("[smoke]\ncommands = [[\"sh\", \"-c\", \"echo no entrance; ! grep -q third {release}\"]]\n"),
    );
    publish_good(&site, "third");
    let (failure, ..) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(failure.error.contains("exited with code 1"), "{}", failure.error);
    assert_eq!(failure.tail, ["no entrance"]);
    withdraw(&site);

    // What failed before does not keep the site from going forward afterwards.
    publish_good(&site, "fourth");
    updated(&site);
    assert_eq!(site.release().as_deref(), Some("fourth"));
    assert_tidy(&site);
}

#[test]
fn a_worker_that_does_not_live_on_after_the_way_back() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let sign = site.heartbeat.display();
    let stays = "role = \"worker\"\nstay-up = \"15s\"\n";
    configure(&site, "role = \"worker\"\n", stays);
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"spoil\"\nafter = \"start-web\"\n\
             run = [\"sh\", \"-c\", \"rm {sign}; mkdir {sign}; exit 1\"]\n"
        ),
    );
    publish_good(&site, "second");
    let (result, _) = request(&site, &Request::default());
    let report = result.unwrap();
    assert_eq!(report.outcome, Outcome::Held, "{report:#?}");
    let (step, error) = report.failure.unwrap().undo.unwrap();
    assert_eq!(step, "stop-workers");
    assert!(error.contains("`worker`"), "{error}");
    assert_eq!(report.window_ms, None, "it is still open");
    assert_eq!(site.page("/").unwrap().status, 503);

    fs::remove_dir(&site.heartbeat).unwrap();
    let recovered = deploykit::update::recover(&load(&site), None, &mut |_: &_| ()).unwrap().unwrap();
    assert_eq!(recovered.outcome, Outcome::RolledBack, "{recovered:#?}");
    site.wait_until_serving(PATIENCE).unwrap();
    assert_eq!(site.page("/").unwrap().status, 200);
}
