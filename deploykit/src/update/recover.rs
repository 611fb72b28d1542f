//! The way back of a run that was cut off or held, from its journal.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::action::{Action, Context};
use crate::event::{Event, Observer, Outcome, milliseconds};
use crate::git::NextTree;
use crate::host::Cancel;
use crate::host::files;
use crate::journal::{Entry, Journal};
use crate::lock::Lock;
use crate::plan::Phase;
use crate::report::{Failure, Report, StepReport};
use crate::runner::{Events, Runner};
use crate::site::Site;
use crate::update::UpdateError;

/// Undoes what an unfinished run did; `None` when no run is unfinished.
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
    let _lock = Lock::take(&state.lock(), "recover", std::time::Duration::ZERO, &host)?;
    let Some((run, entries)) = state.unfinished()? else { return Ok(None) };
    let Some(Entry::RunStarted { environment, from, to, hold, time, .. }) = entries.first().cloned() else {
        return Ok(None);
    };
    let mut events = Events::new(observer);
    events.keep_in(files::open_private(&run.events())?);
    let mut journal = Journal::open(&run.journal())?;
    let host = host.with_transcript(files::open_private(&run.transcript())?);
    let mut context = Context { host, django: None };
    let left = left_to_undo(&entries);
    let undos: Vec<(&str, &[Action])> =
        left.iter().map(|(step, undo)| (step.as_str(), undo.as_slice())).collect();
    let mut steps: Vec<StepReport> = left
        .iter()
        .map(|(step, _)| StepReport {
            step: step.clone(),
            phase: Phase::Window,
            duration_ms: 0,
            undone: false,
        })
        .collect();
    let mut undo = None;
    let mut runner = Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
    let outcome = runner.undo(&undos, &hold, true, &mut undo, &mut |undone| {
        for report in steps.iter_mut().filter(|report| report.step == undone) {
            report.undone = true;
        }
    });
    if outcome == Outcome::RolledBack {
        journal.append(&Entry::RunFinished { outcome, time: Timestamp::now() })?;
        let tree = NextTree {
            repository: site.config().repository.clone(),
            path: site.next_tree(),
            commit: to.clone(),
        };
        if let Err(error) = tree.remove(&context.host.uninterrupted()) {
            log::warn!("{error}");
        }
    }
    let failure = undo.map(|undo| Failure {
        step: undo.0.clone(),
        phase: Phase::Window,
        error: undo.1.clone(),
        tail: Vec::new(),
        interrupted: false,
        undo: Some(undo),
        logs: Vec::new(),
        transcript: Some(run.transcript()),
    });
    let report = Report {
        version: 1,
        run: Some(run.name.clone()),
        environment,
        from,
        to,
        outcome,
        started: time,
        duration_ms: milliseconds(events.elapsed()),
        window_ms: None,
        forecast: None,
        steps,
        failure,
        notices: Vec::new(),
    };
    run.set_report(&report)?;
    let (duration_ms, window_ms) = (report.duration_ms, None);
    events.send(Event::RunFinished { run: run.name, outcome, duration_ms, window_ms });
    Ok(Some(report))
}

/// Returns the steps that were begun and not undone, newest first.
fn left_to_undo(entries: &[Entry]) -> Vec<(String, Vec<Action>)> {
    let undone: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::StepUndone { step } => Some(step.as_str()),
            _ => None,
        })
        .collect();
    entries
        .iter()
        .rev()
        .filter_map(|entry| match entry {
            Entry::StepStarted { step, undo, .. } if !undone.contains(step.as_str()) => {
                Some((step.clone(), undo.clone()))
            }
            _ => None,
        })
        .collect()
}
