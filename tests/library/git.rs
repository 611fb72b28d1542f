//! Git: real repositories, real transports.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit::git::{ChangeStatus, Collision, GitError, NextTree, Obstacle, Tree};
use deploykit::operations::git_update::{GitUpdate, LocalChanges, LocalCommits, Notice, Target};
use deploykit::operations::{perform as perform_change, undo};
use deploykit::{Check, Context, Host, Operation};

use crate::support::git::{
    Repositories, State, change, daemon, files_below, git, git_says, head, http_server, perform, plan,
    plan_move, refusal, write,
};

const FILES: &[(&str, &str)] = &[
    ("a.py", "a = 1\n"),
    ("b.py", "b = 1\n"),
    ("lib/c.py", "c = 1\n"),
    (".gitignore", "*.log\nlocal.py\n__pycache__\n"),
];

fn keeping(repositories: &Repositories) -> GitUpdate {
    GitUpdate { local_changes: LocalChanges::Keep, ..repositories.update() }
}

fn rebasing(repositories: &Repositories) -> GitUpdate {
    GitUpdate { local_commits: LocalCommits::Rebase, ..repositories.update() }
}

fn to(repositories: &Repositories, revision: &str) -> GitUpdate {
    GitUpdate { revision: Some(revision.to_owned()), ..repositories.update() }
}

/// There and back, each twice; the state of before is back byte for byte.
fn there_and_back(repositories: &Repositories, update: &GitUpdate) {
    let before = repositories.state();
    let there = plan_move(update);
    assert_eq!(repositories.state(), before, "a plan changes nothing");
    perform(&there.checkout);
    let after = repositories.state();
    assert_eq!(head(&repositories.live), there.to());
    perform(&there.checkout);
    assert_eq!(repositories.state(), after, "twice is once");
    let back = there.checkout.reverse();
    perform(&back);
    assert_eq!(repositories.state(), before);
    perform(&back);
    assert_eq!(repositories.state(), before);
    perform(&there.checkout);
    assert_eq!(repositories.state(), after);
}

#[test]
fn a_fast_forward_says_what_comes_in_and_can_be_taken_back() {
    let repositories = Repositories::new(FILES);
    let first = head(&repositories.live);
    repositories.publish("second", &[("a.py", "a = 2\n"), ("new/d.py", "d = 1\n")]);
    let third = repositories.publish("third", &[("b.py", ""), ("lib/c.py", ""), ("lib/e.py", "c = 1\n")]);
    let update = repositories.update();
    let change = change(&update);
    assert_eq!(change.reason, "2 new commits on origin/main");
    assert_eq!((change.before.as_str(), change.after.as_str()), (&first[..7], &third[..7]));
    assert_eq!(change.details[0], format!("{} third", &third[..7]));
    let there = plan_move(&update);
    let changes: Vec<_> =
        there.changes.iter().map(|change| (change.path.to_str().unwrap(), &change.status)).collect();
    let renamed = ChangeStatus::Renamed { from: "lib/c.py".into() };
    assert_eq!(
        changes,
        [
            ("a.py", &ChangeStatus::Modified),
            ("b.py", &ChangeStatus::Deleted),
            ("lib/e.py", &renamed),
            ("new/d.py", &ChangeStatus::Added)
        ]
    );
    there_and_back(&repositories, &update);
    let check = update.check(&Host::new()).unwrap();
    assert_eq!(check, Check::Unchanged { reason: "no new commits on origin/main".into() });
    assert_eq!(plan(&update).unwrap(), Target::UpToDate { commit: third });
}

#[test]
fn knowing_that_nothing_is_new_takes_one_fetch() {
    let repositories = Repositories::new(FILES);
    let transcript = repositories.folder.path().join("transcript");
    let host = Host::new().with_transcript(fs::File::create(&transcript).unwrap());
    let update = repositories.update();
    update.fetch(&host).unwrap();
    assert!(matches!(update.target(&host), Ok(Target::UpToDate { .. })));
    let text = fs::read_to_string(&transcript).unwrap();
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("$ ")).collect();
    assert!(matches!(commands[..], [fetch] if fetch.contains(" fetch ")), "{commands:?}");
}

#[test]
fn an_operation_performs_and_undoes_its_change() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let before = repositories.state();
    let change = change(&repositories.update());
    let mut context = Context::default();
    perform_change::<GitError>(&change, &mut context).unwrap();
    assert_eq!(repositories.read("a.py"), "a = 2\n");
    let journalled = serde_json::to_string(&change).unwrap();
    let change = serde_json::from_str(&journalled).unwrap();
    undo(&change, &mut context).unwrap();
    assert_eq!(repositories.state(), before);
}

#[test]
fn long_histories_are_cut_in_the_details_only() {
    let repositories = Repositories::new(FILES);
    for number in 0..25 {
        repositories.commit(&repositories.developer, &format!("number {number}"), &[]);
    }
    repositories.publish("last", &[("a.py", "a = 2\n")]);
    let change = change(&repositories.update());
    assert_eq!(change.reason, "26 new commits on origin/main");
    assert_eq!((change.details.len(), change.details[20].as_str()), (21, "and 6 more"));
}

#[test]
fn the_files_of_a_commit_are_read_without_checking_it_out() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let there = plan_move(&repositories.update());
    let (before, after) = (there.tree_before().unwrap(), there.tree_after().unwrap());
    assert_eq!(before.text(Path::new("a.py")).unwrap().as_deref(), Some("a = 1\n"));
    assert_eq!(after.text(Path::new("a.py")).unwrap().as_deref(), Some("a = 2\n"));
    assert_eq!(after.text(Path::new("lib")).unwrap(), None);
    assert_eq!(after.text(Path::new("lib/none.py")).unwrap(), None);
    assert_eq!(after.paths().unwrap(), [".gitignore", "a.py", "b.py", "lib/c.py"].map(PathBuf::from));
    let texts = after.texts(|path| path.starts_with("lib")).unwrap();
    assert_eq!(texts, [("lib/c.py".into(), "c = 1\n".to_owned())]);
    assert!(Tree::open(&repositories.live, &"0".repeat(40)).is_err());
}

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
fn a_folder_that_becomes_a_file_and_a_file_that_becomes_a_folder_are_no_collisions_of_their_own() {
    let repositories = Repositories::new(FILES);
    repositories.publish("away", &[("a.py", ""), ("lib/c.py", "")]);
    repositories.publish("second", &[("a.py/inner", "x\n"), ("lib", "a file\n")]);
    there_and_back(&repositories, &repositories.update());
}

#[test]
fn an_untracked_file_in_a_folder_that_becomes_a_file_is_a_collision() {
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
    assert_eq!(plan(&rebasing(&repositories)).unwrap(), Target::UpToDate { commit: local.clone() });
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
    assert_eq!(plan(&to(&repositories, "v1")).unwrap(), Target::UpToDate { commit: second });
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

#[test]
fn a_missing_branch_and_a_missing_remote_name_what_is_there() {
    let repositories = Repositories::new(FILES);
    let update = GitUpdate { branch: "master".to_owned(), ..repositories.update() };
    let message = "the remote `origin` has no branch `master`; it has `main`";
    assert_eq!(refusal(&update).to_string(), message);
    assert_eq!(update.target(&Host::new()).unwrap_err().to_string(), message);
    let update = GitUpdate { remote: "upstream".to_owned(), ..repositories.update() };
    assert_eq!(refusal(&update).to_string(), "the repository has no remote `upstream`; it has `origin`");
}

#[test]
fn a_remote_that_fails_says_why() {
    let repositories = Repositories::new(FILES);
    fs::rename(&repositories.upstream, repositories.folder.path().join("gone")).unwrap();
    let error = refusal(&repositories.update());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch from the remote `origin` ({0}): '{0}' does not appear to be a git repository",
            repositories.upstream.display()
        )
    );
}

#[test]
fn a_remote_that_never_speaks_is_given_up() {
    let repositories = Repositories::new(FILES);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://127.0.0.1:{}/x.git", listener.local_addr().unwrap().port());
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    let update = GitUpdate { deadline: Duration::from_millis(500), ..repositories.update() };
    assert_eq!(
        refusal(&update).to_string(),
        format!("the remote `origin` ({url}) did not answer within 0.5 s")
    );
}

#[test]
fn git_daemon_and_http_are_fetched_from() {
    let repositories = Repositories::new(FILES);
    let folder = repositories.folder.path();
    let git_server = daemon(folder);
    let url = format!("git://127.0.0.1:{}/upstream.git", git_server.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    let second = repositories.publish("second", &[("a.py", "a = 2\n")]);
    let fetched = repositories.update().fetch(&Host::new()).unwrap();
    assert_eq!((fetched.before, fetched.after), (Some(head(&repositories.live)), second));
    let Some(http) = http_server(folder) else { return };
    let url = format!("http://me:hunter22@127.0.0.1:{}/upstream.git", http.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    git(&repositories.live, &["config", "http.proxy", ""]);
    let third = repositories.publish("third", &[("a.py", "a = 3\n")]);
    assert_eq!(plan_move(&repositories.update()).to(), third);
    git(&repositories.live, &["remote", "set-url", "origin", &url.replace("upstream", "none")]);
    let message = refusal(&repositories.update()).to_string();
    assert!(message.contains("me:***@127") && !message.contains("hunter22"), "{message}");
}

#[test]
fn a_shallow_clone_of_one_branch_stays_one() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.developer, &["push", "-q", "origin", "HEAD:other"]);
    fs::remove_dir_all(&repositories.live).unwrap();
    let url = format!("file://{}", repositories.upstream.display());
    git(repositories.folder.path(), &["clone", "-q", "--depth=1", &url, "live"]);
    repositories.publish("third", &[("a.py", "a = 3\n"), ("d.py", "d\n")]);
    repositories.publish("fourth", &[("a.py", "a = 4\n")]);
    assert_eq!(plan_move(&repositories.update()).commit_count, 2);
    there_and_back(&repositories, &repositories.update());
    assert_eq!(git(&repositories.live, &["rev-parse", "--is-shallow-repository"]), "true");
    assert_eq!(
        git(
            &repositories.live,
            &["for-each-ref", "--format=%(refname)", "refs/tags", "refs/remotes/origin/other"]
        ),
        ""
    );
}

#[test]
fn a_sparse_checkout_stays_sparse() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["sparse-checkout", "set", "kept"]);
    assert!(!repositories.live.join("lib/c.py").exists());
    repositories.publish(
        "second",
        &[("a.py", "a = 2\n"), ("lib/c.py", "c = 2\n"), ("lib/n.py", "n\n"), ("kept/k.py", "k\n")],
    );
    there_and_back(&repositories, &repositories.update());
    assert!(repositories.live.join("kept/k.py").exists() && !repositories.live.join("lib").exists());
    let tree = repositories.folder.path().join("next");
    let next =
        NextTree::prepare(&Host::new(), &repositories.live, &tree, &head(&repositories.live), &[]).unwrap();
    assert!(tree.join("kept/k.py").exists() && !tree.join("lib").exists());
    next.remove(&Host::new()).unwrap();
}

#[test]
fn filters_and_line_ends_are_applied() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["config", "filter.shout.smudge", "tr a-z A-Z"]);
    git(&repositories.live, &["config", "filter.shout.clean", "tr A-Z a-z"]);
    repositories.publish(
        "second",
        &[
            (".gitattributes", "*.txt filter=shout\n*.bat eol=crlf\n"),
            ("one.txt", "hello\n"),
            ("run.bat", "x\n"),
        ],
    );
    there_and_back(&repositories, &repositories.update());
    assert_eq!(
        (repositories.read("one.txt"), repositories.read("run.bat")),
        ("HELLO\n".into(), "x\r\n".into())
    );
    repositories.publish("third", &[("one.txt", "goodbye\n"), ("two.txt", "x\n")]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    write(&repositories.live.join(".git/index.lock"), "");
    repositories.write("one.txt", "GOODB");
    repositories.write("two.txt", "X\n");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
}

#[test]
fn a_merge_that_waits_is_not_passed_over() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["checkout", "-q", "-b", "topic"]);
    repositories.commit(&repositories.live, "mine", &[("a.py", "mine\n")]);
    git(&repositories.live, &["checkout", "-q", "main"]);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["pull", "-q"]);
    repositories.publish("third", &[("b.py", "b = 3\n")]);
    assert!(!git_says(&repositories.live, &["merge", "topic"]));
    assert_eq!(
        refusal(&keeping(&repositories)).to_string(),
        format!("a merge is in progress in `{}`", repositories.live.display())
    );
}

#[test]
fn a_locked_index_is_named() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let lock = repositories.live.join(".git/index.lock");
    write(&lock, "");
    let error = refusal(&repositories.update());
    let message = error.to_string();
    assert!(message.starts_with(&format!("`{}` is there, ", lock.display())), "{message}");
    assert!(matches!(error, GitError::IndexLocked { path, age: Some(_) } if path == lock));
}

#[test]
fn what_is_no_checkout_is_told_apart() {
    let repositories = Repositories::new(FILES);
    let inner = repositories.live.join("lib");
    let folder = repositories.folder.path();
    let error = |path: &Path| GitUpdate::new(path).target(&Host::new()).unwrap_err();
    assert_eq!(
        error(&inner).to_string(),
        format!(
            "`{}` is not the top of a Git checkout; the top is `{}`",
            inner.display(),
            repositories.live.display()
        )
    );
    assert_eq!(error(folder).to_string(), format!("`{}` is not the top of a Git checkout", folder.display()));
    assert!(matches!(error(&folder.join("none")), GitError::NotARepository { .. }));
    assert!(matches!(error(&repositories.upstream), GitError::Bare { .. }));
    git(folder, &["init", "-q", "--object-format=sha256", "sha256"]);
    assert!(matches!(error(&folder.join("sha256")), GitError::Unsupported { .. }));
    if git_says(folder, &["init", "-q", "--ref-format=reftable", "reftable"]) {
        assert!(matches!(error(&folder.join("reftable")), GitError::Unsupported { .. }));
    }
    git(folder, &["init", "-q", "-b", "main", "unborn"]);
    git(&folder.join("unborn"), &["fetch", "-q", "../upstream.git", "main:refs/remotes/origin/main"]);
    let unborn = GitUpdate { branch: "main".into(), ..GitUpdate::new(folder.join("unborn")) };
    assert!(matches!(unborn.target(&Host::new()), Err(GitError::NoCommit { .. })));
}

#[test]
fn a_repository_of_somebody_else_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("only root can give files away");
    }
    let repositories = Repositories::new(FILES);
    for path in [repositories.live.clone(), repositories.live.join(".git")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let error = repositories.update().target(&Host::new()).unwrap_err();
    assert!(matches!(error, GitError::DubiousOwnership { .. }), "{error}");
}

#[test]
fn a_signature_is_asked_for() {
    let repositories = Repositories::new(FILES);
    let unsigned = repositories.publish("unsigned", &[("a.py", "a = 2\n")]);
    let update = GitUpdate { verify_signature: true, ..repositories.update() };
    assert_eq!(refusal(&update).to_string(), format!("`{} unsigned` has no good signature", &unsigned[..7]));
    if crate::support::program("ssh-keygen").is_none() {
        return;
    }
    let key = repositories.folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = repositories.folder.path().join("signers");
    fs::write(&signers, format!("ada@example.org {public}")).unwrap();
    for (name, value) in
        [("gpg.format", "ssh"), ("user.signingKey", key.to_str().unwrap()), ("commit.gpgSign", "true")]
    {
        git(&repositories.developer, &["config", name, value]);
    }
    let signed = repositories.publish("signed", &[("a.py", "a = 3\n")]);
    assert!(matches!(refusal(&update), GitError::Unsigned { .. }), "the key is unknown");
    git(&repositories.live, &["config", "gpg.ssh.allowedSignersFile", signers.to_str().unwrap()]);
    assert_eq!(plan_move(&update).to(), signed);
}

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
    assert_eq!(changed, "a.py\nlib/x/d.py", "only what is cut off may be somebody's work, and is kept");
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

/// An upstream with a submodule `lib/sub`, served by git's own protocol, which a clone of a submodule may use.
struct WithSubmodule {
    repositories: Repositories,
    sub: PathBuf,
    _server: crate::support::git::Server,
}

impl WithSubmodule {
    fn new() -> Self {
        let repositories = Repositories::new(FILES);
        let folder = repositories.folder.path().to_owned();
        let server = daemon(&folder);
        let sub = folder.join("sub");
        git(&folder, &["init", "-q", "-b", "main", "sub"]);
        repositories.commit(&sub, "sub 1", &[("s.py", "s = 1\n")]);
        let url = format!("git://127.0.0.1:{}/sub", server.port);
        git(&repositories.developer, &["submodule", "--quiet", "add", &url, "vendor/sub"]);
        repositories.publish("with a submodule", &[]);
        WithSubmodule { repositories, sub, _server: server }
    }

    fn publish_another(&self) {
        self.repositories.commit(&self.sub, "sub 2", &[("s.py", "s = 2\n")]);
        let inner = self.repositories.developer.join("vendor/sub");
        git(&inner, &["pull", "-q"]);
        git(&self.repositories.developer, &["add", "vendor/sub"]);
        self.repositories.publish("a newer submodule", &[]);
    }
}

#[test]
fn a_submodule_comes_changes_and_goes_with_the_checkout() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    there_and_back(repositories, &repositories.update());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 1\n");
    with.publish_another();
    let there = plan_move(&repositories.update());
    assert!(there.submodules && there.changes[0].submodule);
    there_and_back(repositories, &repositories.update());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 2\n");
    write(&repositories.live.join("vendor/sub/untracked"), "mine");
    assert!(matches!(plan(&repositories.update()), Ok(Target::UpToDate { .. })));
    git(&repositories.developer, &["rm", "-q", "vendor/sub"]);
    repositories.publish("without", &[]);
    let there = plan_move(&repositories.update());
    perform(&there.checkout);
    perform(&there.checkout.reverse());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 2\n");
    assert_eq!(repositories.read("vendor/sub/untracked"), "mine");
}

#[test]
fn changes_in_a_submodule_are_local_changes() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    perform(&plan_move(&repositories.update()).checkout);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    repositories.write("vendor/sub/s.py", "edited\n");
    let message = refusal(&repositories.update()).to_string();
    assert!(message.ends_with("`vendor/sub` (submodule)"), "{message}");
    perform(&plan_move(&keeping(repositories)).checkout);
    assert_eq!(repositories.read("vendor/sub/s.py"), "edited\n");
}

#[test]
fn the_next_tree_sees_what_the_live_checkout_sees() {
    let repositories = Repositories::new(FILES);
    let second = repositories.publish("second", &[("a.py", "a = 2\n"), ("b.py", ""), ("media/.keep", "x\n")]);
    let live = &repositories.live;
    git(live, &["config", "core.excludesFile", "/dev/null"]);
    write(&live.join(".git/info/exclude"), "/media/\n/venv/\n/.deploykit/\n/var/\n");
    write(&live.join(".git/hooks/post-checkout"), "#!/bin/sh\ntouch hooked\n");
    fs::set_permissions(
        live.join(".git/hooks/post-checkout"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    repositories.write("local.py", "SECRET = 1\n");
    repositories.write("media/photo", "photo");
    repositories.write("notes/one", "note");
    repositories.write("venv/bin/python", "python");
    repositories.write("var/cache/big", "big");
    repositories.write("var/data", "data");
    repositories.write("lib/__pycache__/c.pyc", "");
    repositories.write("gone/__pycache__/c.pyc", "");
    repositories.write("lib/c.py", "edited\n");
    fs::set_permissions(live.join("lib/c.py"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repositories.write("staged.py", "staged\n");
    git(live, &["add", "staged.py"]);
    let path = live.join(".deploykit/next");
    let host = Host::new();
    Repositories::update(&repositories).fetch(&host).unwrap();
    let before = repositories.state();
    let exclude = [PathBuf::from("venv"), live.join("var/cache")];
    let next = NextTree::prepare(&host, live, &path, &second, &exclude).unwrap();
    let link = |name: &str| format!("-> {}", live.join(name).display());
    let expected = [
        (".gitignore", "644 *.log\nlocal.py\n__pycache__\n".to_owned()),
        ("a.py", "644 a = 2\n".to_owned()),
        ("lib", "folder".to_owned()),
        ("lib/c.py", "755 edited\n".to_owned()),
        ("local.py", link("local.py")),
        ("media", "folder".to_owned()),
        ("media/.keep", "644 x\n".to_owned()),
        ("media/photo", link("media/photo")),
        ("notes", link("notes")),
        ("staged.py", "644 staged\n".to_owned()),
        ("var", "folder".to_owned()),
        ("var/data", link("var/data")),
    ];
    let expected: std::collections::BTreeMap<PathBuf, String> =
        expected.into_iter().map(|(path, text)| (path.into(), text)).collect();
    assert_eq!(files_below(&path), expected);
    let again = NextTree::prepare(&host, live, &path, &second, &exclude).unwrap();
    assert_eq!((files_below(&path), &again), (expected, &next));
    assert_eq!(git(live, &["worktree", "list"]).lines().count(), 2);
    next.remove(&host).unwrap();
    next.remove(&host).unwrap();
    assert!(!path.exists());
    assert_eq!(git(live, &["worktree", "list"]).lines().count(), 1);
    fs::remove_dir(live.join(".deploykit")).unwrap();
    assert_eq!(repositories.state(), before);
}

#[test]
fn a_damaged_next_tree_is_replaced_and_the_live_one_untouched() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n");
    let path = live.join(".deploykit/next");
    let host = Host::new();
    let commit = head(live);
    NextTree::prepare(&host, live, &path, &commit, &[]).unwrap();
    for damaged in [path.join(".git"), live.join(".git/worktrees/next")] {
        deploykit::host::files::remove_tree(&damaged).unwrap();
        repositories.write("a.py", "a = 'edited'\n");
        NextTree::prepare(&host, live, &path, &commit, &[]).unwrap();
        assert_eq!(fs::read_to_string(path.join("a.py")).unwrap(), "a = 'edited'\n");
        assert_eq!(repositories.read("a.py"), "a = 'edited'\n");
    }
    assert_eq!(git(live, &["branch", "--show-current"]), "main");
}

#[test]
fn the_next_tree_has_its_submodules() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    perform(&plan_move(&repositories.update()).checkout);
    with.publish_another();
    let there = plan_move(&repositories.update());
    let before = State::of(&repositories.live);
    let path = repositories.folder.path().join("next");
    let next = NextTree::prepare(&Host::new(), &repositories.live, &path, there.to(), &[]).unwrap();
    assert_eq!(fs::read_to_string(path.join("vendor/sub/s.py")).unwrap(), "s = 2\n");
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 1\n");
    next.remove(&Host::new()).unwrap();
    assert_eq!(State::of(&repositories.live), before);
}
