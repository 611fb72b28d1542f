//! What others wrote is shown as it is, and does nothing to the terminal.

use std::fs;

use crate::run::{Done, deploykit};
use crate::support::git::{Repositories, git};

/// Sets the clipboard; goes back to the start of the line and writes over it.
const CLIPBOARD: &str = "\u{1b}]52;c;ZXZpbA==\u{7}";
const OVER: &str = "\u{1b}[2K\r  harmless";

#[track_caller]
fn shows(done: &Done, text: &str) {
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains(text), "{text}:\n{said}");
    let hidden = |c: char| c.is_control() && !"\n\t".contains(c) || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!said.contains(hidden), "{said:?}");
}

#[test]
fn are_made_visible_wherever_they_come_from() {
    let repositories = Repositories::new(&[("a.py", "a = 1\n")]);
    let live = repositories.live.to_str().unwrap();
    let update = |args: &[&str]| {
        let command = ["git-update", "--branch", "main", "--repository", live];
        deploykit(repositories.directory.path(), &[&command[..], args].concat())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .run()
    };
    // The subject of a commit.
    let name = format!("evil{CLIPBOARD}\u{202e}");
    repositories.publish(&format!("fix{OVER}"), &[("a.py", "a = 2\n"), (&name, "x")]);
    let check = update(&["--check"]).expect(0);
    shows(&check, r"fix\x1b[2K\r  harmless");
    assert!(
        update(&["--check", "--json"]).expect(0).stdout.contains(r"fix\u001b[2K\r  harmless"),
        "JSON is exact"
    );
    // The name of a file that is in the way.
    repositories.write(&name, "y");
    shows(&update(&[]).expect(4), r"evil\x1b]52;c;ZXZpbA==\x07\u{202e}");
    fs::remove_file(repositories.live.join(&name)).unwrap();
    // What a remote says.
    let pack = repositories.directory.path().join("upload-pack");
    fs::write(&pack, format!("#!/bin/sh\nprintf '%s\\n' '{CLIPBOARD} no entry' >&2\nexit 1\n")).unwrap();
    let program = format!("sh {}", pack.display());
    git(&repositories.live, &["config", "remote.origin.uploadpack", &program]);
    shows(&update(&[]).expect(4), r"\x1b]52;c;ZXZpbA==\x07 no entry");
    // With its command, as a log line.
    shows(&update(&["-vv"]).expect(4), r"\x1b]52;c;ZXZpbA==\x07 no entry");
}

#[test]
fn of_logs_and_configurations_are_made_visible_and_our_own_colours_stay() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let config = "[site]\nsettings = \"x\"\n[python]\nvirtualenv = \"/usr\"\n[logs]\nweb = \"log\"\n";
    write("log", &format!("Not Found: /{CLIPBOARD}\tb\r\n"));
    write("deploykit.toml", config);
    let logs = deploykit(directory.path(), &["logs", "web"]).run().expect(0);
    shows(&logs, "Not Found: /\\x1b]52;c;ZXZpbA==\\x07\tb\n");
    let logs = deploykit(directory.path(), &["logs", "web", "--color", "always"]).run().expect(0);
    assert!(logs.stdout.starts_with("\u{1b}[2m--- web"), "{:?}", logs.stdout);
    assert!(logs.stdout.contains(r"Not Found: /\x1b]52"), "{:?}", logs.stdout);
    // A mistake is shown with its line.
    write("deploykit.toml", &format!("{config}# {CLIPBOARD}\nkeep = \"{CLIPBOARD}\u{202e}\"\n"));
    for arguments in [&["status"][..], &["status", "--color", "always"]] {
        let refused = deploykit(directory.path(), arguments).run().expect(3);
        assert!(!refused.stderr.contains(['\u{7}', '\u{202e}']), "{:?}", refused.stderr);
        assert!(!refused.stderr.contains("\u{1b}]"), "{:?}", refused.stderr);
    }
}
