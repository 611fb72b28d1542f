//! Hints: an error of the library says what failed, its hint says what to do.

mod django;
mod flags;
mod locks;
mod python;
mod services;

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use deploykit::CommandError;
use deploykit::action::ActionError;
use deploykit::errors::MemoryError;
use deploykit::internal::git::{GitError, LocalChangeKind};
use deploykit::internal::journal::JournalError;
use deploykit::internal::lock::{Holder, LockError};
use deploykit::internal::owners::DistrustError;
use deploykit::internal::state::OwnerError;
use deploykit::operations::maintenance::MaintenanceError;
use deploykit::operations::smoke_check::{PageResult, SmokeError};
use deploykit::report::Report;
use deploykit::site::{ClaimError, ConfigError, UnknownKey};
use deploykit::update::{JobError, PreparationError, RollbackError, UpdateError};
use deploykit_init::InitError;

pub use flags::in_flags;

/// Returns the hints for an error and its causes.
pub fn hints(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut hints = Vec::new();
    let mut current = Some(error);
    while let Some(error) = current {
        hints.extend(hint(error));
        current = error.source();
    }
    hints.dedup();
    hints
}

/// Returns the hint for files that services have not read since they were edited.
pub fn of_unread(report: &Report) -> Vec<String> {
    let hint = "make the services read the files: `deploykit services restart`".to_owned();
    if report.unread.is_empty() { Vec::new() } else { vec![hint] }
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<UpdateError>() {
        return match error {
            UpdateError::Unfinished { can_finish: true, .. } => {
                Some("roll back with `deploykit recover`, or complete the run with `deploykit recover --forward`; see `deploykit status`".into())
            }
            UpdateError::Unfinished { can_finish: false, .. } | UpdateError::NoWayForward { .. } => {
                Some("roll back with `deploykit recover`".into())
            }
            UpdateError::Locked(error) => hint(error),
            UpdateError::Claim(error) => claim(error),
            UpdateError::Journal(error) => hint(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<ActionError>() {
        return match error {
            ActionError::Command(error) => hint(error),
            ActionError::Git(error) => git(error),
            ActionError::Python(error) => python::hint(error),
            ActionError::Service(error) => services::hint(error),
            ActionError::Jobs(error) => services::of_jobs(error),
            ActionError::Memory(error) => hint(error),
            ActionError::Django(error) => django::hint(error),
            ActionError::Smoke(error) => hint(error),
            _ => None,
        };
    }
    if let Some(LockError::Held { holder: Some(Holder { paused: Some(_), .. }) }) = error.downcast_ref() {
        return Some("`deploykit update --continue` lets it go on, `deploykit recover` rolls it back".into());
    }
    if let Some(LockError::Held { .. }) = error.downcast_ref() {
        return Some(
            "watch it with `deploykit status --follow`, or wait for its end with `--lock-wait 15m`".into(),
        );
    }
    if let Some(LockError::Inside { .. }) = error.downcast_ref() {
        return Some(
            "in a step or a hook, call the program itself: `python manage.py …` instead of `deploykit manage`, or `manage = […]` in the step".into(),
        );
    }
    if let Some(ConfigError::NotFound { .. }) = error.downcast_ref() {
        return Some("write one with `deploykit init`, or name it with `--config FILE`".into());
    }
    if let Some(ConfigError::Read { path, source }) = error.downcast_ref()
        && source.kind() == ErrorKind::NotFound
    {
        let variable = std::env::var_os("DEPLOYKIT_CONFIG").filter(|variable| Path::new(variable) == path);
        let by = if variable.is_some() { "`DEPLOYKIT_CONFIG`" } else { "`--config`" };
        let path = path.display();
        return Some(format!(
            "{by} names this file: correct the path, or write the file with `deploykit init -c {path}`"
        ));
    }
    if let Some(UnknownKey { near, .. }) = error.downcast_ref() {
        let near = near.as_ref().map(|near| format!("did you mean `{near}`?"));
        return Some(near.unwrap_or_else(|| "list all keys: `deploykit docs`".to_owned()));
    }
    if let Some(ConfigError::Distrust(error)) = error.downcast_ref() {
        return distrust(error);
    }
    if let Some(error) = error.downcast_ref() {
        return distrust(error);
    }
    if let Some(error) = error.downcast_ref() {
        return claim(error);
    }
    if let Some(JournalError::Foreign { .. }) = error.downcast_ref() {
        return Some(ADOPT.to_owned());
    }
    if let Some(error) = error.downcast_ref() {
        return preparation(error);
    }
    if let Some(error) = error.downcast_ref() {
        return rollback(error);
    }
    if let Some(error) = error.downcast_ref() {
        return git(error);
    }
    if let Some(error) = error.downcast_ref() {
        return python::hint(error);
    }
    if let Some(error) = error.downcast_ref() {
        return django::hint(error);
    }
    if let Some(error) = error.downcast_ref() {
        return services::hint(error);
    }
    if let Some(error) = error.downcast_ref::<MemoryError>() {
        return Some(services::of_memory(error));
    }
    if let Some(error) = error.downcast_ref::<JobError>() {
        return services::of_job(error);
    }
    if let Some(SmokeError::Pages { failing, .. }) = error.downcast_ref() {
        let to = failing.iter().find_map(PageResult::redirects_to)?;
        return Some(format!("{}; a URL on the command line takes `--redirect {to}`", redirects(failing)?));
    }
    if let Some(SmokeError::NoBase { .. }) = error.downcast_ref() {
        return Some("set `smoke.base`, or add `--base URL`".into());
    }
    if let Some(MaintenanceError::TooSoon { .. }) = error.downcast_ref() {
        return Some(
            "choose a later time, shorten `maintenance.notice`, or leave users no notice with `--now`".into(),
        );
    }
    if let Some(CommandError::NotFound { program }) = error.downcast_ref() {
        let hint = "set `python.virtualenv` to the directory that holds `pyvenv.cfg`";
        return program.ends_with("/bin/python").then(|| hint.to_owned());
    }
    match error.downcast_ref()? {
        InitError::Distrust(error) => distrust(error),
        InitError::Exists { .. } => {
            Some("run `deploykit init --check` to compare it with the site, or `deploykit init --print` to see what `init` would write".into())
        }
        InitError::Write { path, source } if source.kind() == ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path);
            Some(format!("create the directory first: `mkdir -p {}`", directory.display()))
        }
        InitError::NotACheckout { .. } => {
            Some("go to the site's checkout, or name it: `deploykit init DIRECTORY`".into())
        }
        InitError::NoProject { .. } => {
            Some("go to the directory of the site's `manage.py`, or name it: `deploykit init DIRECTORY`".into())
        }
        _ => None,
    }
}

/// How to make the state of another site this one's.
const ADOPT: &str =
    "if this is a separate site, run `deploykit adopt`: it sets the runs of the other site aside";

fn claim(error: &ClaimError) -> Option<String> {
    Some(match error {
        ClaimError::Locked(error) => return hint(error),
        ClaimError::Distrust(error) => return distrust(error),
        ClaimError::Journal(error) => return hint(error),
        ClaimError::Owner(OwnerError::File(_)) => return None,
        ClaimError::Owner(_) => ADOPT.to_owned(),
        ClaimError::Tracked { directory } => {
            format!(
                "remove `{}` from the repository upstream and check that out; nothing in it was used",
                directory.display()
            )
        }
        ClaimError::OtherSite { configuration, .. } => {
            format!(
                "use its configuration: `--config {}`; or make the checkout this site's: `deploykit adopt`",
                configuration.display()
            )
        }
        ClaimError::UnfinishedElsewhere { .. } => {
            "recover it where it ran, or repair this site by hand, then run `deploykit adopt --abandon`"
                .into()
        }
        ClaimError::VirtualenvElsewhere { virtualenv, .. } => {
            format!("make a virtualenv of this site's own at `{}` first", virtualenv.display())
        }
        _ => return None,
    })
}

fn distrust(error: &DistrustError) -> Option<String> {
    Some(match error {
        DistrustError::Foreign { path, owner, .. } => {
            format!(
                "run deploykit as {owner}: `{}`; or name another configuration: `--config FILE`; or, if you trust the file, make it your own: `chown \"$USER\" {}`",
                as_user(owner),
                path.display()
            )
        }
        DistrustError::Writable { path, .. } => format!("chmod go-w {}", path.display()),
        DistrustError::RootOverOther { owner, .. } | DistrustError::NotWritable { owner, .. } => {
            format!("run deploykit as {owner}: `{}`", as_user(owner))
        }
        _ => return None,
    })
}

/// Returns the command that runs deploykit as a user; one without a name is `user 1001`.
fn as_user(user: &str) -> String {
    match user.strip_prefix("user ") {
        Some(number) => format!("sudo -u '#{number}' deploykit …"),
        None => format!("sudo -u {user} deploykit …"),
    }
}

fn preparation(error: &PreparationError) -> Option<String> {
    Some(match error {
        PreparationError::NoAlias { key, .. } => {
            format!("correct `{key}`, or add the alias to `DATABASES` in the settings")
        }
        PreparationError::Pooled { alias } => {
            format!("add an alias to `DATABASES` that connects to the server itself, and name it in `[database]`: `direct = {{ {alias} = \"…\" }}`")
        }
        PreparationError::DirectElsewhere { alias, direct, .. } => {
            format!("in `DATABASES`, give `{direct}` the NAME of `{alias}`, and the HOST and PORT of the server itself")
        }
        PreparationError::SameDatabase { twin, .. } => {
            format!("remove `{twin}` from `database.migrate`")
        }
        PreparationError::SecretsMissing { missing, .. } => {
            let names: Vec<&str> = missing.iter().map(|missing| missing.name.as_str()).collect();
            format!("deploykit secrets set {}", names.join("; deploykit secrets set "))
        }
        PreparationError::BackupUnsupported { .. } => {
            "name a program of your own in `database.backup-command`; or make a copy yourself and set `database.backup = \"never\"`, then a failure after the migrations holds the site".into()
        }
        PreparationError::DatabaseTracked { .. } => {
            "take the file out of git (git rm --cached) and add it to .gitignore, or let the settings name another one".into()
        }
        PreparationError::NoRoom { .. } => {
            "make room, or let `database.backup-command` copy it elsewhere".into()
        }
        PreparationError::NotRelocatable { .. } => {
            "let the settings find their directory by `__file__`, not by a fixed path".into()
        }
        PreparationError::VirtualenvShut { directory, .. } => {
            format!("let that user enter: `chmod o+x {}`; or run the service as the user who owns the configuration", directory.display())
        }
        PreparationError::StaticRootHoldsCheckout { .. } => {
            "set STATIC_ROOT to a directory of its own".into()
        }
        PreparationError::ProgramMissing { program, .. } => {
            let name = program.file_name().unwrap_or_default().display();
            format!("add the package of `{name}` to the requirements or the lock, or name the group of the lock that has it in `python.groups`: a new virtualenv has only what they name")
        }
        PreparationError::LiveVersionDown { .. } => {
            "restore what the live version needs, such as its packages, or the variables and secrets that its settings read; `deploykit manage -- check` shows the failure".into()
        }
        PreparationError::NotInTarget { key, .. } => {
            format!("push a version that has it, or set `{key}` to where it is now")
        }
        PreparationError::PagesOfNoWeb { service, .. } => {
            format!("write `role = \"web\"` into the `[[services]]` table that has `name = \"{service}\"`; without a `role` it is a worker")
        }
        PreparationError::PagesInFront { web, .. } => {
            let such = web.as_ref().map(|web| format!(": `smoke.connect = \"{web}\"`"));
            format!("set `smoke.connect` to where the application server listens{}", such.unwrap_or_default())
        }
        PreparationError::NoWeb => {
            "write `role = \"web\"` into the `[[services]]` table of the service that answers requests; without a `role` it is a worker".into()
        }
        PreparationError::PagesRedirect { failing } => {
            let text = redirects(failing)?;
            format!("{text}; if this update changes that, add `--broken`")
        }
        PreparationError::PagesBroken { failing } => {
            if let Some(text) = redirects(failing) {
                return Some(text);
            }
            "check `smoke.base`, `smoke.connect` and the server that listens there; if the site is broken and this update fixes it, add `--broken`".into()
        }
        PreparationError::StepReachesLive { step, outputs, .. } => {
            let outputs: Vec<String> = outputs.iter().map(|output| format!("`\"{}\"`", output.display())).collect();
            format!("add {} to `outputs` of the step `{step}`: the step then writes to a copy, which goes live in the window", outputs.join(", "))
        }
        PreparationError::OutputElsewhere { .. } => "name a directory of the checkout itself".into(),
        PreparationError::OutputHolds { .. } => "name the directories in it that the step makes".into(),
        PreparationError::CacheTracked { .. } => {
            "list in `cache` only directories in which git tracks no files".into()
        }
        PreparationError::Pointers { .. } => {
            "install git-lfs, and run `git lfs install` as the site's user; the site stays on the old version".into()
        }
        PreparationError::NotRehearsed { what, help, .. } => {
            let help = help.as_ref().map(|help| format!("{help}; or ")).unwrap_or_default();
            format!("{help}run `deploykit {what} --no-rehearsal`, or set `rehearsal.when = \"auto\"`, which rehearses only what is possible")
        }
        PreparationError::PagesFail { version: PREVIOUS, .. }
        | PreparationError::WorkerFails { version: PREVIOUS, .. }
        | PreparationError::ServiceFails { version: PREVIOUS, .. } => NOT_BACK.into(),
        PreparationError::PagesFail { failing, .. } => {
            let expected = redirects(failing).map(|text| format!("; if the redirect is right, {text}"));
            format!("{REHEARSED}{}", expected.unwrap_or_default())
        }
        PreparationError::MigrationsFail { .. }
        | PreparationError::WorkerFails { .. }
        | PreparationError::ServiceFails { .. } => REHEARSED.into(),
        PreparationError::OwnStepFails { step, .. } => format!(
            "fix step `{step}` in the configuration, or fix the code and push it. If the step works in the window only, remove its `rehearse = true`"
        ),
        PreparationError::CheckFailed { .. } => "fix the code and push it; the site stays on the old version".into(),
        _ => return None,
    })
}

/// What to do when the new version fails in the rehearsal.
const REHEARSED: &str = "fix the code and push it; the site stays on the old version. If the code is right and only the rehearsal fails, add `--no-rehearsal`";

/// Says how to configure pages that redirect; `None` when none does.
fn redirects(failing: &[PageResult]) -> Option<String> {
    let redirecting = failing.iter().filter_map(|page| Some((page, page.redirects_to()?)));
    let (secure, others): (Vec<_>, Vec<_>) = redirecting.partition(|(page, to)| {
        to.starts_with("https://") && page.url.starts_with("http://") && to.ends_with(&page.path)
    });
    // One key is for all of these pages.
    let base = secure.first().map(|(page, to)| {
        format!("set `smoke.base` to an `https://` address: `{}` redirects to `{to}`", page.path)
    });
    let write = |(page, to): &(&PageResult, String)| {
        format!("write `{{ path = {:?}, redirect = {to:?} }}` in `smoke.pages`", page.path)
    };
    let lines: Vec<String> = base.into_iter().chain(others.iter().map(write)).collect();
    (!lines.is_empty()).then(|| lines.join(", and "))
}

/// The version that a rollback restores, as its errors name it.
const PREVIOUS: &str = "previous";

/// What to do when the previous version fails in the rehearsal of a rollback.
const NOT_BACK: &str = "undo what was changed since the update, such as settings, secrets or data, or fix the new version with another update. \
     If only the rehearsal fails, add `--no-rehearsal`";

fn rollback(error: &RollbackError) -> Option<String> {
    Some(match error {
        RollbackError::NotTheLast { last, .. } => {
            format!("roll back {last} first: `deploykit rollback`, and again for the one before")
        }
        RollbackError::Unknown { .. } | RollbackError::NotStanding { .. } => {
            "`deploykit history` lists the runs".into()
        }
        RollbackError::HeadMoved { .. }
        | RollbackError::PackagesChanged { .. }
        | RollbackError::VirtualenvMoved { .. }
        | RollbackError::DatabaseMoved { .. } => "undo that by hand first; nothing was changed".into(),
        RollbackError::Irreversible { copy: Some(_), .. } => {
            "restore the copy from before the update with `deploykit rollback --from-copy`: it shows what would be lost, and asks for confirmation".into()
        }
        RollbackError::ReversalFails { copy: Some(_), .. } => {
            "change the data that makes the reversal fail, or restore the copy from before the update with `deploykit rollback --from-copy`. If only the \
             rehearsal fails, add `--no-rehearsal`"
                .into()
        }
        RollbackError::ReversalFails { copy: None, .. } => {
            "change the data that makes the reversal fail, or revert the commits upstream and run `deploykit update`. If only the rehearsal \
             fails, add `--no-rehearsal`"
                .into()
        }
        RollbackError::NoBoot { .. } => NOT_BACK.into(),
        RollbackError::NoCopy { .. } => "roll back without `--from-copy`: the migrations are then reversed".into(),
        RollbackError::CopyByHand { .. } => {
            "set `database.restore-command` to the program that restores a copy".into()
        }
        RollbackError::Follower { .. } => {
            "roll the leader back first; or revert the commits upstream, then update all hosts".into()
        }
        RollbackError::Gone { .. } | RollbackError::Irreversible { .. } => {
            "revert the commits upstream, then run `deploykit update`".into()
        }
        _ => return None,
    })
}

fn git(error: &GitError) -> Option<String> {
    Some(match error {
        GitError::DubiousOwnership { path } => {
            format!("run deploykit as the owner of the checkout: `sudo -u OWNER deploykit …`; or, if you trust it, let git use it: `git config --global --add safe.directory {}`", path.display())
        }
        GitError::NotARepository { .. } => "set `site.repository` to the directory that holds `.git`".into(),
        GitError::LocalChanges { changes, .. }
            if changes.iter().any(|change| {
                matches!(change.kind, LocalChangeKind::AssumeUnchanged | LocalChangeKind::SkipWorktree)
            }) =>
        {
            "`git update-index --no-assume-unchanged FILE` and `--no-skip-worktree FILE` show hidden changes; undo them, or \
             set `git.local-changes = \"keep\"`: this keeps changes that do not conflict with the update"
                .into()
        }
        GitError::LocalChanges { .. } => {
            "commit them upstream, undo them, or set `git.local-changes = \"keep\"`: \
             this keeps changes that do not conflict with the update".into()
        }
        GitError::Collision { .. } => "move these files away, or take the change upstream; nothing was overwritten".into(),
        GitError::Unwritable { .. } => "give the user who updates the right to change them, or unmount what is mounted there".into(),
        GitError::BringsState { .. } => {
            "remove these files upstream: in the checkout they would be taken for deploykit's own".into()
        }
        GitError::Unsigned { .. } => {
            "have it signed by a key that git trusts here: gpg's own trust, or `gpg.ssh.allowedSignersFile`".into()
        }
        GitError::LocalCommits { .. } => "push them, or set `git.local-commits = \"rebase\"`".into(),
        GitError::RebaseConflict { .. } => "rebase by hand and push; nothing was changed here".into(),
        GitError::HistoryRewritten { .. } => {
            "somebody force-pushed; if that was intended, move to the new history by hand: `git reset --keep`".into()
        }
        GitError::NotCarried { .. } => {
            "let the code write that outside the checkout, or make it in the live checkout first; nothing was lost".into()
        }
        GitError::BranchNotFound { .. } => "set `git.branch` to one of them".into(),
        GitError::RemoteSilent { .. } => "check the network and the remote's address; `git.deadline` sets the timeout".into(),
        GitError::OlderRevision { .. } => "roll back the last update with `deploykit rollback`, or revert commits upstream: that is a new version".into(),
        GitError::IndexLocked { path, .. } => {
            format!("if no git is running, remove {}", path.display())
        }
        _ => return None,
    })
}
