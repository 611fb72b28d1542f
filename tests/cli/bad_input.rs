//! What is wrong before anything begins: no configuration, a wrong one, no project, no terminal.

use std::fs;
use std::path::Path;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::run::{Cli, deploykit};

/// Returns what the binary says, with the directory named as `/here`.
fn said(directory: &Path, args: &[&str]) -> String {
    say(directory, deploykit(directory, args))
}

fn say(directory: &Path, cli: Cli) -> String {
    cli.run().text(None).replace(&directory.display().to_string(), "/here")
}

fn directory(config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    if !config.is_empty() {
        fs::write(directory.path().join("deploykit.toml"), config).unwrap();
    }
    directory
}

/// A configuration that is right as far as it goes.
const LEAST: &str = "\
[site]
settings = \"config.settings\"

[python]
virtualenv = \"venv\"
";

#[test]
fn no_configuration() {
    let directory = directory("");
    let here = directory.path();
    assert_data_eq!(
        said(here, &["plan"]),
        str![[r#"
exit code 3
--- stderr
Error: there is no `deploykit.toml` in `/here` or a directory above it
Hint: write one with `deploykit init`, or name it with `--config FILE`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["plan", "--json"]),
        str![[r#"
exit code 3
--- stdout
{
  "version": 1,
  "error": "there is no `deploykit.toml` in `/here` or a directory above it",
  "exit_code": 3,
  "tail": [],
  "hints": [
    "write one with `deploykit init`, or name it with `--config FILE`"
  ],
  "result": null
}
--- stderr
Error: there is no `deploykit.toml` in `/here` or a directory above it
Hint: write one with `deploykit init`, or name it with `--config FILE`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["status", "-c", "nowhere.toml"]),
        str![[r#"
exit code 3
--- stderr
Error: cannot read the configuration `nowhere.toml`: No such file or directory (os error 2)
Hint: `--config` names this file: correct the path, or write the file with `deploykit init -c nowhere.toml`

"#]]
        .raw()
    );
    assert_data_eq!(
        say(here, deploykit(here, &["status"]).env("DEPLOYKIT_CONFIG", "/nowhere.toml")),
        str![[r#"
exit code 3
--- stderr
Error: cannot read the configuration `/nowhere.toml`: No such file or directory (os error 2)
Hint: `DEPLOYKIT_CONFIG` names this file: correct the path, or write the file with `deploykit init -c /nowhere.toml`

"#]]
        .raw()
    );
}

#[test]
fn a_configuration_is_found_from_a_directory_below_it() {
    let directory = directory("nonsense = 1\n");
    let below = directory.path().join("project/app");
    fs::create_dir_all(&below).unwrap();
    let done = deploykit(&below, &["plan"]).run().expect(3);
    assert!(done.stderr.contains("deploykit.toml:1:1"), "{}", done.stderr);
}

#[test]
fn mistakes_of_a_configuration_are_shown_all_at_once() {
    let directory = directory(
        "\
environment = \"prod\"

[site]
project = \"../elsewhere\"

[git]
brnach = \"main\"
deadline = \"soon\"

[python]
virtualenv = 3
requirements = \"production.txt\"

[[services]]
name = \"gunicorn\"
manager = \"supervisord\"
role = \"web\"

[[services]]
name = \"gunicorn\"
manager = \"supervisor\"

[smoke]
pages = [\"about\"]

[staging]
required = true
",
    );
    let here = directory.path();
    assert_data_eq!(said(here, &["plan"]), str![[r#"
exit code 3
--- stderr
Error: the configuration has 12 mistakes
error: `environment`: `prod` is not one of `production`, `staging`, `development`
  --> /here/deploykit.toml:1:15
   |
 1 | environment = "prod"
   |               ^^^^^^
   |
error: `site.settings`: is missing: the site's DJANGO_SETTINGS_MODULE, such as "config.settings"
  --> /here/deploykit.toml:3:2
   |
 3 | [site]
   |  ^^^^
error: `site.project`: is not inside the repository `/here`
  --> /here/deploykit.toml:4:11
   |
 4 | project = "../elsewhere"
   |           ^^^^^^^^^^^^^^
error: `git.brnach`: unknown key; did you mean `branch`?
  --> /here/deploykit.toml:7:1
   |
 7 | brnach = "main"
   | ^^^^^^
error: `git.deadline`: `soon` is not a duration; write "30s", "20m", "1h 30m" or "7d"
  --> /here/deploykit.toml:8:12
   |
 8 | deadline = "soon"
   |            ^^^^^^
error: `python.virtualenv`: expected a string, found an integer
  --> /here/deploykit.toml:11:14
   |
11 | virtualenv = 3
   |              ^
error: `python.requirements`: expected an array of strings, found a string
  --> /here/deploykit.toml:12:16
   |
12 | requirements = "production.txt"
   |                ^^^^^^^^^^^^^^^^
error: `services[0].manager`: `supervisord` is not one of `supervisor`, `systemd`, `command`, `gunicorn`, `uwsgi`; did you mean `supervisor`?
  --> /here/deploykit.toml:16:11
   |
16 | manager = "supervisord"
   |           ^^^^^^^^^^^^^
error: `services[1].config`: is missing
  --> /here/deploykit.toml:19:1
   |
19 | [[services]]
   | ^^^^^^^^^^^^
error: `services[1].name`: there are two services named `gunicorn`
  --> /here/deploykit.toml:20:8
   |
20 | name = "gunicorn"
   |        ^^^^^^^^^^
error: `smoke.pages[0].path`: `about` does not start with `/`, `http://` or `https://`
  --> /here/deploykit.toml:24:10
   |
24 | pages = ["about"]
   |          ^^^^^^^
error: `staging`: unknown key
  --> /here/deploykit.toml:26:2
   |
26 | [staging]
   |  ^^^^^^^

"#]].raw());
    assert_data_eq!(said(here, &["plan", "--json"]), str![[r#"
exit code 3
--- stdout
{
  "version": 1,
  "error": "/here/deploykit.toml:1: `environment`: `prod` is not one of `production`, `staging`, `development`\n/here/deploykit.toml:3: `site.settings`: is missing: the site's DJANGO_SETTINGS_MODULE, such as \"config.settings\"\n/here/deploykit.toml:4: `site.project`: is not inside the repository `/here`\n/here/deploykit.toml:7: `git.brnach`: unknown key; did you mean `branch`?\n/here/deploykit.toml:8: `git.deadline`: `soon` is not a duration; write \"30s\", \"20m\", \"1h 30m\" or \"7d\"\n/here/deploykit.toml:11: `python.virtualenv`: expected a string, found an integer\n/here/deploykit.toml:12: `python.requirements`: expected an array of strings, found a string\n/here/deploykit.toml:16: `services[0].manager`: `supervisord` is not one of `supervisor`, `systemd`, `command`, `gunicorn`, `uwsgi`; did you mean `supervisor`?\n/here/deploykit.toml:19: `services[1].config`: is missing\n/here/deploykit.toml:20: `services[1].name`: there are two services named `gunicorn`\n/here/deploykit.toml:24: `smoke.pages[0].path`: `about` does not start with `/`, `http://` or `https://`\n/here/deploykit.toml:26: `staging`: unknown key",
  "exit_code": 3,
  "tail": [],
  "hints": [],
  "result": null
}
--- stderr
Error: the configuration has 12 mistakes
error: `environment`: `prod` is not one of `production`, `staging`, `development`
  --> /here/deploykit.toml:1:15
   |
 1 | environment = "prod"
   |               ^^^^^^
   |
error: `site.settings`: is missing: the site's DJANGO_SETTINGS_MODULE, such as "config.settings"
  --> /here/deploykit.toml:3:2
   |
 3 | [site]
   |  ^^^^
error: `site.project`: is not inside the repository `/here`
  --> /here/deploykit.toml:4:11
   |
 4 | project = "../elsewhere"
   |           ^^^^^^^^^^^^^^
error: `git.brnach`: unknown key; did you mean `branch`?
  --> /here/deploykit.toml:7:1
   |
 7 | brnach = "main"
   | ^^^^^^
error: `git.deadline`: `soon` is not a duration; write "30s", "20m", "1h 30m" or "7d"
  --> /here/deploykit.toml:8:12
   |
 8 | deadline = "soon"
   |            ^^^^^^
error: `python.virtualenv`: expected a string, found an integer
  --> /here/deploykit.toml:11:14
   |
11 | virtualenv = 3
   |              ^
error: `python.requirements`: expected an array of strings, found a string
  --> /here/deploykit.toml:12:16
   |
12 | requirements = "production.txt"
   |                ^^^^^^^^^^^^^^^^
error: `services[0].manager`: `supervisord` is not one of `supervisor`, `systemd`, `command`, `gunicorn`, `uwsgi`; did you mean `supervisor`?
  --> /here/deploykit.toml:16:11
   |
16 | manager = "supervisord"
   |           ^^^^^^^^^^^^^
error: `services[1].config`: is missing
  --> /here/deploykit.toml:19:1
   |
19 | [[services]]
   | ^^^^^^^^^^^^
error: `services[1].name`: there are two services named `gunicorn`
  --> /here/deploykit.toml:20:8
   |
20 | name = "gunicorn"
   |        ^^^^^^^^^^
error: `smoke.pages[0].path`: `about` does not start with `/`, `http://` or `https://`
  --> /here/deploykit.toml:24:10
   |
24 | pages = ["about"]
   |          ^^^^^^^
error: `staging`: unknown key
  --> /here/deploykit.toml:26:2
   |
26 | [staging]
   |  ^^^^^^^

"#]].raw());
    let colour = deploykit(here, &["plan", "--color", "always"]).run().expect(3);
    assert!(colour.stderr.contains("\u{1b}["), "{}", colour.stderr);
}

#[test]
fn one_mistake_is_one() {
    let directory = directory(
        "[site]\nsettings = \"config.settings\"\n[python]\nvirtualenv = \"venv\"\nvirtualenv = \"venv\"\n",
    );
    assert_data_eq!(
        said(directory.path(), &["plan"]),
        str![[r#"
exit code 3
--- stderr
Error: the configuration has a mistake
error: duplicate key
 --> /here/deploykit.toml:5:1
  |
5 | virtualenv = "venv"
  | ^^^^^^^^^^

"#]]
        .raw()
    );
}

#[test]
fn the_environment_s_name_is_one_of_three() {
    let directory = directory(LEAST);
    let here = directory.path();
    assert_data_eq!(
        said(here, &["-e", "prodution", "plan"]),
        str![[r#"
exit code 2
--- stderr
error: invalid value 'prodution' for '--environment <NAME>'
  [possible values: production, staging, development]

  tip: a similar value exists: 'production'

For more information, try '--help'.

"#]]
        .raw()
    );
    assert_eq!(
        said(here, &["-e", "prodution", "plan"]),
        say(here, deploykit(here, &["plan"]).env("DEPLOYKIT_ENVIRONMENT", "prodution"))
    );
}

#[test]
fn a_directory_that_is_no_checkout() {
    let directory = directory(LEAST);
    let here = directory.path();
    assert_data_eq!(
        said(here, &["plan"]),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✗ fetch [S] s

Error: step `fetch` failed: `/here` is not the top of a Git checkout
Nothing was changed on the site.
Hint: set `site.repository` to the directory that holds `.git`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["update"]),
        str![[r#"
exit code 4
--- stderr
Error: there is no terminal to ask for confirmation on
Hint: confirm with `-y`, or look first with `deploykit plan`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["manage", "--", "check"]),
        str![[r#"
exit code 4
--- stderr
Error: command not found: `/here/venv/bin/python`
Hint: set `python.virtualenv` to the directory that holds `pyvenv.cfg`

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["smoke-check"]),
        str![[r#"
exit code 2
--- stderr
Error: there is nothing to check
Hint: name an address, or set `smoke.pages` in the configuration

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["secrets", "set", "NAME"]),
        str![[r#"
exit code 3
--- stderr
Error: the configuration names no secrets file
Hint: set `file` in [secrets]

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["pip-install"]),
        str![[r#"
exit code 2
--- stderr
Error: there are no requirements to install
Hint: name a file with `-r requirements.txt` or `--lock uv.lock`, or set `python.requirements` or `python.lock` in the configuration

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["logs", "gunicorn"]),
        str![[r#"
exit code 2
--- stderr
Error: there are no logs named `gunicorn`; there are: none
Hint: add the file to [logs] in the configuration

"#]]
        .raw()
    );
    assert_data_eq!(
        said(here, &["init"]),
        str![[r#"
exit code 4
--- stderr
Error: `/here` is not inside a git checkout
Hint: go to the site's checkout, or name it: `deploykit init DIRECTORY`

"#]]
        .raw()
    );
    assert!(!here.join(".deploykit/runs").read_dir().is_ok_and(|mut runs| runs.next().is_some()));
}

#[test]
fn a_command_needs_only_the_keys_that_it_uses() {
    let directory = directory("[secrets]\nfile = \"secrets.json\"\n");
    let here = directory.path();
    for args in [&["history"][..], &["logs"], &["services", "status"]] {
        let done = deploykit(here, args).run();
        assert!(done.code != Some(3) && !done.stderr.contains("is missing"), "{args:?}: {}", done.stderr);
    }
    deploykit(here, &["secrets", "set", "NAME"]).input("value\n").run().expect(0);
    let missing = |args: &[&str]| -> Vec<&str> {
        let done = deploykit(here, args).run().expect(3);
        ["site.settings", "python.virtualenv"]
            .into_iter()
            .filter(|key| done.stderr.contains(&format!("`{key}`: is missing")))
            .collect()
    };
    assert_eq!(missing(&["pip-install"]), ["python.virtualenv"]);
    for args in [&["plan"][..], &["env"], &["manage", "--", "check"], &["maintenance", "on"]] {
        assert_eq!(missing(args), ["site.settings", "python.virtualenv"], "{args:?}");
    }
}
