//! What stands in a checkout and in the way of a commit.

use super::*;
use crate::support::disk::{Disk, sh};

#[test]
fn untracked_and_ignored_files_that_are_in_nobodys_way_are_kept() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("new/d.py", "d = 1\n")]);
    repositories.write("note.txt", "mine");
    repositories.write("local.py", "SECRET = 1");
    repositories.write("lib/__pycache__/c.pyc", "");
    repositories.write("new/upload.txt", "mine too");
    fs::create_dir(repositories.live.join("empty")).unwrap();
    there_and_back(&repositories, &repositories.update());
    assert_eq!(repositories.read("new/upload.txt"), "mine too");
}

#[test]
fn local_changes_are_refused_or_kept() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    repositories.write("b.py", "b = 'edited'\n");
    repositories.write("staged.py", "new\n");
    git(&repositories.live, &["add", "staged.py"]);
    fs::remove_file(repositories.live.join("lib/c.py")).unwrap();
    let error = refusal(&repositories.update());
    assert_eq!(
        error.to_string(),
        format!(
            "3 files are changed locally in `{}`: `b.py`, `lib/c.py` (deleted), `staged.py` (staged)",
            repositories.live.display()
        )
    );
    there_and_back(&repositories, &keeping(&repositories));
    let there = plan(&GitUpdate { local_changes: LocalChanges::Keep, ..repositories.update() }).unwrap();
    assert!(matches!(there, Target::UpToDate { .. }));
}

#[test]
fn changes_that_git_was_told_not_to_see_are_local_changes() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let live = &repositories.live;
    git(live, &["update-index", "--assume-unchanged", "b.py", ".gitignore"]);
    git(live, &["update-index", "--skip-worktree", "a.py", "lib/c.py"]);
    plan_move(&repositories.update());
    repositories.write("b.py", "b = 'edited'\n");
    fs::remove_file(live.join("lib/c.py")).unwrap();
    assert_eq!(git(live, &["status", "--porcelain"]), "");
    let error = refusal(&repositories.update()).to_string();
    let named = "`b.py` (hidden by `assume-unchanged`), `lib/c.py` (hidden by `skip-worktree`)";
    assert!(error.ends_with(named), "{error}");
    let flags = || git(live, &["ls-files", "-v", "b.py", "lib/c.py"]);
    let before = flags();
    there_and_back(&repositories, &keeping(&repositories));
    assert_eq!((repositories.read("b.py").as_str(), flags()), ("b = 'edited'\n", before));
    // Now the edit is where the next commit changes something; the mode is a change, too.
    repositories.publish("third", &[("b.py", "b = 3\n"), ("lib/c.py", "c = 3\n"), (".gitignore", "*.tmp\n")]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(live.join(".gitignore"), mode).unwrap();
    let error = refusal(&keeping(&repositories)).to_string();
    assert_eq!(
        error,
        "the update would overwrite 3 files: `.gitignore` (changed locally), `b.py` (changed locally), `lib/c.py` \
         (changed locally)"
    );
}

#[test]
fn what_a_sparse_checkout_leaves_out_is_no_local_change() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let live = &repositories.live;
    git(live, &["config", "core.sparseCheckout", "true"]);
    write(&live.join(".git/info/sparse-checkout"), "/*\n!/lib/\n");
    git(live, &["read-tree", "-mu", "HEAD"]);
    assert!(!live.join("lib").exists() && git(live, &["ls-files", "-v"]).contains("S lib/c.py"));
    plan_move(&repositories.update());
}

#[test]
fn changes_of_paths_that_do_not_count_are_no_local_changes() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    repositories.write("lib/c.py", "edited\n");
    let ignoring = GitUpdate { ignore: vec![repositories.live.join("lib")], ..repositories.update() };
    there_and_back(&repositories, &ignoring);
}

#[test]
fn a_staged_change_whose_file_was_put_back_is_a_local_change() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    repositories.write("a.py", "a = 'staged'\n");
    git(&repositories.live, &["add", "a.py"]);
    repositories.write("a.py", "a = 1\n");
    assert!(
        matches!(refusal(&repositories.update()), GitError::LocalChanges { changes, .. } if changes.len() == 1)
    );
    let error = refusal(&keeping(&repositories));
    assert_eq!(error.to_string(), "the update would overwrite 1 file: `a.py` (changed locally)");
}

#[test]
fn all_collisions_are_named_at_once() {
    let repositories = Repositories::new(FILES);
    repositories.publish(
        "second",
        &[
            ("a.py", "a = 2\n"),
            ("note.txt", "theirs\n"),
            ("local.py", "theirs\n"),
            ("media/logo.txt", "theirs\n"),
            ("uploads", "a file\n"),
            ("deep/er/file", "x\n"),
            ("free/file", "x\n"),
        ],
    );
    repositories.write("a.py", "mine\n");
    repositories.write("b.py", "mine\n");
    repositories.write("note.txt", "theirs\n");
    repositories.write("local.py", "mine\n");
    repositories.write("uploads/one/photo", "mine\n");
    repositories.write("deep", "mine\n");
    fs::create_dir(repositories.live.join("free")).unwrap();
    std::os::unix::fs::symlink("/nowhere", repositories.live.join("media")).unwrap();
    let before = repositories.state();
    let error = refusal(&keeping(&repositories));
    assert_eq!(
        error.to_string(),
        "the update would overwrite 6 files: `a.py` (changed locally), `deep` (untracked), `local.py` (ignored), \
         `media` (untracked), `note.txt` (untracked), `uploads` (untracked)"
    );
    assert_eq!(repositories.state(), before);
}

#[test]
fn a_directory_that_becomes_a_file_and_a_file_that_becomes_a_directory_are_no_collisions_of_their_own() {
    let repositories = Repositories::new(FILES);
    repositories.publish("away", &[("a.py", ""), ("lib/c.py", "")]);
    repositories.publish("second", &[("a.py/inner", "x\n"), ("lib", "a file\n")]);
    there_and_back(&repositories, &repositories.update());
}

#[test]
fn an_untracked_file_in_a_directory_that_becomes_a_file_is_a_collision() {
    let repositories = Repositories::new(FILES);
    repositories.publish("away", &[("lib/c.py", "")]);
    repositories.publish("second", &[("lib", "a file\n")]);
    repositories.write("lib/mine.txt", "mine\n");
    let GitError::Collision { collisions } = refusal(&repositories.update()) else { panic!() };
    assert_eq!(collisions, [Collision { path: "lib/mine.txt".into(), kind: Obstacle::Untracked }]);
}

#[test]
fn what_appears_after_the_plan_stops_the_checkout_before_it_touches_anything() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("local.py", "theirs\n"), ("z.py", "z\n")]);
    let there = plan_move(&repositories.update());
    repositories.write("local.py", "mine\n");
    repositories.write("a.py", "mine\n");
    let before = repositories.state();
    let error = there.checkout.perform(&Host::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the update would overwrite 2 files: `a.py` (changed locally), `local.py` (untracked)"
    );
    assert_eq!(repositories.state(), before);
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before, "taking back what never happened touches nothing");
}

#[test]
fn what_git_could_not_replace_is_known_beforehand() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("lib/c.py", "c = 2\n"), ("new/d.py", "d\n")]);
    let before = repositories.state();
    let Some(_disk) = Disk::around(&repositories.live.join("lib/c.py")) else { return };
    let error = refusal(&repositories.update());
    assert_eq!(error.to_string(), "cannot replace 1 path of the checkout: `lib/c.py` (it is a mount point)");
    let Some(disk) = Disk::around(&repositories.live.join("lib")) else { return };
    sh(&disk.make_read_only());
    let error = refusal(&repositories.update()).to_string();
    disk.make_writable();
    assert_eq!(error, "cannot replace 1 path of the checkout: `lib/c.py` (its file system is read-only)");
    assert_eq!(repositories.state(), before);
}
