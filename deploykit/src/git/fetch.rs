//! The transport: `git fetch`, which changes objects and remote-tracking references only, and `git ls-remote`, which says
//! for half of the price that there is nothing to fetch.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::GitError;
use super::executable::transporting;
use super::repository::Repository;
use crate::command::Command;
use crate::host::{CommandError, Host};

/// Where the remote's tags are kept: a directory of deploykit's own, so that the user's tags stay as they are and a tag
/// that was moved on the remote is no obstacle.
const TAGS: &str = "refs/deploykit/tags";

/// The exit code of a git that does not know an option.
const USAGE: i32 = 129;

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Where the remote's branch was before, as far as this repository knew.
    pub before: Option<String>,
    /// Where it is.
    pub after: String,
}

/// What to fetch.
#[derive(Debug)]
pub(crate) struct Fetch<'f> {
    pub(crate) repository: PathBuf,
    pub(crate) remote: &'f str,
    pub(crate) branch: &'f str,
    /// Whether to fetch all branches and tags, of which one may be meant by a revision.
    pub(crate) everything: bool,
    pub(crate) deadline: Duration,
}

/// Returns the directory of references under which the tags of a remote are kept here.
pub(crate) fn tags_directory(remote: &str) -> String {
    format!("{TAGS}/{remote}")
}

/// Returns the reference under which a tag of the remote is kept here.
pub(crate) fn tag_reference(remote: &str, tag: &str) -> String {
    format!("{TAGS}/{remote}/{tag}")
}

impl Fetch<'_> {
    /// Asks the remote whether anything is new, and returns what is known already if not; changes nothing.
    pub(crate) fn nothing_new(&self, host: &Host) -> Result<Option<Fetched>, GitError> {
        let repository = Repository::open(&self.repository)?;
        // A remote that is not there is an error of its own.
        self.url(&repository)?;
        let before = repository.reference(&self.tracking())?.map(|id| id.to_string());
        let Some(known) = before.filter(|_| !self.everything) else { return Ok(None) };
        let is_newest = self.tip(host, &repository)?.as_ref() == Some(&known);
        Ok(is_newest.then(|| Fetched { before: Some(known.clone()), after: known }))
    }

    /// Fetches, whether anything is new or not.
    pub(crate) fn perform(&self, host: &Host) -> Result<Fetched, GitError> {
        let repository = Repository::open(&self.repository)?;
        let url = self.url(&repository)?;
        let (remote, branch) = (self.remote, self.branch);
        let tracking = self.tracking();
        let before = repository.reference(&tracking)?;
        // The log of the remote-tracking reference is what tells a rewritten history on a later run. Git packs what has
        // piled up after every fetch; where nothing came nothing piled up, so that is left to `tidy_up`.
        let settings = ["-c", "core.logAllRefUpdates=true", "-c", "maintenance.auto=false"];
        let mut command = not_too_slow(&repository, repository.git().args(settings));
        command = command.args(["fetch", "--no-tags", "--end-of-options", remote]);
        command = command.arg(format!("+refs/heads/{branch}:{tracking}"));
        if self.everything {
            command = command.arg(format!("+refs/heads/*:refs/remotes/{remote}/*"));
            command = command.arg(format!("+refs/tags/*:{TAGS}/{remote}/*"));
        }
        if let Err(error) = host.run(&transporting(command, self.deadline)) {
            return Err(self.explain(host, &repository, &url, error));
        }
        let missing = || GitError::BranchNotFound {
            remote: remote.to_owned(),
            branch: branch.to_owned(),
            known: Vec::new(),
        };
        let after = repository.reference(&tracking)?.ok_or_else(missing)?;
        if before != Some(after) || self.everything {
            tidy_up(host, &repository);
        }
        Ok(Fetched { before: before.map(|id| id.to_string()), after: after.to_string() })
    }

    /// Asks the remote where its branch is; changes nothing.
    pub(crate) fn ask(&self, host: &Host) -> Result<String, GitError> {
        let repository = Repository::open(&self.repository)?;
        let url = self.url(&repository)?;
        let heads = self.heads(host, &repository);
        let heads = heads.map_err(|error| self.failed(host, &repository, &url, error))?;
        let tip = heads.iter().find(|(name, _)| name == self.branch).map(|(_, tip)| tip.clone());
        tip.ok_or_else(|| self.lacks_branch(heads))
    }

    /// Returns the reference that says here where the remote's branch is.
    fn tracking(&self) -> String {
        format!("refs/remotes/{}/{}", self.remote, self.branch)
    }

    /// Asks where the remote's branch is; `None` when the remote does not say, which the fetch will explain.
    fn tip(&self, host: &Host, repository: &Repository) -> Result<Option<String>, GitError> {
        let command = not_too_slow(repository, repository.reading_git());
        let branch = format!("refs/heads/{}", self.branch);
        let command = command.args(["ls-remote", "--end-of-options", self.remote, &branch]);
        let output = match host.run(&transporting(command, self.deadline)) {
            Ok(output) => output,
            Err(CommandError::Failed { .. }) => return Ok(None),
            Err(error) => return Err(self.explain(host, repository, &self.url(repository)?, error)),
        };
        let mut lines = output.stdout.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines.find(|(_, name)| *name == branch).map(|(tip, _)| tip.to_owned()))
    }

    /// Returns the remote's address, a password in it included.
    fn url(&self, repository: &Repository) -> Result<String, GitError> {
        let names = || {
            let names = repository.git2.remotes().ok();
            names
                .map(|names| names.iter().flatten().flatten().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let remote = repository
            .git2
            .find_remote(self.remote)
            .map_err(|_| GitError::RemoteNotFound { remote: self.remote.to_owned(), known: names() })?;
        Ok(String::from_utf8_lossy(remote.url_bytes()).into_owned())
    }

    /// git ends with the same code for a missing branch and for a remote that cannot be reached: the list of the
    /// remote's branches tells.
    fn explain(&self, host: &Host, repository: &Repository, url: &str, error: CommandError) -> GitError {
        if matches!(error, CommandError::Failed { .. })
            && let Ok(heads) = self.heads(host, repository)
            && heads.iter().all(|(name, _)| name != self.branch)
        {
            return self.lacks_branch(heads);
        }
        self.failed(host, repository, url, error)
    }

    /// Lists the remote's branches: names and commits.
    fn heads(&self, host: &Host, repository: &Repository) -> Result<Vec<(String, String)>, CommandError> {
        let list = not_too_slow(repository, repository.reading_git());
        let list = list.args(["ls-remote", "--heads", "--end-of-options", self.remote]);
        let output = host.run(&transporting(list, self.deadline))?;
        let lines = output.stdout.lines().filter_map(|line| line.split_once("\trefs/heads/"));
        Ok(lines.map(|(tip, name)| (name.to_owned(), tip.to_owned())).collect())
    }

    fn failed(&self, host: &Host, repository: &Repository, url: &str, error: CommandError) -> GitError {
        let (remote, url) = (self.remote.to_owned(), host.redactor().redact(url).into_owned());
        match error {
            CommandError::DeadlinePassed { deadline, .. } => GitError::RemoteSilent { remote, url, deadline },
            error @ CommandError::Failed { .. } => GitError::Fetch { remote, url, source: Box::new(error) },
            error => GitError::Command { path: repository.top.clone(), source: Box::new(error) },
        }
    }

    fn lacks_branch(&self, heads: Vec<(String, String)>) -> GitError {
        let (remote, branch) = (self.remote.to_owned(), self.branch.to_owned());
        GitError::BranchNotFound { remote, branch, known: heads.into_iter().map(|(name, _)| name).collect() }
    }
}

/// Lets git pack what has piled up, in the background, as it does by itself after a fetch.
fn tidy_up(host: &Host, repository: &Repository) {
    if !repository.flag("maintenance.auto", true) {
        return;
    }
    let command = || repository.git().args(["maintenance", "run", "--auto", "--quiet"]);
    let done = match host.run_unread(&command().arg("--detach")) {
        // Before 2.46 it goes into the background unasked, and does not know the word.
        Err(CommandError::Failed { code: USAGE, .. }) => host.run_unread(&command()),
        done => done,
    };
    // Before 2.29 git knows neither the command nor the setting, and has done it by itself.
    if let Err(error) = done {
        log::debug!("{error}");
    }
}

/// Lets git give up a remote that answers, but hardly; what the user has configured stays.
fn not_too_slow(repository: &Repository, command: Command) -> Command {
    if is_configured(repository, "http.lowSpeedLimit") || is_configured(repository, "http.lowSpeedTime") {
        return command;
    }
    command.args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"])
}

fn is_configured(repository: &Repository, name: &str) -> bool {
    repository.git2.config().is_ok_and(|config| config.get_entry(name).is_ok())
}
