//! Performs the steps of a plan, and undoes them when one fails. It writes each step to the journal before it performs it.

mod hold;
mod window;

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::action::{Action, ActionError, Context, executor, leave_nothing};
pub use crate::error::error_chain;
use crate::error::warn;
use crate::event::{Event, Observer, Outcome, Record};
use crate::host::Host;
use crate::journal::{Begun, Entry, Journal, JournalError};
use crate::plan::{Phase, Step, StepKind};
use crate::report::{Failure, StepReport};
use crate::services::{LogMark, NewLines};
use window::{Window, until_served};

/// How many new lines of each log a failure shows: a service that cannot start and restarts repeatedly says why
/// once a round, somewhere between its tracebacks.
const LOG_LINES: usize = 40;

/// Sends events to the observer and, from the moment there is one, to the run's own file.
pub struct Events<'o> {
    observer: Box<dyn Observer + 'o>,
    file: Option<File>,
    started: Instant,
    /// What a person was told.
    notices: Vec<String>,
}

impl std::fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'o> Events<'o> {
    /// Starts the clock of the run.
    pub fn new(observer: impl Observer + 'o) -> Self {
        Events { observer: Box::new(observer), file: None, started: Instant::now(), notices: Vec::new() }
    }

    /// Writes events to this file from now on. It never fails a run.
    pub fn keep_in(&mut self, file: File) {
        self.file = Some(file);
    }

    /// Returns the time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds the notices that were sent to those that a report has already.
    pub(crate) fn add_notices(&self, notices: &mut Vec<String>) {
        for notice in &self.notices {
            if !notices.contains(notice) {
                notices.push(notice.clone());
            }
        }
    }

    /// Tells a person something, secrets removed.
    pub(crate) fn notice(&mut self, host: &Host, text: &str) {
        self.send(Event::Notice { text: host.redactor().redact(text).into_owned() });
    }

    /// Sends one event.
    pub fn send(&mut self, event: Event) {
        if let Event::Notice { text } = &event {
            self.notices.push(text.clone());
        }
        let record = Record { time: Timestamp::now(), elapsed_ms: crate::millis::of(self.elapsed()), event };
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(&record).unwrap_or_default();
            if let Err(error) = writeln!(file, "{line}") {
                log::warn!("cannot write the events of the run: {error}");
            }
        }
        self.observer.observe(&record);
    }
}

/// What came of the steps.
#[derive(Debug)]
pub struct Course {
    /// How it ended.
    pub outcome: Outcome,
    /// What failed.
    pub failure: Option<Failure>,
    /// The steps that were begun and done.
    pub steps: Vec<StepReport>,
    /// From the stop of the web to its first good page.
    pub window: Option<Duration>,
    /// The steps that were undone (`true`), and those of them that were done again to hold the site (`false`), in this order;
    /// also those that an earlier process of the run had begun.
    pub undone: Vec<(StepKind, bool)>,
}

/// Why a step stopped: an action failed, the end was requested, or what was done could not be recorded.
type Stopped = Box<dyn std::error::Error + Send + Sync>;

/// The result of undoing.
#[derive(Debug)]
pub(crate) struct Undone {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The step that could not be undone, and why.
    pub(crate) failed: Option<(StepKind, String)>,
    /// The steps that are undone (`true`), followed by those that were repeated to hold the site (`false`).
    pub(crate) steps: Vec<(StepKind, bool)>,
    /// When the old web served again.
    pub(crate) serves: Option<Instant>,
}

/// Performs steps.
pub struct Runner<'r, 'o> {
    /// What the actions work on.
    pub context: &'r mut Context,
    /// Where everything is written before it is done.
    pub journal: &'r mut Journal,
    /// Who is told.
    pub events: &'r mut Events<'o>,
    /// Whose new lines a failure shows, if any; they are read before anything is undone, which writes lines too.
    pub logs: Option<&'r LogMark>,
}

impl Runner<'_, '_> {
    /// Performs the steps in order. When one fails, or the end is requested, those that were begun are undone, newest
    /// first; when that fails too, `hold` keeps the site in maintenance.
    ///
    /// # Errors
    ///
    /// Only when the journal cannot be written before anything was begun; later that is a failure like any other.
    pub fn run(&mut self, steps: &[Step], hold: &[Action]) -> Result<Course, JournalError> {
        self.go_on(&[], steps, hold, None)
    }

    /// Like [`run`](Runner::run), after these steps of the same run, which are undone too when one fails; `opened` is when
    /// the run opened the window, if it did. Each step is taken from `steps` only once the one before is done.
    ///
    /// # Errors
    ///
    /// Like [`run`](Runner::run).
    pub fn go_on<'s>(
        &mut self,
        begun: &[&'s Step],
        steps: impl IntoIterator<Item = &'s Step>,
        hold: &[Action],
        opened: Option<Instant>,
    ) -> Result<Course, JournalError> {
        self.with_notices(|this| this.go_through(begun.to_vec(), steps, hold, opened))
    }

    /// Passes on what actions tell a person while they work.
    fn with_notices<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let host = self.context.host.clone();
        self.context.host = host.with_notices();
        let result = work(self);
        self.tell_notices();
        self.context.host = host;
        result
    }

    fn go_through<'s>(
        &mut self,
        mut begun: Vec<&'s Step>,
        steps: impl IntoIterator<Item = &'s Step>,
        hold: &[Action],
        opened: Option<Instant>,
    ) -> Result<Course, JournalError> {
        let mut reports: Vec<StepReport> = Vec::new();
        let mut phase = None;
        let mut window = Window { opened, length: None };
        for step in steps {
            if phase != Some(step.phase) {
                phase = Some(step.phase);
                self.events.send(Event::PhaseStarted { phase: step.phase });
            }
            if !step.is_needed() {
                let (phase, reason) = (step.phase, step.change.reason.clone());
                self.events.send(Event::StepSkipped { phase, step: step.id.clone(), reason });
                continue;
            }
            let started = Instant::now();
            window.before(&step.id, started);
            let entry = Entry::StepStarted {
                step: step.id.clone(),
                phase: step.phase,
                time: Timestamp::now(),
                actions: step.change.actions.clone(),
                undo: step.change.undo.clone(),
            };
            let done = match self.journal.append(&entry) {
                Err(error) if begun.is_empty() => return Err(error),
                Err(error) => Err(error.into()),
                Ok(()) => {
                    if !begun.iter().any(|earlier| earlier.id == step.id) {
                        begun.push(step);
                    }
                    self.perform(step, started)
                }
            };
            self.tell_notices();
            let duration_ms = crate::millis::of(started.elapsed());
            reports.push(StepReport {
                step: step.id.clone(),
                phase: step.phase,
                duration_ms,
                undone: false,
                leaves_nothing: leave_nothing(&step.change.actions, &step.change.undo),
            });
            match done {
                Ok(()) => {
                    window.after(step);
                    let change = &step.change;
                    let planned = || match (change.after.is_empty(), change.reason.is_empty()) {
                        (true, _) => change.reason.clone(),
                        (_, true) => change.after.clone(),
                        _ => format!("{}: {}", change.after, change.reason),
                    };
                    let outcome = self.context.host.take_outcome().unwrap_or_else(planned);
                    let (phase, step) = (step.phase, step.id.clone());
                    self.events.send(Event::StepFinished { phase, step, outcome, duration_ms });
                }
                Err(stopped) => {
                    let mut failure = self.failure(step, stopped);
                    let (outcome, undone) =
                        self.go_back(&begun, hold, &mut failure, &mut reports, &mut window);
                    // A site that is held is still down.
                    let ended = window.length.filter(|_| outcome != Outcome::Held);
                    let failure = Some(failure);
                    return Ok(Course { outcome, failure, steps: reports, window: ended, undone });
                }
            }
        }
        let (outcome, window) = (Outcome::Updated, window.length);
        Ok(Course { outcome, failure: None, steps: reports, window, undone: Vec::new() })
    }

    fn perform(&mut self, step: &Step, started: Instant) -> Result<(), Stopped> {
        self.events.send(Event::StepStarted {
            phase: step.phase,
            step: step.id.clone(),
            reason: step.change.reason.clone(),
        });
        let events = &mut *self.events;
        executor::perform(&step.change.actions, self.context, |action| {
            if let Action::Wait { until, reason } = action {
                events.send(Event::Waiting { until: *until, reason: reason.clone() });
            }
        })?;
        let entry =
            Entry::StepFinished { step: step.id.clone(), duration_ms: crate::millis::of(started.elapsed()) };
        Ok(self.journal.append(&entry)?)
    }

    /// Reports why a step failed, and returns its failure for the report.
    fn failure(&mut self, step: &Step, error: Stopped) -> Failure {
        let mut failure =
            Failure::new(step.id.clone(), step.phase, error.as_ref(), self.context.host.redactor());
        failure.cause = error.into();
        if !failure.interrupted {
            failure.logs = self.new_log_lines(self.logs);
        }
        // The undo is on the disk already: that is what counts.
        self.write(&Entry::StepFailed { step: step.id.clone(), error: failure.error.clone() });
        self.events.send(Event::StepFailed {
            phase: step.phase,
            step: step.id.clone(),
            error: failure.error.clone(),
            tail: failure.tail.clone(),
        });
        failure
    }

    fn go_back(
        &mut self,
        begun: &[&Step],
        hold: &[Action],
        failure: &mut Failure,
        reports: &mut [StepReport],
        window: &mut Window,
    ) -> (Outcome, Vec<(StepKind, bool)>) {
        let begun: Vec<Begun<'_>> = begun
            .iter()
            .rev()
            .map(|step| Begun {
                step: &step.id,
                phase: step.phase,
                actions: &step.change.actions,
                undo: &step.change.undo,
            })
            .collect();
        // It is open until the old web serves again.
        window.length = None;
        let logs = self.logs.map(LogMark::renewed);
        let Undone { outcome, failed, steps, serves } = self.undo(&begun, hold);
        if failed.is_some() {
            failure.add_logs(self.new_log_lines(logs.as_ref()));
        }
        failure.undo = failed;
        if let (Some(opened), Some(serves)) = (window.opened, serves) {
            window.length = Some(serves - opened);
        }
        mark_undone(reports, &steps);
        match outcome {
            Outcome::RolledBack if !is_open(&begun) => (Outcome::Refused, steps),
            other => (other, steps),
        }
    }

    /// Undoes steps in the given order; used by a failing run and by a recovery.
    pub(crate) fn undo(&mut self, begun: &[Begun<'_>], hold: &[Action]) -> Undone {
        self.with_notices(|this| this.undo_all(begun, hold))
    }

    fn undo_all(&mut self, begun: &[Begun<'_>], hold: &[Action]) -> Undone {
        let host = self.context.host.clone();
        let mut undone =
            Undone { outcome: Outcome::RolledBack, failed: None, steps: Vec::new(), serves: None };
        let steps = begun.iter().filter(|begun| !begun.undo.is_empty()).count();
        self.events.send(Event::UndoStarted { steps });
        for (undone_steps, Begun { step, actions, undo, .. }) in begun.iter().enumerate() {
            let started = Instant::now();
            // A second request stops here, where nothing is half done.
            if host.cancel().is_some_and(|cancel| cancel.requests() > 1) {
                return Undone { outcome: Outcome::Interrupted, ..undone };
            }
            let step = (*step).clone();
            let result = self.undo_step(&step, undo, &mut undone.serves);
            self.tell_notices();
            if let Err(error) = result {
                let error = host.redactor().redact(&error_chain(&error)).into_owned();
                self.write(&Entry::UndoFailed { step: step.clone(), error: error.clone() });
                self.events.send(Event::UndoFailed { step: step.clone(), error: error.clone() });
                if is_open(begun) {
                    let again = self.hold(hold, begun, undone_steps);
                    undone.steps.extend(again.into_iter().map(|step| (step, false)));
                }
                return Undone { outcome: Outcome::Held, failed: Some((step, error)), ..undone };
            }
            self.write(&Entry::StepUndone { step: step.clone() });
            if !undo.is_empty() {
                let duration_ms = crate::millis::of(started.elapsed());
                self.events.send(Event::StepUndone { step: step.clone(), duration_ms });
            }
            if !undo.is_empty() || leave_nothing(actions, undo) {
                undone.steps.push((step, true));
            }
        }
        undone
    }

    /// Undoes one step, and notes when the old web serves again.
    fn undo_step(
        &mut self,
        step: &StepKind,
        undo: &[Action],
        serves: &mut Option<Instant>,
    ) -> Result<(), ActionError> {
        for (limit, reason) in undo.iter().filter_map(Action::waits_for_hosts) {
            let until = Timestamp::now().checked_add(limit).unwrap_or(Timestamp::MAX);
            self.events.send(Event::Waiting { until, reason: reason.to_owned() });
        }
        if !step.opens_window() {
            return executor::undo(undo, self.context);
        }
        let (serving, after) = undo.split_at(until_served(undo));
        executor::undo(serving, self.context)?;
        *serves = Some(Instant::now());
        executor::undo(after, self.context)
    }

    /// Passes on what the actions told a person.
    fn tell_notices(&mut self) {
        for text in self.context.host.take_notices() {
            self.events.send(Event::Notice { text });
        }
    }

    fn new_log_lines(&self, mark: Option<&LogMark>) -> Vec<NewLines> {
        mark.map(|mark| mark.new_lines(&self.context.host, LOG_LINES)).unwrap_or_default()
    }

    /// Writes an entry whose loss a recovery can bear, because undoing twice does no harm.
    fn write(&mut self, entry: &Entry) {
        warn(self.journal.append(entry));
    }
}

/// Marks in the reports which steps are undone.
pub(crate) fn mark_undone(reports: &mut [StepReport], undone: &[(StepKind, bool)]) {
    for (step, undone) in undone {
        reports.iter_mut().filter(|report| report.step == *step).for_each(|report| report.undone = *undone);
    }
}

/// Tells whether a step of the window is among these: until then the live site is untouched.
pub(crate) fn is_open(begun: &[Begun<'_>]) -> bool {
    begun.iter().any(|begun| begun.phase >= Phase::Window)
}

#[cfg(test)]
mod tests;
