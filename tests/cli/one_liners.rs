//! Every command but `update`, on one site that serves all the while.

mod files;
mod flags;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use self::files::{init, secrets, without_a_configuration};
use crate::documents::assert_documented;
use crate::run::{Cli, Done, deploykit, on, steady};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::support::{self, releases};

#[test]
fn commands_that_look_and_commands_that_do_one_thing() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let before = Snapshot::of(site);
    looking(site);
    nothing_is_new(site);
    services(site);
    maintenance(site);
    manage(site);
    shell(site);
    smoke_check(site);
    secrets(site);
    site.wait_until_serving(std::time::Duration::from_secs(60)).unwrap();
    assert_same(&before.without("file secrets.json"), &Snapshot::of(site).without("file secrets.json"));
    init(site);
    without_a_configuration(site);
    flags::of_a_site(site);
}

fn said(site: &TestSite, args: &[&str]) -> String {
    on(site, args).run().text(Some(site))
}

#[track_caller]
fn document(site: &TestSite, name: &str, args: &[&str]) -> serde_json::Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let done = on(site, &args).run().expect(0);
    let answer = done.json();
    assert_documented(name, &answer);
    answer
}

fn looking(site: &TestSite) {
    assert_data_eq!(
        said(site, &["status"]),
        str![[r#"
exit code 0
--- stdout
version       [COMMIT] (main), production
maintenance   the page is down
services
  gunicorn  web     running  RUNNING, process [PID]
  worker    worker  running  RUNNING, process [PID]

"#]]
        .raw()
    );
    let status = document(site, "status", &["status"]);
    assert_eq!(status["services"][0]["name"], "gunicorn");
    assert_data_eq!(
        said(site, &["history"]),
        str![[r#"
exit code 0
--- stdout
no updates yet

"#]]
        .raw()
    );
    assert_eq!(document(site, "history", &["history"])["runs"], json!([]));
    assert_data_eq!(
        said(site, &["status", "--follow"]),
        str![[r#"
exit code 0
--- stderr
no update is running

"#]]
        .raw()
    );
    let logs = said(site, &["logs", "gunicorn", "-n", "100"]);
    assert!(logs.contains("--- gunicorn (/srv/log/gunicorn.log)") && logs.contains("Listening at"), "{logs}");
    assert!(!logs.contains("--- worker"), "{logs}");
    assert_eq!(document(site, "logs", &["logs", "-n", "1"])["logs"].as_array().unwrap().len(), 3);
    assert_data_eq!(
        said(site, &["logs", "apache"]),
        str![[r#"
exit code 2
--- stderr
Error: there are no logs named `apache`; there are: gunicorn, worker, nginx
Hint: add the file to [logs] in the configuration

"#]]
        .raw()
    );
}

fn nothing_is_new(site: &TestSite) {
    let plan = || on(site, &["plan", "--exit-code"]).run().expect(0).text(Some(site));
    assert_data_eq!(
        plan(),
        str![[r#"
exit code 0
--- stdout
Nothing to do: the code, the packages, the static files and the database are as they must be.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  2 of 2 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes

"#]]
        .raw()
    );
    // The first one had to look closely; now that is known.
    assert_data_eq!(
        plan(),
        str![[r#"
exit code 0
--- stdout
Nothing to do: [COMMIT] serves; commit, configuration, variables, packages, secrets file and 2 untracked files are as deploykit last saw them.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest

"#]]
        .raw()
    );
    // A file of settings that git does not know is something new, once.
    let local = site.checkout.join("project/config/settings/local.py");
    fs::write(&local, "").unwrap();
    let noticed = || on(site, &["plan"]).run().expect(0).stderr.contains("check ");
    assert!(noticed() && !noticed());
    // When it is edited, the services have not read it until they start, however often somebody asks.
    fs::write(&local, "# edited\n").unwrap();
    let unread = || on(site, &["plan"]).run().expect(0).text(Some(site));
    assert!(unread().contains("check "));
    assert_data_eq!(
        unread(),
        str![[r#"
exit code 0
--- stdout
Nothing to do: [COMMIT] serves; commit, configuration, variables, packages, secrets file and 3 untracked files are as deploykit last saw them.
`/srv/site/project/config/settings/local.py` has changed since [TIME]; services read it when they start.
Hint: make the services read the files: `deploykit services restart`
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest

"#]]
        .raw()
    );
    on(site, &["services", "restart", "worker"]).run().expect(0);
    let answer = document(site, "report", &["update", "-y"]);
    assert_eq!(answer["unread"], json!([local.display().to_string()]));
    on(site, &["services", "restart"]).run().expect(0);
    assert_eq!(document(site, "report", &["update", "-y"])["unread"], json!([]));
    // A start is enough if none ran, and not if some did.
    fs::write(&local, "# edited again\n").unwrap();
    on(site, &["services", "stop", "worker"]).run().expect(0);
    on(site, &["services", "start"]).run().expect(0);
    assert_eq!(document(site, "report", &["update", "-y"])["unread"], json!([local.display().to_string()]));
    on(site, &["services", "stop"]).run().expect(0);
    on(site, &["services", "start"]).run().expect(0);
    assert_eq!(document(site, "report", &["update", "-y"])["unread"], json!([]));
    fs::remove_file(&local).unwrap();
    assert!(noticed() && !noticed());
    let looked = on(site, &["plan", "--look"]).run().expect(0);
    assert!(
        looked.stderr.contains("check ") && looked.stdout.contains("the database are as they must be"),
        "{looked:?}"
    );
    let answer = document(site, "plan-nothing", &["plan"]);
    assert_eq!(answer["update"], false);
    assert_data_eq!(
        said(site, &["update", "-y"]),
        str![[r#"
exit code 0
--- stdout
Nothing to do: [COMMIT] serves; commit, configuration, variables, packages, secrets file and 2 untracked files are as deploykit last saw them.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest

"#]]
        .raw()
    );
    assert_eq!(document(site, "report", &["update", "-y"])["outcome"], "unchanged");
    assert_data_eq!(
        said(site, &["update", "-y", "-q"]),
        str![[r#"
exit code 0

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["recover"]),
        str![[r#"
exit code 0
--- stdout
nothing to recover: no update is unfinished

"#]]
        .raw()
    );
    assert_eq!(document(site, "recover", &["recover", "--back"])["recovered"], false);
    assert_data_eq!(
        said(site, &["update", "-y", "nosuchbranch"]),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✗ fetch [S] s

Error: step `fetch` failed: there is no branch, tag or commit `nosuchbranch` on the remote `origin`
Nothing was changed on the site.

"#]]
        .raw()
    );
}

fn services(site: &TestSite) {
    assert_data_eq!(
        said(site, &["services", "status"]),
        str![[r#"
exit code 0
--- stdout
  gunicorn  web     running  RUNNING, process [PID]
  worker    worker  running  RUNNING, process [PID]

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["services", "stop", "gunicron"]),
        str![[r#"
exit code 2
--- stderr
Error: there is no service `gunicron` in the configuration; it has: gunicorn, worker

"#]]
        .raw()
    );
    let before = site.processes();
    assert_data_eq!(
        said(site, &["services", "stop", "worker"]),
        str![[r#"
exit code 0
--- stdout
  worker  worker  stopped  STOPPED

"#]]
        .raw()
    );
    assert_eq!(site.processes()["worker"].state, "STOPPED");
    assert_data_eq!(
        said(site, &["services", "stop", "worker"]),
        str![[r#"
exit code 0
--- stdout
service-control: nothing to do: worker is stopped

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["services", "status", "worker"]),
        str![[r#"
exit code 0
--- stdout
  worker  worker  stopped  STOPPED

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["services", "start"]),
        str![[r#"
exit code 0
--- stdout
  gunicorn  web     running  RUNNING, process [PID]
  worker    worker  running  RUNNING, process [PID]

"#]]
        .raw()
    );
    let answer = document(site, "done", &["services", "restart", "worker"]);
    assert_eq!((&answer["operation"], &answer["changed"]), (&json!("service-control"), &json!(true)));
    let after = site.processes();
    assert_eq!(before["gunicorn"].pid, after["gunicorn"].pid);
    assert_ne!(before["worker"].pid, after["worker"].pid);
    document(site, "services", &["services", "status"]);
}

fn maintenance(site: &TestSite) {
    assert_data_eq!(
        said(site, &["maintenance", "status"]),
        str![[r#"
exit code 0
--- stdout
not announced, the page is down

"#]]
        .raw()
    );
    let on_text = said(site, &["maintenance", "on", "--in", "2h", "--message", "Back soon", "--page"]);
    assert_data_eq!(
        on_text,
        str![[r#"
exit code 0
--- stdout
announced for [TIME], the page is up

"#]]
        .raw()
    );
    assert_eq!(site.page("/").unwrap().status, 503);
    assert!(site.page("/").unwrap().body.contains("Back soon"));
    assert_data_eq!(
        said(site, &["maintenance", "status"]),
        str![[r#"
exit code 0
--- stdout
announced for [TIME], the page is up

"#]]
        .raw()
    );
    assert!(said(site, &["status"]).contains("maintenance   announced for [TIME], the page is up\n"));
    let answer = document(site, "status", &["status"]);
    assert_eq!(answer["announced"], json!(true));
    let answer = document(site, "maintenance", &["maintenance", "status"]);
    assert_eq!((&answer["announced"], &answer["page"]), (&json!(true), &json!(true)));
    assert_data_eq!(
        said(site, &["maintenance", "off"]),
        str![[r#"
exit code 0
--- stdout
not announced, the page is down

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["maintenance", "off"]),
        str![[r#"
exit code 0
--- stdout
maintenance: nothing to do: maintenance is off already

"#]]
        .raw()
    );
    assert!(!site.maintenance_status.exists() && !site.maintenance_page.exists());
    let done = on(site, &["maintenance", "on", "--json"]).run().expect(0);
    assert_documented("done", &done.json());
    on(site, &["maintenance", "off", "-q"]).run().expect(0);
    too_soon(site);
}

fn too_soon(site: &TestSite) {
    let config = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, config.replace("notice = \"0s\"", "notice = \"20m\"")).unwrap();
    let refused = on(site, &["maintenance", "on", "--in", "2m"]).run().expect(4);
    assert!(refused.stderr.contains(" would be too soon: the earliest time is 20"), "{}", refused.stderr);
    // By the site's clock.
    assert!(refused.stderr.contains(" PST") || refused.stderr.contains(" PDT"), "{}", refused.stderr);
    fs::write(&site.config, config).unwrap();
}

fn manage(site: &TestSite) {
    assert_data_eq!(
        said(site, &["manage", "--", "check"]),
        str![[r#"
exit code 0
--- stdout
System check identified no issues (0 silenced).

"#]]
        .raw()
    );
    // Its exit code is handed on, and so is its standard input.
    on(site, &["manage", "--", "nosuchcommand"]).run().expect(1);
    let echo = [
        "manage",
        "--",
        "shell",
        "-v",
        "0",
        "-c",
        "import sys; print(sys.stdin.read().upper()); sys.exit(42)",
    ];
    assert_eq!(on(site, &echo).input("hello").run().expect(42).stdout, "HELLO\n");
    let answer =
        on(site, &["manage", "--json", "--", "shell", "-v", "0", "-c", "import sys; print(1); sys.exit(3)"]);
    let answer = answer.run().expect(3).json();
    assert_documented("manage", &answer);
    assert_eq!((&answer["exit_code"], &answer["stdout"]), (&json!(3), &json!("1\n")));
}

fn shell(site: &TestSite) {
    let script = on(site, &["env", "-q"]).run().expect(0);
    let eval = "eval \"$1\"; echo $DJANGO_SETTINGS_MODULE; pwd; command -v python; python manage.py check";
    let mut sh = site.command("/bin/sh");
    let output = sh.args(["-c", eval, "sh", &script.stdout]).output().unwrap();
    let text = steady(&String::from_utf8(output.stdout).unwrap(), Some(site));
    assert_data_eq!(
        text,
        str![[r#"
config.settings.production
/srv/site/project
/srv/venv/bin/python
System check identified no issues (0 silenced).

"#]]
        .raw()
    );
    let answer = document(site, "env", &["env"]);
    assert_eq!(answer["variables"]["DJANGO_SETTINGS_MODULE"], "config.settings.production");
}

fn smoke_check(site: &TestSite) {
    assert_data_eq!(
        said(site, &["smoke-check"]),
        str![[r#"
exit code 0
--- stdout
http://demo.example/ answered 200 in [MS] ms
http://demo.example/about/ answered 200 in [MS] ms

"#]]
        .raw()
    );
    document(site, "smoke-check", &["smoke-check"]);
    let wrong = ["smoke-check", "/about/", "--contains", "No such words", "--deadline", "1s"];
    assert_data_eq!(said(site, &wrong), str![[r#"
exit code 4
--- stderr
Error: 1 of 1 page is not as expected: `/about/`: the text `No such words` is missing ("Guestbook") after [N] attempts in [S] s

"#]].raw());
    let done = on(site, &[&wrong[..], &["--json"]].concat()).run().expect(4);
    assert_documented("failure", &done.json());
    assert_documented("smoke-check", &done.json()["result"]);
    // Without a configuration: the address says it all.
    let url = format!("http://{}/version/", site.front_address);
    let elsewhere = |args: &[&str]| deploykit("/", &[&["smoke-check", &url], args].concat()).run();
    let done = elsewhere(&["--status", "400", "--contains", "Bad Request"]);
    assert_data_eq!(
        done.text(Some(site)).replace(&site.front_address, "[FRONT]"),
        str![[r#"
exit code 0
--- stdout
http://[FRONT]/version/ answered 400 in [MS] ms

"#]]
        .raw()
    );
    elsewhere(&["--status", "404", "--deadline", "1s"]).expect(4);
    elsewhere(&["--connect", "127.0.0.1:99999"]).expect(2);
}
