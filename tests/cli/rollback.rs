//! A finished update that is taken back, and the report of a past run.

use std::fs;
use std::time::Duration;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::on;
use crate::support::releases::{append, publish_good};
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;
use crate::support::snapshot::{Snapshot, assert_same};

#[test]
fn there_and_back() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let said = |args: &[&str], code| on(site, args).run().expect(code).text(Some(site));
    assert_data_eq!(
        said(&["rollback"], 4),
        str![[r#"
exit code 4
--- stderr
Error: there is no terminal to ask for confirmation on
Hint: confirm with `-y`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(&["rollback", "-y"], 4),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✗ run [S] s

Error: step `run` failed: there is no finished update to roll back
Nothing was changed on the site.

"#]]
        .raw()
    );
    assert_data_eq!(
        said(&["report"], 4),
        str![[r#"
exit code 4
--- stderr
Error: there is no run yet

"#]]
        .raw()
    );

    site.add_secret(NEW_SECRET, "salt-of-the-earth").unwrap();
    let before = Snapshot::of(site);
    site.publish_release_2().unwrap();
    on(site, &["update", "-y", "-q"]).run().expect(0);
    assert_data_eq!(said(&["rollback", "-y"], 0), str![[r#"
exit code 0
--- stdout
Rolled back the update of run [RUN]: [COMMIT] serves again, after [S] s; the site was down for [S] s, [S] s expected.
--- stderr
Preparing; the site serves as before
  ✓ run [S] s  [RUN]: [COMMIT] → [COMMIT]
  ✓ code [S] s  1 commit to roll back
  ✓ packages [S] s  - humanize [VERSION]
  ✓ secrets [S] s  1 required secret found
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ check [S] s  Django [VERSION] boots
  ✓ migrations [S] s  3 to reverse

Rollback of [RUN]: [COMMIT] → [COMMIT] (production)

Before the window, which opens at once
  announce         users are told
                     “The site is being updated and will be back in a few minutes.”
  stop-workers     worker

Window: the site is down for about [S] s, and for as long as 3 migrations take (like the last update)
  page-up          /srv/www/maintenance.html
  stop-web         gunicorn
  backup           about 37 kB in about 1 s (like the last one): to return to the new version
                     `guestbook.0004_sign_entries`: RunPython: what its code changes is not known
                     `guestbook.0003_reply`: applied again, it would not restore the rows of `Reply`
                     `guestbook.0002_entry_signature`: applied again, it would not restore the values of `entry.signature`
  migrate          3 migrations to reverse
                     guestbook.0004_sign_entries
                     guestbook.0003_reply
                     guestbook.0002_entry_signature
  static           the files from before the update
  virtualenv       - humanize [VERSION]
  code             [COMMIT] → [COMMIT]: 1 commit to roll back
                     [COMMIT] Release 2
  start-web        gunicorn
  smoke-check      the pages as they were before the update
  page-down        the pages are as expected

Afterwards
  start-workers    worker
  stay-up          gunicorn, worker
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  start-required   all run

Note: `guestbook.0003_reply` is reversed: the rows of `Reply` are lost
Note: `guestbook.0002_entry_signature` is reversed: the values of `entry.signature` are lost
Note: reversed by the site's own code: `guestbook.0004_sign_entries`: RunPython: what its code changes is not known

Rollback [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  worker
Window
  ✓ page-up [S] s  /srv/www/maintenance.html
  ✓ stop-web [S] s  gunicorn
  ✓ backup [S] s  about 37 kB in about 1 s (like the last one): to return to the new version
  ✓ migrate [S] s  3 migrations to reverse
  ✓ static [S] s  the files from before the update
  ✓ virtualenv [S] s  - humanize [VERSION]
  ✓ code [S] s  [COMMIT]: 1 commit to roll back
  ✓ start-web [S] s  gunicorn
  ✓ smoke-check [S] s  the pages as they were before the update
  ✓ page-down [S] s  the pages are as expected
Afterwards
  ✓ start-workers [S] s  worker
  ✓ stay-up [S] s  gunicorn, worker
  ✓ maintenance-off [S] s  users are told no longer

"#]].raw());
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));

    assert_data_eq!(
        said(&["history"], 0),
        str![[r#"
exit code 0
--- stdout
[RUN]  [TIME]  [COMMIT] → [COMMIT]  rollback of [RUN] done [S] s  down [S] s
[RUN]  [TIME]  [COMMIT] → [COMMIT]  updated [S] s  down [S] s

"#]]
        .raw()
    );
    assert_data_eq!(said(&["report"], 0), str![[r#"
exit code 0
--- stdout
Rollback [RUN] (of [RUN]): [COMMIT] → [COMMIT] (production), [TIME]
  ✓ announce [S] s
  ✓ stop-workers [S] s
  ✓ page-up [S] s
  ✓ stop-web [S] s
  ✓ backup [S] s
  ✓ migrate [S] s
  ✓ static [S] s
  ✓ virtualenv [S] s
  ✓ code [S] s
  ✓ start-web [S] s
  ✓ smoke-check [S] s
  ✓ page-down [S] s
  ✓ start-workers [S] s
  ✓ stay-up [S] s
  ✓ maintenance-off [S] s
  note: `guestbook.0003_reply` is reversed: the rows of `Reply` are lost
  note: `guestbook.0002_entry_signature` is reversed: the values of `entry.signature` are lost
  note: reversed by the site's own code: `guestbook.0004_sign_entries`: RunPython: what its code changes is not known
Rolled back the update of run [RUN]: [COMMIT] serves again, after [S] s; the site was down for [S] s, [S] s expected.

"#]].raw());
    let report = on(site, &["report", "--json"]).run().expect(0).json();
    assert_documented("report", &report);
    let run = report["rolls_back"].as_str().unwrap();
    assert!(said(&["report", run], 0).contains("Updated to [COMMIT] in"));
    assert_data_eq!(
        said(&["report", "20200101-1"], 2),
        str![[r#"
exit code 2
--- stderr
Error: there is no run `[RUN]`
Hint: `deploykit history` lists them

"#]]
        .raw()
    );
    assert!(said(&["status"], 0).contains(": rollback of [RUN] done\n"), "{}", said(&["status"], 0));
    assert_data_eq!(
        said(&["rollback", "-y", run], 4),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✗ run [S] s

Error: step `run` failed: run [RUN] cannot be rolled back: it failed, was rolled back, or is a rollback itself
Nothing was changed on the site.
Hint: `deploykit history` lists the runs

"#]]
        .raw()
    );
    // The same update waits again, and the plan says what became of it.
    let plan = said(&["plan"], 0);
    assert!(plan.contains("\nNote: [COMMIT] was rolled back at [TIME] by "), "{plan}");

    on(site, &["update", "-y", "-q"]).run().expect(0);
    assert!(said(&["rollback", "--from-copy"], 4).contains("there is no terminal to ask"));
    let text = said(&["rollback", "--from-copy", "-y"], 0);
    for line in [
        "  migrate          the copy of run [RUN] is restored\n",
        "what was written to the database since then is lost\n",
        "\nNote: tables that the copy does not have are lost: `guestbook_reply` (0 rows)\n",
        "no table gained or lost rows; rows that were changed are not counted\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&before, &Snapshot::of(site));
}

#[test]
fn asked_and_failed() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let broken = site.root.join("broken");
    site.publish(|tree| {
        let text = format!("\nif os.path.exists({broken:?}):\n    raise RuntimeError(\"it is broken\")\n");
        append(tree, "project/guestbook/views.py", &text);
    })
    .unwrap();
    on(site, &["update", "-y", "-q"]).run().expect(0);
    site.publish(|tree| {
        let views = tree.join("project/guestbook/views.py");
        let text =
            fs::read_to_string(&views).unwrap().replace("it is broken", "").replace("/broken", "/whole");
        fs::write(views, text).unwrap();
    })
    .unwrap();
    on(site, &["update", "-y", "-q"]).run().expect(0);
    let after = Snapshot::of(site);

    let Some(mut terminal) = on(site, &["rollback"]).on_terminal() else { return };
    terminal.wait_for("Go on? [y/N] ");
    assert!(terminal.screen().contains("Rollback of 20"), "{}", terminal.screen());
    terminal.type_in("n\n");
    let done = terminal.finish().expect(4);
    assert!(done.stdout.contains("not rolled back: not confirmed"), "{}", done.stdout);
    assert_same(&after, &Snapshot::of(site));

    fs::write(&broken, "").unwrap();
    let done = on(site, &["rollback", "-y"]).run().expect(5);
    let text = crate::failures::without_log_lines(&done.text(Some(site)));
    let (_, end) = text.split_once("Window\n").unwrap();
    assert_data_eq!(end.to_owned(), str![[r#"
  ✓ page-up [S] s  /srv/www/maintenance.html
  ✓ stop-web [S] s  gunicorn
  ✓ code [S] s  [COMMIT]: 1 commit to roll back
  ✓ start-web [S] s  gunicorn
  ✗ smoke-check [S] s
Rolling back: 6 steps to undo
  ↩ start-web [S] s
  ↩ code [S] s
  ↩ stop-web [S] s
  ↩ page-up [S] s
  ↩ stop-workers [S] s
  ↩ announce [S] s

Error: step `smoke-check` failed: 2 of 2 pages are not as expected: `/`: expected status 200, got 500 ("Internal Server Error") after [N] attempts in [S] s; `/about/`: expected status 200, got 500 ("Internal Server Error") after [N] attempts in [S] s
--- new in the log of gunicorn (/srv/log/gunicorn.log)
--- new in the log of worker (/srv/log/worker.log)
The rollback failed and is undone: [COMMIT] serves again; the site was down for [S] s.
  undone: start-web, code, stop-web, page-up, stop-workers, announce
Hint: fix the cause, and run `deploykit rollback` again
Hint: every command with all its output is in /srv/site/.deploykit/runs/[RUN]/output.log

"#]].raw());
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
    assert_same(&after, &Snapshot::of(site));
    let history = on(site, &["history", "-n", "1"]).run().expect(0).text(Some(site));
    assert!(history.contains("rollback of [RUN] failed"), "{history}");

    // By hand, since: it is said what it is, and what to do.
    publish_good(site, "by-hand");
    site.git(&site.checkout, &["pull", "-q", "--ff-only", "origin", "main"]).unwrap();
    assert_data_eq!(
        on(site, &["rollback", "-y"]).run().expect(4).text(Some(site)),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✓ run [S] s  [RUN]: [COMMIT] → [COMMIT]
  ✗ code [S] s

Error: step `code` failed: HEAD is at `main` ([COMMIT]), and run [RUN] left it at `main` ([COMMIT])
Nothing was changed: [COMMIT] is still the live version.
Hint: undo that by hand first; nothing was changed

"#]]
        .raw()
    );
}
