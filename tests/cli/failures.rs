//! Updates that fail: what people are told, and what is left.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{on, steady, wait_for};
use crate::support::releases::{publish_broken_home, publish_irreversible_migration_and_broken_page};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

/// Leaves out what a log's own clock and processes say.
pub fn without_log_lines(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let title = line.starts_with("--- new in the log");
        inside = title || inside && line.starts_with("  ");
        title || !inside
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn rolled_back() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    publish_broken_home(site);
    let done = on(site, &["update", "-y"]).run().expect(5);
    assert!(done.stderr.contains("RuntimeError: the home page is broken"), "{}", done.stderr);
    // Its lines were read before the old version wrote more of them.
    let failed = done.stderr.split("--- new in the log of gunicorn").nth(1).unwrap();
    let failed = failed.split("--- new in the log").next().unwrap();
    assert!(failed.trim_end().ends_with("\n  RuntimeError: the home page is broken"), "{failed}");
    assert_data_eq!(without_log_lines(&done.text(Some(site))), str![[r#"
exit code 5
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes
  ✓ live-check [S] s  the live version boots, too

Update [COMMIT] → [COMMIT] (production)

Before the window, which opens at once
  announce         users are told
                     “The site is being updated and will be back in a few minutes.”
  stop-workers     worker

Window: the site is down for about [S] s (a rule of thumb: no comparable update of this site yet)
  page-up          /srv/www/maintenance.html
  stop-web         gunicorn
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Another home page
  start-web        gunicorn
  smoke-check      /, /about/
  page-down        the pages are as expected

Afterwards
  start-workers    worker
  stay-up          gunicorn, worker
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  backup           no migrations are pending
  virtualenv       the installed packages are the 5 that the requirements ask for
  static           no static file was added, changed or removed
  migrate          no migrations are pending in the database
  start-required   all run

Once it is finished, `deploykit rollback` can roll it back.

Update [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  worker
Window
  ✓ page-up [S] s  /srv/www/maintenance.html
  ✓ stop-web [S] s  gunicorn
  ✓ code [S] s  [COMMIT]: 1 new commit on origin/main
  ✓ start-web [S] s  gunicorn
  ✗ smoke-check [S] s
Rolling back: 6 steps to undo
  ↩ start-web [S] s
  ↩ code [S] s
  ↩ stop-web [S] s
  ↩ page-up [S] s
  ↩ stop-workers [S] s
  ↩ announce [S] s

Error: step `smoke-check` failed: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s
--- new in the log of gunicorn (/srv/log/gunicorn.log)
--- new in the log of worker (/srv/log/worker.log)
Rolled back: [COMMIT] serves again; the site was down for [S] s.
  undone: start-web, code, stop-web, page-up, stop-workers, announce
Hint: fix what these lines say, push it, and run `deploykit update` again
Hint: every command with all its output is in /srv/site/.deploykit/runs/[RUN]/output.log

"#]].raw());
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));
    let document = on(site, &["update", "-y", "--json", "-q"]).run().expect(5);
    assert!(document.stderr.starts_with("\nError: step `smoke-check` failed"), "{}", document.stderr);
    assert_documented("failure", &document.json());
    assert_documented("report", &document.json()["result"]);
    assert_eq!(document.json()["result"]["outcome"], "rolled_back");
    assert_data_eq!(on(site, &["history", "-n", "1"]).run().expect(0).text(Some(site)), str![[r#"
exit code 0
--- stdout
[RUN]  [TIME]  [COMMIT] → [COMMIT]  rolled back [S] s  down [S] s  smoke-check: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s

"#]].raw());
    somebody_else_listens(site);
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before.without("file deploykit.toml"), &Snapshot::of(site).without("file deploykit.toml"));
}

/// Between the stop and the start of gunicorn, another program takes its port.
fn somebody_else_listens(site: &TestSite) {
    let pause = Pause::after(site, "stop-web");
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    let listener = TcpListener::bind(&site.gunicorn_address).unwrap();
    pause.go_on();
    wait_for("the rollback", || update.stderr().contains("Rolling back"));
    drop(listener);
    let done = update.finish().expect(5);
    let told = format!(
        "service `gunicorn` is not started: `{}` is in use by process {} (`",
        site.gunicorn_address,
        std::process::id()
    );
    assert!(done.stderr.contains(&told), "{}", done.stderr);
    assert!(done.stderr.contains("`), which does not belong to it"), "{}", done.stderr);
    let hint = "Hint: stop these processes, or let them use another address\n";
    assert!(done.stderr.contains(hint), "{}", done.stderr);
}

#[test]
fn held() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{text}\n[database]\nbackup = \"never\"\n")).unwrap();
    publish_irreversible_migration_and_broken_page(site);
    let done = on(site, &["update", "-y"]).run().expect(6);
    assert_data_eq!(without_log_lines(&done.text(Some(site))), str![[r#"
exit code 6
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  1 pending
  ✓ collect [S] s  nothing changes
  ✓ live-check [S] s  the live version boots, too

Update [COMMIT] → [COMMIT] (production)

Before the window, which opens at once
  announce         users are told
                     “The site is being updated and will be back in a few minutes.”
  stop-workers     worker

Window: the site is down for about [S] s, and for as long as the migration takes (a rule of thumb: no comparable update of this site yet)
  page-up          /srv/www/maintenance.html
  stop-web         gunicorn
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Shout
  migrate          1 migration
                     guestbook.0002_shout: Raw Python operation
  start-web        gunicorn
  smoke-check      /, /about/
  page-down        the pages are as expected

Afterwards
  start-workers    worker
  stay-up          gunicorn, worker
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  backup           `database.backup` is `never`
  virtualenv       the installed packages are the 5 that the requirements ask for
  static           no static file was added, changed or removed
  start-required   all run

Cannot be rolled back after `migrate`: `guestbook.0002_shout`: RunPython without `reverse_code`.
If anything fails from there on, the site is held in maintenance.
Once it is finished, it cannot be rolled back: `guestbook.0002_shout`: RunPython without `reverse_code`.

Update [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  worker
Window
  ✓ page-up [S] s  /srv/www/maintenance.html
  ✓ stop-web [S] s  gunicorn
  ✓ code [S] s  [COMMIT]: 1 new commit on origin/main
  ✓ migrate [S] s  1 migration
  ✓ start-web [S] s  gunicorn
  ✗ smoke-check [S] s
Rolling back: 7 steps to undo
  ↩ start-web [S] s
  ✗ migrate could not be undone

Error: step `smoke-check` failed: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s
--- new in the log of gunicorn (/srv/log/gunicorn.log)
--- new in the log of worker (/srv/log/worker.log)
Held: the site is in maintenance and its services are stopped. A person is needed.
  `migrate` could not be undone: the migrations cannot be reversed: `guestbook.0002_shout`: RunPython without `reverse_code`
  undone: start-web
  still done: announce, stop-workers, page-up, stop-web, code, migrate
Hint: restore the database to its state before these migrations, then run `deploykit recover`
Hint: every command with all its output is in /srv/site/.deploykit/runs/[RUN]/output.log

"#]].raw());
    assert_eq!(site.page("/").unwrap().status, 503);
    assert!(site.processes().values().all(|program| program.state == "STOPPED"));
    assert_data_eq!(
        on(site, &["status"]).run().expect(0).text(Some(site)),
        str![[r#"
exit code 0
--- stdout
version       [COMMIT] (main), production
unfinished    run [RUN] is held: `deploykit recover` rolls it back
last update   [RUN] at [TIME]: held in maintenance
failed        step `smoke-check`: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s
not undone    `migrate`: the migrations cannot be reversed: `guestbook.0002_shout`: RunPython without `reverse_code`
maintenance   announced for [TIME], the page is up
services
  gunicorn  web     stopped  STOPPED
  worker    worker  stopped  STOPPED

"#]]
        .raw()
    );
    assert_data_eq!(
        on(site, &["update", "-y"]).run().expect(4).text(Some(site)),
        str![[r#"
exit code 4
--- stderr
Error: run [RUN] is unfinished: the site is held, since step `migrate` could not be undone
Hint: roll back with `deploykit recover`

"#]]
        .raw()
    );
    // What began it is said, too, where the disk had no room for the report.
    let runs = deploykit::internal::state::State::at(&site.checkout.join(".deploykit")).runs().unwrap();
    fs::remove_file(runs.last().unwrap().path.join("report.json")).unwrap();
    let both =
        ["smoke-check` failed: 1 of 2 pages", "`migrate` could not be undone: the migrations cannot be"];
    let report = on(site, &["report"]).run().expect(0).stdout;
    assert!(both.iter().all(|text| report.contains(text)), "{report}");
    let recover = on(site, &["recover"]).run().expect(6);
    let report = on(site, &["report"]).run().expect(0).stdout;
    assert!(both.iter().all(|text| report.contains(text)), "{report}");
    assert_data_eq!(recover.text(Some(site)), str![[r#"
exit code 6
--- stderr
Rolling back: 6 steps to undo
  ✗ migrate could not be undone

The update had failed at step `smoke-check`: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s
Held: the site is in maintenance and its services are stopped. A person is needed.
  `migrate` could not be undone: the migrations cannot be reversed: `guestbook.0002_shout`: RunPython without `reverse_code`
  undone: start-web
  still done: announce, stop-workers, page-up, stop-web, code, migrate
Hint: restore the database to its state before these migrations, then run `deploykit recover`
Hint: every command with all its output is in /srv/site/.deploykit/runs/[RUN]/output.log

"#]].raw());
    let document = on(site, &["recover", "--json"]).run().expect(6).json();
    assert_documented("failure", &document);
    assert_documented("report", &document["result"]);
    // A person turned the entries back, and says so.
    let script = "from django.db import connection as c; c.cursor().execute(\"DELETE FROM django_migrations WHERE name = '0002_shout'\")";
    site.manage(&["shell", "-v", "0", "-c", script]).unwrap();
    let recover = on(site, &["recover"]).run().expect(0);
    assert_data_eq!(
        recover.text(Some(site)),
        str![[r#"
exit code 0
--- stdout
The update had failed at step `smoke-check`: 1 of 2 pages is not as expected: `/`: expected status 200, got 500 ("Server Error (500)") after [N] attempts in [S] s
Rolled back: [COMMIT] serves again; the site was down for [S] s.
  undone: start-web, migrate, code, stop-web, page-up, stop-workers, announce
--- stderr
Rolling back: 6 steps to undo
  ↩ migrate [S] s
  ↩ code [S] s
  ↩ stop-web [S] s
  ↩ page-up [S] s
  ↩ stop-workers [S] s
  ↩ announce [S] s

"#]]
        .raw()
    );
    assert_eq!(site.page("/").unwrap().status, 200);
    assert_eq!(steady(&on(site, &["recover", "-q"]).run().expect(0).stdout, Some(site)), "");
}
