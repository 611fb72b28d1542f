//! Which checkout the directory belongs to, and what git says about its branch and remote.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::entries_of;
use super::{Found, InitError};
use deploykit::Command;
use deploykit::Host;

/// Finds the checkout around a directory, or the only one right below it.
pub(super) fn find(directory: &Path) -> Result<PathBuf, InitError> {
    // A file in the place of the directory is a worktree's or a submodule's.
    let is_checkout = |directory: &Path| directory.join(".git").exists();
    if let Some(found) = directory.ancestors().find(|directory| is_checkout(directory)) {
        return Ok(found.to_owned());
    }
    let mut below: Vec<PathBuf> =
        entries_of(directory).into_iter().filter(|path| is_checkout(path)).collect();
    match below.pop() {
        Some(only) if below.is_empty() => Ok(only),
        last => {
            below.extend(last);
            Err(InitError::NotACheckout { directory: directory.to_owned(), checkouts: below })
        }
    }
}

/// What git says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GitFacts {
    /// The names of the remotes.
    pub remotes: Vec<String>,
    /// The branch that is checked out; `None` on no branch.
    pub branch: Option<String>,
    /// The remote that this branch follows.
    pub upstream_remote: Option<String>,
    /// The branch over there that it follows.
    pub upstream_branch: Option<String>,
    /// For each remote, the branch that it names as its own.
    pub heads: Vec<(String, String)>,
    /// Branches of the remotes, as `remote/branch`.
    pub known: Vec<String>,
    /// Why git said nothing.
    pub failed: Option<String>,
}

/// Asks git.
pub(super) fn observe(repository: &Path, host: &Host) -> GitFacts {
    let ask = |args: &[&str]| {
        let mut command = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(args)
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .deadline(Duration::from_secs(30))
            .accept([1]);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"] {
            command = command.env_remove(name);
        }
        host.run(&command).map(|output| output.stdout.trim_end().to_owned())
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let mut facts = GitFacts::default();
    let answered = (|| {
        facts.remotes = ask(&["remote"])?.lines().map(str::to_owned).collect();
        facts.branch = some(ask(&["symbolic-ref", "-q", "--short", "HEAD"])?);
        if let Some(branch) = &facts.branch {
            facts.upstream_remote = some(ask(&["config", "--get", &format!("branch.{branch}.remote")])?);
            let merge = ask(&["config", "--get", &format!("branch.{branch}.merge")])?;
            facts.upstream_branch = merge.strip_prefix("refs/heads/").map(str::to_owned);
        }
        for line in ask(&["for-each-ref", "--format=%(refname) %(symref)", "refs/remotes"])?.lines() {
            let (name, target) = line.split_once(' ').unwrap_or((line, ""));
            let Some(name) = name.strip_prefix("refs/remotes/") else { continue };
            match name.strip_suffix("/HEAD") {
                Some(remote) => {
                    let head = target.strip_prefix(&format!("refs/remotes/{remote}/"));
                    facts.heads.extend(head.map(|head| (remote.to_owned(), head.to_owned())));
                }
                None => facts.known.push(name.to_owned()),
            }
        }
        Ok::<(), deploykit::CommandError>(())
    })();
    if let Err(error) = answered {
        let last = error.tail().last().map(|line| format!(": {line}"));
        facts.failed = Some(format!("{error}{}", last.unwrap_or_default()));
    }
    facts
}

/// Decides which remote and branch the site follows.
pub(super) fn decide(facts: &GitFacts) -> (Found<String>, Found<String>) {
    if let Some(failed) = &facts.failed {
        let question = format!("git could not be asked for it: {failed}");
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
            let question = format!("which of the remotes {} has the releases?", names(several));
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
        let question = "the checkout is on no branch; which one does the site follow?";
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

fn names(all: &[String]) -> String {
    all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
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
        assert!(branch.question.unwrap().contains("on no branch"));

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
