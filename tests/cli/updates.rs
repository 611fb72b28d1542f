//! Updates that succeed, in pipes and on a terminal, alone and watched from elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{full_pipe, on, steady, wait_for};
use crate::support::releases::{append, make_wheel, publish_good, write};
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;
use crate::support::snapshot::{Snapshot, assert_same};

/// A step of the site's own that waits in the middle of an update until it may go on.
pub struct Pause {
    reached: PathBuf,
    go: PathBuf,
}

impl Pause {
    /// Adds the step to a site's configuration.
    pub fn after(site: &TestSite, anchor: &str) -> Pause {
        let pause = Pause { reached: site.root.join("run/reached"), go: site.root.join("run/go") };
        let script = format!(
            "touch {}; while ! test -e {}; do sleep 0.02; done",
            pause.reached.display(),
            pause.go.display()
        );
        let mut text = fs::read_to_string(&site.config).unwrap();
        text.push_str(&format!(
            "\n[[steps]]\nname = \"pause\"\nafter = \"{anchor}\"\nrun = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
        ));
        fs::write(&site.config, text).unwrap();
        pause
    }

    #[track_caller]
    pub fn wait(&self) {
        wait_for("the pause", || self.reached.exists());
    }

    pub fn go_on(&self) {
        fs::write(&self.go, "").unwrap();
    }

    /// Makes it a pause again.
    pub fn rearm(&self) {
        let _ = fs::remove_file(&self.reached);
        let _ = fs::remove_file(&self.go);
    }
}

#[test]
fn from_a_missing_secret_to_the_new_version() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    site.publish_release_2().unwrap();
    let refused = on(site, &["update", "-y"]).run().expect(4);
    assert_data_eq!(refused.text(Some(site)), str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✗ secrets [S] s

Error: step `secrets` failed: secrets are missing in `/srv/site/secrets.json`: `VISITOR_SALT` (asked for in project/config/settings/base.py:29)
Nothing was changed: [COMMIT] is still the live version.
Hint: deploykit secrets set VISITOR_SALT

"#]].raw());
    let document = on(site, &["update", "-y", "--json"]).run().expect(4).json();
    assert_documented("failure", &document);
    assert_documented("report", &document["result"]);
    site.add_secret(NEW_SECRET, "salt-of-the-earth").unwrap();
    let old = Snapshot::of(site);

    let plan = on(site, &["plan", "--exit-code"]).run().expect(10);
    assert_data_eq!(
        plan.text(Some(site)),
        str![[r#"
exit code 10
--- stdout
Update [COMMIT] → [COMMIT] (production)

Before the window, which opens at once
  announce         users are told
                     “The site is being updated and will be back in a few minutes.”
  stop-workers     worker

Window: the site is down for about [S] s, and for as long as 3 migrations take (a rule of thumb: no comparable update of this site yet)
  page-up          /srv/www/maintenance.html
  stop-web         gunicorn
  backup           about 29 kB in about 1 s (a rule of thumb): reversing may lose something
                     `guestbook.0004_sign_entries`: RunPython: what its code changes is not known
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Release 2
  virtualenv       + humanize [VERSION]
  static           files: 3 added, 2 changed, 4 removed
                     - guestbook/flower.svg
                     - guestbook/print.css
                     + guestbook/tree.svg
                     ~ guestbook/site.css
                     ~ staticfiles.json
  migrate          3 migrations
                     guestbook.0002_entry_signature: Add field signature to entry
                     guestbook.0003_reply: Create model Reply
                     guestbook.0004_sign_entries: Raw Python operation
  start-web        gunicorn
  smoke-check      /, /about/
  page-down        the pages are as expected

Afterwards
  start-workers    worker
  stay-up          gunicorn, worker
  maintenance-off  users are told no longer

Not needed
  wait             the window opens at once
  start-required   all run

Once it is finished, `deploykit rollback` can roll it back.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  1 new commit on origin/main
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  2 required secrets found
  ✓ staged-virtualenv [S] s  + humanize [VERSION]
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  3 pending
  ✓ collect [S] s  files: 3 added, 2 changed, 4 removed
  ✓ live-check [S] s  the live version boots, too


"#]]
        .raw()
    );
    let plan = on(site, &["plan", "--json", "-q"]).run().expect(0);
    assert_eq!(plan.stderr, "");
    let plan = plan.json();
    assert_documented("plan", &plan);
    let step = |name: &str| {
        let steps = plan["plan"]["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).unwrap().clone()
    };
    let code = step("code");
    assert_eq!((&code["before"], &code["after"]), (&plan["plan"]["from"], &plan["plan"]["to"]));
    assert_eq!(code["commits"][0]["id"], plan["plan"]["to"]);
    assert!(code["details"][0].as_str().unwrap().ends_with(code["commits"][0]["subject"].as_str().unwrap()));
    assert_eq!(step("virtualenv")["packages"][0]["name"], "humanize");
    assert_eq!(step("virtualenv")["packages"][0]["from"], serde_json::Value::Null);
    assert_eq!(code["packages"], serde_json::json!([]));
    assert_same(&old, &Snapshot::of(site));

    let pause = Pause::after(site, "code");
    let old = Snapshot::of(site);
    let Some(mut terminal) = on(site, &["update"]).on_terminal() else { return };
    terminal.wait_for("Go on? [y/N] ");
    terminal.type_in("n\n");
    let done = terminal.finish().expect(4);
    assert!(done.stdout.contains("not updated: not confirmed; nothing was changed"), "{}", done.stdout);
    let Some(mut terminal) = on(site, &["update"]).on_terminal() else { return };
    terminal.wait_for("Go on? [y/N] ");
    terminal.type_in("\u{3}");
    terminal.finish().expect(4);
    assert_same(&old, &Snapshot::of(site));

    let events = site.root.join("run/events.jsonl");
    let update = on(site, &["update", "--events", events.to_str().unwrap()]).env("NO_COLOR", "1");
    let mut terminal = update.on_terminal().unwrap();
    terminal.wait_for("Go on? [y/N] ");
    terminal.type_in("y\n");
    pause.wait();
    meanwhile(site);
    let followers =
        [&["status", "--follow"][..], &["status", "--follow", "--json"]].map(|args| on(site, args).start());
    wait_for("the followers", || {
        followers.iter().all(|follower| (follower.stderr() + &follower.stdout()).contains("code"))
    });
    let elsewhere = on(site, &["status", "--follow"]).on_terminal().unwrap();
    elsewhere.wait_for("stop-web");
    pause.go_on();
    let done = terminal.finish().expect(0);
    assert!(!done.stdout.contains("\u{1b}[32m") && !done.stdout.contains("\u{1b}[1m"), "{:?}", done.stdout);
    assert!(done.stdout.contains("Updated to "), "{}", done.stdout);
    let elsewhere = elsewhere.finish().expect(0);
    assert!(elsewhere.stdout.contains("Updated to "), "{}", elsewhere.stdout);
    let [follower, lines] = followers.map(|follower| follower.finish().expect(0));
    assert_data_eq!(
        follower.text(Some(site)),
        str![[r#"
exit code 0
--- stderr
[USER] (process [PID]) since [TIME]: update to [COMMIT]
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  2 required secrets found
  ✓ staged-virtualenv [S] s  + humanize [VERSION]
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  3 pending
  ✓ collect [S] s  files: 3 added, 2 changed, 4 removed
  ✓ live-check [S] s  the live version boots, too
Update [RUN]: [COMMIT] → [COMMIT]
Before the window
  ✓ announce [S] s  users are told
  ✓ stop-workers [S] s  worker
Window
  ✓ page-up [S] s  /srv/www/maintenance.html
  ✓ stop-web [S] s  gunicorn
  ✓ backup [S] s  about 29 kB in about 1 s (a rule of thumb): reversing may lose something
  ✓ code [S] s  [COMMIT]: 1 new commit on origin/main
  ✓ pause [S] s  /bin/sh -c touch /srv/run/reached; while ! test -e /srv/run/go; do sleep 0.02; done
  ✓ virtualenv [S] s  + humanize [VERSION]
  ✓ static [S] s  files: 3 added, 2 changed, 4 removed
  ✓ migrate [S] s  3 migrations
  ✓ start-web [S] s  gunicorn
  ✓ smoke-check [S] s  /, /about/
  ✓ page-down [S] s  the pages are as expected
Afterwards
  ✓ start-workers [S] s  worker
  ✓ stay-up [S] s  gunicorn, worker
  ✓ maintenance-off [S] s  users are told no longer

Updated to [COMMIT] in [S] s; the site was down for [S] s, [S] s expected.

"#]]
        .raw()
    );
    for line in lines.stdout.lines().filter(|line| line.contains("\"step_finished\"")) {
        assert_documented("event", &serde_json::from_str(line).unwrap());
    }
    assert!(lines.stdout.lines().last().unwrap().contains("\"run_finished\""), "{}", lines.stdout);
    let kept = fs::read_to_string(&events).unwrap();
    assert!(kept.lines().count() > lines.stdout.lines().count(), "the preparation is missing:\n{kept}");
    assert_eq!(site.release().as_deref(), Some("2"));

    assert_data_eq!(
        on(site, &["history"]).run().expect(0).text(Some(site)),
        str![[r#"
exit code 0
--- stdout
[RUN]  [TIME]  [COMMIT] → [COMMIT]  updated [S] s  down [S] s
[RUN]  [TIME]  [COMMIT] → [COMMIT]  refused [S] s  secrets: secrets are missing in `/srv/site/secrets.json`: `VISITOR_SALT` (asked for in project/config/settings/base.py:29)
[RUN]  [TIME]  [COMMIT] → [COMMIT]  refused [S] s  secrets: secrets are missing in `/srv/site/secrets.json`: `VISITOR_SALT` (asked for in project/config/settings/base.py:29)

"#]]
        .raw()
    );
    let history = on(site, &["history", "--json"]).run().expect(0).json();
    assert_documented("history", &history);
    assert_eq!(history["runs"][0]["outcome"], "updated");
    for report in history["runs"].as_array().unwrap() {
        assert_documented("report", report);
    }
    talkative_and_silent(site);
}

/// The modes of what the site serves and runs.
fn modes(site: &TestSite) -> BTreeMap<PathBuf, u32> {
    let mut directories = vec![site.checkout.clone(), site.virtualenv.clone(), site.static_root.clone()];
    let mut found = BTreeMap::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let is_own = [".git", ".deploykit"].iter().any(|name| path.ends_with(name));
            let Ok(metadata) = entry.metadata() else { continue };
            if is_own || metadata.is_symlink() {
                continue;
            }
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            found.insert(path, metadata.permissions().mode() & 0o777);
        }
    }
    found
}

/// What was there has the mode that it had; what is new has that of its like.
#[track_caller]
fn assert_modes(before: &BTreeMap<PathBuf, u32>, after: &BTreeMap<PathBuf, u32>) {
    let of = |name: &str| *before.iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
    let (directory, file) = (of("guestbook"), of("urls.py"));
    let expected = |path: &PathBuf, mode: u32| match before.get(path) {
        Some(before) => vec![*before],
        None => vec![directory, if mode & 0o100 == 0 { file } else { file | (file & 0o444) >> 2 }],
    };
    let wrong = after.iter().filter(|(path, mode)| !expected(path, **mode).contains(mode));
    let wrong: Vec<String> = wrong.map(|(path, mode)| format!("{} {mode:o}", path.display())).collect();
    assert!(wrong.is_empty() && after.len() > before.len(), "{wrong:#?}");
}

/// What others see and may do while an update is in its window.
fn meanwhile(site: &TestSite) {
    let said = |args: &[&str]| on(site, args).run().text(Some(site));
    let status = said(&["status"]);
    assert!(
        status.contains("running       [USER] (process [PID]) since [TIME]: update to [COMMIT]"),
        "{status}"
    );
    assert_documented("status", &on(site, &["status", "--json"]).run().expect(0).json());
    assert_data_eq!(
        said(&["update", "-y"]),
        str![[r#"
exit code 4
--- stderr
Error: the site is locked by [USER] (process [PID]) since [TIME]: update to [COMMIT]
Hint: watch it with `deploykit status --follow`, or wait for its end with `--lock-wait 15m`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(&["services", "stop", "worker"]),
        str![[r#"
exit code 4
--- stderr
Error: the site is locked by [USER] (process [PID]) since [TIME]: update to [COMMIT]
Hint: watch it with `deploykit status --follow`, or wait for its end with `--lock-wait 15m`

"#]]
        .raw()
    );
    on(site, &["plan"]).run().expect(4);
    on(site, &["recover"]).run().expect(4);
}

/// `-q`, `-v`, colours, a terminal that takes nothing.
fn talkative_and_silent(site: &TestSite) {
    let before = modes(site);
    make_wheel(site, "demo-base", "1.0", &[], "x = 1\n");
    site.publish(|tree| {
        append(tree, "requirements/production.txt", "demo-base\n");
        write(tree, "project/guestbook/static/guestbook/deep/new.css", "p { color: red }\n");
        write(tree, "project/guestbook/new/__init__.py", "");
    })
    .unwrap();
    let done = on(site, &["update", "-y", "-q"]).umask("077").run().expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_modes(&before, &modes(site));
    publish_good(site, "talkative");
    let done = on(site, &["update", "-y", "-v", "--color", "always"]).umask("000").run().expect(0);
    assert_modes(&before, &modes(site));
    assert!(done.stderr.contains("\u{1b}["), "{}", done.stderr);
    let plain = on(site, &["plan", "-v"]).run().expect(0);
    assert!(!plain.stderr.contains('\u{1b}'), "{}", plain.stderr);
    assert!(done.stderr.contains("… "), "{}", done.stderr);
    // A terminal that takes nothing more holds nothing up.
    let commit = publish_good(site, "unseen");
    let (_read, write) = full_pipe();
    let done = on(site, &["update", "-y"]).stderr(write).run().expect(0);
    assert!(steady(&done.stdout, Some(site)).starts_with("Updated to [COMMIT] in"), "{}", done.stdout);
    assert_eq!(site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap().trim(), commit);
}
