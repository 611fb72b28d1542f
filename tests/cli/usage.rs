//! The version, wrong arguments, completions: what is there without a site.

use std::io::Write;
use std::process::{Command, Stdio};

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::deploykit;
use crate::support;

#[test]
fn the_version_is_the_package_s() {
    let done = deploykit("/", &["--version"]).run().expect(0);
    assert_eq!(done.stdout, format!("deploykit {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(done.stderr, "");
}

#[test]
fn usage_errors_are_exit_code_2_and_a_document_too() {
    let nothing = deploykit("/", &[]).run().expect(2);
    assert_eq!((nothing.stdout, nothing.stderr), (String::new(), deploykit("/", &["--help"]).run().stdout));
    assert_data_eq!(
        deploykit("/", &["updaet"]).run().expect(2).text(None),
        str![[r#"
exit code 2
--- stderr
error: unrecognized subcommand 'updaet'

  tip: a similar subcommand exists: 'update'

Usage: deploykit [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]
        .raw()
    );
    let done = deploykit("/", &["update", "--at", "25:00", "--json"]).run().expect(2);
    assert_eq!(done.json()["exit_code"], 2);
    assert_data_eq!(
        done.stderr,
        str![[r#"
error: invalid value '25:00' for '--at <HH:MM>': there is no such time of day

For more information, try '--help'.

"#]]
        .raw()
    );
    deploykit("/", &["update", "--at", "18:30", "--in", "20m"]).run().expect(2);
    deploykit("/", &["update", "--in", "soon"]).run().expect(2);
    deploykit("/", &["plan", "-q", "-v"]).run().expect(2);
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = deploykit("/", &["completions", shell]).run().expect(0).stdout;
        assert!(script.contains("smoke-check"), "{script}");
        let Some(program) = support::program(shell) else { return };
        let mut check = Command::new(program).arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        check.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(check.wait().unwrap().success(), "{shell}");
    }
    deploykit("/", &["completions", "tcsh"]).run().expect(2);
}

#[test]
fn man_prints_the_page_of_a_command_or_writes_all_pages() {
    let page = deploykit("/", &["man"]).run().expect(0).stdout;
    assert!(page.contains("deploykit\\-secrets(1)"), "{page}");
    assert!(page.contains("\n.SH \"EXIT STATUS\"\nExit codes:\n  0  done, or nothing to do\n"), "{page}");
    assert!(!page.contains("EXTRA"), "{page}");
    let pages = tempfile::tempdir().unwrap();
    deploykit(pages.path(), &["man", "--directory", "new/man1"]).run().expect(0);
    let pages = pages.path().join("new/man1");
    let written = std::fs::read_dir(&pages).unwrap().count();
    assert!(written > 30, "{written} pages");
    for (words, file) in [
        (["man", "update"].as_slice(), "deploykit-update.1"),
        (&["man", "secrets", "set"], "deploykit-secrets-set.1"),
    ] {
        let page = deploykit("/", words).run().expect(0).stdout;
        assert!(page.contains("\n.SH SYNOPSIS\n"), "{page}");
        assert_eq!(std::fs::read_to_string(pages.join(file)).unwrap(), page);
    }
    assert_data_eq!(
        deploykit("/", &["man", "secrets", "unset"]).run().expect(2).stderr,
        str![[r#"
Error: there is no command `secrets unset`
Hint: list all commands: `deploykit help`

"#]]
        .raw()
    );
    deploykit("/", &["man", "--directory", "/dev/null/man"]).run().expect(1);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    drop(read);
    let done = deploykit("/", &["completions", "bash"]).stdout(write).run();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_not_passed_over() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = deploykit("/", &["completions", "bash"]).stdout(full).run().expect(1);
    assert_data_eq!(
        done.stderr,
        str![[r#"
Error: cannot write to the standard output: No space left on device (os error 28)

"#]]
        .raw()
    );
}

#[test]
fn docs_describe_keys_and_sections() {
    assert_data_eq!(
        deploykit("/", &["docs", "git.local-changes"]).run().expect(0).text(None),
        str![[r#"
exit code 0
--- stdout
# The remote and the branch of new versions, and what may be in the checkout.
[git]
# What an update does if the checkout has local changes, including those hidden by
# `assume-unchanged` or `skip-worktree`. `keep` keeps the changes that do not conflict with the
# update.
# Type: `"refuse"` or `"keep"`. Default: `"refuse"`; development: `"keep"`.
local-changes = "refuse"

"#]]
        .raw()
    );
    let example = std::fs::read_to_string(support::root().join("examples/deploykit.toml")).unwrap();
    let all = deploykit("/", &["docs"]).run().expect(0).stdout;
    assert!(example.ends_with(&format!("\n\n{all}")), "{all}");
    let done = deploykit("/", &["docs", "git", "--json"]).run().expect(0);
    assert_documented("docs", &done.json());
}

#[test]
fn docs_suggest_a_key() {
    assert_data_eq!(
        deploykit("/", &["docs", "git.brnch"]).run().expect(2).stderr,
        str![[r#"
Error: there is no key or section `git.brnch`
Hint: did you mean `git.branch`?

"#]]
        .raw()
    );
    assert_data_eq!(
        deploykit("/", &["docs", "wholly-unlike-anything"]).run().expect(2).stderr,
        str![[r#"
Error: there is no key or section `wholly-unlike-anything`
Hint: list all keys: `deploykit docs`

"#]]
        .raw()
    );
}
