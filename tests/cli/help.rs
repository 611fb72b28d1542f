//! The help of every command.

use snapbox::prelude::*;
use snapbox::{Data, assert_data_eq, str};

use crate::run::deploykit;
use crate::support::root;

const REFERENCE_HEAD: &str = "\
# Commands

`deploykit help COMMAND` shows the same in the terminal. The global options work with every command.
";

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
  doctor       Check whether the site is ready for an update, and what would shorten its window
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

/// Returns the help of a command without what is the same for all.
fn own_help(command: &[&str]) -> String {
    let text = deploykit("/", &[command, &["--help"]].concat()).run().expect(0).stdout;
    let paragraphs = text.trim_end().split("\n\n").filter(|text| !text.starts_with("Global options:"));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Adds the help of a command and of those below it.
fn describe(command: &[&str], to: &mut String) {
    let text = own_help(command);
    if !command.is_empty() {
        let level = "#".repeat(command.len() + 1);
        to.push_str(&format!("\n{level} deploykit {}\n\n```text\n{text}\n```\n", command.join(" ")));
    }
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return };
    let names = list.lines().map_while(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        describe(&[command, &[name]].concat(), to);
    }
}

#[test]
fn every_command_is_in_the_reference() {
    let mut text = REFERENCE_HEAD.to_owned();
    let all = deploykit("/", &["--help"]).run().expect(0).stdout;
    text.push_str(&format!("\n```text\n{}\n```\n", all.trim_end()));
    describe(&[], &mut text);
    assert!(text.matches("\nUsage: ").count() > 30, "{text}");
    let wide = text.lines().find(|line| !line.starts_with('#') && line.chars().count() > 100);
    assert_eq!(wide, None);
    assert_data_eq!(text, Data::read_from(&root().join("docs/commands.md"), None).raw());
}

#[test]
fn every_exit_code_is_described() {
    let help = deploykit("/", &["--help"]).run().expect(0).stdout;
    let (_, codes) = help.split_once("\nExit codes:\n").unwrap();
    let codes: Vec<_> = codes.lines().filter_map(|line| line.trim().split_once("  ")).collect();
    let page = std::fs::read_to_string(root().join("docs/exit-codes.md")).unwrap();
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect();
    let described = rows.iter().filter(|(code, _)| code.parse::<u8>().is_ok());
    let described: Vec<_> =
        described.map(|(code, rest)| (*code, rest.split(" | ").next().unwrap())).collect();
    assert_eq!(described, codes);
}
