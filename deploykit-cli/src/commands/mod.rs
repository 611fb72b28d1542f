//! One file per command.

mod adopt;
mod completions;
mod docs;
mod doctor;
mod env;
mod exec;
mod follow;
mod git_update;
mod history;
mod hold_socket;
mod init;
mod logs;
mod maintenance;
mod man;
mod manage;
mod phased;
mod pip_install;
mod plan;
mod recover;
mod report;
mod rollback;
mod secrets;
mod services;
mod smoke_check;
mod status;
mod update;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use deploykit::action::Context;
use deploykit::internal::lock::Lock;
use deploykit::internal::owners;
use deploykit::internal::state::State;
use deploykit::operations::{AnyOperation, ApplyError};
use deploykit::update::UpdateError;
use deploykit::{Cancel, Host, Site, Umask};

use crate::args::{CheckArgs, Cli, Command, Global};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::use_clock_of;
use crate::output::json::Done;
use crate::signals;

/// Runs a command and returns the exit code.
pub fn run(cli: Cli, ui: Ui) -> Result<u8, Failure> {
    let global = &cli.global;
    let by_flags = cli.command.names_its_site();
    let result = match cli.command {
        Command::Init(args) => init::run(global, &args, ui),
        Command::Adopt(args) => adopt::run(global, &args, ui),
        Command::Doctor => doctor::run(global, ui),
        Command::Plan(args) => plan::run(global, &args, ui),
        Command::Rehearse(args) => plan::rehearse(global, &args, ui),
        Command::Update(args) => update::run(global, &args, ui),
        Command::Recover(args) => recover::run(global, &args, ui),
        Command::Rollback(args) => rollback::run(global, &args, ui),
        Command::Status(args) => status::run(global, &args, ui),
        Command::History(args) => history::run(global, &args, ui),
        Command::Report(args) => report::run(global, &args, ui),
        Command::Maintenance(command) => maintenance::run(global, &command, ui),
        Command::Services(command) => services::run(global, &command, ui),
        Command::GitUpdate(args) => git_update::run(global, &args, ui),
        Command::PipInstall(args) => pip_install::run(global, &args, ui),
        Command::Manage(args) => manage::run(global, &args, ui),
        Command::Exec(args) => exec::run(global, &args, ui),
        Command::HoldSocket(args) => hold_socket::run(args, ui),
        Command::SmokeCheck(args) => smoke_check::run(global, &args, ui),
        Command::Secrets(command) => secrets::run(global, &command, ui),
        Command::Logs(args) => logs::run(global, &args, ui),
        Command::Env => env::run(global, ui),
        Command::Docs(args) => docs::run(&args, ui),
        Command::Completions { shell } => completions::run(shell),
        Command::Man(args) => man::run(&args),
    };
    result.map_err(|failure| if by_flags { failure.hinting_at_flags() } else { failure })
}

/// Finds and reads the configuration, which must have all required keys.
fn site(global: &Global) -> Result<Site, Failure> {
    let site = partial_site(global)?;
    site.require_all()?;
    Ok(site)
}

/// Finds and reads the configuration for a command that does not need every required key.
fn partial_site(global: &Global) -> Result<Site, Failure> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => deploykit::site::find(&here()?)?,
    };
    let site = Site::load_partial(&path, global.environment.as_deref())?;
    take(site.umask());
    use_clock_of(&site);
    Ok(site)
}

/// Makes files as those are that are there: this process has no other purpose.
fn take(umask: Option<Umask>) {
    if let Some(umask) = umask {
        umask.set_for_process();
    }
}

/// Reads the configuration if there is one; a configuration with mistakes is an error.
fn site_if_any(global: &Global) -> Result<Option<Site>, Failure> {
    if is_configured(global)? { partial_site(global).map(Some) } else { Ok(None) }
}

/// Finds and reads the configuration; where there is none, the hint names the flags that replace it.
fn site_or(global: &Global, flags: &str) -> Result<Site, Failure> {
    let is_configured = is_configured(global)?;
    partial_site(global).map_err(|mut failure| {
        if !is_configured {
            failure.hints.push(format!("or add {flags}: then no configuration is needed"));
        }
        failure
    })
}

fn is_configured(global: &Global) -> Result<bool, Failure> {
    Ok(global.config.is_some() || deploykit::site::find(&here()?).is_ok())
}

/// Returns the site that the named things belong to: the one of `--config`, or else the one that `find` finds.
fn site_of<E: Into<Failure>>(
    global: &Global,
    find: impl FnOnce(Option<&str>) -> Result<Option<Site>, E>,
) -> Result<Option<Site>, Failure> {
    if global.config.is_some() {
        return partial_site(global).map(Some);
    }
    let site = find(global.environment.as_deref()).map_err(Into::into)?;
    if let Some(site) = &site {
        take(site.umask());
        use_clock_of(site);
    }
    Ok(site)
}

/// Returns the site that the named things belong to, or else the site of the configuration here.
fn site_of_or_here<E: Into<Failure>>(
    global: &Global,
    find: impl FnOnce(Option<&str>) -> Result<Option<Site>, E>,
) -> Result<Option<Site>, Failure> {
    match site_of(global, find)? {
        Some(site) => Ok(Some(site)),
        None => site_if_any(global),
    }
}

/// Refuses what belongs to another site than the one that `--config` names.
fn not_of_another<E: Into<Failure>>(
    global: &Global,
    site: &Site,
    what: &str,
    find: impl FnOnce(Option<&str>) -> Result<Option<Site>, E>,
) -> Result<(), Failure> {
    if global.config.is_none() {
        return Ok(());
    }
    match find(global.environment.as_deref()).map_err(Into::into)? {
        Some(its) if !is_same(&its.config().path, &site.config().path) => {
            let hint = "leave out `--config`, or unset `DEPLOYKIT_CONFIG`";
            Err(of_another(what, &its, site, "the one of `--config`", hint))
        }
        _ => Ok(()),
    }
}

/// Returns the failure for what belongs to another site.
fn of_another(what: &str, its: &Site, site: &Site, which: &str, hint: &'static str) -> Failure {
    let (its, path) = (its.config().path.display(), site.config().path.display());
    let message = format!("{what} belongs to the site `{its}`, not to `{path}`, {which}");
    Failure::message(exit_code::USAGE, message, hint)
}

/// Returns the failure for a flag that contradicts the configuration of its site.
fn contradiction(site: &Site, flag: &str, configured: impl Display) -> Failure {
    let path = site.config().path.display();
    let message = format!("`{flag}` contradicts the configuration `{path}`, which has {configured}");
    let failure =
        Failure::message(exit_code::USAGE, message, "leave out the flag, or change the configuration");
    failure.hiding(site.host(None).redactor())
}

/// Refuses a path that contradicts the configuration of its site.
fn agrees(site: &Site, flag: &str, named: &Path, configured: &Path) -> Result<(), Failure> {
    if is_same(named, configured) {
        return Ok(());
    }
    Err(contradiction(site, flag, format!("`{}`", configured.display())))
}

/// Tells whether two paths lead to the same file, which need not exist.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> PathBuf {
        let beside = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_owned())
    };
    real(one) == real(other)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))
}

/// Refuses what is named by an option when root calls and it belongs to somebody else.
fn not_root_over_others(path: &Path) -> Result<(), Failure> {
    for path in [path, &path.join(".git")] {
        owners::not_root_over_others(path).map_err(|error| Failure::refused(&error))?;
    }
    Ok(())
}

fn cancel() -> Result<Cancel, Failure> {
    signals::listen().map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))
}

/// Returns the machine: the site's, or a plain one without a configuration.
fn host(site: Option<&Site>) -> Result<Host, Failure> {
    let cancel = cancel()?;
    Ok(site.map_or_else(|| Host::new().with_cancel(cancel.clone()), |site| site.host(Some(cancel.clone()))))
}

/// Returns the state of a site for a command that shows it: that of another site would mislead.
fn state(site: &Site) -> Result<State, Failure> {
    site.may_be_claimed().map_err(|error| Failure::refused(&error))?;
    Ok(site.state())
}

/// Takes the site's lock for a one-liner that changes something.
fn lock(site: Option<&Site>, host: &Host, purpose: &str) -> Result<Option<Lock>, Failure> {
    let Some(site) = site else { return Ok(None) };
    let lock = site.claim(purpose, std::time::Duration::ZERO, host);
    let lock = lock.map_err(|error| Failure::refused(&error))?;
    // What a recovery will undo must not change before it.
    if let Some((run, entries)) = site.state().unfinished().map_err(|error| Failure::refused(&error))? {
        return Err(Failure::refused(&UpdateError::unfinished(run.name, &entries)));
    }
    Ok(Some(lock))
}

/// Checks or applies one operation.
fn apply(
    operation: &dyn AnyOperation,
    site: Option<&Site>,
    host: &Host,
    only_check: bool,
) -> Result<Done, Failure> {
    let _lock = if only_check { None } else { lock(site, host, operation.name())? };
    apply_locked(operation, host, only_check)
}

/// Checks or applies one operation; the caller has the lock.
fn apply_locked(operation: &dyn AnyOperation, host: &Host, only_check: bool) -> Result<Done, Failure> {
    let check = if only_check {
        operation.check(host)
    } else {
        let mut context = Context::from(host.clone());
        let check = operation.apply(&mut context);
        context.close();
        check
    };
    let check = check.map_err(|error| apply_failure(&error).hiding(host.redactor()))?;
    Ok(Done::new(operation.name(), &check))
}

/// Shows what an operation did, or would do.
fn say(done: &Done, check: CheckArgs, ui: Ui) -> Result<u8, Failure> {
    ui.result(done, &done.text());
    Ok(if check.exit_code && done.changed { exit_code::WAITING } else { exit_code::DONE })
}

fn apply_failure(error: &ApplyError) -> Failure {
    let (code, failed, then) = match error {
        ApplyError::Prepare(source) => return Failure::refused(source.as_ref()),
        ApplyError::Undone { failed } => {
            (exit_code::ROLLED_BACK, failed, "all changes were undone".to_owned())
        }
        ApplyError::NotUndone { failed, undo } => {
            let undo = deploykit::error_chain(undo.as_ref());
            (exit_code::HELD, failed, format!("undoing it failed as well: {undo}"))
        }
        _ => return Failure::with_code(exit_code::HELD, error),
    };
    let mut failure = Failure::with_code(code, failed.as_ref());
    failure.message = format!("{}; {then}", failure.message);
    failure
}

#[cfg(test)]
mod tests {
    use deploykit::action::ActionError;
    use deploykit::services::ServiceError;

    use super::*;

    #[test]
    fn an_operation_that_failed_shows_the_hint_of_its_action() {
        let still_running = ServiceError::StillRunning {
            service: "web".to_owned(),
            processes: vec!["12 (gunicorn)".to_owned()],
            timeout: std::time::Duration::from_secs(30),
        };
        let failure = apply_failure(&ApplyError::NotUndone {
            failed: Box::new(ActionError::Service(still_running)),
            undo: Box::new(ActionError::Interrupted),
        });
        assert_eq!(failure.code, exit_code::HELD);
        let end = "after it was told to end: 12 (gunicorn); undoing it failed as well: interrupted";
        assert!(failure.message.ends_with(end), "{}", failure.message);
        assert!(failure.hints[0].starts_with("raise `stop-timeout`"), "{:?}", failure.hints);
    }
}
