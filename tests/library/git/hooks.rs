//! Hooks that fail, refuse and change files: the way there is the user's own, the way back depends on nobody.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Installs a hook of the live checkout.
fn hook(repositories: &Repositories, name: &str, script: &str) {
    install(&repositories.live.join(".git/hooks").join(name), script);
}

pub(super) fn install(path: &Path, script: &str) {
    write(path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A hook that says when it ran, and fails.
const FAILS: &str = "echo \"$(basename \"$0\") $3\" >>.git/ran; echo it failed >&2; exit 3";

fn ran(repositories: &Repositories) -> String {
    let text = fs::read_to_string(repositories.live.join(".git/ran")).unwrap_or_default();
    let _ = fs::remove_file(repositories.live.join(".git/ran"));
    text
}

#[test]
fn a_hook_that_fails_runs_and_fails_neither_way() {
    for detached in [false, true] {
        let repositories = Repositories::new(FILES);
        repositories.publish("second", &[("a.py", "a = 2\n"), ("b.py", ""), ("new.py", "n\n")]);
        for name in ["post-checkout", "post-merge", "post-rewrite", "post-index-change"] {
            hook(&repositories, name, FAILS);
        }
        if detached {
            git_says(&repositories.live, &["checkout", "-q", "--detach"]);
        }
        ran(&repositories);
        let before = repositories.state();
        let there = plan_move(&repositories.update());
        perform(&there.checkout);
        assert_eq!(
            (head(&repositories.live).as_str(), repositories.read("a.py").as_str()),
            (there.to(), "a = 2\n")
        );
        assert!(ran(&repositories).contains("post-checkout 1"), "it runs as git runs it");
        perform(&there.checkout.reverse());
        assert_eq!(repositories.state(), before);
        assert!(ran(&repositories).contains("post-checkout 1"), "on the way back, too");
    }
}

#[test]
fn a_hook_that_refuses_stops_the_way_there_and_not_the_way_back() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("b.py", ""), ("new.py", "n\n")]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    hook(&repositories, "reference-transaction", "test \"$1\" != prepared");
    let error = there.checkout.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, GitError::Command { .. }), "{error}");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);

    fs::remove_file(repositories.live.join(".git/hooks/reference-transaction")).unwrap();
    perform(&there.checkout);
    repositories.write("a.py", "a = 'edited meanwhile'\n");
    hook(&repositories, "reference-transaction", "test \"$1\" != prepared");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
    let kept = git(&repositories.live, &["for-each-ref", "--format=%(refname)", "refs/deploykit/kept"]);
    assert_eq!(git(&repositories.live, &["show", &format!("{kept}:a.py")]), "a = 'edited meanwhile'");
}

#[test]
fn a_hook_that_fails_over_half_a_checkout_is_no_excuse() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("lib/c.py", "c = 2\n")]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    // Whoever looked at HEAD alone would call it done.
    hook(&repositories, "post-checkout", "echo 'a = 1' >a.py; exit 1");
    let error = there.checkout.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, GitError::Command { .. }), "{error}");
    assert_eq!(head(&repositories.live), there.to());
    hook(&repositories, "post-checkout", "rm a.py; exit 1");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
}
