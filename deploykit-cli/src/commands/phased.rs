//! `update --until` and `update --continue`: a run that pauses, in a process that outlives whoever started it.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write, stderr, stdout};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use deploykit::event::{Event, Observer, Record};
use deploykit::internal::lock::{Holder, Lock};
use deploykit::jiff::Timestamp;
use deploykit::report::Report;
use deploykit::site::HostRole;
use deploykit::update::{self, GoOnError, PausePoint, Paused};
use deploykit::{Cancel, Site};
use rustix::process::{Pid, Signal, kill_process};

use super::follow::follow;
use super::update::finish;
use crate::args::{Global, UpdateArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::with_times;
use crate::output::json::document;
use crate::output::progress::Progress;
use crate::output::report::render;

/// Polling interval while the run has not paused yet.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the run in a process of its own, and shows what it says until it pauses or ends.
pub fn begin(global: &Global, args: &UpdateArgs, ui: Ui) -> Result<u8, Failure> {
    if !args.run.yes && args.until != Some(PausePoint::Prepared) {
        let message = "a run that pauses cannot ask for confirmation";
        let hint = "confirm with `-y`, or use `--until prepared`, which changes nothing yet";
        return Err(Failure::message(exit_code::REFUSED, message, hint));
    }
    let site = super::site(global)?;
    let cancel = super::cancel()?;
    let failed = |error: std::io::Error| Failure::with_code(exit_code::UNEXPECTED, &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--detached");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let texts = [relay(child.stdout.take(), stdout()), relay(child.stderr.take(), stderr())];
    let mut told = 0;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if let Some(paused) = paused(&site, child.id()) {
            say_paused(&paused, ui);
            return Ok(exit_code::DONE);
        }
        pass_on(&cancel, &mut told, child.id());
        thread::sleep(LOOK);
    };
    for text in texts.into_iter().flatten() {
        let _ = text.join();
    }
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(exit_code::UNEXPECTED)),
        None => Err(ended(&status.to_string())),
    }
}

/// Lets the paused run go on, and shows it until it pauses again or ends.
pub fn go_on(global: &Global, args: &UpdateArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let cancel = super::cancel()?;
    let since = Timestamp::now();
    let holder = update::go_on(&site, args.until, args.digest.as_deref()).map_err(|error| refused(&error))?;
    match attend(&site, &holder, since, Aim::Forward(args.until), &cancel, ui)? {
        Attended::Paused(paused) => {
            say_paused(&paused, ui);
            Ok(exit_code::DONE)
        }
        Attended::Undoes { error, reason } => {
            let message = format!("{error}; the rollback of this host waits {reason}");
            let hint = match site.config().site.role {
                HostRole::Leader => "run `deploykit recover` here, and then on the followers",
                HostRole::Follower => "run `deploykit recover` on the leader, and then here",
            };
            Err(Failure::message(exit_code::INTERRUPTED, message, hint))
        }
        Attended::Ended(report) => finish(&report, &render(&report), ui),
    }
}

/// Lets the paused run undo everything, and shows that; `None`: no run is paused.
pub fn go_back(site: &Site, cancel: &Cancel, ui: Ui) -> Result<Option<Report>, Failure> {
    let since = Timestamp::now();
    let holder = match update::go_back(site) {
        Err(GoOnError::NoRun | GoOnError::CannotPause { .. }) => return Ok(None),
        told => told.map_err(|error| refused(&error))?,
    };
    match attend(site, &holder, since, Aim::Back, cancel, ui)? {
        Attended::Ended(report) => Ok(Some(*report)),
        Attended::Paused(_) | Attended::Undoes { .. } => Ok(None),
    }
}

/// What a run was told.
#[derive(Clone, Copy)]
enum Aim {
    Forward(Option<PausePoint>),
    Back,
}

/// How a run that was attended to went on.
enum Attended {
    Paused(Box<Paused>),
    /// It failed, and its undo waits for other hosts: nobody would tell these while this command waits.
    Undoes {
        error: String,
        reason: String,
    },
    Ended(Box<Report>),
}

fn attend(
    site: &Site,
    holder: &Holder,
    since: Timestamp,
    aim: Aim,
    cancel: &Cancel,
    ui: Ui,
) -> Result<Attended, Failure> {
    let state = site.state();
    let mut progress = Progress::new(ui);
    let (mut found, mut told) = (None, 0);
    let leaves = matches!(aim, Aim::Forward(_));
    let failed = RefCell::new("the run was told to roll back".to_owned());
    let (undoes, waits) = (Cell::new(false), RefCell::new(None));
    let observe = |record: &Record| {
        match &record.event {
            Event::StepFailed { step, error, .. } => {
                failed.replace(format!("step `{step}` failed: {error}"));
            }
            Event::UndoStarted { .. } => undoes.set(leaves),
            Event::Waiting { reason, .. } if undoes.get() => {
                waits.replace(Some(reason.clone()));
            }
            _ => {}
        }
        if record.time >= since {
            progress.observe(record);
        }
        Ok(())
    };
    let is_over = || {
        pass_on(cancel, &mut told, holder.pid);
        if let Aim::Forward(Some(until)) = aim {
            found = paused(site, holder.pid).filter(|paused| paused.point >= until);
        }
        found.is_some() || waits.borrow().is_some()
    };
    // From its beginning: it may undo since before this command.
    let run = follow(&state, holder, holder.since, observe, is_over)?;
    progress.flush();
    if let Some(paused) = found {
        return Ok(Attended::Paused(paused));
    }
    if run.is_none()
        && let Some(reason) = waits.into_inner()
    {
        return Ok(Attended::Undoes { error: failed.into_inner(), reason });
    }
    match run.and_then(|run| run.report()) {
        Some(report) => Ok(Attended::Ended(Box::new(report))),
        None => Err(ended("it left no report")),
    }
}

/// Passes requests to end on to the run, which is in no terminal.
fn pass_on(cancel: &Cancel, told: &mut usize, pid: u32) {
    while *told < cancel.requests() {
        *told += 1;
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Returns where the run of a process pauses.
fn paused(site: &Site, pid: u32) -> Option<Box<Paused>> {
    Lock::holder(&site.state().lock()).filter(|holder| holder.pid == pid)?.paused
}

fn say_paused(paused: &Paused, ui: Ui) {
    let text = format!(
        "{paused}\n  `deploykit update --continue` lets it go on, `deploykit recover` rolls it back\n"
    );
    ui.result(&document(serde_json::json!({ "paused": paused })), &with_times(&text));
}

fn ended(how: &str) -> Failure {
    let message = format!("the process of the run ended: {how}");
    Failure::message(exit_code::INTERRUPTED, message, "`deploykit status` says what is left to do")
}

fn refused(error: &GoOnError) -> Failure {
    let mut failure = Failure::refused(error);
    failure.hints.extend(match error {
        GoOnError::NoRun => Some("`deploykit history` lists the last runs".to_owned()),
        GoOnError::CannotPause { .. } => Some("`deploykit status --follow` shows that run".to_owned()),
        GoOnError::OtherPlan { .. } => {
            Some("`deploykit recover` rolls it back; then prepare all hosts anew".to_owned())
        }
        _ => None,
    });
    failure
}

/// Copies what the run says, until it ends or this process does.
fn relay(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
) -> Option<thread::JoinHandle<()>> {
    let mut from = from?;
    Some(thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.flush();
    }))
}
