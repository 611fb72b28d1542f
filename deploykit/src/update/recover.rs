//! The way back of a run that was cut off or held, from its journal.

use std::time::Duration;

use jiff::Timestamp;

use crate::action::{Action, Context};
use crate::django::{self, Project};
use crate::event::{Event, Observer, Outcome, milliseconds};
use crate::git::NextTree;
use crate::host::files;
use crate::host::{Cancel, Host};
use crate::journal::{Begun, Entry, Journal, left_to_undo};
use crate::lock::Lock;
use crate::plan::Phase;
use crate::report::{Failure, Report, StepReport};
use crate::runner::{Events, Runner, error_chain};
use crate::services::ProcessId;
use crate::site::Site;
use crate::state::RunFolder;
use crate::update::UpdateError;

/// How often a process is looked after that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Undoes what an unfinished run did; `None` when no run is unfinished.
///
/// A migration that the run left at work is waited for first: nothing else may touch the database meanwhile.
///
/// # Errors
///
/// When another run has the lock, or the journal cannot be read.
pub fn recover(
    site: &Site,
    cancel: Option<Cancel>,
    observer: &mut dyn Observer,
) -> Result<Option<Report>, UpdateError> {
    let state = site.state();
    state.create()?;
    let host = site.host(cancel);
    let _lock = Lock::take(&state.lock(), "recover", Duration::ZERO, &host)?;
    let Some((run, entries)) = state.unfinished()? else { return Ok(None) };
    let Some(Entry::RunStarted { hold, to, beside, .. }) = entries.first() else { return Ok(None) };
    let mut events = Events::new(observer);
    events.keep_in(files::open_private(&run.events())?);
    let mut journal = Journal::open(&run.journal())?;
    let host = host.with_transcript(files::open_private(&run.transcript())?);
    let begun = left_to_undo(&entries);
    let mut report = first_report(&run, &entries);

    let mut undo = None;
    let outcome = if wait_for_orphans(&begun, &host, &mut events) {
        let mut context = Context { host: host.clone(), django: None };
        let mut runner =
            Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
        let Report { steps, window_ms, .. } = &mut report;
        runner.undo(&begun, hold, &mut undo, &mut |undone| {
            if undone == "stop-web" {
                *window_ms = window_since_stop(&entries);
            }
            steps.iter_mut().filter(|report| report.step == undone).for_each(|report| report.undone = true);
        })
    } else {
        Outcome::Interrupted
    };
    if outcome == Outcome::RolledBack {
        journal.append(&Entry::RunFinished { outcome, time: Timestamp::now() })?;
        let tree = NextTree {
            repository: site.config().repository.clone(),
            path: site.next_tree(),
            commit: to.clone(),
        };
        if let Err(error) = tree.remove(&host.uninterrupted()) {
            log::warn!("{}", error_chain(&error));
        }
        for folder in beside {
            if let Err(error) = files::remove_tree(folder) {
                log::warn!("{}", error_chain(&error));
            }
        }
    }
    report.outcome = outcome;
    report.duration_ms += milliseconds(events.elapsed());
    if outcome == Outcome::RolledBack {
        report.notices.push("a recovery undid what was left of the run".to_owned());
    }
    match (&mut report.failure, undo) {
        (Some(failure), undo) => failure.undo = undo,
        (None, Some(undo)) => report.failure = Some(undo_failure(&run, &begun, undo)),
        (None, None) => {}
    }
    run.set_report(&report)?;
    let Report { duration_ms, window_ms, .. } = report;
    events.send(Event::RunFinished { run: run.name, outcome, duration_ms, window_ms });
    Ok(Some(report))
}

/// Returns how long the web has been stopped, by the clock: the process that stopped it is gone.
fn window_since_stop(entries: &[Entry]) -> Option<u64> {
    let stopped = entries.iter().find_map(|entry| match entry {
        Entry::StepStarted { step, time, .. } if step == "stop-web" => Some(*time),
        _ => None,
    })?;
    let length = Duration::try_from(Timestamp::now().duration_since(stopped)).ok()?;
    Some(milliseconds(length))
}

/// Returns what the run itself reported, or, when it was cut off before it could, what its journal says.
fn first_report(run: &RunFolder, entries: &[Entry]) -> Report {
    if let Some(report) = run.report() {
        return report;
    }
    let mut report = Report {
        version: 1,
        run: Some(run.name.clone()),
        environment: String::new(),
        from: String::new(),
        to: String::new(),
        rolls_back: None,
        outcome: Outcome::Interrupted,
        started: Timestamp::now(),
        duration_ms: 0,
        window_ms: None,
        forecast: None,
        steps: Vec::new(),
        failure: None,
        notices: Vec::new(),
    };
    for entry in entries {
        match entry {
            Entry::RunStarted { environment, from, to, time, rolls_back, .. } => {
                report.environment.clone_from(environment);
                report.from.clone_from(from);
                report.to.clone_from(to);
                report.rolls_back.clone_from(rolls_back);
                report.started = *time;
            }
            Entry::StepStarted { step, phase, .. } => {
                let (step, phase) = (step.clone(), *phase);
                report.steps.push(StepReport { step, phase, duration_ms: 0, undone: false });
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
            Entry::StepFailed { .. } | Entry::UndoFailed { .. } | Entry::RunFinished { .. } => {}
        }
    }
    if let Some(last) = report.steps.last() {
        report.notices.push(format!("the run was cut off after step `{}` began", last.step));
    }
    report
}

fn undo_failure(run: &RunFolder, begun: &[Begun<'_>], undo: (String, String)) -> Failure {
    let phase = begun.iter().find(|begun| begun.step == undo.0).map_or(Phase::Window, |begun| begun.phase);
    Failure {
        step: undo.0.clone(),
        phase,
        error: undo.1.clone(),
        tail: Vec::new(),
        interrupted: false,
        undo: Some(undo),
        logs: Vec::new(),
        transcript: Some(run.transcript()),
    }
}

/// Waits until the Django processes that the run left at work have ended; `false` when the end was requested.
fn wait_for_orphans(begun: &[Begun<'_>], host: &Host, events: &mut Events<'_>) -> bool {
    let projects: Vec<Project> = begun
        .iter()
        .flat_map(|begun| begun.actions)
        .filter_map(|action| match action {
            Action::Migrate(migrate) => Some(migrate.project.clone()),
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
                "the run that was cut off still works on the database; waiting for process {}",
                names.join(", ")
            );
            events.send(Event::Notice { text });
        }
    }
}
