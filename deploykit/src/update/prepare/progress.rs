//! What a preparation tells of its steps, and where it writes that.

use std::path::PathBuf;
use std::time::Instant;

use super::{Failed, Preparation};
use crate::event::Event;
use crate::host::files;
use crate::plan::{Phase, StepKind};
use crate::update::beside::Mark;
use crate::update::error::{PreparationError, UpdateError};

/// A step under way.
pub(super) struct Running {
    pub(super) step: StepKind,
    since: Instant,
}

impl Preparation<'_, '_> {
    /// Marks on the disk that a preparation is under way.
    pub(in crate::update) fn mark(&mut self) -> Result<&mut Mark, files::FileError> {
        let mark = match self.mark.take() {
            Some(mark) => mark,
            None => Mark::set(self.site)?,
        };
        Ok(self.mark.insert(mark))
    }

    /// Marks the preparation, and opens the run's directory and transcript; a mere plan has a transcript of its own and no run.
    pub(in crate::update) fn record(&mut self) -> Result<(), UpdateError> {
        self.mark()?;
        let transcript = if self.request.only_plan {
            let path = self.state.directory().join("plan.log");
            files::remove_file(&path)?;
            path
        } else {
            let run = self.state.new_run()?;
            let path = run.transcript();
            // From here on `status --follow` sees the run.
            self.events.keep_in(files::open_private(&run.events())?);
            self.run = Some(run);
            path
        };
        // The site still serves, and has the first claim to the machine.
        self.host = self.host.with_low_priority(true).with_transcript(files::open_private(&transcript)?);
        self.transcript = Some(transcript);
        Ok(())
    }

    /// Returns the directory of the run; a mere plan has none.
    pub(in crate::update) fn directory(&self) -> PathBuf {
        self.run.as_ref().map_or_else(|| self.state.directory().to_owned(), |run| run.path.clone())
    }

    pub(in crate::update) fn notice(&mut self, text: String) {
        self.events.send(Event::Notice { text: text.clone() });
        self.notices.push(text);
    }

    /// Does one step and tells about it; a failure ends the preparation.
    pub(in crate::update) fn step<T>(
        &mut self,
        step: StepKind,
        work: impl FnOnce(&mut Self) -> Result<(T, String), Failed>,
    ) -> Result<T, UpdateError> {
        let step = self.begin_step(step);
        let result =
            if self.host.is_cancelled() { Err(PreparationError::Interrupted.into()) } else { work(self) };
        self.end_step(step, result)
    }

    /// Tells that a step begins, which may go on beside others.
    pub(super) fn begin_step(&mut self, step: StepKind) -> Running {
        let (phase, reason) = (Phase::Prepare, String::new());
        self.events.send(Event::StepStarted { phase, step: step.clone(), reason });
        Running { step, since: Instant::now() }
    }

    /// Tells what came of it; a failure ends the preparation.
    pub(super) fn end_step<T>(
        &mut self,
        running: Running,
        result: Result<(T, String), Failed>,
    ) -> Result<T, UpdateError> {
        let Running { step, since } = running;
        let (value, outcome) = self.or_fail(step.clone(), result)?;
        let (phase, duration_ms) = (Phase::Prepare, crate::millis::of(since.elapsed()));
        self.events.send(Event::StepFinished { phase, step, outcome, duration_ms });
        Ok(value)
    }
}
