//! `exec`: runs a job that must not run while the site is changed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use deploykit::Site;
use deploykit::update::{JobError, begin_job};

use crate::args::{ExecArgs, Global};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;

/// The exit code of a program that exists and cannot be run, as `env` and shells have it.
const NOT_RUNNABLE: u8 = 126;

/// The exit code of a program that does not exist.
const NOT_FOUND: u8 = 127;

/// The command takes the place of this process: its exit code and its signals are its own.
pub fn run(global: &Global, args: &ExecArgs, ui: Ui) -> Result<u8, Failure> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => deploykit::site::find(&super::here()?)?,
    };
    // Not as other commands read it: the job keeps the caller's umask.
    let site = Site::load_partial(&path, global.environment.as_deref())?;
    let host = site.host(None);
    let patience = if args.skip { Duration::ZERO } else { args.wait };
    let registered = match begin_job(&site, &args.command, patience, &host) {
        Err(JobError::Blocked { run, .. }) if args.skip => {
            ui.say(&format!("skipped: run {run} is changing the site or is unfinished"));
            return Ok(exit_code::DONE);
        }
        other => other.map_err(|error| Failure::refused(&error))?,
    };
    let Some((program, words)) = args.command.split_first() else { return Ok(exit_code::USAGE) };
    if let Some(registered) = &registered {
        let handed_on = registered.hand_on();
        handed_on.map_err(|error| Failure::message(exit_code::UNEXPECTED, error.to_string(), None))?;
    }
    let error = Command::new(program).args(words).exec();
    Err(cannot_run(program, &error))
}

/// Returns the failure for a program that cannot be executed.
pub fn cannot_run(program: &OsStr, error: &std::io::Error) -> Failure {
    let (code, hint) = of_error(error.kind(), Path::new(program));
    Failure::message(code, format!("cannot run `{}`: {error}", program.display()), hint)
}

fn is_sought(program: &Path) -> bool {
    program.components().count() == 1
}

/// Finds a program as the system does.
pub fn place(program: &Path) -> Option<PathBuf> {
    let is_sought = is_sought(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let place = std::env::split_paths(&path).filter(|_| is_sought).map(|directory| directory.join(program));
    place.chain((!is_sought).then(|| program.to_owned())).find(|place| place.exists())
}

/// Returns the exit code and the hint for a program that cannot be executed.
fn of_error(kind: ErrorKind, program: &Path) -> (u8, Option<&'static str>) {
    let place = place(program);
    match kind {
        // The system does not say which of the two is missing.
        ErrorKind::NotFound if place.is_some() => (
            NOT_RUNNABLE,
            Some("the file exists, but not the interpreter in its first line (`#!…`): correct that line, or reinstall the package of the script"),
        ),
        ErrorKind::NotFound => (
            NOT_FOUND,
            is_sought(program).then_some(
                "write the absolute path of the program: the PATH of cron is short, often only `/usr/bin:/bin`",
            ),
        ),
        ErrorKind::PermissionDenied if place.is_some_and(|place| place.is_dir()) => {
            (NOT_RUNNABLE, Some("name a program: this is a directory"))
        }
        ErrorKind::PermissionDenied => (
            NOT_RUNNABLE,
            Some("make the file executable: `chmod +x FILE`; or name its interpreter before it: `-- sh FILE`"),
        ),
        _ => (NOT_RUNNABLE, None),
    }
}
