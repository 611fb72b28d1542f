//! The help of every command.

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

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
    assert_data_eq!(
        text,
        str![[r#"
===== init
Inspect the site here and write deploykit.toml

Usage: deploykit init [OPTIONS] [DIRECTORY]

Arguments:
  [DIRECTORY]  The directory to look at [default: .]

Options:
      --print       Print the configuration instead of writing it
      --check       Compare the existing configuration with the site, and change nothing
      --exit-code   With --check: exit with 10 when something differs
      --files-only  Read files only: boot no Django, query no service, request no page
  -h, --help        Print help

===== adopt
Make the state of a copied, moved or restored site this one's

Usage: deploykit adopt [OPTIONS]

Options:
      --abandon  Also set aside an unfinished run; make sure first that the site works
  -h, --help     Print help

===== plan
Show what an update would do, and why; the live site stays untouched

Usage: deploykit plan [OPTIONS] [REVISION]

Arguments:
  [REVISION]  A commit, tag or branch; default: the tip of the configured branch

Options:
      --broken            Go on although no page is as expected: this update fixes them
      --clear             Collect all static files, and remove everything else from STATIC_ROOT
      --look              Prepare completely, even when nothing seems to have changed
      --no-rehearsal      Leave out the rehearsal on copies of the databases
      --exit-code         Exit with 10 when an update is available
      --lock-wait <TIME>  Wait at most this long for another run to end, such as 15m
  -h, --help              Print help

===== update
Update the site

Usage: deploykit update [OPTIONS] [REVISION]

Arguments:
  [REVISION]  A commit, tag or branch; default: the tip of the configured branch

Options:
      --clear             Collect all static files, and remove everything else from STATIC_ROOT
      --look              Prepare completely, even when nothing seems to have changed
      --until <POINT>     Pause when the run has come so far: prepared, stopped, placed, migrated or
                          started
      --continue          Let the paused run go on, to its end or to --until
      --digest <DIGEST>   With --continue: refuse unless the plan has this digest, which a pause
                          shows with --json
      --at <HH:MM>        Start the maintenance at this time, in the site's time zone
      --in <TIME>         Start the maintenance after this time, such as 20m
      --now               Start at once, without the configured notice
      --message <TEXT>    The message for users
      --broken            Go on although no page is as expected: this update fixes them
      --no-rehearsal      Leave out the rehearsal on copies of the databases
  -y, --yes               Do not ask for confirmation
      --lock-wait <TIME>  Wait at most this long for another run to end, such as 15m
      --events <FILE>     Append every event to this file, one JSON object per line
  -h, --help              Print help

===== recover
Roll back an unfinished update, or complete it

Usage: deploykit recover [OPTIONS]

Options:
      --back     Roll back the unfinished update; the default
      --forward  Complete the unfinished update; roll back only when a step or the smoke check fails
  -y, --yes      Accepted for scripts: `recover` never asks for confirmation
  -h, --help     Print help

===== rollback
Roll back the last finished update

Usage: deploykit rollback [OPTIONS] [RUN]

Arguments:
  [RUN]  The update, as `history` names it; refused unless it is the last finished one

Options:
      --from-copy         Restore the copy of the database from before the update; what was written
                          since is lost
      --at <HH:MM>        Start the maintenance at this time, in the site's time zone
      --in <TIME>         Start the maintenance after this time, such as 20m
      --now               Start at once, without the configured notice
      --message <TEXT>    The message for users
      --broken            Go on although no page is as expected: this update fixes them
      --no-rehearsal      Leave out the rehearsal on copies of the databases
  -y, --yes               Do not ask for confirmation
      --lock-wait <TIME>  Wait at most this long for another run to end, such as 15m
      --events <FILE>     Append every event to this file, one JSON object per line
  -h, --help              Print help

===== status
Show the version, services, maintenance, and a running or unfinished update

Usage: deploykit status [OPTIONS]

Options:
      --follow  Show the running update until it ends
  -h, --help    Print help

===== history
List the past updates

Usage: deploykit history [OPTIONS]

Options:
  -n, --lines <LINES>  Number of runs, newest first [default: 20]
  -h, --help           Print help

===== report
Show the report of a past run

Usage: deploykit report [OPTIONS] [RUN]

Arguments:
  [RUN]  The run, as `history` names it; default: the last one

Options:
  -h, --help  Print help

===== maintenance on
Announce maintenance

Usage: deploykit maintenance on [OPTIONS]

Options:
      --at <HH:MM>      Start at this time, in the site's time zone
      --in <TIME>       Start after this time; default: the configured notice
      --now             Start at once
      --message <TEXT>  The message for users
      --page [<FILE>]   Show the page as well; with FILE only that page, and no configuration is
                        needed
      --check           Show what would change, and change nothing
      --exit-code       With --check: exit with 10 when something would change
  -h, --help            Print help

===== maintenance off
End maintenance: the announcement and the page

Usage: deploykit maintenance off [OPTIONS]

Options:
      --page <FILE>  Only this page; no configuration is needed then
      --check        Show what would change, and change nothing
      --exit-code    With --check: exit with 10 when something would change
  -h, --help         Print help

===== maintenance
Announce maintenance, end it, or show whether it is on

Usage: deploykit maintenance [OPTIONS] <COMMAND>

Commands:
  on      Announce maintenance
  off     End maintenance: the announcement and the page
  status  Show whether maintenance is on
  help    Print this message or the help of the given subcommand(s)

Options:
  -h, --help  Print help

===== services
Stop or start services and wait for them, or show their status

Usage: deploykit services [OPTIONS] <COMMAND>

Commands:
  stop     Stop services and wait until all their processes have ended
  start    Start services and wait until they stay up
  restart  Stop and start services
  status   Show the status of services
  hold     Show or make the change after which a service's listening socket is held
  help     Print this message or the help of the given subcommand(s)

Options:
  -h, --help  Print help

===== services stop
Stop services and wait until all their processes have ended

Usage: deploykit services stop [OPTIONS] [NAME]...

Arguments:
  [NAME]...  Their names; default: all

Options:
      --manager <MANAGER>         What manages the service; no configuration is needed then
                                  [possible values: supervisor, systemd, command, gunicorn, uwsgi]
      --supervisor-config <FILE>  supervisor: supervisord's configuration file (`--config` names
                                  deploykit's)
      --user                      systemd: the unit is one of `systemctl --user`
      --pidfile <FILE>            gunicorn, uwsgi: its pidfile
      --start <COMMAND>           gunicorn, uwsgi, command: the command that starts it and returns
      --stop <COMMAND>            command: the command that stops the service
      --status <COMMAND>          command: the command that exits with 0 while the service runs
      --check                     Show what would change, and change nothing
      --exit-code                 With --check: exit with 10 when something would change
  -h, --help                      Print help

===== git-update
Update the checkout to the newest commit

Usage: deploykit git-update [OPTIONS] [REVISION]

Arguments:
  [REVISION]  A commit, tag or branch; default: the tip of the branch

Options:
      --repository <DIRECTORY>  The checkout; no configuration is needed then
      --branch <NAME>           The branch
      --remote <NAME>           The remote
      --keep-changes            Keep local changes that nothing collides with
      --rebase                  Rebase local commits
      --check                   Show what would change, and change nothing
      --exit-code               With --check: exit with 10 when something would change
  -h, --help                    Print help

===== pip-install
Update the virtualenv to match the requirements or a lock file

Usage: deploykit pip-install [OPTIONS]

Options:
      --virtualenv <DIRECTORY>  The virtualenv; no configuration is needed then; default without
                                one: $VIRTUAL_ENV
  -r, --requirement <FILE>      A requirements file; may be given several times
      --lock <FILE>             A lock file instead: uv.lock, poetry.lock, pdm.lock, Pipfile.lock,
                                pylock.toml
      --group <NAME>            A dependency group of the lock; may be given several times
      --extra <NAME>            An extra of the project; may be given several times
      --installer <NAME>        pip, uv or auto [possible values: auto, pip, uv]
      --python <PYTHON>         The Python to build with: a version, or the path of an interpreter
      --in-place                Change the packages in the virtualenv instead of linking a new one
      --check                   Show what would change, and change nothing
      --exit-code               With --check: exit with 10 when something would change
  -h, --help                    Print help (see more with '--help')

===== manage
Run a manage.py command with the site's variables

Usage: deploykit manage [OPTIONS] -- <ARGS>...

Arguments:
  <ARGS>...  The command and its arguments

Options:
      --project <DIRECTORY>     The directory of manage.py; no configuration is needed then
      --virtualenv <DIRECTORY>  The virtualenv of the project
      --settings <MODULE>       DJANGO_SETTINGS_MODULE; default: what manage.py says
  -h, --help                    Print help

===== smoke-check
Request pages and check the answers

Usage: deploykit smoke-check [OPTIONS] [URL]...

Arguments:
  [URL]...  Addresses, or paths below the base; default: the configured pages

Options:
      --base <URL>         The address that paths belong to; no configuration is needed then
      --contains <TEXT>    A text that every page must contain
      --lacks <TEXT>       A text that no page may contain
      --status <CODE>      The expected status of every page
      --redirect <URL>     The expected redirect of every page
      --within <TIME>      Maximum response time per page, such as 2s
      --connect <ADDRESS>  Connect there instead: HOST:PORT, unix:/PATH, uwsgi:HOST:PORT
      --ca <FILE>          A PEM file with the certificate of a private CA
      --deadline <TIME>    Repeat failing requests for at most this long, such as 60s
  -h, --help               Print help

===== secrets
Compare the secrets with what the code asks for, or set one

Usage: deploykit secrets [OPTIONS] <COMMAND>

Commands:
  check  List the secrets that the code asks for and the file lacks
  set    Ask for a value without showing it, or read it from a pipe, and store it
  help   Print this message or the help of the given subcommand(s)

Options:
  -h, --help  Print help

===== secrets check
List the secrets that the code asks for and the file lacks

Usage: deploykit secrets check [OPTIONS] [REVISION]

Arguments:
  [REVISION]  A commit, tag or branch that was fetched; default: the live code

Options:
      --file <FILE>             The secrets file; no configuration is needed then
      --pattern <REGEX>         A regular expression whose first group is a name; default:
                                get_secret("NAME")
      --repository <DIRECTORY>  The checkout; default: the current directory
  -h, --help                    Print help

===== secrets set
Ask for a value without showing it, or read it from a pipe, and store it

Usage: deploykit secrets set [OPTIONS] <NAME>

Arguments:
  <NAME>  The name

Options:
  -h, --help  Print help

===== logs
Show the last lines of the services' logs

Usage: deploykit logs [OPTIONS] [NAME]

Arguments:
  [NAME]  A service, or a name of [logs]; default: all

Options:
  -n, --lines <LINES>  Number of lines per log [default: 20]
  -h, --help           Print help

===== env
Print the site's variables for a shell: eval "$(deploykit env)"

Usage: deploykit env [OPTIONS]

Options:
  -h, --help  Print help

===== docs
Describe the keys of deploykit.toml

Usage: deploykit docs [OPTIONS] [KEY]

Arguments:
  [KEY]  A key or section, such as git.branch, branch or git; default: all

Options:
  -h, --help  Print help

===== completions
Print completions for a shell

Usage: deploykit completions [OPTIONS] <SHELL>

Arguments:
  <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

Options:
  -h, --help  Print help


"#]]
        .raw()
    );
}
