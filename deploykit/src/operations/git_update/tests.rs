use std::path::{Path, PathBuf};

use super::*;
use crate::git::{ChangeStatus, Collision, Head, LocalChange, LocalChangeKind, Obstacle, Rebase};

fn commit(digit: char, subject: &str) -> Commit {
    Commit { id: String::from(digit).repeat(40), subject: subject.to_owned() }
}

fn id(digit: char) -> String {
    commit(digit, "").id
}

fn update() -> GitUpdate {
    GitUpdate { branch: "main".to_owned(), ..GitUpdate::new("/srv/site") }
}

fn keeping() -> GitUpdate {
    GitUpdate { local_changes: LocalChanges::Keep, ..update() }
}

/// `main` is at commit 1, `origin/main` one further at commit 2, which changes `a.py`.
fn facts() -> GitFacts {
    let head = Head { branch: Some("main".into()), commit: id('1'), branch_commit: Some(id('1')) };
    let mut facts = GitFacts::new("/srv/site".into(), head, commit('2', "second"), "origin/main".to_owned());
    facts.incoming = vec![commit('2', "second")];
    facts.incoming_count = 1;
    facts.changes =
        vec![PathChange { path: "a.py".into(), status: ChangeStatus::Modified, submodule: false }];
    facts
}

fn edit(path: &str, kind: LocalChangeKind) -> LocalChange {
    LocalChange { path: path.into(), kind }
}

fn planned(update: &GitUpdate, facts: &GitFacts) -> Move {
    match update.decide(facts) {
        Ok(Target::Move(there)) => *there,
        other => panic!("expected a move, got {other:?}"),
    }
}

#[track_caller]
fn refused(update: &GitUpdate, facts: &GitFacts, message: &str) {
    assert_eq!(update.decide(facts).unwrap_err().to_string(), message);
}

#[test]
fn a_fast_forward_moves_head_and_branch_and_its_undo_moves_them_back() {
    let there = planned(&update(), &facts());
    assert_eq!((there.from(), there.to()), (id('1').as_str(), id('2').as_str()));
    let change = there.change();
    assert_eq!(change.reason, "1 new commit on origin/main");
    assert_eq!((change.before.as_str(), change.after.as_str()), ("1111111", "2222222"));
    assert_eq!(change.details, ["2222222 second"]);
    let [Action::Checkout(back)] = change.undo.as_slice() else { panic!("{:?}", change.undo) };
    assert_eq!((&back.from, &back.to), (&there.checkout.to, &there.checkout.from));
    assert!(back.restore && !there.checkout.restore);
}

#[test]
fn head_at_the_target_and_on_the_branch_is_up_to_date_whatever_else_is_the_case() {
    let mut facts = facts();
    facts.head.commit = id('2');
    facts.operation = Some("bisect".to_owned());
    assert!(matches!(update().decide(&facts).unwrap(), Target::UpToDate { commit, .. } if commit == id('2')));
}

#[test]
fn head_at_the_target_and_elsewhere_is_attached() {
    let mut facts = facts();
    facts.head = Head { branch: None, commit: id('2'), branch_commit: Some(id('1')) };
    (facts.incoming, facts.incoming_count) = (Vec::new(), 0);
    let there = planned(&update(), &facts);
    assert_eq!(there.reason(), "HEAD is not on `main`");
    assert_eq!(there.change().details, ["HEAD is detached; it will be on `main`"]);
    facts.head.branch = Some("topic".to_owned());
    assert_eq!(planned(&update(), &facts).change().details, ["HEAD is on `topic`; it will be on `main`"]);
}

#[test]
fn what_waits_to_be_finished_is_refused() {
    let mut facts = facts();
    facts.index_lock = Some(("/srv/site/.git/index.lock".into(), Some(Duration::from_secs(7300))));
    refused(
        &keeping(),
        &facts,
        "`/srv/site/.git/index.lock` is there, 2 hours old: another git process is running, or one was ended before it could \
         finish",
    );
    facts.operation = Some("rebase".to_owned());
    refused(&keeping(), &facts, "a rebase is in progress in `/srv/site`");
}

#[test]
fn local_changes_are_refused_unless_they_are_kept_or_do_not_count() {
    let mut facts = facts();
    facts.local_changes =
        vec![edit("b.py", LocalChangeKind::Deleted), edit("conf/x", LocalChangeKind::Staged)];
    refused(
        &update(),
        &facts,
        "2 files are changed locally in `/srv/site`: `b.py` (deleted), `conf/x` (staged)",
    );
    assert_eq!(planned(&keeping(), &facts).local_edits, ["b.py", "conf/x"].map(PathBuf::from));
    let ignoring = GitUpdate { ignore: vec!["/srv/site/conf".into()], ..update() };
    refused(&ignoring, &facts, "1 file is changed locally in `/srv/site`: `b.py` (deleted)");
    let ignoring = GitUpdate { ignore: vec!["conf".into(), "b.py".into()], ..update() };
    assert_eq!(planned(&ignoring, &facts).local_edits.len(), 2);
}

#[test]
fn files_in_conflict_are_not_kept() {
    let mut facts = facts();
    facts.local_changes =
        vec![edit("b.py", LocalChangeKind::Unmerged), edit("c.py", LocalChangeKind::Modified)];
    refused(&keeping(), &facts, "1 file is changed locally in `/srv/site`: `b.py` (in conflict)");
}

#[test]
fn what_is_in_the_way_is_named_together_and_also_where_it_does_not_count_as_a_change() {
    let mut facts = facts();
    facts.local_changes =
        vec![edit("a.py", LocalChangeKind::Modified), edit("b.py", LocalChangeKind::Modified)];
    facts.obstacles = vec![Collision { path: "local.py".into(), kind: Obstacle::Ignored }];
    let message = "the update would overwrite 2 files: `a.py` (changed locally), `local.py` (ignored)";
    refused(&keeping(), &facts, message);
    refused(&GitUpdate { ignore: vec!["a.py".into(), "b.py".into()], ..update() }, &facts, message);
}

#[test]
fn local_commits_are_refused_where_no_rebase_was_tried() {
    let mut facts = facts();
    facts.local_commits = (0..12).map(|number| commit('3', &format!("work {number}"))).collect();
    let message = update().decide(&facts).unwrap_err().to_string();
    assert!(
        message.starts_with("12 local commits are not in `origin/main`: `3333333 work 0`, "),
        "{message}"
    );
    assert!(message.ends_with("`3333333 work 9` and 2 more"), "{message}");
}

#[test]
fn a_rebase_leads_to_its_tip() {
    let mut facts = facts();
    facts.local_commits = vec![commit('3', "mine"), commit('4', "the same")];
    facts.rebase = Some(Rebase::Possible {
        tip: id('5'),
        applied: vec![commit('3', "mine")],
        dropped: vec![commit('4', "the same")],
    });
    let rebasing = GitUpdate { local_commits: LocalCommits::Rebase, ..update() };
    let there = planned(&rebasing, &facts);
    assert_eq!(there.to(), id('5'));
    assert_eq!(
        there.change().details[1..],
        [
            "1 local commit will be put on top of origin/main",
            "origin/main has the changes of 1 local commit already"
        ]
    );
    facts.rebase = Some(Rebase::Merges { commits: vec![commit('3', "a merge")] });
    refused(
        &rebasing,
        &facts,
        "the local commits cannot be rebased onto `origin/main`: 1 among them is a merge: `3333333 a merge`",
    );
    let paths = vec!["a.py".into(), "b.py".into()];
    facts.rebase = Some(Rebase::Conflict { commit: commit('3', "mine"), paths });
    refused(
        &rebasing,
        &facts,
        "the local commit `3333333 mine` conflicts with `origin/main` in `a.py`, `b.py`",
    );
}

#[test]
fn local_commits_on_top_of_the_newest_one_are_up_to_date_only_where_they_may_be_rebased() {
    let mut facts = facts();
    facts.target_is_older = true;
    facts.local_commits = vec![commit('1', "mine")];
    let rebasing = GitUpdate { local_commits: LocalCommits::Rebase, ..update() };
    assert!(matches!(rebasing.decide(&facts).unwrap(), Target::UpToDate { commit, .. } if commit == id('1')));
    refused(&update(), &facts, "1 local commit is not in `origin/main`: `1111111 mine`");
    facts.lost = facts.local_commits.split_off(0);
    assert!(matches!(rebasing.decide(&facts), Err(GitError::HistoryRewritten { .. })));
}

#[test]
fn rewritten_history_goes_before_local_commits() {
    let mut facts = facts();
    facts.lost = vec![commit('6', "lost"), commit('7', "too")];
    facts.local_commits = vec![commit('3', "mine")];
    refused(
        &update(),
        &facts,
        "the history of `origin/main` was rewritten: 2 commits that are checked out here are no longer in it: \
         `6666666 lost`, `7777777 too`",
    );
}

#[test]
fn a_revision_behind_or_beside_is_refused() {
    let to = GitUpdate { revision: Some("v1".to_owned()), ..update() };
    let mut facts = facts();
    facts.upstream = "tag v1".to_owned();
    facts.diverged = vec![commit('1', "first")];
    refused(&to, &facts, "`v1` lacks 1 commit of `origin/main` that is checked out: `1111111 first`");
    facts.target_is_older = true;
    refused(&to, &facts, "`v1` (2222222) is older than what is checked out (1111111)");
}

#[test]
fn a_bad_signature_is_refused() {
    let mut facts = facts();
    facts.signature = Some(Signature::Good);
    planned(&update(), &facts);
    facts.signature = Some(Signature::Bad { tail: vec!["no principal matched".to_owned()] });
    refused(&update(), &facts, "`2222222 second` has no good signature of a trusted key");
}

#[test]
fn a_commit_cannot_bring_state_wherever_the_state_directory_is() {
    for (path, brought) in [
        (".deploykit/runs/20991231-1/journal.jsonl", true),
        ("deploy/.deploykit/current.json", true),
        (".DeployKit/site.json", true),
        (".deploykit", true),
        ("docs/.deploykit.md", false),
        ("deploykit/runs", false),
    ] {
        let mut facts = facts();
        facts.changes = vec![PathChange { path: path.into(), status: ChangeStatus::Added, submodule: false }];
        match keeping().decide(&facts) {
            Err(GitError::BringsState { paths, .. }) => {
                assert!(brought && paths == [Path::new(path)], "{path}")
            }
            other => assert!(!brought && other.is_ok(), "{path}: {other:?}"),
        }
        facts.changes[0].status = ChangeStatus::Deleted;
        planned(&update(), &facts);
    }
}

#[test]
fn facts_and_moves_survive_the_journal() {
    let facts = facts();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<GitFacts>(&text).unwrap(), facts);
    let there = planned(&update(), &facts);
    let text = serde_json::to_string(&there).unwrap();
    assert_eq!(serde_json::from_str::<Move>(&text).unwrap(), there);
    assert_eq!(there.checkout.repository, Path::new("/srv/site"));
}
