//! An update as it happens: a line a step, and on a terminal a live one with the time that it has taken so far.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use deploykit::event::{Event, Observer, Record};
use deploykit::plan::Phase;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;

use super::human::{BAD, BOLD, DIM, GOOD, WARN, milliseconds, paint, short};

/// Shows events on the standard error.
pub struct Progress {
    /// The live line, while a step runs on a terminal.
    bar: Option<ProgressBar>,
    terminal: bool,
    quiet: bool,
    verbose: bool,
}

impl Progress {
    pub fn new(quiet: bool, verbose: bool) -> Self {
        Progress { bar: None, terminal: std::io::stderr().is_terminal() && !quiet, quiet, verbose }
    }

    /// Ends the live line; what was said stays.
    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let print = || {
            let _ = writeln!(anstream::stderr(), "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn live(&mut self, text: String) {
        self.finish();
        self.bar = self.terminal.then(|| bar(text));
    }
}

fn bar(text: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text);
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Observer for Progress {
    fn observe(&mut self, record: &Record) {
        match &record.event {
            Event::PhaseStarted { phase } => {
                let title = match phase {
                    Phase::Prepare => "Preparing; the site serves as before",
                    Phase::Announce => "Before the window",
                    Phase::Window => "Window",
                    Phase::Finish => "Finishing",
                };
                self.line(&paint(BOLD, title));
            }
            Event::RunStarted { run, from, to, .. } => {
                self.line(&format!(
                    "{} {} → {}",
                    paint(BOLD, &format!("Update {run}:")),
                    short(from),
                    short(to)
                ));
            }
            Event::StepStarted { step, reason, .. } => {
                let colon = if reason.is_empty() { "" } else { ": " };
                self.live(format!("{step}{colon}{reason}"));
                if !self.terminal && self.verbose {
                    self.line(&paint(DIM, &format!("  {step}{colon}{reason} …")));
                }
            }
            Event::StepFinished { step, outcome, duration_ms, .. } => {
                let text = format!(
                    "  {} {step:<18} {:>8}  {}",
                    paint(GOOD, "✓"),
                    milliseconds(*duration_ms),
                    paint(DIM, outcome)
                );
                self.line(text.trim_end());
                self.finish();
            }
            Event::StepSkipped { step, reason, .. } if self.verbose => {
                self.line(&paint(DIM, &format!("  - {step:<18} {:>8}  {reason}", "")));
            }
            Event::StepFailed { step, .. } => {
                self.line(&format!("  {} {step}", paint(BAD, "✗")));
                self.finish();
            }
            Event::Waiting { until, reason } => {
                let at = until.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
                self.line(&format!("  waiting until {at}: {reason}"));
                self.live(format!("waiting until {at}"));
            }
            Event::UndoStarted { steps } if *steps > 0 => {
                self.line(&paint(WARN, &format!("Going back: {steps} steps to undo")));
            }
            Event::StepUndone { step, duration_ms } => {
                self.line(&format!("  {} {step:<18} {:>8}", paint(WARN, "↩"), milliseconds(*duration_ms)));
            }
            Event::UndoFailed { step, error } => {
                self.line(&format!("  {} {step} could not be undone: {error}", paint(BAD, "✗")));
            }
            Event::Notice { text } => self.line(&format!("  {} {text}", paint(WARN, "note:"))),
            Event::RunFinished { .. } => self.finish(),
            _ => {}
        }
    }
}
