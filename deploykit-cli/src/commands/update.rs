//! `update`: the whole job. It prepares, shows the plan, asks, and runs.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use deploykit::event::{Observer, Outcome, Record};
use deploykit::internal::lock::Lock;
use deploykit::operations::django_manage::When;
use deploykit::report::Report;
use deploykit::update::{self, Prepared, Request, Start, UpdateError};
use deploykit::{Cancel, Site};
use rustix::fs::OFlags;
use rustix::termios::{QueueSelector, tcflush};

use super::phased;
use crate::args::{Global, RunArgs, UpdateArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::hints::of_unread;
use crate::output::human::with_times;
use crate::output::plan::render;
use crate::output::progress::Progress;
use crate::output::report::{self, render_hints};
use crate::output::{PATIENCE, Ui};

/// Polling interval for an interruption while a question waits for its answer.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(global: &Global, args: &UpdateArgs, ui: Ui) -> Result<u8, Failure> {
    if args.go_on {
        return phased::go_on(global, args, ui);
    }
    if args.detached {
        // It outlives the connection and the terminal of its caller.
        let _ = rustix::process::setsid();
    } else if args.until.is_some() {
        return phased::begin(global, args, ui);
    }
    let run = RunArgs { yes: args.run.yes || args.detached, ..args.run.clone() };
    let site = super::site(global)?;
    let words = Words {
        not_done: "not updated",
        look_first: "confirm with `-y`, or look first with `deploykit plan`",
    };
    go(&site, &run, words, ui, |request, cancel, watch| {
        let (clear, look, until) = (args.clear, args.look, args.until);
        let request = Request { revision: args.revision.clone(), clear, look, until, ..request };
        update::prepare(&site, &request, Some(cancel), watch)
    })
}

/// What is said of a run that is not begun.
pub struct Words {
    pub not_done: &'static str,
    pub look_first: &'static str,
}

/// Prepares a run, shows its plan, asks, and runs it.
pub fn go(
    site: &Site,
    args: &RunArgs,
    words: Words,
    ui: Ui,
    prepare: impl FnOnce(Request, Cancel, Watch) -> Result<Prepared<'static>, UpdateError>,
) -> Result<u8, Failure> {
    if !args.yes && !can_ask() {
        let message = "there is no terminal to ask for confirmation on";
        return Err(Failure::message(exit_code::REFUSED, message, words.look_first));
    }
    let request = Request {
        start: match (args.at, args.within, args.now) {
            (Some(time), _, _) => Start::At(time),
            (_, Some(duration), _) => Start::In(duration),
            (_, _, true) => Start::Now,
            _ => Start::AfterNotice,
        },
        message: args.message.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        broken: args.broken,
        rehearsal: args.no_rehearsal.then_some(When::Never),
        ..Request::default()
    };
    let progress = Progress::new(ui);
    let watch = Watch::new(&progress, args.events.as_deref())?;
    let cancel = super::cancel()?;
    if args.lock_wait.is_some()
        && let Some(holder) = Lock::holder(&site.state().lock())
    {
        progress.say(&with_times(&format!("waiting for the end of another run: {holder}")));
    }
    let prepared = prepare(request, cancel.clone(), watch);
    progress.flush();
    let update = match prepared.map_err(|error| refused(&error, site))? {
        Prepared::Unchanged(report) => {
            ui.result(&report, &unchanged(&report));
            return Ok(exit_code::DONE);
        }
        Prepared::Ready(update) => update,
    };
    let plan = render(update.plan(), ui.verbose > 0, std::io::stderr().is_terminal());
    progress.say(&format!("\n{}", plan.trim_end()));
    if args.yes {
        progress.say("");
    } else if !consent(&progress, &cancel) {
        update.discard();
        let message = format!("{}: not confirmed; nothing was changed", words.not_done);
        return Err(Failure::message(exit_code::REFUSED, message, None));
    }
    let report = update.run();
    progress.flush();
    let report = report.map_err(|error| refused(&error, site))?;
    finish(&report, &report::render(&report), ui)
}

/// Returns the text of an update with nothing to do: its notices and hints.
pub fn unchanged(report: &Report) -> String {
    let notices = report.notices.join("\n");
    format!("{}\n{}", with_times(&notices), render_hints(&of_unread(report)))
}

/// Shows the end of a run as this text and returns its exit code.
pub fn finish(report: &Report, text: &str, ui: Ui) -> Result<u8, Failure> {
    let text = format!("\n{text}");
    match code(report) {
        exit_code::DONE => {
            ui.result(report, text.trim_start());
            Ok(exit_code::DONE)
        }
        code => {
            let message = report.failure.as_ref().map_or(String::new(), describe);
            let mut failure = Failure::message(code, message, None).with_result(report);
            failure.hints = report::hints(report);
            failure.shown = Some(text);
            Err(failure)
        }
    }
}

fn describe(failure: &deploykit::report::Failure) -> String {
    if failure.interrupted {
        format!("interrupted during step `{}`", failure.step)
    } else {
        format!("step `{}` failed: {}", failure.step, failure.error)
    }
}

/// Returns the exit code of an outcome.
fn code(report: &Report) -> u8 {
    match report.outcome {
        // Only a step that follows the end can have failed.
        Outcome::Updated if report.failure.is_some() => exit_code::UNEXPECTED,
        Outcome::Updated | Outcome::Unchanged => exit_code::DONE,
        Outcome::Refused => exit_code::REFUSED,
        Outcome::RolledBack => exit_code::ROLLED_BACK,
        Outcome::Held => exit_code::HELD,
        Outcome::Interrupted => exit_code::INTERRUPTED,
        _ => exit_code::UNEXPECTED,
    }
}

/// Says how a run ended in a few words.
pub fn outcome_text(report: &Report) -> String {
    let ended = match report.outcome {
        Outcome::Updated if report.rolls_back.is_some() => "done",
        Outcome::Updated if report.failure.is_some() => "updated, but a step after `finish` failed",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "nothing to do",
        Outcome::Refused => "refused",
        Outcome::RolledBack if report.rolls_back.is_some() && report::was_interrupted(report) => {
            "interrupted and undone"
        }
        Outcome::RolledBack if report.rolls_back.is_some() => "failed",
        Outcome::RolledBack => "rolled back",
        Outcome::Held => "held in maintenance",
        Outcome::Interrupted => "interrupted",
        _ => "unknown",
    };
    match &report.rolls_back {
        Some(run) => format!("rollback of {run} {ended}"),
        None => ended.to_owned(),
    }
}

/// Turns an update that never began into a failure.
pub fn refused(error: &UpdateError, site: &Site) -> Failure {
    let mut failure = Failure::refused(error);
    if let UpdateError::Prepare { report, .. } = error {
        failure.message = report.failure.as_ref().map_or(failure.message, describe);
        failure.shown = report.failure.is_some().then(|| format!("\n{}", report::render(report)));
        failure.hints.extend(report::hints(report));
        failure = failure.with_result(report);
    }
    failure.hiding(site.host(None).redactor())
}

pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks; an interruption is a no. The answer is read elsewhere, since a read does not end with a signal.
pub fn consent(progress: &Progress, cancel: &Cancel) -> bool {
    progress.flush();
    // Whatever was typed before the plan could be read is no answer to it.
    let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
    let _ = write!(std::io::stderr(), "\nGo on? [y/N] ");
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        let _ = sender.send(answer);
    });
    loop {
        match answers.recv_timeout(LOOK) {
            Ok(answer) => return matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"),
            Err(RecvTimeoutError::Timeout) if !cancel.is_requested() => {}
            Err(_) => {
                let _ = writeln!(std::io::stderr());
                return false;
            }
        }
    }
}

/// Shows events to a person and appends them to a file, from a thread of its own: a pipe that nobody reads must not hold
/// up a window.
pub struct Watch {
    progress: Progress,
    file: Option<EventsFile>,
}

struct EventsFile {
    records: Sender<Record>,
    /// Its sender goes when everything was written.
    done: Receiver<()>,
}

impl Watch {
    pub fn new(progress: &Progress, events: Option<&Path>) -> Result<Self, Failure> {
        let file = events.map(open_events).transpose();
        let file = file.map_err(|error| {
            let path = events.unwrap_or(Path::new("")).display();
            Failure::message(
                exit_code::USAGE,
                format!("cannot open the file for events `{path}`: {error}"),
                None,
            )
        })?;
        Ok(Watch { progress: progress.clone(), file: file.map(EventsFile::new) })
    }
}

/// Opens the file for events. A symbolic link would let whoever made it, as a commit can in a checkout, choose which file
/// is written; only `/dev/stderr` and the like are followed.
fn open_events(path: &Path) -> std::io::Result<std::fs::File> {
    let is_device =
        ["/dev", "/dev/fd", "/proc/self/fd"].iter().any(|parent| path.parent() == Some(Path::new(parent)));
    let flags = if is_device { OFlags::empty() } else { OFlags::NOFOLLOW };
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    let found = file.metadata()?;
    if found.is_file() && ![rustix::process::geteuid().as_raw(), 0].contains(&found.uid()) {
        return Err(std::io::Error::other("it belongs to somebody else, who is neither the caller nor root"));
    }
    Ok(file)
}

impl EventsFile {
    fn new(mut file: std::fs::File) -> Self {
        let (records, incoming) = channel::<Record>();
        let (writing, done) = channel::<()>();
        std::thread::spawn(move || {
            let _writing = writing;
            for record in incoming {
                let line = serde_json::to_string(&record).unwrap_or_default();
                if let Err(error) = writeln!(file, "{line}") {
                    log::warn!("cannot write the events: {error}");
                    return;
                }
            }
        });
        EventsFile { records, done }
    }
}

impl Observer for Watch {
    fn observe(&mut self, record: &Record) {
        self.progress.observe(record);
        if let Some(file) = &self.file {
            // Once it could not be written it is written no more.
            let _ = file.records.send(record.clone());
        }
    }
}

/// Waits until all events are in the file, but not for ever.
impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(EventsFile { records, done }) = self.file.take() {
            drop(records);
            let _ = done.recv_timeout(PATIENCE);
        }
    }
}
