//! What keeps a job from running while an update, a rollback or a recovery changes the site.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::command::quote;
use crate::host::Host;
use crate::host::files::FileError;
use crate::jobs::{Jobs, Registered, WaitForJobs};
use crate::journal::{Entry, JournalError};
use crate::keys::written;
use crate::lock::Lock;
use crate::operations::{Change, Check};
use crate::plan::{Plan, Step, StepKind};
use crate::site::Site;
use crate::state::State;

/// Polling interval while a job waits for the end of a run.
const LOOK: Duration = Duration::from_secs(1);

/// Why a job may not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// A run changes the site, or was interrupted, or the site is held.
    #[error("run {run} {}", if *running { "is changing the site" } else { "is unfinished" })]
    Blocked {
        /// The run.
        run: String,
        /// Whether its process lives.
        running: bool,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] FileError),
    /// The journal of the last run cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Registers this process as a job of a site once no run is changing the site, and waits for that for at most `patience`.
/// Returns `None` for what a run itself has started, which must not wait for it.
///
/// A run changes the site from the moment that it waits for jobs until it is over; until then jobs may start.
///
/// # Errors
///
/// [`JobError::Blocked`] when the run is not over in time. [`JobError::State`] when the job cannot be registered, as in the
/// directory of another user. [`JobError::Journal`] when the journal of the last run cannot be read.
pub fn begin_job(
    site: &Site,
    command: &[OsString],
    patience: Duration,
    host: &Host,
) -> Result<Option<Registered>, JobError> {
    let state = site.state();
    if Lock::is_inside(&state.lock()) {
        return Ok(None);
    }
    state.create()?;
    let words: Vec<_> = command.iter().map(|word| quote(&word.to_string_lossy())).collect();
    let line = host.redactor().redact(&words.join(" ")).into_owned();
    let since = Instant::now();
    loop {
        // Registered first: a run writes down that it waits for jobs before it looks for them.
        let registered = jobs(&state).register(line.clone())?;
        let Some(run) = blocks(&state)? else { return Ok(Some(registered)) };
        drop(registered);
        while blocks(&state)?.is_some() {
            if since.elapsed() >= patience || !host.wait(LOOK) {
                let running = Lock::holder(&state.lock()).is_some();
                return Err(JobError::Blocked { run, running });
            }
        }
    }
}

/// Returns the run that jobs must not run beside.
fn blocks(state: &State) -> Result<Option<String>, JournalError> {
    let Some((run, entries)) = state.unfinished()? else { return Ok(None) };
    let keeps_out = |entry: &Entry| match entry {
        // Without that step the run would not wait.
        Entry::RunStarted { planned, .. } => !planned.iter().any(|step| step.id == StepKind::Jobs),
        Entry::StepStarted { step, .. } => *step >= StepKind::Jobs,
        _ => false,
    };
    Ok(entries.iter().any(keeps_out).then_some(run.name))
}

/// Lets a run wait for jobs if the site's first one began after the plan was made.
pub(super) fn wait_within(plan: &mut Plan, site: &Site) -> Result<(), FileError> {
    if plan.steps.iter().any(|step| step.id == StepKind::Jobs) {
        return Ok(());
    }
    let after = plan.steps.iter().position(|step| step.id == StepKind::Wait).map_or(0, |at| at + 1);
    if let Some(check) = wait(site)? {
        plan.steps.insert(after, Step::new(StepKind::Jobs, check));
    }
    Ok(())
}

fn jobs(state: &State) -> Jobs {
    Jobs::at(state.directory().join("jobs"))
}

/// Returns the step that waits for jobs; `None`: the site has never had any.
pub(super) fn wait(site: &Site) -> Result<Option<Check>, FileError> {
    let jobs = jobs(&site.state());
    if !jobs.are_used() {
        return Ok(None);
    }
    let running = jobs.others()?;
    let limit = site.config().maintenance.wait_for_jobs;
    let reason = match running.len() {
        0 => "no job runs now".to_owned(),
        1 => format!("1 job runs now; the step waits up to {} for its end", written(limit)),
        count => format!("{count} jobs run now; the step waits up to {} for their end", written(limit)),
    };
    let details = running.iter().map(ToString::to_string).collect();
    let actions = vec![crate::action::Action::WaitForJobs(WaitForJobs { jobs, limit })];
    Ok(Some(Check::Change(Change { reason, details, actions, ..Change::default() })))
}
