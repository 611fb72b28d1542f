//! `update`: the whole job. It prepares, shows the plan, asks, and runs.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use deploykit::event::{Observer, Outcome, Record};
use deploykit::report::Report;
use deploykit::update::{self, Prepared, Request, Start, UpdateError};

use crate::args::{Global, UpdateArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::plan::render;
use crate::output::progress::Progress;
use crate::output::report;

pub fn run(global: &Global, args: &UpdateArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    if !args.yes && !can_ask() {
        return Err(Failure::message(
            exit_code::REFUSED,
            "there is no terminal to ask for your consent on",
            "give it with `-y`, or look first with `deploykit plan`",
        ));
    }
    let request = Request {
        revision: args.revision.clone(),
        start: match (args.at, args.within, args.now) {
            (Some(time), _, _) => Start::At(time),
            (_, Some(duration), _) => Start::In(duration),
            (_, _, true) => Start::Now,
            _ => Start::AfterNotice,
        },
        message: args.message.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        only_plan: false,
    };
    let mut watch = Watch::new(ui, args.events.as_deref())?;
    let prepared = update::prepare(&site, &request, Some(super::cancel()?), &mut watch)
        .map_err(|error| refused(&error, ui))?;
    let update = match prepared {
        Prepared::Unchanged(report) => {
            ui.result(&report, &format!("{}\n", report.notices.join("\n")));
            return Ok(exit_code::DONE);
        }
        Prepared::Ready(update) => update,
    };
    ui.say(&format!("\n{}", render(update.plan(), ui.verbose > 0)));
    if !args.yes && !consent() {
        return Err(Failure::message(
            exit_code::REFUSED,
            "not updated: you did not say yes; the site noticed nothing",
            None,
        ));
    }
    let report = update.run().map_err(|error| refused(&error, ui))?;
    Ok(finish(&report, ui))
}

/// Shows the end of a run and returns its exit code.
pub fn finish(report: &Report, ui: Ui) -> u8 {
    let text = report::render(report);
    if report.outcome == Outcome::Updated {
        ui.result(report, &text);
    } else {
        ui.result(report, "");
        let _ = write!(anstream::stderr(), "{text}");
    }
    code(report)
}

/// Returns the exit code of an outcome.
fn code(report: &Report) -> u8 {
    match report.outcome {
        Outcome::Updated | Outcome::Unchanged => exit_code::DONE,
        Outcome::Refused => exit_code::REFUSED,
        Outcome::RolledBack => exit_code::ROLLED_BACK,
        Outcome::Held => exit_code::HELD,
        Outcome::Interrupted => exit_code::INTERRUPTED,
        _ => exit_code::UNEXPECTED,
    }
}

/// Says how an update ended in a few words.
pub fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Updated => "updated",
        Outcome::Unchanged => "nothing to do",
        Outcome::Refused => "refused",
        Outcome::RolledBack => "rolled back",
        Outcome::Held => "held in maintenance",
        Outcome::Interrupted => "interrupted",
        _ => "unknown",
    }
}

/// Turns an update that never began into a failure; with `--json` its report is the document.
pub fn refused(error: &UpdateError, ui: Ui) -> Failure {
    let mut failure = Failure::refused(error);
    if let UpdateError::Prepare { report, .. } = error
        && ui.json
    {
        ui.result(report, "");
        let _ = write!(anstream::stderr(), "{}", failure.text());
        failure.shown = true;
    } else if matches!(error, UpdateError::Prepare { .. }) {
        failure.message.push_str("\nNothing was touched: the site serves as before.");
    }
    failure
}

fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn consent() -> bool {
    let _ = write!(anstream::stderr(), "Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Shows events to a person and appends them to a file.
pub struct Watch {
    pub progress: Progress,
    file: Option<std::fs::File>,
}

impl Watch {
    pub fn new(ui: Ui, events: Option<&Path>) -> Result<Self, Failure> {
        let file = events.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose();
        let file = file.map_err(|error| {
            let path = events.unwrap_or(Path::new("")).display();
            Failure::message(
                exit_code::USAGE,
                format!("cannot open the file for events `{path}`: {error}"),
                None,
            )
        })?;
        Ok(Watch { progress: Progress::new(ui.quiet, ui.verbose > 0), file })
    }
}

impl Observer for Watch {
    fn observe(&mut self, record: &Record) {
        self.progress.observe(record);
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(record).unwrap_or_default();
            if let Err(error) = writeln!(file, "{line}") {
                log::warn!("cannot write the events: {error}");
                self.file = None;
            }
        }
    }
}
