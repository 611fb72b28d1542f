//! An update as it happens: a line a step, and on a terminal a live one with the time that it has taken so far.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use deploykit::event::{Event, Observer, Record};
use deploykit::git::short;
use deploykit::plan::Phase;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;

use super::human::{BAD, BOLD, DIM, GOOD, WARN, duration, milliseconds, paint};
use super::{PATIENCE, Ui};

/// How often a long step is looked at, and how long it takes until it is first mentioned where nothing moves.
const LOOK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);

/// Shows events and texts on the standard error, from a thread of its own: a terminal that does not read (a stalled
/// connection, Ctrl-S) must not hold up a window.
#[derive(Clone, Debug)]
pub struct Progress {
    sender: Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Event(Box<Record>),
    Text(String),
    /// Answered when everything before it was shown.
    Flush(Sender<()>),
}

impl Progress {
    pub fn new(ui: Ui) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || show(&receiver, ui));
        Progress { sender }
    }

    fn send(&self, message: Message) {
        // A thread that is gone has nobody to show it to.
        let _ = self.sender.send(message);
    }

    /// Shows a text after the events so far.
    pub fn say(&self, text: &str) {
        self.send(Message::Text(text.to_owned()));
    }

    /// Waits until everything was shown, but not for ever for a terminal that takes nothing.
    pub fn flush(&self) {
        let (sender, receiver) = channel();
        self.send(Message::Flush(sender));
        let _ = receiver.recv_timeout(PATIENCE);
    }
}

impl Observer for Progress {
    fn observe(&mut self, record: &Record) {
        self.send(Message::Event(Box::new(record.clone())));
    }
}

fn show(messages: &Receiver<Message>, ui: Ui) {
    let mut lines = Lines::new(ui);
    loop {
        match messages.recv_timeout(LOOK) {
            Ok(Message::Event(record)) => lines.observe(&record),
            Ok(Message::Text(text)) => lines.line(&text),
            Ok(Message::Flush(done)) => {
                lines.finish();
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => lines.still_running(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

/// Writes the lines.
struct Lines {
    /// The live line, while a step runs on a terminal.
    bar: Option<ProgressBar>,
    terminal: bool,
    quiet: bool,
    verbose: bool,
    /// Why the step under way is done, and since when.
    reason: String,
    since_ms: u64,
    /// The step under way, and when it is to be mentioned.
    running: Option<Running>,
}

struct Running {
    step: String,
    since: Instant,
    mention: Duration,
}

impl Lines {
    fn new(ui: Ui) -> Self {
        let terminal = std::io::stderr().is_terminal() && !ui.quiet;
        let (quiet, verbose) = (ui.quiet, ui.verbose > 0);
        Lines { bar: None, terminal, quiet, verbose, reason: String::new(), since_ms: 0, running: None }
    }

    /// Where no live line moves, says of a long step that it goes on: after 10 seconds, then each time after twice as long.
    fn still_running(&mut self, now: Instant) {
        let Some(running) = self.running.as_mut().filter(|_| !self.terminal) else { return };
        let taken = now.saturating_duration_since(running.since);
        if taken >= running.mention {
            running.mention = taken * 2;
            let text = format!("  … {}: {} so far", running.step, duration(taken));
            self.line(&text);
        }
    }

    /// Ends the live line; what was said stays.
    fn finish(&mut self) {
        self.running = None;
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

    /// One step: a mark, its name, how long it took, what came of it.
    fn step(&self, mark: &str, step: &str, ms: Option<u64>, outcome: &str) {
        let time = ms.map(milliseconds).unwrap_or_default();
        let line = format!("  {mark} {step:<18} {time:>9}");
        if outcome.is_empty() {
            self.line(line.trim_end());
        } else {
            self.line(&format!("{line}  {}", paint(DIM, outcome)));
        }
    }

    fn observe(&mut self, record: &Record) {
        match &record.event {
            Event::PhaseStarted { phase } => {
                let title = match phase {
                    Phase::Prepare => "Preparing; the site serves as before",
                    Phase::Announce => "Before the window",
                    Phase::Window => "Window",
                    Phase::Finish => "Afterwards",
                };
                self.line(&paint(BOLD, title));
            }
            Event::RunStarted { run, from, to, rolls_back, .. } => {
                let what = if rolls_back.is_some() { "Rollback" } else { "Update" };
                let title = paint(BOLD, &format!("{what} {run}"));
                self.line(&format!("{title}: {} → {}", short(from), short(to)));
            }
            Event::StepStarted { step, reason, .. } => {
                let colon = if reason.is_empty() { "" } else { ": " };
                self.live(format!("{step}{colon}{reason}"));
                self.reason.clone_from(reason);
                self.since_ms = record.elapsed_ms;
                let since = Instant::now();
                self.running = Some(Running { step: step.clone(), since, mention: LONG });
                if !self.terminal && self.verbose {
                    self.line(&paint(DIM, &format!("  … {step}{colon}{reason}")));
                }
            }
            Event::StepFinished { step, outcome, duration_ms, .. } => {
                self.finish();
                let outcome = if outcome.is_empty() { &self.reason } else { outcome };
                self.step(&paint(GOOD, "✓"), step, Some(*duration_ms), outcome);
            }
            Event::StepSkipped { step, reason, .. } if self.verbose => {
                self.step("-", step, None, reason);
            }
            Event::StepFailed { step, .. } => {
                self.finish();
                let ms = record.elapsed_ms.saturating_sub(self.since_ms);
                self.step(&paint(BAD, "✗"), step, Some(ms), "");
            }
            Event::Waiting { until, reason } => {
                let at = until.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
                self.line(&format!("  waiting until {at}: {reason}"));
                self.live(format!("waiting until {at}"));
            }
            Event::UndoStarted { steps } if *steps > 0 => {
                let plural = if *steps == 1 { "step" } else { "steps" };
                self.line(&paint(WARN, &format!("Going back: {steps} {plural} to undo")));
            }
            Event::StepUndone { step, duration_ms } => {
                self.step(&paint(WARN, "↩"), step, Some(*duration_ms), "");
            }
            Event::UndoFailed { step, .. } => {
                self.line(&format!("  {} {step} could not be undone", paint(BAD, "✗")));
            }
            Event::Notice { text } => self.line(&format!("  {} {text}", paint(WARN, "note:"))),
            Event::RunFinished { .. } => self.finish(),
            _ => {}
        }
    }
}

fn bar(text: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text);
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_step_is_mentioned_again_and_again() {
        let mut lines = Lines::new(Ui { json: false, quiet: true, verbose: 0 });
        let since = Instant::now();
        let running = |lines: &Lines| lines.running.as_ref().map(|running| running.mention.as_secs());
        lines.still_running(since);
        lines.running = Some(Running { step: "migrate".to_owned(), since, mention: LONG });
        for (second, mention) in [(9, 10), (10, 20), (19, 20), (21, 42), (50, 100)] {
            lines.still_running(since + Duration::from_secs(second));
            assert_eq!(running(&lines), Some(mention), "after {second} s");
        }
        lines.finish();
        assert_eq!(running(&lines), None);
    }
}
