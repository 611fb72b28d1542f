//! Checkouts that were interrupted, and their way back.

use super::*;

#[test]
fn a_head_that_was_moved_meanwhile_is_left_alone() {
    let repositories = Repositories::new(FILES);
    let first = head(&repositories.live);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let there = plan_move(&repositories.update());
    let other = repositories.commit(&repositories.live, "meanwhile", &[("b.py", "b = 2\n")]);
    let before = repositories.state();
    for checkout in [there.checkout.clone(), there.checkout.reverse()] {
        let error = checkout.perform(&Host::new()).unwrap_err();
        assert!(matches!(error, GitError::HeadMoved { .. }), "{error}");
    }
    assert_eq!(
        there.checkout.perform(&Host::new()).unwrap_err().to_string(),
        format!(
            "HEAD of `{}` was moved meanwhile: it is at `main` ({}), and was at `main` ({})",
            repositories.live.display(),
            &other[..7],
            &first[..7]
        )
    );
    assert_eq!(repositories.state(), before);
}

/// A checkout in the middle of which git is killed, by a filter of one of the files.
fn kill_in_the_middle(repositories: &Repositories) {
    git(
        &repositories.live,
        &["config", "filter.kill.smudge", "test -e .git/kill && rm .git/kill && kill -9 $PPID; cat"],
    );
    git(&repositories.live, &["config", "filter.kill.clean", "cat"]);
    write(&repositories.live.join(".git/kill"), "");
}

const KILLED: &[(&str, &str)] = &[
    (".gitattributes", "m.txt filter=kill\n"),
    ("a.py", "a = 2\n"),
    ("b.py", ""),
    ("m.txt", "x\n"),
    ("lib/c.py", "c = 2\n"),
    ("lib/new/d.py", "d\n"),
    ("z.py", "z\n"),
];

#[test]
fn a_killed_checkout_is_taken_back_or_finished() {
    for (detached, forward) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut files = FILES.to_vec();
        files.push(("edited.py", "e = 1\n"));
        files.push(("staged.py", "s = 1\n"));
        let repositories = Repositories::new(&files);
        repositories.publish("second", KILLED);
        if detached {
            git(&repositories.live, &["checkout", "-q", "--detach"]);
            git(&repositories.live, &["branch", "-q", "-D", "main"]);
        }
        repositories.write("edited.py", "e = 'edited'\n");
        repositories.write("staged.py", "s = 'staged'\n");
        git(&repositories.live, &["add", "staged.py"]);
        repositories.write("staged.py", "s = 'and more'\n");
        repositories.write("note.txt", "mine\n");
        repositories.write("local.py", "mine\n");
        let before = repositories.state();
        let there = plan_move(&keeping(&repositories));
        kill_in_the_middle(&repositories);
        there.checkout.perform(&Host::new()).unwrap_err();
        assert!(repositories.live.join(".git/index.lock").exists(), "git was killed");
        assert_ne!(files_below(&repositories.live), before.files);
        if forward {
            perform(&there.checkout);
            assert_eq!(repositories.read("z.py"), "z\n");
            assert_eq!(head(&repositories.live), there.to());
            assert_eq!(repositories.read("edited.py"), "e = 'edited'\n");
        }
        perform(&there.checkout.reverse());
        assert_eq!(repositories.state(), before);
        perform(&there.checkout.reverse());
        assert_eq!(repositories.state(), before);
    }
}

#[test]
fn every_half_of_a_checkout_is_taken_back() {
    let repositories = Repositories::new(FILES);
    repositories.publish(
        "second",
        &[("a.py", "a = 2\n"), ("b.py", ""), ("lib/c.py", "c = 2\n"), ("lib/x/d.py", "d\n")],
    );
    repositories.write("note.txt", "mine\n");
    repositories.write(".gitignore", "*.log\nlocal.py\n__pycache__\n# mine\n");
    let before = repositories.state();
    let there = plan_move(&keeping(&repositories));
    let live = &repositories.live;
    let halves: [&dyn Fn(); 5] = [
        &|| repositories.write("lib/x/d.py", "d\n"),
        &|| fs::remove_file(live.join("b.py")).unwrap(),
        &|| {
            repositories.write("a.py", "a");
            repositories.write("lib/x/d.py", "");
            write(&live.join(".git/index.lock"), "half");
        },
        &|| {
            fs::remove_file(live.join("a.py")).unwrap();
            write(&live.join(".git/index.lock"), "");
            write(&live.join(".git/HEAD.lock"), "");
            write(&live.join(".git/refs/heads/main.lock"), "");
        },
        // The index is written, HEAD is not.
        &|| {
            git(live, &["read-tree", "-m", "-u", "HEAD", there.to()]);
        },
    ];
    for half in halves {
        half();
        assert_ne!(repositories.state(), before);
        perform(&there.checkout.reverse());
        assert_eq!(repositories.state(), before);
    }
    let kept = git(live, &["for-each-ref", "--format=%(refname)", "refs/deploykit/kept"]);
    let changed = git(live, &["diff", "--name-only", "HEAD", &kept]);
    assert_eq!(changed, "a.py\nlib/x/d.py", "only what is truncated may be somebody's work, and is kept");
}

#[test]
fn a_branch_that_was_made_before_head_was_attached_is_removed() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("d.py", "d\n")]);
    git(&repositories.live, &["checkout", "-q", "--detach"]);
    git(&repositories.live, &["branch", "-q", "-D", "main"]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    let half = || {
        git(&repositories.live, &["read-tree", "-m", "-u", "HEAD", there.to()]);
        git(&repositories.live, &["branch", "main", there.to()]);
    };
    half();
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
    half();
    perform(&there.checkout);
    assert_eq!(git(&repositories.live, &["status", "--porcelain", "--branch"]), "## main");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
}

#[test]
fn work_that_stands_in_the_way_back_is_kept() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("b.py", "")]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    perform(&there.checkout);
    repositories.write("a.py", "a = 'edited meanwhile'\n");
    repositories.write("b.py", "written meanwhile\n");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
    let kept = git(&repositories.live, &["for-each-ref", "--format=%(refname)", "refs/deploykit/kept"]);
    assert_eq!(git(&repositories.live, &["show", &format!("{kept}:a.py")]), "a = 'edited meanwhile'");
    assert_eq!(git(&repositories.live, &["show", &format!("{kept}:b.py")]), "written meanwhile");
}

#[test]
fn an_edit_after_the_way_back_stays_when_it_is_gone_again() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("new.py", "n\n")]);
    let there = plan_move(&repositories.update());
    perform(&there.checkout);
    perform(&there.checkout.reverse());
    repositories.write("a.py", "a = 'edited'\n");
    repositories.write("new.py", "my own\n");
    let before = repositories.state();
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
}

#[test]
fn a_lock_that_a_living_process_holds_is_respected() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let there = plan_move(&repositories.update());
    let lock = repositories.live.join(".git/index.lock");
    let held = fs::File::create(&lock).unwrap();
    let cancel = deploykit::Cancel::new().unwrap();
    cancel.request();
    // A cancelled host does not wait for the holder.
    let error = there.checkout.perform(&Host::new().with_cancel(cancel)).unwrap_err();
    assert!(matches!(error, GitError::IndexLocked { .. }), "{error}");
    assert!(lock.exists());
    drop(held);
    perform(&there.checkout);
    assert!(!lock.exists());
}
