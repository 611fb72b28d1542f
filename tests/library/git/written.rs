//! What the new version's code writes into the staged tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use deploykit::internal::git::{CarryWritten, Written};

use super::*;
use crate::support::disk::Disk;

/// A live checkout with a staged tree.
struct Staged {
    repositories: Repositories,
    tree: StagedTree,
}

impl Staged {
    fn new() -> Self {
        let repositories = Repositories::new(FILES);
        let live = repositories.live.clone();
        let ignored = "/.deploykit/\n/secret.key\n/logs/\n/data/*\n!/data/code.py\n/dist/\n";
        write(&live.join(".git/info/exclude"), ignored);
        repositories.write("local.py", "LOCAL = 1\n");
        repositories.write("data/one", "one");
        repositories.write("data/two", "two");
        let commit = repositories.publish("second", &[("data/code.py", "code = 1\n")]);
        perform(&plan_move(&repositories.update()).checkout);
        let path = repositories.directory.path().canonicalize().unwrap().join(".live.next");
        let tree = StagedTree::prepare(&Host::new(), &live, &path, &commit, &[], None).unwrap();
        Staged { repositories, tree }
    }

    fn stage(&self, path: impl AsRef<Path>, text: &str) {
        write(&self.tree.path.join(path), text);
    }

    fn find(&self) -> Written {
        Written::find(&Host::new(), &self.tree, &["dist".into()], &[]).unwrap()
    }

    fn carry(&self) -> CarryWritten {
        let record = self.repositories.live.join(".deploykit/written.json");
        fs::create_dir_all(record.parent().unwrap()).unwrap();
        let (tree, excluded) = (self.tree.clone(), vec![PathBuf::from("dist")]);
        CarryWritten { tree, record, looks: true, excluded, awaited: Vec::new() }
    }

    /// The live checkout without deploykit's own.
    fn live(&self) -> std::collections::BTreeMap<PathBuf, String> {
        let mut files = files_below(&self.repositories.live);
        files.retain(|path, _| !path.starts_with(".deploykit"));
        files
    }
}

#[test]
fn what_is_new_goes_live_and_comes_out_again() {
    let staged = Staged::new();
    let before = staged.live();
    assert!(staged.find().is_empty(), "a fresh tree has links and copies only");
    staged.stage("secret.key", "key");
    fs::set_permissions(
        staged.tree.path.join("secret.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    staged.stage("logs/old/site.txt", "booted\n");
    staged.stage("data/three", "three");
    let odd = Path::new("lib").join(OsStr::from_bytes(b"- odd\n caf\xe9"));
    staged.stage(&odd, "odd");
    symlink("three", staged.tree.path.join("data/newest")).unwrap();
    for cache in ["lib/__pycache__/c.pyc", ".pytest_cache/x", "dist/app.js", "made/__pycache__/d.pyc"] {
        staged.stage(cache, "cache");
    }
    let found = staged.find();
    let expected: Vec<PathBuf> =
        ["data/newest", "data/three"].iter().map(PathBuf::from).chain([odd]).collect();
    let expected: Vec<PathBuf> = expected.into_iter().chain(["logs".into(), "secret.key".into()]).collect();
    assert_eq!((&found.new, found.only_adds()), (&expected, true));
    let changed = || Written::changed(&Host::new(), &staged.tree, &["dist".into()]).unwrap();
    assert!(changed().is_empty());
    staged.stage("lib/c.py", "c = 'changed'\n");
    assert_eq!(changed(), [PathBuf::from("lib/c.py")]);
    assert_eq!(found.links, [PathBuf::from("data/one"), "data/two".into(), "local.py".into()]);

    let carry = staged.carry();
    carry.perform(&Host::new()).unwrap();
    let after = staged.live();
    assert_eq!(after[Path::new("secret.key")], "600 key");
    assert_eq!(after[Path::new("data/newest")], "-> three");
    assert_eq!(after.len(), before.len() + 7, "{after:#?}");
    // Who has the staged tree open goes on with the same files.
    staged.stage("logs/old/site.txt", "booted\nand wrote\n");
    let log = "booted\nand wrote\n";
    assert_eq!(staged.repositories.read("logs/old/site.txt"), log);
    assert!(staged.find().is_empty());
    carry.perform(&Host::new()).unwrap();
    assert_eq!(staged.live().len(), after.len(), "twice is once");

    // What was changed since stays.
    carry.undo().unwrap();
    carry.undo().unwrap();
    let mut left = staged.live();
    assert_eq!(left.remove(Path::new("logs/old/site.txt")).unwrap(), format!("644 {log}"));
    left.retain(|path, _| !path.starts_with("logs"));
    assert_eq!(left, before);

    // A later way to the new version, without a staged tree.
    staged.tree.remove(&Host::new()).unwrap();
    let again = carry.again().unwrap();
    again.perform(&Host::new()).unwrap();
    assert_eq!(staged.live().len(), after.len());
    assert_eq!(staged.repositories.read("secret.key"), "key");
    assert_eq!(again.carried(), expected);
}

#[test]
fn what_was_half_carried_is_finished_or_taken_out() {
    let staged = Staged::new();
    let before = staged.live();
    staged.stage("secret.key", "key");
    staged.stage("logs/site.txt", "booted\n");
    let carry = staged.carry();
    carry.perform(&Host::new()).unwrap();
    let after = staged.live();
    let live = &staged.repositories.live;
    // As if it had been killed between two of them: one is where it was, another has no link yet.
    fs::remove_file(staged.tree.path.join("secret.key")).unwrap();
    fs::rename(live.join("secret.key"), staged.tree.path.join("secret.key")).unwrap();
    fs::remove_file(staged.tree.path.join("logs")).unwrap();
    carry.perform(&Host::new()).unwrap();
    assert_eq!(staged.live(), after);
    fs::remove_file(staged.tree.path.join("secret.key")).unwrap();
    fs::rename(live.join("secret.key"), staged.tree.path.join("secret.key")).unwrap();
    carry.undo().unwrap();
    assert_eq!(staged.live(), before);
}

#[test]
fn a_move_to_another_file_system_that_was_killed_is_finished_or_taken_out() {
    const HALF: &str = ".deploykit-carry.unfinished";
    let staged = Staged::new();
    let live = staged.repositories.live.clone();
    let Some(_disk) = Disk::around(&live) else { return };
    let before = staged.live();
    staged.stage("secret.key", "key");
    staged.stage("logs/old/site.txt", "booted\n");
    staged.stage("logs/site.txt", "booted\n");
    let carry = staged.carry();
    carry.perform(&Host::new()).unwrap();
    let after = staged.live();
    assert_eq!(after.len(), before.len() + 5, "{after:#?}");
    let again = || {
        carry.perform(&Host::new()).unwrap();
        assert_eq!(staged.live(), after);
        assert!(!staged.tree.path.join(HALF).exists());
    };
    let unlink = || fs::remove_file(staged.tree.path.join("logs")).unwrap();
    let copy = || {
        let done = Command::new("cp").arg("-a").arg(live.join("logs")).arg(&staged.tree.path).status();
        assert!(done.unwrap().success());
    };
    // Killed within the copy, behind it, within the removal of the source.
    unlink();
    copy();
    fs::rename(live.join("logs"), live.join(HALF)).unwrap();
    fs::remove_file(live.join(HALF).join("site.txt")).unwrap();
    again();
    unlink();
    copy();
    again();
    unlink();
    staged.stage(format!("{HALF}/site.txt"), "booted\n");
    again();

    for half in [live.clone(), live.join("logs/old"), staged.tree.path.clone()] {
        write(&half.join(HALF), "half");
    }
    carry.undo().unwrap();
    carry.undo().unwrap();
    assert_eq!(staged.live(), before);
    assert!(!live.join("logs").exists() && !staged.tree.path.join(HALF).exists());
}

#[test]
fn what_a_migration_did_to_files_of_the_live_checkout_happens_there() {
    let staged = Staged::new();
    let before = staged.live();
    let carry = staged.carry();
    carry.keep_links(&staged.find().links).unwrap();
    let top = &staged.tree.path;
    fs::create_dir(top.join("data/sorted")).unwrap();
    fs::rename(top.join("data/one"), top.join("data/sorted/one")).unwrap();
    fs::remove_file(top.join("data/two")).unwrap();
    staged.stage("replacement", "LOCAL = 2\n");
    fs::rename(top.join("replacement"), top.join("local.py")).unwrap();
    assert!(staged.find().in_the_way().is_some(), "a preparation refuses that");
    for _ in 0..2 {
        carry.perform(&Host::new()).unwrap();
        let after = staged.live();
        assert_eq!(after[Path::new("local.py")], "644 LOCAL = 2\n");
        assert_eq!(after[Path::new("data/sorted/one")], "644 one");
        let gone = |path: &str| !after.contains_key(Path::new(path));
        assert!(gone("data/one") && gone("data/two"), "{after:#?}");
        assert!(staged.find().is_empty());
    }
    carry.undo().unwrap();
    carry.undo().unwrap();
    assert_eq!(staged.live(), before);
}

#[test]
fn what_cannot_be_carried_is_refused_and_nothing_is_overwritten() {
    let staged = Staged::new();
    staged.stage("secret.key", "key");
    staged.repositories.write("secret.key", "the server's own");
    let error = staged.carry().perform(&Host::new()).unwrap_err();
    assert_eq!(staged.repositories.read("secret.key"), "the server's own");
    let refused = |error: &GitError, named: &str| matches!(error, GitError::NotCarried { path, .. } if path == Path::new(named));
    assert!(refused(&error, "secret.key"), "{error}");
    assert!(staged.find().in_the_way().is_some_and(|(path, _)| path == Path::new("secret.key")));
    fs::remove_file(staged.repositories.live.join("secret.key")).unwrap();

    let awaited = CarryWritten { awaited: vec!["data/new.sqlite3".into()], looks: false, ..staged.carry() };
    staged.repositories.write("data/new.sqlite3", "somebody's");
    let error = awaited.perform(&Host::new()).unwrap_err();
    assert!(refused(&error, "data/new.sqlite3"), "{error}");
    awaited.undo().unwrap();
    assert_eq!(staged.repositories.read("data/new.sqlite3"), "somebody's");

    Command::new("mkfifo").arg(staged.tree.path.join("data/pipe")).status().unwrap();
    write(&staged.tree.path.join("made/file"), "made");
    Command::new("mkfifo").arg(staged.tree.path.join("made/pipe")).status().unwrap();
    assert_eq!(staged.find().new, [PathBuf::from("made/file"), "secret.key".into()], "pipes are left out");
}

#[test]
fn a_new_database_goes_with_what_sqlite_keeps_beside_it() {
    let staged = Staged::new();
    let before = staged.live();
    let awaited = CarryWritten { awaited: vec!["data/new.sqlite3".into()], looks: false, ..staged.carry() };
    awaited.perform(&Host::new()).unwrap();
    for end in ["", "-wal"] {
        staged.repositories.write(&format!("data/new.sqlite3{end}"), "rows");
    }
    awaited.perform(&Host::new()).unwrap();
    let after = staged.live();
    awaited.undo().unwrap();
    awaited.undo().unwrap();
    assert_eq!(staged.live(), before);
    awaited.perform(&Host::new()).unwrap();
    assert_eq!(staged.live(), after, "the way to the new version brings the rows again");
}

/// What `changes.py` records is in its own tests.
#[test]
fn what_was_done_to_the_live_checkout_itself_is_undone() {
    let staged = Staged::new();
    let live = &staged.repositories.live;
    staged.repositories.write("secret.key", "key");
    let before = staged.live();
    let carry = staged.carry();
    carry.keep_links(&staged.find().links).unwrap();
    let [changes, aside] = CarryWritten::changes(&carry.record);
    let act = || {
        let lines = [
            r#"{"new": "made"}"#,
            r#"{"new": "made/caf\u0000e9"}"#,
            r#"{"new": "temporary"}"#,
            r#"{"renamed": ["data/one", "made/one"]}"#,
            r#"{"renamed": ["made/one", "made/first"]}"#,
            // This one failed.
            r#"{"renamed": ["secret.key", "made/secret.key"]}"#,
            r#"{"removed": "data/two"}"#,
            r#"{"replaced": "local.py"}"#,
            r#"{"removed": "neve"#,
        ];
        write(&changes, &lines.join("\n"));
        // A cache makes its directory wherever Django boots.
        fs::create_dir_all(staged.tree.path.join("made")).unwrap();
        write(&live.join("made").join(OsStr::from_bytes(b"caf\xe9")), "made");
        fs::rename(live.join("data/one"), live.join("made/first")).unwrap();
        for name in ["data/two", "local.py"] {
            fs::create_dir_all(aside.join(name).parent().unwrap()).unwrap();
            fs::rename(live.join(name), aside.join(name)).unwrap();
        }
        write(&live.join("local.py"), "LOCAL = 2\n");
    };
    // As if deploykit had been killed while the migration ran.
    act();
    let after = staged.live();
    for _ in 0..2 {
        carry.undo().unwrap();
        assert_eq!(staged.live(), before);
    }
    fs::remove_dir_all(carry.record.with_extension("taken")).unwrap();

    act();
    for _ in 0..2 {
        carry.perform(&Host::new()).unwrap();
        assert_eq!(staged.live(), after, "it is done already");
    }
    assert!(!changes.exists() && staged.find().is_empty());
    // It is not the one that was made.
    staged.repositories.write("temporary", "of another");
    let again = carry.again().unwrap();
    staged.tree.remove(&Host::new()).unwrap();
    again.undo().unwrap();
    assert_eq!(staged.repositories.read("temporary"), "of another");
    fs::remove_file(live.join("temporary")).unwrap();
    assert_eq!(staged.live(), before);
}
