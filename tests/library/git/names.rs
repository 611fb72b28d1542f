//! Names of files are bytes: no UTF-8, no lines, like options.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::support::git::files_below;

const NAMES: [&[u8]; 8] = [
    b"caf\xe9.py",
    b"line\nbreak.py",
    b"tab\t.py",
    b"-rf",
    b" in space ",
    b"\"quoted\\.py",
    b"d\xefr/\xff.py",
    b"cr\r.py",
];

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Changes all of them but the first, which goes, and brings more.
fn odd() -> Repositories {
    let repositories = Repositories::new(FILES);
    let developer = &repositories.developer;
    let publish = |subject: &str, names: &[&[u8]], text: &str| {
        for name in names {
            write(&developer.join(path(name)), text);
        }
        git(developer, &["add", "-A"]);
        repositories.publish(subject, &[]);
    };
    publish("odd", &NAMES, "one\n");
    git(&repositories.live, &["pull", "-q", "origin", "main"]);
    fs::remove_file(developer.join(path(NAMES[0]))).unwrap();
    publish("odd again", &NAMES[1..], "two, and longer\n");
    publish("more", &[b"n\xe9w\n.py", b"new\xff/-x"], "new\n");
    repositories
}

#[test]
fn files_come_and_go_whatever_their_names_are() {
    let repositories = odd();
    repositories.write("note.txt", "mine\n");
    write(&repositories.live.join(path(b"m\xefne/\xe9\n")), "mine, too\n");
    let mut update = keeping(&repositories);
    let there = plan_move(&update);
    there_and_back(&repositories, &update);
    perform(&there.checkout.reverse());
    let journalled = serde_json::to_string(&there).unwrap();
    assert_eq!(serde_json::from_str::<deploykit::operations::git_update::Move>(&journalled).unwrap(), there);

    // The staged tree sees what the live one has.
    let next = repositories.directory.path().join("next");
    let tree = StagedTree::prepare(&Host::new(), &repositories.live, &next, there.to(), &[], None).unwrap();
    for name in [&b"m\xefne/\xe9\n"[..], b"n\xe9w\n.py", b"new\xff/-x"] {
        assert!(next.join(path(name)).exists(), "{name:?}");
    }
    tree.remove(&Host::new()).unwrap();

    // Edits and files in the way are seen under such names, and named.
    write(&repositories.live.join(path(NAMES[1])), "edited\n");
    update.local_changes = LocalChanges::Refuse;
    assert!(
        matches!(refusal(&update), GitError::LocalChanges { changes, .. } if changes[0].path == path(NAMES[1]))
    );
    git(&repositories.live, &["checkout", "-q", "--", "."]);
    write(&repositories.live.join(path(b"new\xff/-x")), "in the way\n");
    let error = refusal(&update);
    assert_eq!(error.to_string(), "the update would overwrite 1 file: `new\\xff/-x` (untracked)");
}

#[test]
fn half_a_checkout_is_taken_back_whatever_the_names_are() {
    let repositories = odd();
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    let live = |name: &[u8]| repositories.live.join(path(name));
    // Written by git, truncated, removed; a new one, and a part of one.
    write(&live(NAMES[1]), "two, and longer\n");
    write(&live(NAMES[2]), "two,");
    write(&live(NAMES[6]), "two, and longer\n");
    fs::remove_file(live(NAMES[0])).unwrap();
    write(&live(b"n\xe9w\n.py"), "new\n");
    write(&live(b"new\xff/-x"), "n");
    write(&repositories.live.join(".git/index.lock"), "half");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);

    // Work in the way of the way back is kept under its name.
    let kept = || git(&repositories.live, &["for-each-ref", "--format=%(refname)", "refs/deploykit/kept"]);
    let earlier = kept();
    perform(&there.checkout);
    write(&live(NAMES[1]), "edited meanwhile\n");
    write(&live(NAMES[7]), "edited, too\n");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
    let kept = kept();
    let kept = kept.lines().find(|name| !earlier.contains(name)).expect("a commit");
    git(&repositories.live, &["checkout", "-q", "--detach", kept]);
    let files = files_below(&repositories.live);
    let text = |name: &[u8]| files[path(name)].as_str();
    assert!(text(NAMES[1]).ends_with("edited meanwhile\n") && text(NAMES[7]).ends_with("edited, too\n"));
}
