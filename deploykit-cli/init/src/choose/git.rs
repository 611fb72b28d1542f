//! Chooses the remote and the branch that the site follows.

use crate::findings::{Found, in_backticks};
use crate::read::git::GitFacts;

/// Decides which remote and branch the site follows.
pub(crate) fn decide(facts: &GitFacts) -> (Found<String>, Found<String>) {
    if let Some(failed) = &facts.failed {
        let question = format!("git failed: {failed}");
        return (
            Found::guess("origin".to_owned(), question.clone()),
            Found::guess("main".to_owned(), question),
        );
    }
    let remote = remote(facts);
    let branch = branch(facts, remote.value.as_deref().unwrap_or("origin"));
    (remote, branch)
}

fn remote(facts: &GitFacts) -> Found<String> {
    let is_there = |name: &&String| facts.remotes.contains(name);
    if let Some(upstream) = facts.upstream_remote.as_ref().filter(is_there) {
        return Found::new(upstream.clone(), "what the branch follows");
    }
    match facts.remotes.as_slice() {
        [] => Found::guess(
            "origin".to_owned(),
            "the checkout has no remote; add one with `git remote add origin URL`",
        ),
        [only] => Found::new(only.clone(), "the only remote"),
        several => {
            let question = format!("which of the remotes {} has the releases?", in_backticks(several));
            match several.iter().find(|name| *name == "origin") {
                Some(origin) => Found::new(origin.clone(), "git remote"),
                None => Found::guess(several[0].clone(), question),
            }
        }
    }
}

fn branch(facts: &GitFacts, remote: &str) -> Found<String> {
    let head = facts.heads.iter().find(|(name, _)| name == remote).map(|(_, branch)| branch.clone());
    let prefix = format!("{remote}/");
    let known: Vec<&str> = facts.known.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
    let Some(current) = &facts.branch else {
        let usual =
            || known.iter().find(|name| ["main", "master"].contains(*name)).map(|name| (*name).to_owned());
        let question = "HEAD is detached; which branch does the site follow?";
        return Found::guess(head.or_else(usual).unwrap_or_else(|| "main".to_owned()), question);
    };
    if let Some(upstream) = facts.upstream_branch.as_ref().filter(|upstream| *upstream != current) {
        let question =
            format!("the local branch `{current}` follows `{remote}/{upstream}`, which has another name");
        return Found::guess(upstream.clone(), question);
    }
    if !known.is_empty() && !known.contains(&current.as_str()) {
        let question = format!("`{remote}` has no branch `{current}`, the one that is checked out");
        return Found::guess(head.unwrap_or_else(|| current.clone()), question);
    }
    let source = match head {
        Some(head) if head != *current => {
            format!("the branch that is checked out ({remote}'s default is {head})")
        }
        _ => "the branch that is checked out".to_owned(),
    };
    Found::new(current.clone(), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(remotes: &[&str], branch: Option<&str>, known: &[&str]) -> GitFacts {
        GitFacts {
            remotes: remotes.iter().map(|name| (*name).to_owned()).collect(),
            branch: branch.map(str::to_owned),
            known: known.iter().map(|name| (*name).to_owned()).collect(),
            ..GitFacts::default()
        }
    }

    #[test]
    fn the_branch_that_is_checked_out_is_the_sites() {
        let mut facts = facts(&["origin"], Some("production"), &["origin/main", "origin/production"]);
        facts.heads = vec![("origin".into(), "main".into())];
        let (remote, branch) = decide(&facts);
        assert_eq!(remote, Found::new("origin".into(), "the only remote"));
        assert_eq!(
            branch,
            Found::new("production".into(), "the branch that is checked out (origin's default is main)")
        );
    }

    #[test]
    fn the_remote_that_the_branch_follows_comes_before_origin() {
        let mut facts = facts(&["fork", "origin"], Some("main"), &["fork/main", "origin/main"]);
        facts.upstream_remote = Some("fork".into());
        assert_eq!(decide(&facts).0.value.as_deref(), Some("fork"));
        facts.upstream_remote = None;
        assert_eq!(decide(&facts).0.value.as_deref(), Some("origin"));
    }

    #[test]
    fn what_is_not_plain_is_asked() {
        let (_, branch) = decide(&facts(&["origin"], None, &["origin/master"]));
        assert_eq!(branch.value.as_deref(), Some("master"));
        assert!(branch.question.unwrap().contains("HEAD is detached"));

        let (_, branch) = decide(&facts(&["origin"], Some("hotfix"), &["origin/master"]));
        assert_eq!(
            branch.question.as_deref(),
            Some("`origin` has no branch `hotfix`, the one that is checked out")
        );

        let mut other = facts(&["origin"], Some("live"), &["origin/main"]);
        other.upstream_branch = Some("main".into());
        let (_, branch) = decide(&other);
        assert_eq!(branch.value.as_deref(), Some("main"));
        assert!(branch.question.is_some());

        let (remote, _) = decide(&facts(&[], Some("main"), &[]));
        assert!(remote.question.unwrap().contains("no remote"));
        let (remote, _) = decide(&facts(&["a", "b"], Some("main"), &[]));
        assert_eq!(remote.question.as_deref(), Some("which of the remotes `a`, `b` has the releases?"));
    }
}
