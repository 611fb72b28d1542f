//! Rewritten history, local commits, branches and revisions.

use super::*;

#[test]
fn rewritten_history_is_refused_again_and_again() {
    let repositories = Repositories::new(FILES);
    let lost = repositories.publish("to be lost", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["pull", "-q"]);
    git(&repositories.developer, &["reset", "-q", "--hard", "HEAD~1"]);
    repositories.publish("another way", &[("b.py", "b = 2\n")]);
    for update in [repositories.update(), rebasing(&repositories), rebasing(&repositories)] {
        let error = refusal(&update);
        assert_eq!(
            error.to_string(),
            format!(
                "the history of `origin/main` was rewritten: 1 commit that is checked out here is no longer in it: \
                 `{} to be lost`",
                &lost[..7]
            )
        );
    }
    git(&repositories.developer, &["reset", "-q", "--hard", "HEAD~1"]);
    git(&repositories.developer, &["push", "-q", "--force", "origin", "HEAD"]);
    assert!(matches!(refusal(&rebasing(&repositories)), GitError::HistoryRewritten { .. }), "only shortened");
}

#[test]
fn local_commits_are_refused_or_put_on_top() {
    let repositories = Repositories::new(FILES);
    let local = repositories.commit(&repositories.live, "local work", &[("lib/mine.py", "x\n")]);
    assert!(
        matches!(refusal(&repositories.update()), GitError::LocalCommits { .. }),
        "even with nothing new"
    );
    assert!(
        matches!(plan(&rebasing(&repositories)).unwrap(), Target::UpToDate { commit, .. } if commit == local.clone())
    );
    let theirs = repositories.publish("second", &[("a.py", "a = 2\n")]);
    let error = refusal(&repositories.update());
    assert_eq!(
        error.to_string(),
        format!("1 local commit is not in `origin/main`: `{} local work`", &local[..7])
    );
    let there = plan_move(&rebasing(&repositories));
    assert_eq!(there.to(), plan_move(&rebasing(&repositories)).to(), "the tip is pinned");
    assert_eq!(there.notices, [Notice::Rebased { count: 1, upstream: "origin/main".into() }]);
    assert_eq!(git(&repositories.live, &["rev-parse", &format!("{}~1", there.to())]), theirs);
    there_and_back(&repositories, &rebasing(&repositories));
    assert_eq!(repositories.read("lib/mine.py"), "x\n");
    assert_eq!(git(&repositories.live, &["log", "-1", "--format=%s"]), "local work");
    assert!(matches!(plan(&rebasing(&repositories)), Ok(Target::UpToDate { .. })));
}

#[test]
fn local_commits_that_upstream_has_already_are_dropped() {
    let repositories = Repositories::new(FILES);
    repositories.commit(&repositories.live, "the same fix", &[("a.py", "a = 'fixed'\n")]);
    repositories.commit(&repositories.live, "my own", &[("mine.py", "x\n")]);
    repositories.publish("before", &[("b.py", "b = 2\n")]);
    repositories.publish("the fix", &[("a.py", "a = 'fixed'\n")]);
    repositories.publish("after", &[("a.py", "a = 'fixed twice'\n")]);
    let there = plan_move(&rebasing(&repositories));
    let subjects: Vec<&str> = there.rebased.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["my own"]);
    assert!(
        matches!(&there.notices[1], Notice::Dropped { commits, .. } if commits[0].subject == "the same fix")
    );
    there_and_back(&repositories, &rebasing(&repositories));
}

#[test]
fn a_rebase_that_conflicts_names_commit_and_files() {
    let repositories = Repositories::new(FILES);
    let local = repositories.commit(&repositories.live, "mine", &[("a.py", "a = 'mine'\n")]);
    repositories.publish("theirs", &[("a.py", "a = 'theirs'\n")]);
    let before = repositories.state();
    assert_eq!(
        refusal(&rebasing(&repositories)).to_string(),
        format!("the local commit `{} mine` conflicts with `origin/main` in `a.py`", &local[..7])
    );
    assert_eq!(repositories.state(), before);
}

#[test]
fn merges_among_local_commits_are_not_flattened() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["checkout", "-q", "-b", "topic"]);
    repositories.commit(&repositories.live, "on a topic", &[("topic.py", "x\n")]);
    git(&repositories.live, &["checkout", "-q", "main"]);
    git(&repositories.live, &["merge", "-q", "--no-ff", "-m", "merged", "topic"]);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let GitError::RebaseMerge { commits, .. } = refusal(&rebasing(&repositories)) else { panic!() };
    assert_eq!(commits[0].subject, "merged");
}

#[test]
fn a_detached_head_is_attached_and_detached_again() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["checkout", "-q", "--detach"]);
    let there = plan_move(&repositories.update());
    assert_eq!(there.notices[0].to_string(), "HEAD is detached; it will be on `main`");
    there_and_back(&repositories, &repositories.update());
    git(&repositories.live, &["checkout", "-q", "--detach"]);
    git(&repositories.live, &["branch", "-q", "-D", "main"]);
    assert_eq!(plan_move(&repositories.update()).reason(), "HEAD is not on `main`");
    there_and_back(&repositories, &repositories.update());
}

#[test]
fn commits_of_a_detached_head_or_another_branch_are_not_lost() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["checkout", "-q", "--detach"]);
    repositories.commit(&repositories.live, "on nothing", &[("mine.py", "x\n")]);
    assert!(matches!(refusal(&rebasing(&repositories)), GitError::LocalCommits { .. }));
    git(&repositories.live, &["checkout", "-q", "main"]);
    repositories.commit(&repositories.live, "on main", &[("mine.py", "x\n")]);
    git(&repositories.live, &["checkout", "-q", "--detach", "HEAD~1"]);
    let GitError::LocalCommits { commits, .. } = refusal(&repositories.update()) else { panic!() };
    assert_eq!(commits[0].subject, "on main");
}

#[test]
fn another_branch_is_left_where_it_is() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["checkout", "-q", "-b", "feature"]);
    let there = plan_move(&repositories.update());
    assert_eq!(there.notices[0].to_string(), "HEAD is on `feature`; it will be on `main`");
    there_and_back(&repositories, &repositories.update());
}

#[test]
fn branches_tags_and_commits_are_revisions() {
    let repositories = Repositories::new(FILES);
    let second = repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.developer, &["tag", "-a", "-m", "release", "v1"]);
    git(&repositories.developer, &["tag", "moving"]);
    git(&repositories.developer, &["push", "-q", "--tags"]);
    git(&repositories.live, &["tag", "moving"]);
    repositories.publish("third", &[("a.py", "a = 3\n")]);
    git(&repositories.developer, &["checkout", "-q", "-b", "release/2"]);
    let release = repositories.publish("release", &[("b.py", "b = 2\n")]);
    let names = [
        ("v1", &second, "tag v1"),
        ("moving", &second, "tag moving"),
        ("release/2", &release, "origin/release/2"),
    ];
    for (name, commit, upstream) in names {
        let there = plan_move(&to(&repositories, name));
        assert_eq!((there.to(), there.upstream.as_str()), (commit.as_str(), upstream));
    }
    assert_eq!(plan_move(&to(&repositories, &second[..8])).to(), second);
    assert_eq!(plan_move(&to(&repositories, "origin/release/2")).to(), release);
    assert_eq!(git(&repositories.live, &["tag"]), "moving", "the user's tags stay as they are");
    there_and_back(&repositories, &to(&repositories, "v1"));
    assert!(
        matches!(plan(&to(&repositories, "v1")).unwrap(), Target::UpToDate { commit, .. } if commit == second)
    );
}

#[test]
fn a_revision_that_is_not_there_names_those_near_it() {
    let repositories = Repositories::new(FILES);
    git(&repositories.developer, &["tag", "v1.20"]);
    git(&repositories.developer, &["push", "-q", "--tags"]);
    assert_eq!(
        refusal(&to(&repositories, "v1.2")).to_string(),
        "there is no branch, tag or commit `v1.2` on the remote `origin`; near it `v1.20`"
    );
    assert!(matches!(refusal(&to(&repositories, "HEAD~1")), GitError::RevisionNotFound { .. }));
    assert!(matches!(refusal(&to(&repositories, "--help")), GitError::RevisionNotFound { .. }));
}

#[test]
fn an_update_goes_forward_only() {
    let repositories = Repositories::new(FILES);
    let first = head(&repositories.live);
    git(&repositories.developer, &["checkout", "-q", "-b", "side"]);
    repositories.publish("aside", &[("b.py", "b = 2\n")]);
    git(&repositories.developer, &["checkout", "-q", "main"]);
    let second = repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["pull", "-q"]);
    assert_eq!(
        refusal(&to(&repositories, &first)).to_string(),
        format!("`{first}` ({}) is older than what is checked out ({})", &first[..7], &second[..7])
    );
    assert_eq!(
        refusal(&to(&repositories, "side")).to_string(),
        format!("`side` lacks 1 commit of `origin/main` that is checked out: `{} second`", &second[..7])
    );
}
