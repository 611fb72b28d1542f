//! Git: real repositories, real transports.

mod history;
mod hooks;
mod in_the_way;
mod names;
mod remote;
mod trees;
mod unusual;
mod way_back;
mod written;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit::internal::git::{ChangeStatus, Collision, GitError, Obstacle, Parked, StagedTree, Tree};
use deploykit::operations::git_update::{GitUpdate, LocalChanges, LocalCommits, Notice, Target};
use deploykit::operations::{perform as perform_change, undo};
use deploykit::{Check, Context, Host, Operation};

use crate::support::git::{
    Repositories, State, below_one_another, change, daemon, files_below, git, git_says, head, http_server,
    perform, plan, plan_move, refusal, write,
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
    assert!(matches!(plan(&update).unwrap(), Target::UpToDate { commit, .. } if commit == third));
}

#[test]
fn knowing_that_nothing_is_new_takes_one_question() {
    let repositories = Repositories::new(FILES);
    let transcript = repositories.directory.path().join("transcript");
    let host = Host::new().with_transcript(fs::File::create(&transcript).unwrap());
    let update = repositories.update();
    update.fetch(&host).unwrap();
    assert!(matches!(update.target(&host), Ok(Target::UpToDate { .. })));
    let text = fs::read_to_string(&transcript).unwrap();
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("$ ")).collect();
    assert!(matches!(commands[..], [question] if question.contains(" ls-remote ")), "{commands:?}");
}

#[test]
fn an_operation_performs_and_undoes_its_change() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let before = repositories.state();
    let change = change(&repositories.update());
    let mut context = Context::default();
    perform_change(&change, &mut context).unwrap();
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
