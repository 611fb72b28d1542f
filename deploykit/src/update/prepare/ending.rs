//! How a preparation ends: with a run that may begin, refused, or with nothing to do.

use super::{Failed, Preparation};
use crate::action::Context;
use crate::bridge::Bridges;
use crate::django::Session;
use crate::error::warn;
use crate::event::{Event, Outcome};
use crate::host::files;
use crate::names;
use crate::plan::{Phase, StepKind};
use crate::report::{Failure, FailureKind, Report};
use crate::services::{LogMark, ServiceState};
use crate::state::{Current, Unread};
use crate::update::beside::Beside;
use crate::update::error::{PreparationError, UpdateError};
use crate::update::recipe::Planned;
use crate::update::{Prepared, Update};

/// What a preparation hands over, beside what it began with.
pub(in crate::update) struct Ready {
    pub planned: Planned,
    pub session: Session,
    pub current: Current,
    pub beside: Beside,
    pub bridges: Bridges,
    pub added: Vec<String>,
}

impl<'o> Preparation<'_, 'o> {
    /// Ends with a run that may begin. The logs are marked now: what they say from here on may be about it.
    pub(in crate::update) fn ready(self, states: &[ServiceState], ready: Ready) -> Box<Update<'o>> {
        let Ready { planned: Planned { mut plan, announcement }, session, current, beside, bridges, added } =
            ready;
        let unread = self.unread().into_iter().map(|Unread { path, since }| {
            let named = format!("`{}` has changed since {since:.0}", names::shown_path(&path));
            format!("{named}; the services read it when this run starts them")
        });
        plan.notices.splice(0..0, self.notices.iter().cloned().chain(unread));
        plan.rehearsal.clone_from(&self.rehearsal);
        let output = [("web started beforehand", &bridges.new), ("old web started beforehand", &bridges.old)];
        let output =
            output.into_iter().filter_map(|(name, booted)| Some((name, booted.as_ref()?.bridge.log.clone())));
        let files = self.site.config().logs.iter().map(|(name, path)| (name.as_str(), path.clone()));
        Box::new(Update {
            site: self.site.clone(),
            state: self.state,
            events: self.events,
            context: Context { host: self.host.with_low_priority(false), django: Some(session) },
            plan,
            run: self.run,
            started: self.started,
            logs: LogMark::of_states(states).and(LogMark::of_files(files.chain(output))),
            current,
            bridges,
            beside,
            announcement,
            until: self.request.until,
            added,
            _mark: self.mark,
            lock: self.lock,
        })
    }

    /// Tells everybody that a step failed, and puts away what was prepared.
    pub(in crate::update) fn fail(&mut self, step: StepKind, source: Failed) -> UpdateError {
        let interrupted = self.host.is_cancelled();
        let source = if interrupted { PreparationError::Interrupted.into() } else { source };
        let phase = Phase::Prepare;
        let mut failure = Failure::new(step.clone(), phase, source.as_ref(), self.host.redactor());
        if interrupted {
            (failure.kind, failure.interrupted) = (FailureKind::Interrupted, true);
        }
        failure.transcript.clone_from(&self.transcript);
        let (error, tail) = (failure.error.clone(), failure.tail.clone());
        self.events.send(Event::StepFailed { phase, step: step.clone(), error, tail });
        let report = Report { failure: Some(failure), ..self.report(Outcome::Refused) };
        if let Some(run) = &self.run {
            warn(run.set_report(&report));
        }
        let duration_ms = report.duration_ms;
        let run = report.run.clone().unwrap_or_default();
        self.events.send(Event::RunFinished { run, outcome: Outcome::Refused, duration_ms, window_ms: None });
        UpdateError::Prepare { step, source, report: Box::new(report) }
    }

    /// Returns the value of a step; a failure ends the preparation.
    pub(in crate::update) fn or_fail<T>(
        &mut self,
        step: StepKind,
        result: Result<T, Failed>,
    ) -> Result<T, UpdateError> {
        result.map_err(|source| self.fail(step, source))
    }

    /// Makes a report of how far it came.
    pub(super) fn report(&self, outcome: Outcome) -> Report {
        let run = self.run.as_ref().map(|run| run.name.clone());
        let environment = self.site.config().environment.as_str().to_owned();
        Report {
            from: self.from.clone(),
            to: self.to.clone(),
            rolls_back: self.rolls_back.clone(),
            rehearsal: self.rehearsal.clone(),
            outcome,
            duration_ms: crate::millis::of(self.events.elapsed()),
            notices: self.notices.clone(),
            ..Report::begun(run, environment, self.started)
        }
    }

    /// Ends with nothing to do.
    pub(super) fn unchanged(&mut self, reason: String) -> Prepared<'o> {
        let mut report = self.report(Outcome::Unchanged);
        report.notices.push(reason);
        for Unread { path, since } in self.unread() {
            let named = format!("`{}` has changed since {since:.0}", names::shown_path(&path));
            report.notices.push(format!("{named}; services read it when they start."));
            report.unread.push(path);
        }
        // A run in which nothing was to do is no run.
        if let Some(run) = self.run.take() {
            warn(files::remove_tree(&run.path));
        }
        Prepared::Unchanged(Box::new(report))
    }
}
