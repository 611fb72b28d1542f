//! Signals and lost terminals.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{on, wait_for};
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

#[test]
fn the_end_of_a_preparation_and_of_a_window() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let config = fs::read_to_string(&site.config).unwrap();
    publish_good(site, "signalled");

    let pause = Pause::after(site, "check");
    let before = Snapshot::of(site);
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    update.signal(Signal::INT);
    assert_data_eq!(
        update.finish().expect(4).text(Some(site)),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✗ pause [S] s

Interrupted during step `pause`
Nothing was changed: [COMMIT] is still the live version.

"#]]
        .raw()
    );
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));

    fs::write(&site.config, &config).unwrap();
    pause.rearm();
    let pause = Pause::after(site, "code");
    let before = Snapshot::of(site);
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    update.signal(Signal::TERM);
    assert_data_eq!(
        update.finish().expect(5).text(Some(site)),
        str![[r#"
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
  stop-web         gunicorn
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Release signalled
  pause            /bin/sh -c touch /srv/run/reached; while ! test -e /srv/run/go; do sleep 0.02; done
  start-web        gunicorn
  smoke-check      /, /about/

Afterwards
  start-workers    worker
  stay-up          gunicorn, worker
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  page-up          no page is configured
  backup           no migrations are pending
  virtualenv       the installed packages are the 5 that the requirements ask for
  static           no static file was added, changed or removed
  migrate          no migrations are pending in the database
  start-required   all run
  page-down        no page is configured

Once it is finished, `deploykit rollback` can roll it back.

Update [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  worker
Window
  ✓ stop-web [S] s  gunicorn
  ✓ code [S] s  [COMMIT]: 1 new commit on origin/main
  ✗ pause [S] s
Rolling back: 4 steps to undo
  ↩ code [S] s
  ↩ stop-web [S] s
  ↩ stop-workers [S] s
  ↩ announce [S] s

Interrupted during step `pause`
Rolled back: [COMMIT] serves again; the site was down for [S] s.
  undone: code, stop-web, stop-workers, announce
  cannot be undone: pause

"#]]
        .raw()
    );
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));

    // Whoever hangs up does not end it.
    pause.rearm();
    let Some(mut terminal) = on(site, &["update"]).on_terminal() else { return };
    terminal.wait_for("Go on? [y/N] ");
    terminal.type_in("y\n");
    pause.wait();
    let update = terminal.hang_up();
    let status = on(site, &["status", "--json"]).run().expect(0).json();
    assert!(status["running"]["purpose"].as_str().unwrap().starts_with("update to "), "{status:#}");
    pause.go_on();
    update.finish().expect(0);
    assert_eq!(site.release().as_deref(), Some("signalled"));
}

#[test]
fn a_second_signal_on_the_way_back() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    publish_good(site, "signalled twice");
    // A service whose start waits for us, once it was stopped.
    let at = |name: &str| site.root.join("run").join(name);
    let (up, starting, start) = (at("up"), at("starting"), at("start"));
    fs::write(&up, "").unwrap();
    let service = format!(
        "
[[services]]
name = \"slow\"
manager = \"command\"
role = \"worker\"
start = [\"/bin/sh\", \"-c\", \"touch {starting}; while ! test -e {start}; do sleep 0.02; done; touch {up}\"]
stop = [\"rm\", \"{up}\"]
status = [\"test\", \"-e\", \"{up}\"]
",
        starting = starting.display(),
        start = start.display(),
        up = up.display(),
    );
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{text}{service}")).unwrap();
    let pause = Pause::after(site, "code");
    let before = Snapshot::of(site);
    let update = on(site, &["update", "-y"]).start();
    pause.wait();
    update.signal(Signal::INT);
    wait_for("the way back to the service", || starting.exists());
    update.signal(Signal::INT);
    fs::write(&start, "").unwrap();
    let done = update.finish().expect(7);
    assert_data_eq!(
        done.text(Some(site)),
        str![[r#"
exit code 7
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running, slow running
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
  stop-workers     slow, worker

Window: the site is down for about [S] s (a rule of thumb: no comparable update of this site yet)
  stop-web         gunicorn
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Release signalled twice
  pause            /bin/sh -c touch /srv/run/reached; while ! test -e /srv/run/go; do sleep 0.02; done
  start-web        gunicorn
  smoke-check      /, /about/

Afterwards
  start-workers    worker, slow
  stay-up          gunicorn, worker, slow
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  page-up          no page is configured
  backup           no migrations are pending
  virtualenv       the installed packages are the 5 that the requirements ask for
  static           no static file was added, changed or removed
  migrate          no migrations are pending in the database
  start-required   all run
  page-down        no page is configured

Once it is finished, `deploykit rollback` can roll it back.

Update [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  slow, worker
Window
  ✓ stop-web [S] s  gunicorn
  ✓ code [S] s  [COMMIT]: 1 new commit on origin/main
  ✗ pause [S] s
Rolling back: 4 steps to undo
  ↩ code [S] s
  ↩ stop-web [S] s
  ↩ stop-workers [S] s

Interrupted during step `pause`
Interrupted while rolling back: neither version is complete.
  undone: stop-workers, stop-web, code
  still done: announce, pause
Hint: continue the rollback with `deploykit recover`

"#]]
        .raw()
    );
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_data_eq!(
        on(site, &["status"]).run().expect(0).text(Some(site)),
        str![[r#"
exit code 0
--- stdout
version       [COMMIT] (main), production
unfinished    run [RUN] was interrupted: `deploykit recover` rolls it back
last update   [RUN] at [TIME]: interrupted
failed        step `pause`: interrupted
maintenance   announced for [TIME]
services
  gunicorn  web     running  RUNNING, process [PID]
  worker    worker  running  RUNNING, process [PID]
  slow      worker  running  its status command says that it runs

"#]]
        .raw()
    );
    on(site, &["update", "-y"]).run().expect(4);
    let recovered = on(site, &["recover", "--json"]).run().expect(0);
    assert_documented("recover", &recovered.json());
    assert_documented("report", &recovered.json()["report"]);
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));
}
