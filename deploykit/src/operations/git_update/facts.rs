//! What is to be known before a checkout may be moved.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use git2::{ErrorCode, Oid};
use serde::{Deserialize, Serialize};

use super::{GitUpdate, LocalCommits};
use crate::git::{
    self, Collision, Commit, GitError, Head, LocalChange, MissingFilter, PathChange, Reading, Rebase,
    Repository, Unwritable, oid,
};
use crate::host::{CommandError, Host};

/// How many commits are read in full.
pub(super) const READ: usize = 1000;

/// What was observed of a checkout and of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFacts {
    /// The top of the checkout.
    pub repository: PathBuf,
    /// Where HEAD and the local branch are.
    pub head: Head,
    /// The commit that the remote's branch or the revision leads to.
    pub target: Commit,
    /// What the target is called: `origin/main`, `tag v1.2`, a commit id.
    pub upstream: String,
    /// Whether the target is part of what is checked out already.
    pub target_is_older: bool,
    /// Commits of HEAD, and of the local branch, that the target lacks and the remote never had, newest first.
    pub local_commits: Vec<Commit>,
    /// Commits that the target lacks and the remote's branch has: the revision goes another way.
    pub diverged: Vec<Commit>,
    /// Commits that the target lacks, and that the remote's branch once had: its history was rewritten.
    pub lost: Vec<Commit>,
    /// The commits that come in, newest first; of a very large number only the newest.
    pub incoming: Vec<Commit>,
    /// How many come in.
    pub incoming_count: usize,
    /// What became of putting the local commits on top of the target, if it was tried.
    pub rebase: Option<Rebase>,
    /// What waits to be finished: a merge, a rebase.
    pub operation: Option<String>,
    /// The lock of the index, if another git has it, and its age.
    pub index_lock: Option<(PathBuf, Option<Duration>)>,
    /// Tracked files that are not as HEAD has them.
    pub local_changes: Vec<LocalChange>,
    /// What differs between HEAD and the commit to go to.
    pub changes: Vec<PathChange>,
    /// Untracked and ignored files where the commit to go to has files.
    pub obstacles: Vec<Collision>,
    /// What the move changes and this process can neither write nor remove.
    #[serde(default)]
    pub unwritable: Vec<Unwritable>,
    /// Whether the target's signature is good; `None`: it was not asked for.
    pub signature: Option<Signature>,
    /// Whether there are submodules before or after.
    pub submodules: bool,
    /// Filters that the commit to go to asks for and that are not there.
    pub filters: Vec<MissingFilter>,
}

/// What the check of a signature said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// It is good, and its key is trusted.
    Good,
    /// It is missing, bad, or of an unknown key.
    Bad {
        /// The last lines of git and the checker.
        tail: Vec<String>,
    },
}

impl GitFacts {
    /// Makes the facts of a checkout about which nothing more is known than where it is and where it is to go.
    #[must_use]
    pub fn new(repository: PathBuf, head: Head, target: Commit, upstream: String) -> Self {
        GitFacts { repository, head, target, upstream, ..GitFacts::default() }
    }

    /// Returns the commit to go to.
    #[must_use]
    pub fn goal(&self) -> &str {
        match &self.rebase {
            Some(Rebase::Possible { tip, .. }) => tip,
            _ => &self.target.id,
        }
    }
}

pub(super) fn observe(update: &GitUpdate, host: &Host) -> Result<GitFacts, GitError> {
    let repository = Repository::open(&update.repository)?;
    let (target, upstream) = resolve(update, &repository)?;
    let head = repository.head(&update.branch)?;
    let mut facts = GitFacts::new(repository.top.clone(), head, repository.commit(target)?, upstream);
    if super::decide::is_up_to_date(update, &facts) {
        return Ok(facts);
    }
    observe_history(update, host, &repository, &mut facts)?;
    if super::decide::is_up_to_date(update, &facts) {
        return Ok(facts);
    }
    observe_rest(update, host, &repository, &mut facts)?;
    Ok(facts)
}

/// Observes all of it, also where HEAD is at the target. If the branch was never fetched, HEAD stands for the target.
pub(super) fn observe_all(update: &GitUpdate, host: &Host) -> Result<GitFacts, GitError> {
    let repository = Repository::open(&update.repository)?;
    let head = repository.head(&update.branch)?;
    let (target, upstream) = match resolve(update, &repository) {
        Err(GitError::BranchNotFound { remote, branch, .. }) => {
            (oid(&head.commit)?, format!("{remote}/{branch}"))
        }
        resolved => resolved?,
    };
    let mut facts = GitFacts::new(repository.top.clone(), head, repository.commit(target)?, upstream);
    observe_history(update, host, &repository, &mut facts)?;
    observe_rest(update, host, &repository, &mut facts)?;
    Ok(facts)
}

fn observe_rest(
    update: &GitUpdate,
    host: &Host,
    repository: &Repository,
    facts: &mut GitFacts,
) -> Result<(), GitError> {
    observe_files(host, repository, facts)?;
    let target = oid(&facts.target.id)?;
    facts.signature = update.verify_signature.then(|| signature(host, repository, target)).transpose()?;
    Ok(())
}

fn observe_history(
    update: &GitUpdate,
    host: &Host,
    repository: &Repository,
    facts: &mut GitFacts,
) -> Result<(), GitError> {
    let (head, target) = (oid(&facts.head.commit)?, oid(&facts.target.id)?);
    let branch = facts.head.branch_commit.as_deref().map(oid).transpose()?;
    let tips: Vec<Oid> = std::iter::once(head).chain(branch).collect();
    facts.target_is_older = head != target && repository.contains(head, target)?;
    (facts.incoming, facts.incoming_count) = repository.commits(&[target], &[head], READ)?;

    let missing = repository.ids(&tips, &[target])?;
    if !missing.is_empty() {
        let tracking = format!("refs/remotes/{}/{}", update.remote, update.branch);
        let now = repository.reference(&tracking)?;
        let known: Vec<Oid> = now.into_iter().chain([target]).collect();
        let beyond: HashSet<Oid> = repository.ids(&tips, &known)?.into_iter().collect();
        let once = repository.once_at(&tracking);
        let once: HashSet<Oid> = repository.ids(&once, &known)?.into_iter().collect();
        for id in missing {
            let commit = repository.commit(id)?;
            match (beyond.contains(&id), once.contains(&id)) {
                (false, _) => facts.diverged.push(commit),
                (true, true) => facts.lost.push(commit),
                (true, false) => facts.local_commits.push(commit),
            }
        }
    }
    let rebases = update.local_commits == LocalCommits::Rebase
        && facts.head.branch.as_ref() == Some(&update.branch)
        && !facts.local_commits.is_empty()
        && facts.lost.is_empty()
        && facts.diverged.is_empty()
        && !facts.target_is_older;
    facts.rebase = rebases.then(|| git::rebase(host, repository, head, target)).transpose()?;
    Ok(())
}

pub(super) fn observe_files(
    host: &Host,
    repository: &Repository,
    facts: &mut GitFacts,
) -> Result<(), GitError> {
    facts.operation = git::operation_in_progress(repository).map(str::to_owned);
    facts.index_lock = git::index_lock(repository).map(|path| (path.clone(), git::age(&path)));
    facts.changes = git::changes(repository, oid(&facts.head.commit)?, oid(facts.goal())?, true)?;
    facts.local_changes = git::local_changes(host, repository)?;
    facts.obstacles = git::obstacles(host, repository, &facts.changes, &facts.local_changes)?;
    facts.unwritable = git::unwritable(repository, &facts.changes);
    facts.submodules = git::has_submodules(&repository.top, &facts.head.commit)?
        || git::has_submodules(&repository.top, facts.goal())?;
    facts.filters = git::missing_filters(host, repository, facts.goal())?;
    Ok(())
}

/// Finds the commit to go to, among what was fetched, and its name.
fn resolve(update: &GitUpdate, repository: &Repository) -> Result<(Oid, String), GitError> {
    let (remote, branch) = (&update.remote, &update.branch);
    let tracking = |branch: &str| format!("refs/remotes/{remote}/{branch}");
    let branches = || repository.names_below(&format!("refs/remotes/{remote}"));
    let Some(revision) = &update.revision else {
        return match repository.reference(&tracking(branch))? {
            Some(commit) => Ok((commit, format!("{remote}/{branch}"))),
            None => Err(GitError::BranchNotFound {
                remote: remote.clone(),
                branch: branch.clone(),
                known: branches()?,
            }),
        };
    };
    let name = revision.strip_prefix("refs/heads/").unwrap_or(revision);
    let name = name.strip_prefix(&format!("{remote}/")).unwrap_or(name);
    if let Some(commit) = repository.reference(&tracking(name))? {
        return Ok((commit, format!("{remote}/{name}")));
    }
    let tag = revision.strip_prefix("refs/tags/").unwrap_or(revision);
    for reference in [git::tag_reference(remote, tag), format!("refs/tags/{tag}")] {
        if let Some(commit) = repository.reference(&reference)? {
            return Ok((commit, format!("tag {tag}")));
        }
    }
    let is_id = (4..=40).contains(&revision.len()) && revision.chars().all(|c| c.is_ascii_hexdigit());
    if is_id {
        match repository.git2.find_commit_by_prefix(revision) {
            Ok(commit) => return Ok((commit.id(), commit.id().to_string())),
            Err(error) if error.code() == ErrorCode::Ambiguous => {
                return Err(GitError::RevisionAmbiguous { revision: revision.clone() });
            }
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error).reading(format!("the commit `{revision}`")),
        }
    }
    let mut near = branches()?;
    near.extend(repository.names_below(&git::tags_directory(remote))?);
    near.extend(repository.names_below("refs/tags")?);
    Err(GitError::RevisionNotFound {
        revision: revision.clone(),
        remote: remote.clone(),
        near: nearest(revision, near),
    })
}

/// Returns up to three names that are written much like the one that was asked for, the nearest first.
fn nearest(wanted: &str, names: Vec<String>) -> Vec<String> {
    let mut near: Vec<(f64, String)> =
        names.into_iter().map(|name| (strsim::jaro_winkler(wanted, &name), name)).collect();
    near.retain(|(likeness, _)| *likeness > 0.7);
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Reads what the checker said: gpg and gpgsm in lines for programs, ssh-keygen in a sentence that names who may sign. Git
/// before 2.26 does not know the setting above, and takes the signature of an expired key for good.
fn is_trusted(said: &str) -> bool {
    let says = |words: &[&str]| {
        said.lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] "))
            .any(|line| words.contains(&line.split_whitespace().next().unwrap_or_default()))
    };
    let by_gpg = says(&["GOODSIG"]) && says(&["TRUST_FULLY", "TRUST_ULTIMATE"]);
    by_gpg || said.lines().any(|line| line.starts_with("Good \"git\" signature for "))
}

fn signature(host: &Host, repository: &Repository, commit: Oid) -> Result<Signature, GitError> {
    // By itself git is content with a key that nobody vouches for.
    let command = repository.reading_git().args(["-c", "gpg.minTrustLevel=fully"]);
    let command = command.args(["verify-commit", "--raw", &commit.to_string()]);
    match host.run(&command) {
        Ok(output) if is_trusted(&output.stderr) => Ok(Signature::Good),
        Ok(output) => Ok(Signature::Bad { tail: output.tail }),
        Err(CommandError::Failed { tail, .. }) => Ok(Signature::Bad { tail }),
        Err(source) => Err(GitError::Command { path: repository.top.clone(), source: Box::new(source) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_signature_counts_when_somebody_vouches_for_the_key() {
        let gpg = |lines: &[&str]| lines.iter().map(|line| format!("[GNUPG:] {line}\n")).collect::<String>();
        assert!(is_trusted(&gpg(&["GOODSIG 01 Ada", "VALIDSIG 01", "TRUST_ULTIMATE 0 pgp"])));
        assert!(is_trusted(&gpg(&["GOODSIG 01 Ada", "TRUST_FULLY"])));
        for trust in ["TRUST_UNDEFINED", "TRUST_NEVER", "TRUST_MARGINAL"] {
            assert!(!is_trusted(&gpg(&["GOODSIG 01 Ada", trust])), "{trust}");
        }
        assert!(!is_trusted(&gpg(&["EXPKEYSIG 01 Ada", "TRUST_FULLY"])), "the key has expired");
        assert!(!is_trusted("GOODSIG TRUST_FULLY"), "anybody can write that");
        assert!(is_trusted("Good \"git\" signature for ada@example.org with ED25519 key SHA256:x\n"));
        assert!(!is_trusted("Good \"git\" signature with ED25519 key SHA256:x\nNo principal matched.\n"));
        assert!(!is_trusted(""));
    }
}
