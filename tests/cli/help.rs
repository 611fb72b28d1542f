//! The help of every command.

use snapbox::prelude::*;
use snapbox::{assert_data_eq, file, str};

use crate::run::deploykit;

fn help(args: &[&str]) -> String {
    deploykit("/", args).run().expect(0).text(None)
}

#[test]
fn the_help_names_every_command_and_every_exit_code() {
    assert_data_eq!(
        help(&["--help"]),
        str![[r#"
exit code 0
--- stdout
Updates a Django site on its own server, and rolls back when a step fails

Usage: deploykit [OPTIONS] <COMMAND>

Commands:
  init         Inspect the site here and write deploykit.toml
  adopt        Make the state of a copied, moved or restored site this one's
  plan         Show what an update would do, and why; the live site stays untouched
  rehearse     Prepare an update and rehearse it on copies of the databases
  update       Update the site
  recover      Roll back an unfinished update, or complete it
  rollback     Roll back the last finished update
  status       Show the version, services, maintenance, and a running or unfinished update
  history      List the past updates
  report       Show the report of a past run
  maintenance  Announce maintenance, end it, or show whether it is on
  services     Stop or start services and wait for them, or show their status
  git-update   Update the checkout to the newest commit
  pip-install  Update the virtualenv to match the requirements or a lock file
  manage       Run a manage.py command with the site's variables
  exec         Run a command, such as a cron job, once no update is running
  hold-socket  Keep a listening socket open, and a server running that serves there
  smoke-check  Request pages and check the answers
  secrets      Compare the secrets with what the code asks for, or set one
  logs         Show the last lines of the services' logs
  env          Print the site's variables for a shell: eval "$(deploykit env)"
  docs         Describe the keys of deploykit.toml
  completions  Print completions for a shell
  man          Print a manual page, or write all of them: deploykit man update | man -l -
  help         Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version

Global options:
  -c, --config <FILE>       The configuration; default: deploykit.toml here or in a directory above
                            [env: DEPLOYKIT_CONFIG=]
  -e, --environment <NAME>  Override the environment; default: the one in the configuration [env:
                            DEPLOYKIT_ENVIRONMENT=] [possible values: production, staging,
                            development]
      --json                Print one JSON document on the standard output
  -q, --quiet               Print errors only
  -v, --verbose...          Print more; twice: every command
      --color <WHEN>        When to use colour [default: auto] [possible values: auto, always,
                            never]

Exit codes:
  0  done, or nothing to do
  1  unexpected error; or updated, but a step after `finish` failed
  2  usage error
  3  configuration error
  4  refused, or failed before anything was changed
  5  failed and rolled back: the previous version serves
  6  failed and held in maintenance: a person is needed
  7  interrupted: run `deploykit recover`
 10  an update is available (`plan --exit-code`), or something would change (`--check --exit-code`)

"#]]
        .raw()
    );
    assert_eq!(deploykit("/", &["help"]).run().expect(0).stdout, deploykit("/", &["--help"]).run().stdout);
}

#[test]
fn every_command_has_a_help() {
    let pages = [
        "init",
        "adopt",
        "plan",
        "update",
        "recover",
        "rollback",
        "status",
        "history",
        "report",
        "maintenance on",
        "maintenance off",
        "maintenance",
        "services",
        "services stop",
        "git-update",
        "pip-install",
        "manage",
        "smoke-check",
        "secrets",
        "secrets check",
        "secrets set",
        "logs",
        "env",
        "docs",
        "completions",
        "man",
    ];
    let mut text = String::new();
    for page in pages {
        let mut args: Vec<&str> = page.split(' ').collect();
        args.push("-h");
        let page_text = help(&args);
        // What is the same on every page is in the first one.
        let own = page_text
            .split("\nGlobal options:")
            .next()
            .unwrap()
            .trim_start_matches("exit code 0\n--- stdout\n");
        text.push_str(&format!("===== {page}\n{own}\n"));
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_data_eq!(text, file!["help.txt"].raw());
}
