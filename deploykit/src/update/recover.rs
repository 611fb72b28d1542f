//! Undoes or completes an interrupted or held run, from its journal.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::action::{Action, ActionError, Context, executor, held_by, leave_nothing};
use crate::django::{self, Project};
use crate::error::warn;
use crate::event::{Event, Observer, Outcome};
use crate::host::files;
use crate::host::{Cancel, Host};
use crate::journal::{Begun, Entry, Journal, JournalError, is_finished, left_to_undo, way_forward};
use crate::plan::{Phase, Step, StepKind, requests_wait};
use crate::report::{Cause, Failure, FailureKind, Report, StepReport};
use crate::runner::{Events, Runner, Undone, error_chain, is_open, mark_undone};
use crate::services::{Goal, ProcessId};
use crate::site::Site;
use crate::smoke::SmokeCheck;
use crate::state::RunDirectory;
use crate::update::UpdateError;
use crate::update::beside::sweep;
use crate::update::finish::{Ending, prune, sync, until_end};

/// Polling interval while a process ends.
const LOOK: Duration = Duration::from_millis(100);

/// Undoes what an unfinished run did; returns `None` when no run is unfinished. Either way, it removes what a killed
/// preparation left behind.
///
/// It first waits for a migration that the run left running: nothing else may touch the database meanwhile.
///
/// # Errors
///
/// When another run has the lock, or the journal cannot be read.
pub fn recover(
    site: &Site,
    cancel: Option<Cancel>,
    observer: impl Observer,
) -> Result<Option<Report>, UpdateError> {
    Recovery::begin(site, cancel, observer, |recovery, begun, hold, entries| {
        Ok(recovery.go_back(begun, hold, entries))
    })
}

/// Completes an unfinished run: performs the planned steps that are not done, and then the smoke check. When a step fails,
/// everything is undone. Returns `None` when no run is unfinished.
///
/// # Errors
///
/// Like [`recover`], and when the undo of the run has begun.
pub fn recover_forward(
    site: &Site,
    cancel: Option<Cancel>,
    observer: impl Observer,
) -> Result<Option<Report>, UpdateError> {
    Recovery::begin(site, cancel, observer, |recovery, begun, hold, entries| {
        let run = recovery.run.name.clone();
        let planned = way_forward(entries).map_err(|reason| UpdateError::NoWayForward { run, reason })?;
        let done = |step: &Step| {
            let is_end =
                |entry: &Entry| matches!(entry, Entry::StepFinished { step: done, .. } if *done == step.id);
            let stands = step.change.undo.is_empty() || begun.iter().any(|begun| *begun.step == step.id);
            stands && entries.iter().any(is_end)
        };
        let earlier: Vec<&Step> =
            planned.iter().filter(|step| begun.iter().any(|begun| *begun.step == step.id)).collect();
        let is_web_started = planned.iter().any(|step| step.id == StepKind::StartWeb && done(step));
        let again = |step: &Step| match step.id {
            StepKind::SmokeCheck => true,
            // The web server that was started beforehand may have ended since, and nobody serves then.
            StepKind::OpenGate => !is_web_started,
            _ => false,
        };
        let left = until_end(planned)
            .iter()
            .filter(|step| step.is_needed() && !step.id.is_pause() && (again(step) || !done(step)));
        // A migration without a transaction may be half done: it would do things twice if it were run again on top of that.
        let half = earlier.iter().find(|step| !done(step) && has_copy(step));
        if let Some(step) = half
            && let Err(error) = recovery.undo_half(step)
        {
            recovery.report.notices.push(format!("step `{}` could not be restarted: {error}", step.id));
            return Ok(recovery.go_back(begun, hold, entries));
        }
        let opened = since_stop(entries).and_then(|length| Instant::now().checked_sub(length));
        let course = recovery.runner.go_on(&earlier, left, hold, opened)?;
        recovery.report.window_ms = course.window.map(crate::millis::of);
        for step in course.steps {
            recovery.report.steps.retain(|earlier| earlier.step != step.step);
            recovery.report.steps.push(step);
        }
        // Those that an earlier process began as well.
        mark_undone(&mut recovery.report.steps, &course.undone);
        if course.outcome == Outcome::Updated {
            recovery.report.notices.push("a recovery completed the run".to_owned());
        }
        if let Some(earlier) = recovery.report.failure.take()
            && course.failure.is_some()
        {
            let text = format!("before the recovery, step `{}` had failed: {}", earlier.step, earlier.error);
            recovery.report.notices.push(text);
        }
        recovery.report.failure = course.failure;
        Ok(course.outcome)
    })
}

/// A recovery under way.
struct Recovery<'r, 'o> {
    run: &'r RunDirectory,
    runner: Runner<'r, 'o>,
    report: Report,
}

impl Recovery<'_, '_> {
    /// Finds the unfinished run, lets `work` undo or complete it, and records the result.
    fn begin(
        site: &Site,
        cancel: Option<Cancel>,
        observer: impl Observer,
        work: impl FnOnce(
            &mut Recovery<'_, '_>,
            &[Begun<'_>],
            &[Action],
            &[Entry],
        ) -> Result<Outcome, UpdateError>,
    ) -> Result<Option<Report>, UpdateError> {
        site.require_all()?;
        let state = site.state();
        let host = site.host(cancel);
        let _lock = site.claim("recover", Duration::ZERO, &host)?;
        let Some((run, mut entries)) = state.unfinished()? else {
            sweep(site, &state, &host);
            return Ok(None);
        };
        request_where_configured(&mut entries, site.smoke_check().as_ref());
        let Some(Entry::RunStarted { hold, beside, planned, .. }) = entries.first() else {
            return Err(JournalError::Damaged { path: run.journal(), line: 1 }.into());
        };
        // A recovery that is killed after the end of the run leaves these to the next run.
        let mut directories = state.beside().unwrap_or_else(|| vec![site.staged_tree()]);
        directories.extend(beside.iter().cloned());
        state.set_beside(&directories)?;
        let mut events = Events::new(observer);
        events.keep_in(files::open_private(&run.events())?);
        let mut journal = Journal::open(&run.journal())?;
        let host = host.with_transcript(files::open_private(&run.transcript())?);
        let begun = left_to_undo(&entries);
        let report = first_report(&run, &entries);
        let mut context = Context::from(host.clone());
        let ready = wait_for_orphans(&begun, &host, &mut events);
        let runner = Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
        let mut recovery = Recovery { run: &run, runner, report };
        let outcome = if ready {
            recovery.stop_again(&begun);
            work(&mut recovery, &begun, hold, &entries)?
        } else {
            Outcome::Interrupted
        };
        let mut report = recovery.report;
        report.outcome = outcome;
        // By the clock, as the window is: the run began in another process.
        let passed = Duration::try_from(Timestamp::now().duration_since(report.started)).unwrap_or_default();
        let measured = report.duration_ms + crate::millis::of(events.elapsed());
        report.duration_ms =
            measured.max(crate::millis::of(passed)).max(report.window_ms.unwrap_or_default());
        if matches!(outcome, Outcome::RolledBack | Outcome::Refused | Outcome::Updated) {
            take_down(hold, planned);
            sync(site, beside);
            journal.append(&Entry::RunFinished { outcome, time: Timestamp::now() })?;
            let mut ending = Ending { site, state: &state, context: &mut context, events: &mut events };
            if outcome == Outcome::Updated {
                ending.keep(&run, &report, planned, run.next());
                ending.follow(&run, &mut report, planned);
            }
            context.close();
            sweep(site, &state, &host.uninterrupted());
            prune(site, &state, &host, outcome);
        }
        events.add_notices(&mut report.notices);
        run.set_report(&report)?;
        Ending { site, state: &state, context: &mut context, events: &mut events }.hooks(&report);
        let Report { duration_ms, window_ms, .. } = report;
        events.send(Event::RunFinished { run: run.name, outcome, duration_ms, window_ms });
        Ok(Some(report))
    }

    /// Undoes the steps of the run that are not undone yet.
    fn go_back(&mut self, begun: &[Begun<'_>], hold: &[Action], entries: &[Entry]) -> Outcome {
        let Undone { outcome, failed: undo, steps, serves } = self.runner.undo(begun, hold);
        if let Some((_, undone)) = steps.iter().rev().find(|(step, _)| step.opens_window()) {
            let since = serves.map_or(Duration::ZERO, |serves| serves.elapsed());
            let down = since_stop(entries).map(|down| crate::millis::of(down.saturating_sub(since)));
            self.report.window_ms = down.filter(|_| *undone);
        }
        mark_undone(&mut self.report.steps, &steps);
        if outcome == Outcome::RolledBack {
            self.report.notices.push("a recovery undid the rest of the run".to_owned());
        }
        match (&mut self.report.failure, undo) {
            // The undo was interrupted: what could not be undone before may still not be undone.
            (Some(_), None) if outcome == Outcome::Interrupted => {}
            (Some(failure), undo) => failure.undo = undo,
            (None, Some(undo)) => {
                let failure = failure_of(self.run, &self.report.steps, &undo.0, &undo.1);
                self.report.failure = Some(Failure { undo: Some(undo), ..failure });
            }
            (None, None) => {}
        }
        outcome
    }

    /// Undoes a step that was begun and not finished, so that it can be repeated from its beginning.
    fn undo_half(&mut self, step: &Step) -> Result<(), String> {
        let undone = executor::undo(&step.change.undo, self.runner.context);
        let undone = undone.and_then(|()| {
            // What is done anew from here may have to be undone with the copy once more.
            let mut restores = step.change.undo.iter().filter_map(held_by!(RestoreDatabase));
            restores.try_for_each(|restore| restore.forget()).map_err(ActionError::from)
        });
        let redactor = self.runner.context.host.redactor();
        undone.map_err(|error| redactor.redact(&error_chain(&error)).into_owned())
    }

    /// Stops what the run had stopped and not started yet: after a loss of power managers start it by themselves, and a
    /// person may have, with half of either version.
    fn stop_again(&mut self, begun: &[Begun<'_>]) {
        if !is_open(begun) {
            return;
        }
        let services = || {
            let actions = begun.iter().flat_map(|begun| begun.actions);
            actions.filter_map(|action| match action {
                Action::Service(service) => Some((action, service)),
                _ => None,
            })
        };
        let is_started = |name: &str| {
            services().any(|(_, service)| service.goal == Goal::Running && service.service.name == name)
        };
        let stops = services()
            .filter(|(_, service)| service.goal == Goal::Stopped && !is_started(&service.service.name));
        let stops = stops.map(|(action, _)| action);
        // If this fails, the start in the undo that follows fails, too.
        for error in executor::perform_each(stops, self.runner.context) {
            self.runner.events.send(Event::Notice { text: error_chain(&error) });
        }
    }
}

/// Lets the pages be requested where the configuration says now: a wrong address may be why the site is held.
fn request_where_configured(entries: &mut [Entry], configured: Option<&SmokeCheck>) {
    let Some(configured) = configured else { return };
    let correct = |action: &mut Action| {
        let served = match action {
            Action::SmokeCheck(served) => served,
            Action::KeepEarly(early) => &mut early.pages,
            _ => return,
        };
        let SmokeCheck { base, connect, ca, .. } = configured.clone();
        served.check = SmokeCheck { base, connect, ca, ..served.check.clone() };
    };
    for entry in entries {
        match entry {
            Entry::StepStarted { actions, undo, .. } => actions.iter_mut().chain(undo).for_each(correct),
            Entry::RunStarted { planned, .. } => {
                let changes = planned.iter_mut().map(|step| &mut step.change);
                changes
                    .flat_map(|change| change.actions.iter_mut().chain(&mut change.undo))
                    .for_each(correct);
            }
            _ => {}
        }
    }
}

/// Tells whether the undo of a step restores a copy of the database.
fn has_copy(step: &Step) -> bool {
    let is_copy =
        |action: &Action| matches!(action, Action::RestoreDatabase(restore) if restore.backup.is_some());
    step.change.undo.iter().any(is_copy)
}

/// Removes the page that only holds the site: no step of the run removes it.
fn take_down(hold: &[Action], planned: &[Step]) {
    // Earlier versions planned every page that they held with, and did not write down what they planned.
    let is_planned =
        |action| planned.is_empty() || planned.iter().any(|step| step.change.actions.contains(action));
    for action in hold.iter().filter(|action| !is_planned(action)) {
        if let Action::WriteFile { path, .. } = action {
            warn(files::remove_file(path));
        }
    }
}

/// Returns how long the web has been stopped, by the clock: the process that stopped it is gone.
fn since_stop(entries: &[Entry]) -> Option<Duration> {
    let stopped = entries.iter().find_map(|entry| match entry {
        Entry::StepStarted { step, time, .. } if step.opens_window() => Some(*time),
        _ => None,
    })?;
    Duration::try_from(Timestamp::now().duration_since(stopped)).ok()
}

/// Returns what is known of a run: what it reported, or, when it is unfinished and could not report, what its journal
/// says.
#[doc(hidden)]
#[must_use]
pub fn report_of(run: &RunDirectory) -> Option<Report> {
    let from_journal = || Journal::read(&run.journal()).ok().filter(|entries| !is_finished(entries));
    run.report().or_else(|| from_journal().map(|entries| first_report(run, &entries)))
}

/// Returns what the run itself reported, or, when it was interrupted before it could, what its journal says.
fn first_report(run: &RunDirectory, entries: &[Entry]) -> Report {
    if let Some(report) = run.report() {
        return report;
    }
    let mut report = Report::begun(Some(run.name.clone()), String::new(), Timestamp::now());
    for entry in entries {
        match entry {
            Entry::RunStarted { environment, from, to, time, rolls_back, planned, .. } => {
                report.environment.clone_from(environment);
                report.from.clone_from(from);
                report.to.clone_from(to);
                report.rolls_back.clone_from(rolls_back);
                report.started = *time;
                report.requests_wait = requests_wait(planned);
            }
            Entry::StepStarted { step, phase, actions, undo, .. } => {
                let (step, phase) = (step.clone(), *phase);
                let leaves_nothing = leave_nothing(actions, undo);
                report.steps.push(StepReport { step, phase, duration_ms: 0, undone: false, leaves_nothing });
            }
            Entry::StepFinished { step, duration_ms } => {
                for report in report.steps.iter_mut().filter(|report| report.step == *step) {
                    report.duration_ms = *duration_ms;
                }
            }
            Entry::StepUndone { step } => {
                for report in report.steps.iter_mut().filter(|report| report.step == *step) {
                    report.undone = true;
                }
            }
            Entry::StepFailed { step, error } => {
                report.failure = Some(failure_of(run, &report.steps, step, error));
            }
            Entry::UndoFailed { step, error } => {
                let steps = &report.steps;
                let failure = report.failure.get_or_insert_with(|| failure_of(run, steps, step, error));
                failure.undo = Some((step.clone(), error.clone()));
                report.outcome = Outcome::Held;
            }
            Entry::RunFinished { .. } => {}
        }
    }
    if let Some(last) = report.steps.last() {
        report.notices.push(format!("the run was interrupted after step `{}` began", last.step));
    }
    report
}

fn failure_of(run: &RunDirectory, steps: &[StepReport], step: &StepKind, error: &str) -> Failure {
    let phase = steps.iter().find(|report| report.step == *step).map_or(Phase::Window, |report| report.phase);
    // The journal has texts alone.
    let interrupted = error == ActionError::Interrupted.to_string();
    Failure {
        step: step.clone(),
        phase,
        kind: if interrupted { FailureKind::Interrupted } else { FailureKind::Other },
        error: error.to_owned(),
        tail: Vec::new(),
        interrupted,
        undo: None,
        logs: Vec::new(),
        transcript: Some(run.transcript()),
        cause: Cause::default(),
    }
}

/// Waits until the Django processes that the run left running have ended; `false` when the end was requested.
fn wait_for_orphans(begun: &[Begun<'_>], host: &Host, events: &mut Events<'_>) -> bool {
    let projects: Vec<Project> = begun
        .iter()
        .flat_map(|begun| begun.actions)
        .filter_map(|action| match action {
            Action::Migrate(migrate) => Some(migrate.project.clone()),
            Action::MigrateByCommand(migrate) => Some(migrate.project.clone()),
            Action::BackupDatabase(backup) => Some(backup.project.clone()),
            Action::RestoreDatabase(restore) => Some(restore.project.clone()),
            _ => None,
        })
        .collect();
    let mut told = false;
    loop {
        let orphans = django::orphans(&projects);
        if orphans.is_empty() {
            return true;
        }
        if !host.wait(LOOK) {
            return false;
        }
        // One that has nothing to do ends while we look.
        if !told && orphans.iter().any(ProcessId::is_alive) {
            told = true;
            let names: Vec<String> = orphans.iter().map(ProcessId::describe).collect();
            let text = format!(
                "the interrupted run still uses the database; waiting for process {}",
                names.join(", ")
            );
            events.send(Event::Notice { text });
        }
    }
}
