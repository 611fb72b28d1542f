//! An update as it happens: a line a step, and on a terminal a live one with the time that it has taken so far.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use deploykit::event::{Event, Observer, Record};
use deploykit::internal::git::short;
use deploykit::plan::{Phase, StepKind};
use indicatif::{ProgressBar, ProgressStyle};

use super::human::{BAD, BOLD, DIM, GOOD, WARN, date_and_time, duration, milliseconds, paint, with_times};
use super::visible::{indented, line, visible};
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
    /// The heading of a phase that has no line yet.
    heading: Option<&'static str>,
    /// The steps under way, oldest first.
    running: Vec<Running>,
}

struct Running {
    step: StepKind,
    reason: String,
    /// When it began, as the run counts and as we do.
    since_ms: u64,
    since: Instant,
    /// After how long it is to be mentioned.
    mention: Duration,
}

impl Lines {
    fn new(ui: Ui) -> Self {
        let terminal = std::io::stderr().is_terminal() && !ui.quiet;
        let (quiet, verbose) = (ui.quiet, ui.verbose > 0);
        Lines { bar: None, terminal, quiet, verbose, heading: None, running: Vec::new() }
    }

    /// Where no live line moves, says of a long step that it goes on: after 10 seconds, then each time after twice as long.
    fn still_running(&mut self, now: Instant) {
        if self.terminal {
            return;
        }
        let mut texts = Vec::new();
        for running in &mut self.running {
            let taken = now.saturating_duration_since(running.since);
            if taken >= running.mention {
                running.mention = taken * 2;
                texts.push(format!("  … {}: {} so far", running.step, duration(taken)));
            }
        }
        texts.iter().for_each(|text| self.line(text));
    }

    /// Ends the live line; what was said stays.
    fn finish(&mut self) {
        self.running.clear();
        self.clear();
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Ends one step; the live line goes on with the others.
    fn end(&mut self, step: &StepKind) -> Option<Running> {
        self.clear();
        let index = self.running.iter().position(|running| running.step == *step)?;
        Some(self.running.remove(index))
    }

    /// Shows what goes on.
    fn go_on(&mut self) {
        match self.running.as_slice() {
            [] => {}
            [one] if one.reason.is_empty() => self.live(one.step.to_string()),
            [one] => self.live(format!("{}: {}", one.step, one.reason)),
            several => {
                let names: Vec<&str> = several.iter().map(|running| running.step.as_str()).collect();
                self.live(names.join(", "));
            }
        }
    }

    /// Writes a line, below the heading of its phase.
    fn line(&mut self, text: &str) {
        self.head();
        self.write(text);
    }

    /// Writes the heading of the phase, if that is still due.
    fn head(&mut self) {
        if let Some(heading) = self.heading.take() {
            self.write(&paint(BOLD, heading));
        }
    }

    fn write(&self, text: &str) {
        if self.quiet {
            return;
        }
        let print = || {
            let _ = writeln!(anstream::stderr(), "{}", visible(text));
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn live(&mut self, text: String) {
        self.clear();
        self.bar = self.terminal.then(|| bar(text));
    }

    /// One step: a mark, its name, how long it took, what came of it.
    fn step(&mut self, mark: &str, step: &StepKind, ms: Option<u64>, outcome: &str) {
        let time = ms.map(milliseconds).unwrap_or_default();
        let start = format!("  {mark} {step:<18} {time:>9}");
        if outcome.is_empty() {
            self.line(start.trim_end());
        } else {
            self.line(&format!("{start}  {}", paint(DIM, &line(&with_times(outcome)))));
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
                    Phase::After => "After the update",
                };
                self.heading = Some(title);
            }
            Event::RunStarted { run, from, to, rolls_back, .. } => {
                let what = if rolls_back.is_some() { "Rollback" } else { "Update" };
                let title = paint(BOLD, &format!("{what} {run}"));
                self.line(&format!("{title}: {} → {}", short(from), short(to)));
            }
            Event::StepStarted { step, reason, .. } => {
                self.head();
                let (step, reason, since) = (step.clone(), reason.clone(), Instant::now());
                if !self.terminal && self.verbose {
                    let colon = if reason.is_empty() { "" } else { ": " };
                    self.line(&paint(DIM, &format!("  … {step}{colon}{reason}")));
                }
                let since_ms = record.elapsed_ms;
                self.running.push(Running { step, reason, since_ms, since, mention: LONG });
                self.go_on();
            }
            Event::StepFinished { step, outcome, duration_ms, .. } => {
                let reason = self.end(step).map(|running| running.reason).unwrap_or_default();
                let outcome = if outcome.is_empty() { &reason } else { outcome };
                self.step(&paint(GOOD, "✓"), step, Some(*duration_ms), outcome);
                self.go_on();
            }
            Event::StepSkipped { step, reason, .. } => {
                let began = self.end(step).is_some();
                if began || self.verbose {
                    self.step("-", step, None, reason);
                }
                self.go_on();
            }
            Event::StepFailed { step, .. } => {
                let since_ms = self.end(step).map_or(record.elapsed_ms, |running| running.since_ms);
                self.finish();
                let ms = record.elapsed_ms.saturating_sub(since_ms);
                self.step(&paint(BAD, "✗"), step, Some(ms), "");
            }
            Event::Waiting { until, reason } => {
                let at = date_and_time(*until);
                self.line(&format!("  waiting until {at}: {reason}"));
                self.live(format!("waiting until {at}"));
            }
            Event::UndoStarted { steps } if *steps > 0 => {
                let plural = if *steps == 1 { "step" } else { "steps" };
                self.line(&paint(WARN, &format!("Rolling back: {steps} {plural} to undo")));
            }
            Event::StepUndone { step, duration_ms } => {
                self.step(&paint(WARN, "↩"), step, Some(*duration_ms), "");
            }
            Event::UndoFailed { step, .. } => {
                self.line(&format!("  {} {step} could not be undone", paint(BAD, "✗")));
            }
            Event::Notice { text } => {
                self.line(&format!("  {} {}", paint(WARN, "note:"), indented(&with_times(text))))
            }
            Event::RunFinished { .. } => self.finish(),
            _ => {}
        }
    }
}

fn bar(text: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(line(&text).into_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines::new(Ui { json: false, quiet: true, verbose: 0 })
    }

    fn tell(lines: &mut Lines, elapsed_ms: u64, event: Event) {
        let time = "2026-11-22T12:00:00Z".parse().unwrap();
        lines.observe(&Record { time, elapsed_ms, event });
    }

    fn started(step: &str) -> Event {
        Event::StepStarted { phase: Phase::Prepare, step: step.into(), reason: String::new() }
    }

    fn running(lines: &Lines) -> Vec<(&str, u64)> {
        lines.running.iter().map(|running| (running.step.as_str(), running.mention.as_secs())).collect()
    }

    #[test]
    fn a_long_step_is_mentioned_again_and_again() {
        let mut lines = lines();
        tell(&mut lines, 0, started("migrate"));
        let since = lines.running[0].since;
        for (second, mention) in [(9, 10), (10, 20), (19, 20), (21, 42), (50, 100)] {
            lines.still_running(since + Duration::from_secs(second));
            assert_eq!(running(&lines), [("migrate", mention)], "after {second} s");
        }
        lines.finish();
        assert_eq!(running(&lines), []);
    }

    #[test]
    fn steps_go_on_beside_one_another() {
        let mut lines = lines();
        tell(&mut lines, 0, started("collect"));
        tell(&mut lines, 5, started("migrations"));
        assert_eq!(running(&lines), [("collect", 10), ("migrations", 10)]);
        let (phase, step, outcome) = (Phase::Prepare, "migrations".into(), String::new());
        tell(&mut lines, 9, Event::StepFinished { phase, step, outcome, duration_ms: 4 });
        assert_eq!(running(&lines), [("collect", 10)]);
        // One that turns out to be impossible.
        tell(&mut lines, 10, started("rehearse-pages"));
        let (step, reason) = ("rehearse-pages".into(), String::new());
        tell(&mut lines, 11, Event::StepSkipped { phase, step, reason });
        assert_eq!(running(&lines), [("collect", 10)]);
        let (step, error, tail) = ("collect".into(), String::new(), Vec::new());
        tell(&mut lines, 20, Event::StepFailed { phase, step, error, tail });
        assert_eq!(running(&lines), []);
    }
}
