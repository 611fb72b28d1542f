//! What keeps a job from running while an update, a rollback or a recovery changes the site.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::action::Action;
use crate::command::quote;
use crate::host::Host;
use crate::host::files::FileError;
use crate::jobs::{Jobs, Registered, WaitForJobs};
use crate::journal::{Entry, JournalError};
use crate::keys::written;
use crate::lock::Lock;
use crate::operations::{Change, Check};
use crate::plan::{Step, StepKind};
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
/// A run blocks new jobs from its step `jobs` until its end; a run that was planned without that step, from its beginning.
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

/// Adds the step `jobs` if the site's first job began after the plan was made. The step itself finds the jobs that run.
pub(super) fn wait_within(steps: &mut Vec<Step>, site: &Site) {
    let jobs = jobs(&site.state());
    if !jobs.are_used() || steps.iter().any(|step| step.id == StepKind::Jobs) {
        return;
    }
    let limit = site.config().maintenance.wait_for_jobs;
    let reason =
        format!("a job began after the plan was made; the step waits up to {} for its end", written(limit));
    let after = steps.partition_point(|step| step.id < StepKind::Jobs);
    steps.insert(after, Step::new(StepKind::Jobs, waiting(jobs, limit, reason, Vec::new())));
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
    Ok(Some(waiting(jobs, limit, reason, details)))
}

fn waiting(jobs: Jobs, limit: Duration, reason: String, details: Vec<String>) -> Check {
    let actions = vec![Action::WaitForJobs(WaitForJobs { jobs, limit })];
    Check::Change(Change { reason, details, actions, ..Change::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_step_for_jobs_even_if_they_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deploykit.toml");
        std::fs::write(&file, "[maintenance]\nwait-for-jobs = \"3m\"\n").unwrap();
        let site = Site::load_partial(&file, None).unwrap();
        let planned = [StepKind::Announce, StepKind::Wait, StepKind::StopWorkers, StepKind::StopWeb];
        let mut steps = planned.map(|kind| Step::new(kind, Check::unchanged(""))).to_vec();
        wait_within(&mut steps, &site);
        assert_eq!(steps.len(), 4, "the site has never had a job");
        std::fs::create_dir_all(site.state().directory().join("jobs/not-a-file")).unwrap();
        assert!(wait(&site).is_err());
        for _ in 0..2 {
            wait_within(&mut steps, &site);
            let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
            assert_eq!(ids, ["announce", "wait", "jobs", "stop-workers", "stop-web"]);
        }
        assert_eq!(
            steps[2].change.reason,
            "a job began after the plan was made; the step waits up to 3m for its end"
        );
        assert!(matches!(steps[2].change.actions[..], [Action::WaitForJobs(_)]));
    }
}
