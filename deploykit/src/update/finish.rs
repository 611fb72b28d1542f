//! The second half of an update: announce, window, finish; then what is kept of it.

use std::cell::OnceCell;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::action::{Context, executor};
use crate::bridge::Bridges;
use crate::error::warn;
use crate::event::{Event, Outcome};
use crate::host::users::own_name;
use crate::host::{Host, ProcessId, files};
use crate::journal::{Entry, Journal, VERSION};
use crate::lock::Lock;
use crate::pause::{Order, PausePoint};
use crate::plan::{Phase, Plan, Step, StepKind};
use crate::report::{Failure, Report, StepReport};
use crate::runner::{Course, Events, Runner, error_chain};
use crate::services::LogMark;
use crate::site::Site;
use crate::state::{Current, Next, RunDirectory, Started, State};
use crate::update::announcement::Announcement;
use crate::update::beside::{Beside, Mark};
use crate::update::error::UpdateError;
use crate::update::jobs;
use crate::update::past;
use crate::update::pause::pauses;

/// The copies of the database of how many updates that stand are kept, and of how many other runs that made one.
const BACKUPS: usize = 3;

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(60);

/// An update that is ready to go live. Dropping it leaves the site as it is, and nothing beside it.
///
/// It owns its site, and can be sent to another thread. Its lifetime is that of the observer: with one that owns what it
/// uses, it is an `Update<'static>`.
#[derive(Debug)]
pub struct Update<'o> {
    pub(super) site: Site,
    pub(super) state: State,
    pub(super) events: Events<'o>,
    pub(super) context: Context,
    pub(super) plan: Plan,
    pub(super) run: Option<RunDirectory>,
    pub(super) started: Timestamp,
    pub(super) logs: LogMark,
    /// What the next update may rely on, once this one is over.
    pub(super) current: Current,
    /// They end before what they see is put away.
    pub(super) bridges: Bridges,
    pub(super) beside: Beside,
    pub(super) announcement: Announcement,
    /// Where it pauses first; `None`: it does not pause.
    pub(super) until: Option<PausePoint>,
    /// The names of the static files that it adds.
    pub(super) added: Vec<String>,
    pub(super) _mark: Option<Mark>,
    /// Dropped last: no other run begins while the staged parts are removed.
    pub(super) lock: Lock,
}

impl Update<'_> {
    /// Returns what it will do.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does it: the announcement, the window, the finish. A step that fails is a report, not an error.
    ///
    /// # Errors
    ///
    /// When the run cannot be recorded before anything was touched.
    pub fn run(mut self) -> Result<Report, UpdateError> {
        // The person may have taken a while to confirm: the notice counts from now.
        let announced = self.announcement.steps().map_err(|source| self.refused(source))?;
        exchange(&mut self.plan.steps, announced);
        jobs::wait_within(&mut self.plan.steps, &self.site);
        let run = match self.run.take() {
            Some(run) => run,
            None => self.state.new_run()?,
        };
        let purpose = match &self.plan.rolls_back {
            Some(undone) => format!("roll back {undone}"),
            None => format!("update to {}", crate::git::short(&self.plan.to)),
        };
        self.lock.set_purpose(&purpose)?;
        self.events.keep_in(files::open_private(&run.events())?);
        self.events.send(Event::RunStarted {
            run: run.name.clone(),
            environment: self.plan.environment.clone(),
            from: self.plan.from.clone(),
            to: self.plan.to.clone(),
            rolls_back: self.plan.rolls_back.clone(),
        });
        let next = Next { current: self.current.clone(), added: std::mem::take(&mut self.added) };
        run.set_next(&next)?;
        let mut journal = Journal::open(&run.journal())?;
        journal.append(&Entry::RunStarted {
            version: VERSION,
            run: run.name.clone(),
            time: Timestamp::now(),
            pid: std::process::id(),
            user: own_name(),
            environment: self.plan.environment.clone(),
            from: self.plan.from.clone(),
            to: self.plan.to.clone(),
            hold: self.plan.hold.clone(),
            beside: self.plan.beside(),
            rolls_back: self.plan.rolls_back.clone(),
            planned: self.plan.steps.clone(),
            state: self.state.owner()?.map(|owner| owner.id),
        })?;
        // From now on, jobs see this run; one may have begun a moment ago.
        jobs::wait_within(&mut self.plan.steps, &self.site);
        if let Some(until) = self.until {
            pauses(&self.site).give(ProcessId::own(), Order::Until(until))?;
        }
        let mut runner = Runner {
            context: &mut self.context,
            journal: &mut journal,
            events: &mut self.events,
            logs: Some(&self.logs),
        };
        self.beside.stays = true;
        let (before, after) = until_end(&self.plan.steps).split_at(after_first_pause(&self.plan.steps));
        let renewed = OnceCell::new();
        let renew = || {
            let mut steps = after.to_vec();
            if !before.is_empty() {
                // The notice counts from the end of the pause, too; the planned announcement still holds if it cannot be renewed.
                match self.announcement.renewed() {
                    Ok(announced) => exchange(&mut steps, announced.into_iter().flatten()),
                    Err(error) => log::warn!("{}", error_chain(error.as_ref())),
                }
            }
            steps
        };
        let after = iter::once_with(|| renewed.get_or_init(renew)).flatten();
        let course = runner.go_on(&[], before.iter().chain(after), &self.plan.hold, None);
        self.beside.stays = course.as_ref().is_ok_and(|course| needs_way_back(course.outcome));
        warn(pauses(&self.site).forget());
        let course = course?;
        if !needs_way_back(course.outcome) {
            // Nothing is undone any more.
            self.bridges.old = None;
        }
        let mut report = self.report(&run, course);
        self.events.add_notices(&mut report.notices);
        if !needs_way_back(report.outcome) {
            sync(&self.site, &self.plan.beside());
            // First of all: once anything is put away, a recovery could not roll back any more.
            let entry = Entry::RunFinished { outcome: report.outcome, time: Timestamp::now() };
            match journal.append(&entry) {
                Ok(()) => {
                    let (context, plan) = (&mut self.context, &self.plan);
                    let mut ending =
                        Ending { site: &self.site, state: &self.state, context, events: &mut self.events };
                    if report.outcome == Outcome::Updated {
                        ending.keep(&run, &report, &plan.steps, next);
                        ending.follow(&run, &mut report, &plan.steps);
                    }
                    self.context.close();
                    self.beside.put_away();
                    prune(&self.site, &self.state, &self.context.host, report.outcome);
                }
                Err(error) => {
                    self.beside.stays = true;
                    let text =
                        format!("{}; run `deploykit recover` once it can be written", error_chain(&error));
                    self.events.notice(&self.context.host, &text);
                }
            }
        }
        if let Err(error) = run.set_report(&report) {
            self.events.notice(&self.context.host, &error_chain(&error));
        }
        let (site, state, context, events) = (&self.site, &self.state, &mut self.context, &mut self.events);
        Ending { site, state, context, events }.hooks(&report);
        self.events.send(Event::RunFinished {
            run: run.name.clone(),
            outcome: report.outcome,
            duration_ms: report.duration_ms,
            window_ms: report.window_ms,
        });
        Ok(report)
    }

    /// Puts away what was prepared, and leaves the site as it is. The same happens when it is dropped.
    pub fn discard(self) {
        drop(self);
    }

    fn refused(&mut self, source: Box<dyn std::error::Error + Send + Sync>) -> UpdateError {
        // It is kept in the history: a person asked for it.
        let run = self.run.take();
        let report = Report { outcome: Outcome::Refused, ..self.begun(run.as_ref()) };
        if let Some(run) = run {
            warn(run.set_report(&report));
        }
        UpdateError::Prepare { step: StepKind::Announce, source, report: Box::new(report) }
    }

    fn report(&self, run: &RunDirectory, course: Course) -> Report {
        let mut failure = course.failure;
        if let Some(failure) = &mut failure {
            failure.transcript = Some(run.transcript());
        }
        Report {
            outcome: course.outcome,
            window_ms: course.window.map(crate::millis::of),
            requests_wait: self.plan.requests_wait(),
            forecast: self.plan.has_window().then_some(self.plan.forecast),
            steps: course.steps,
            failure,
            ..self.begun(Some(run))
        }
    }

    /// Returns what a report says however it ends.
    fn begun(&self, run: Option<&RunDirectory>) -> Report {
        let (run, environment) = (run.map(|run| run.name.clone()), self.plan.environment.clone());
        Report {
            from: self.plan.from.clone(),
            to: self.plan.to.clone(),
            rolls_back: self.plan.rolls_back.clone(),
            rollback: self.plan.rollback.clone(),
            rehearsal: self.plan.rehearsal.clone(),
            duration_ms: crate::millis::of(self.events.elapsed()),
            notices: self.plan.notices.clone(),
            ..Report::begun(run, environment, self.started)
        }
    }
}

/// The work at the end of a run: of an update, a rollback or a recovery.
pub(super) struct Ending<'e, 'o> {
    pub site: &'e Site,
    pub state: &'e State,
    pub context: &'e mut Context,
    pub events: &'e mut Events<'o>,
}

impl Ending<'_, '_> {
    /// Keeps what a rollback needs, and what the next update may rely on. Without it there is no rollback, and the next
    /// update only looks closer.
    pub(super) fn keep(&mut self, run: &RunDirectory, report: &Report, steps: &[Step], next: Next) {
        if report.rolls_back.is_none() {
            let course = (report.from.as_str(), report.to.as_str(), steps);
            let kept = past::keep(self.site, self.state, run, course, next.added, self.context);
            if let Err(error) = kept {
                let text = format!("this update cannot be rolled back: {}", error_chain(error.as_ref()));
                self.events.notice(&self.context.host, &text);
            }
        }
        let mut current = next.current;
        current.settle();
        let mut started = Started::default();
        if let Some(seen) = &current.seen {
            let config = self.site.config();
            started.add(
                seen,
                report.started,
                [&config.secrets.file, &config.site.env_file].into_iter().flatten(),
            );
        }
        // The previous version read them long ago.
        if report.rolls_back.is_some() {
            started.renew();
        }
        let kept = self.state.set_current(&current).and_then(|()| self.state.set_started(&started));
        if let Err(error) = kept {
            self.events.notice(&self.context.host, &error_chain(&error));
        }
    }

    /// Runs the site's own steps that follow the end, until one fails. The run is over by then: whatever becomes of them, the new
    /// version serves, and a rollback can still be asked for.
    pub(super) fn follow(&mut self, run: &RunDirectory, report: &mut Report, steps: &[Step]) {
        let steps = &steps[until_end(steps).len()..];
        if steps.is_empty() {
            return;
        }
        let began = Instant::now();
        // A kill during these steps must not change the recorded outcome.
        if let Err(error) = run.set_report(report) {
            self.events.notice(&self.context.host, &error_chain(&error));
        }
        self.events.send(Event::PhaseStarted { phase: Phase::After });
        for (number, step) in steps.iter().enumerate() {
            let (id, phase, reason) = (step.id.clone(), step.phase, step.change.reason.clone());
            self.events.send(Event::StepStarted { phase, step: id.clone(), reason: reason.clone() });
            let started = Instant::now();
            let done = executor::perform(&step.change.actions, self.context, |_| ());
            let duration_ms = crate::millis::of(started.elapsed());
            report.steps.push(StepReport {
                step: id.clone(),
                phase,
                duration_ms,
                undone: false,
                leaves_nothing: false,
            });
            let Err(error) = done else {
                self.events.send(Event::StepFinished { phase, step: id, outcome: reason, duration_ms });
                continue;
            };
            let mut failure = Failure::new(id.clone(), phase, &error, self.context.host.redactor());
            failure.cause = Box::<dyn std::error::Error + Send + Sync>::from(error).into();
            failure.transcript = Some(run.transcript());
            let (error, tail) = (failure.error.clone(), failure.tail.clone());
            self.events.send(Event::StepFailed { phase, step: id, error, tail });
            report.failure = Some(failure);
            let left: Vec<String> = steps[number + 1..].iter().map(|step| format!("`{}`", step.id)).collect();
            if !left.is_empty() {
                let text = format!("these steps were not run: {}", left.join(", "));
                self.events.notice(&self.context.host, &text);
            }
            break;
        }
        report.duration_ms += crate::millis::of(began.elapsed());
        self.events.add_notices(&mut report.notices);
    }

    /// Tells the site's own programs what came of it.
    pub(super) fn hooks(&mut self, report: &Report) {
        let config = self.site.config();
        let hooks = if report.outcome == Outcome::Updated && report.failure.is_none() {
            &config.hooks.after_success
        } else {
            &config.hooks.after_failure
        };
        let text = serde_json::to_string(report).unwrap_or_default();
        for argv in hooks {
            let Some(command) = self.site.command(argv) else { continue };
            let command = command.input(text.clone()).deadline(HOOK);
            if let Err(error) = self.context.host.uninterrupted().run_unread(&command) {
                self.events.notice(&self.context.host, &format!("hook: {}", error_chain(&error)));
            }
        }
    }
}

/// Puts steps in the place of those with their names.
fn exchange(steps: &mut [Step], new: impl IntoIterator<Item = Step>) {
    for step in new {
        if let Some(old) = steps.iter_mut().find(|old| old.id == step.id) {
            *old = step;
        }
    }
}

/// Returns the index of what follows the pause before the announcement; 0: there is none.
fn after_first_pause(steps: &[Step]) -> usize {
    let pause = StepKind::pause(PausePoint::Prepared);
    steps.iter().position(|step| step.id == pause).map_or(0, |at| at + 1)
}

/// Returns the steps of the run itself, without those that follow its end.
pub(super) fn until_end(steps: &[Step]) -> &[Step] {
    &steps[..steps.partition_point(|step| step.phase < Phase::After)]
}

/// Removes what no rollback needs any more: the leftovers of past updates, and old backups.
pub(super) fn prune(site: &Site, state: &State, host: &Host, outcome: Outcome) {
    if outcome == Outcome::Updated
        && let Err(error) = past::prune(site, state, &host.uninterrupted())
    {
        log::warn!("{}", error_chain(error.as_ref()));
    }
    // Only its copy may be able to roll back the last update, however many runs came since.
    let standing = match past::standing(state, site.config().keep.min(BACKUPS)) {
        Ok(standing) => standing,
        Err(error) => return log::warn!("{}", error_chain(&error)),
    };
    let stands = |run: &RunDirectory| standing.iter().any(|past| past.run.name == run.name);
    let runs = state.runs().unwrap_or_default();
    let copies = runs.iter().rev().filter(|run| !stands(run)).map(|run| backups(&run.path));
    for copies in copies.filter(|copies| !copies.is_empty()).skip(BACKUPS) {
        for path in copies {
            warn(files::remove_tree(&path));
        }
    }
}

/// Returns the copies of the database in a run's directory, with what belongs to them; what they came to stays.
fn backups(run: &Path) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The records stay.
        (name == "backup" || name.starts_with("backup.")) && !name.ends_with(".json")
    };
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_one).collect()
}

/// Removes the run directory of an update that was planned and not run.
impl Drop for Update<'_> {
    fn drop(&mut self) {
        self.context.close();
        if let Some(run) = &self.run {
            warn(files::remove_tree(&run.path));
        }
    }
}

/// Writes to the disk what programs wrote that do not see to it themselves, as git does with files of the checkout:
/// before the journal says that there is nothing left to recover. `beside` has a neighbour of the static files.
pub(super) fn sync(site: &Site, beside: &[PathBuf]) {
    let config = site.config();
    let beside = beside.iter().map(|path| files::parent(path));
    let own = [config.site.repository.as_path()].into_iter().chain(config.python.virtualenv.as_deref());
    for path in beside.chain(own) {
        warn(files::sync_file_system(path));
    }
}

/// Tells whether what was prepared is still needed to roll back.
fn needs_way_back(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Held | Outcome::Interrupted)
}
