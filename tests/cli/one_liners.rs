//! Every command but `update`, on one site that serves all the while.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

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
  ✓ next-tree [S] s
  ✓ secrets [S] s  1 asked for, all there
  ✓ services [S] s  gunicorn running, worker running
  ✓ next-environment [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes
  ✓ pages [S] s  2 of 2 answer as expected

"#]]
        .raw()
    );
    // The first one had to look closely; now that is known.
    assert_data_eq!(
        plan(),
        str![[r#"
exit code 0
--- stdout
Nothing to do: [COMMIT] serves, with its packages, static files and migrations.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest

"#]]
        .raw()
    );
    let answer = document(site, "plan-nothing", &["plan"]);
    assert_eq!(answer["update"], false);
    assert_data_eq!(
        said(site, &["update", "-y"]),
        str![[r#"
exit code 0
--- stdout
Nothing to do: [COMMIT] serves, with its packages, static files and migrations.
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
Nothing is changed: the site serves as before.

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

fn secrets(site: &TestSite) {
    let set = |name: &str| on(site, &["secrets", "set", name]);
    assert_data_eq!(
        said(site, &["secrets", "check"]),
        str![[r#"
exit code 0
--- stdout
nothing is missing

"#]]
        .raw()
    );
    fs::set_permissions(&site.secrets, fs::Permissions::from_mode(0o640)).unwrap();
    assert_data_eq!(
        set("API_TOKEN").input("a \"token\"\n").run().text(Some(site)),
        str![[r#"
exit code 0
--- stdout
API_TOKEN is set in /srv/site/secrets.json

"#]]
        .raw()
    );
    let text = fs::read_to_string(&site.secrets).unwrap();
    assert_data_eq!(
        &text,
        str![[r#"
{
    "SECRET_KEY": "not-so-secret-but-long-enough-for-a-demo-0123456789",
    "API_TOKEN": "a \"token\""
}

"#]]
        .raw()
    );
    assert_eq!(fs::metadata(&site.secrets).unwrap().permissions().mode() & 0o777, 0o640);
    assert_data_eq!(
        set("API_TOKEN").input("").run().text(Some(site)),
        str![[r#"
exit code 2
--- stderr
Error: no value for `API_TOKEN`: nothing was written

"#]]
        .raw()
    );
    assert_eq!(fs::read_to_string(&site.secrets).unwrap(), text);
    let answer = on(site, &["secrets", "set", "API_TOKEN", "--json"]).input("another").run().expect(0);
    assert_documented("secrets-set", &answer.json());
    document(site, "secrets-check", &["secrets", "check"]);
    // On a terminal it is asked for, and not shown.
    let Some(mut terminal) = set("API_TOKEN").on_terminal() else { return };
    terminal.wait_for("Value of API_TOKEN");
    terminal.type_in("never-shown\n");
    let done = terminal.finish().expect(0);
    assert!(!done.stdout.contains("never-shown"), "{}", done.stdout);
    assert!(fs::read_to_string(&site.secrets).unwrap().contains("\"API_TOKEN\": \"never-shown\""));
}

fn init(site: &TestSite) {
    assert_data_eq!(
        said(site, &["init"]),
        str![[r#"
exit code 4
--- stderr
Error: there is a configuration already: `/srv/site/deploykit.toml`
Hint: change it by hand, or look at what would be written with `deploykit init --print`

"#]]
        .raw()
    );
    let old = fs::read_to_string(&site.config).unwrap();
    fs::remove_file(&site.config).unwrap();
    let printed = document(site, "init-print", &["init", "--print"]);
    assert!(!site.config.exists());
    let wrote = on(site, &["init"]).run().expect(0);
    assert_data_eq!(wrote.text(Some(site)), str![[r#"
exit code 0
--- stdout
Wrote /srv/site/deploykit.toml
Needs a person: `site.env`: the services get `DEMO_WORKER_LINGERS`; if manage.py needs them, put them here, or secret ones into an env-file
  at /srv/site/deploykit.toml:11
Mend these lines, then look at what an update would do: deploykit plan

"#]].raw());
    assert_eq!(fs::read_to_string(&site.config).unwrap(), printed["configuration"].as_str().unwrap());
    // What is needed beside it is in the environment of whoever calls.
    let data = site.root.join("data").display().to_string();
    let plan = on(site, &["plan"]).env("DEMO_DATA", &data).run();
    assert_data_eq!(
        plan.text(Some(site)),
        str![[r#"
exit code 0
--- stdout
Nothing to do: the code, the packages, the static files and the database are as they must be.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest
  ✓ next-tree [S] s
  ✓ secrets [S] s  1 asked for, all there
  ✓ services [S] s  gunicorn running, worker running
  ✓ next-environment [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes
  ✓ pages [S] s  1 of 1 answer as expected

"#]]
        .raw()
    );
    fs::remove_file(&site.config).unwrap();
    document(site, "init", &["init"]);
    fs::write(&site.config, old).unwrap();
}

/// The operations of a checkout and a virtualenv that nobody wrote a configuration for.
fn without_a_configuration(site: &TestSite) {
    releases::publish_good(site, "good");
    let away = |args: &[&str]| -> Cli {
        let cli = deploykit("/", args);
        site.environment().iter().fold(cli, |cli, (name, value)| cli.env(name, value))
    };
    let checkout = site.checkout.display().to_string();
    let update = ["git-update", "--repository", &checkout, "--branch", "main"];
    let text = |done: Done| done.text(Some(site));
    assert_data_eq!(
        text(away(&[&update[..], &["--check"]].concat()).run()),
        str![[r#"
exit code 0
--- stdout
git-update: [COMMIT] → [COMMIT]: 1 new commit on origin/main
  [COMMIT] Release good

"#]]
        .raw()
    );
    let done = away(&[&update[..], &["--json"]].concat()).run().expect(0);
    assert_documented("done", &done.json());
    assert_data_eq!(
        text(away(&update).run()),
        str![[r#"
exit code 0
--- stdout
git-update: nothing to do: no new commits on origin/main

"#]]
        .raw()
    );
    assert_data_eq!(
        text(away(&["git-update", "--repository", "/"]).run()),
        str![[r#"
exit code 4
--- stderr
Error: `/` is not the top of a Git checkout
Hint: set `site.repository` to the folder that holds `.git`

"#]]
        .raw()
    );
    let requirements = site.checkout.join("requirements/production.txt").display().to_string();
    let virtualenv = site.virtualenv.display().to_string();
    let install = ["pip-install", "--virtualenv", &virtualenv, "-r", &requirements];
    assert_data_eq!(
        text(away(&install).run()),
        str![[r#"
exit code 0
--- stdout
pip-install: nothing to do: the installed packages are the 5 that the requirements ask for

"#]]
        .raw()
    );
    let more = site.root.join("more.txt");
    let names = fs::read_to_string(&requirements).unwrap();
    fs::write(&more, format!("{names}\nhumanize\n").replace("-r ", &format!("-r {checkout}/requirements/")))
        .unwrap();
    let more = more.display().to_string();
    let install = ["pip-install", "--virtualenv", &virtualenv, "-r", &more, "--installer", "uv"];
    let own = support::tools().join("venv/bin").display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap());
    let with_uv = |args: &[&str]| away(&[&install[..], args].concat()).env("PATH", &path).run();
    assert_data_eq!(
        text(with_uv(&["--check"])),
        str![[r#"
exit code 0
--- stdout
pip-install: no packages → humanize [VERSION]: 1 package differs from the requirements
  + humanize [VERSION]

"#]]
        .raw()
    );
    assert_data_eq!(
        text(with_uv(&[])),
        str![[r#"
exit code 0
--- stdout
pip-install: no packages → humanize [VERSION]: 1 package differs from the requirements
  + humanize [VERSION]

"#]]
        .raw()
    );
    let python = site.virtualenv.join("bin/python");
    assert!(Command::new(python).args(["-c", "import humanize"]).status().unwrap().success());
}
