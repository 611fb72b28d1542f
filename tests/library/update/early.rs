//! Updates whose web boots while the migrations run, behind the page.

use super::goes_back::{PATIENCE, kill_at, rolled_back, withdraw};
use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{HOST, Holder, wait_until};
use crate::support::snapshot::{Snapshot, assert_same};

/// In this order, where the web is started before the migrations.
const EARLY: [&str; 5] = ["page-up", "start-early", "migrate", "start-web", "smoke-check"];

const WSGI: &str = "project/config/wsgi.py";

/// Fails in gunicorn until the migration is applied.
const NEEDS_COLUMN: &str = "
import sys

if sys.argv[0].endswith(\"gunicorn\"):
    from guestbook.models import Entry

    list(Entry.objects.all()[:1])
";

fn site() -> Option<TestSite> {
    let site = TestSite::builder().nginx().start()?;
    shows_its_page_to_everybody(&site);
    Some(site)
}

/// The public address is one that this machine can reach.
fn shows_its_page_to_everybody(site: &TestSite) {
    let port = site.front_address.rsplit(':').next().unwrap();
    configure(site, &format!("http://{HOST}/"), &format!("http://localhost:{port}/"));
    configure(site, "[maintenance]\n", "[maintenance]\nstart-early = true\n");
}

fn in_order(told: &Told) -> Vec<&str> {
    told.done().into_iter().filter(|step| EARLY.contains(step)).collect()
}

#[test]
fn the_web_boots_while_the_migrations_run() {
    let Some(site) = site() else { return };
    publish_failing_migration(&site);
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "migrate");
    assert!(told.done().contains(&"start-early") && told.undone().contains(&"start-early"), "{told:#?}");
    withdraw(&site);

    publish_column(&site);
    let (report, told) = updated(&site);
    assert_eq!(in_order(&told), EARLY);
    assert!(report.forecast.unwrap().early);
    assert_tidy(&site);

    // It dies at its boot, and is started again: in the window, the migration waits for its end, so that not one of its workers
    // boots before the migration and another one after that.
    let (page, log) = (site.maintenance_page.display(), site.root.join("log/gunicorn.log"));
    let rest = format!(
        "def rest(apps, schema_editor):
    import pathlib, time
    page, log = pathlib.Path(\"{page}\"), pathlib.Path(\"{}\")
    until = time.monotonic() + 120
    while page.exists() and \"Reason: Worker failed to boot.\" not in log.read_text():
        if time.monotonic() > until:
            raise RuntimeError(\"the web was not started\")
        time.sleep(0.05)
",
        log.display()
    );
    site.publish(|tree| {
        let field = "    weather = models.CharField(max_length=20, default=\"fair\")\n";
        edit(tree, MODELS, "    written = ", &format!("{field}    written = "));
        let operations = "migrations.RunPython(rest, migrations.RunPython.noop),
        migrations.AddField(\"entry\", \"weather\", models.CharField(default=\"fair\", max_length=20))";
        add_migration(tree, "0003_weather", "0002_entry_mood", &rest, operations);
        append(tree, WSGI, NEEDS_COLUMN);
    })
    .unwrap();
    let (_, told) = updated(&site);
    assert_eq!(in_order(&told), EARLY);
    assert_tidy(&site);

    // Visitors would reach it.
    let nginx = site.root.join("nginx.conf");
    assert!(nginx.exists());
    let port = site.front_address.rsplit(':').next().unwrap();
    configure(
        &site,
        &format!("http://localhost:{port}/"),
        &format!("http://{}/", site.gunicorn_address.replace("127.0.0.1", "localhost")),
    );
    publish_good(&site, "later");
    site.publish(|tree| {
        add_migration(tree, "0004_none", "0003_weather", "", "migrations.RunSQL(\"SELECT 1\", \"SELECT 1\")")
    })
    .unwrap();
    let (_, told) = updated(&site);
    assert_eq!(in_order(&told), EARLY);
    assert!(told.notices().contains("the web is started after the migrations: "), "{}", told.notices());
    assert_tidy(&site);
}

#[test]
fn a_killed_run_is_recovered() {
    let Some(site) = site() else { return };
    publish_column(&site);
    let before = Snapshot::of(&site);
    for place in [
        "start-early started",
        "start-early finished",
        "migrate started",
        "migrate finished",
        "start-web finished",
    ] {
        kill_at(&site, place);
        let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::RolledBack, "{place}: {:#?}\n{}", report.failure, site.logs());
        site.wait_until_serving(PATIENCE).unwrap();
        assert_same(&before, &Snapshot::of(&site));
        assert_tidy(&site);
    }
    kill_at(&site, "migrate started");
    let report = update::recover_forward(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert!(wait_until(PATIENCE, || site.page("/").is_ok_and(|page| page.status == 200)), "{}", site.logs());
    assert_tidy(&site);
}

#[test]
fn the_plan_says_why_it_does_not() {
    let Some(mut site) = TestSite::builder().nginx().held_by(Holder::Supervisor).build() else { return };
    shows_its_page_to_everybody(&site);
    site.start().unwrap();
    publish_column(&site);
    assert_eq!(reason(&site), "the socket is held");
}

#[track_caller]
fn reason(site: &TestSite) -> String {
    let request = Request { only_plan: true, ..Request::default() };
    let mut unheard = |_: &Record| ();
    let loaded = load(site);
    let Prepared::Ready(plan) = update::prepare(&loaded, &request, None, &mut unheard).unwrap() else {
        panic!("there is something to do")
    };
    let step = plan.plan().steps.iter().find(|step| step.id == "start-early").unwrap();
    assert!(step.change.actions.is_empty(), "{step:#?}");
    step.change.reason.clone()
}
