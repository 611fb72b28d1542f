//! Finished updates: which of them still stand, what each keeps for its rollback, and when that goes.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::action::{Action, Context, held_by};
use crate::django::{DjangoError, Project, Session};
use crate::event::Outcome;
use crate::git;
use crate::host::Swap;
use crate::host::{Host, files};
use crate::journal::{Entry, Journal, JournalError};
use crate::names;
use crate::operations::pip_install::Ready as StagedVirtualenv;
use crate::plan::{Step, StepKind};
use crate::site::Site;
use crate::state::{Kept, KeptDatabase, KeptStatic, RunDirectory, State};

/// How long rows are counted.
pub(super) const COUNTING: Duration = Duration::from_secs(5);

/// A finished update with its journal.
#[derive(Debug)]
pub(super) struct Past {
    pub run: RunDirectory,
    entries: Vec<Entry>,
}

impl Past {
    /// Returns what the built-in steps did, in order.
    pub(super) fn actions(&self) -> impl Iterator<Item = &Action> {
        self.entries.iter().flat_map(|entry| match entry {
            Entry::StepStarted { step, actions, .. } if !step.is_own() => actions.as_slice(),
            _ => &[],
        })
    }

    /// Returns the actions that would have undone the built-in steps, had the run failed.
    pub(super) fn undo(&self) -> impl Iterator<Item = &Action> {
        self.entries.iter().flat_map(|entry| match entry {
            Entry::StepStarted { step, undo, .. } if !step.is_own() => undo.as_slice(),
            _ => &[],
        })
    }

    /// Returns the steps of the site's own and of a tool, newest first, each with the built-in step that it followed.
    pub(super) fn own_steps(&self) -> Vec<(StepKind, Step)> {
        let Some(Entry::RunStarted { planned, .. }) = self.entries.first() else { return Vec::new() };
        let (mut anchor, mut found) = (None, Vec::new());
        for step in planned {
            if step.id.is_own() {
                found.extend(anchor.clone().map(|anchor| (anchor, step.clone())));
            } else {
                anchor = Some(step.id.clone());
            }
        }
        found.reverse();
        found
    }

    /// Returns until when the site's own steps may have written into the static files that it brought; `None`: there were none.
    pub(super) fn steps_after_static(&self) -> Option<Timestamp> {
        let begun = |entry: &Entry| match entry {
            Entry::StepStarted { step, time, actions, .. } => Some((step.clone(), *time, has_own(actions))),
            _ => None,
        };
        let mut after =
            self.entries.iter().filter_map(begun).skip_while(|(step, ..)| *step != StepKind::Static);
        let mut ran = false;
        let serves = after.find(|(step, _, is_own)| {
            ran |= is_own;
            *step == StepKind::StartWeb
        });
        ran.then(|| serves.map_or(Timestamp::MAX, |(_, time, _)| time))
    }

    /// Returns when the site's own steps of later runs, also of those that were rolled back, ran while the web was stopped.
    pub(super) fn later_steps(&self, state: &State) -> Result<Vec<[Timestamp; 2]>, JournalError> {
        let mut found = Vec::new();
        for run in state.runs()?.into_iter().rev().take_while(|run| run.name != self.run.name) {
            if run.journal().exists() {
                found.extend(own_steps_of(&state.read_journal(&run)?));
            }
        }
        Ok(found)
    }

    /// Returns the commits before and after it.
    pub(super) fn commits(&self) -> (String, String) {
        match self.entries.first() {
            Some(Entry::RunStarted { from, to, .. }) => (from.clone(), to.clone()),
            _ => (String::new(), String::new()),
        }
    }
}

/// Returns from when until when the site's own steps ran while the web was stopped. How long one ran that failed is not known, and
/// users may have written since.
fn own_steps_of(entries: &[Entry]) -> Vec<[Timestamp; 2]> {
    let is_start =
        |entry: &Entry, wanted: StepKind| matches!(entry, Entry::StepStarted { step, .. } if *step == wanted);
    let stopped = entries
        .iter()
        .skip_while(|entry| !is_start(entry, StepKind::StopWeb))
        .take_while(|entry| !is_start(entry, StepKind::StartWeb));
    let mut begun = None;
    let mut found = Vec::new();
    for entry in stopped {
        match entry {
            Entry::StepStarted { step, time, actions, .. } if has_own(actions) => begun = Some((step, *time)),
            Entry::StepFinished { step, duration_ms } => {
                if let Some((_, from)) = begun.take_if(|(own, _)| *own == step) {
                    let to = from.saturating_add(Duration::from_millis(duration_ms.saturating_add(1)));
                    found.extend(to.map(|to| [from, to]));
                }
            }
            _ => {}
        }
    }
    found
}

/// Tells whether a program of the site's own is among these.
pub(super) fn has_own(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Run { .. }))
}

/// Returns the finished updates that were not rolled back, newest first, at most so many.
pub(super) fn standing(state: &State, most: usize) -> Result<Vec<Past>, JournalError> {
    let (mut rolled_back, mut found) = (BTreeSet::new(), Vec::new());
    for run in state.runs()?.into_iter().rev() {
        if found.len() == most {
            break;
        }
        if !run.journal().exists() {
            continue;
        }
        let entries = state.read_journal(&run)?;
        let is_good = |entry: &Entry| matches!(entry, Entry::RunFinished { outcome: Outcome::Updated, .. });
        match entries.first() {
            _ if !entries.iter().any(is_good) => {}
            Some(Entry::RunStarted { rolls_back: Some(run), .. }) => {
                rolled_back.insert(run.clone());
            }
            _ if rolled_back.contains(&run.name) => {}
            _ => found.push(Past { run, entries }),
        }
    }
    Ok(found)
}

/// Says who rolled a commit back and when, unless an update has brought it again since.
pub(super) fn rolled_back(state: &State, commit: &str) -> Option<String> {
    for run in state.runs().ok()?.into_iter().rev() {
        let Some(report) = run.report().filter(|report| report.outcome == Outcome::Updated) else { continue };
        match &report.rolls_back {
            Some(_) if report.from == commit && report.to != commit => {
                let entries = Journal::read(&run.journal()).unwrap_or_default();
                let user = entries.iter().find_map(|entry| match entry {
                    Entry::RunStarted { user, .. } => Some(user.as_str()),
                    _ => None,
                });
                let time = report.started;
                let (commit, user) = (git::short(commit), user.unwrap_or("somebody"));
                return Some(format!("{commit} was rolled back at {time:.0} by {user} (run {})", run.name));
            }
            None if report.to == commit => return None,
            _ => {}
        }
    }
    None
}

/// Keeps what the rollback of an update needs that was just finished: of its commits before and after, and its steps.
pub(super) fn keep(
    site: &Site,
    state: &State,
    run: &RunDirectory,
    course: (&str, &str, &[Step]),
    added: Vec<String>,
    context: &mut Context,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (from, to, steps) = course;
    if from != to {
        let host = context.host.uninterrupted();
        git::keep_commit(&host, &site.config().site.repository, &run.name, from)?;
    }
    let undo = || steps.iter().filter(|step| !step.id.is_own()).flat_map(|step| &step.change.undo);
    let aside = undo().find_map(|action| match action {
        Action::Swap(back) => Some((&back.aside, &back.live)),
        Action::PlaceFiles(back) => Some((&back.aside, &back.live)),
        _ => None,
    });
    let put_aside = aside.map(|(aside, live)| (aside, names::beside(live, &run.name)));
    let actions = steps.iter().flat_map(|step| &step.change.actions);
    let copied: Vec<String> =
        actions.filter_map(held_by!(BackupDatabase)).map(|backup| backup.database).collect();
    let mut databases = databases(context, &site.project()?, &copied)?;
    // A configuration names one at least.
    let KeptDatabase { database, rows } = databases.remove(0);
    let static_files =
        put_aside.as_ref().map(|(_, directory)| KeptStatic { directory: directory.clone(), added });
    // Before the directory moves: what is moved and not written down would stay for ever.
    let outputs: Vec<Swap> = undo().filter_map(held_by!(SwapOutput)).collect();
    let directory = (!outputs.is_empty()).then(|| names::beside(&site.config().site.repository, &run.name));
    run.set_kept(&Kept {
        current: state.current(),
        database,
        static_files,
        rows,
        others: databases,
        outputs: directory.clone(),
    })?;
    if let Some(directory) = directory {
        files::private_directory(&directory)?;
        for (number, back) in outputs.iter().enumerate() {
            let place = kept_output(&directory, number);
            // It is gone where a killed run has kept it already, and where nothing was live.
            if files::inode(&back.aside) == back.wanted && back.wanted.is_some() {
                files::rename(&back.aside, &place)?;
            }
        }
    }
    if let Some((aside, directory)) = put_aside
        && aside.exists()
    {
        files::rename(aside, &directory)?;
    }
    Ok(())
}

/// Returns the place of one of them, in the order of the undo.
pub(super) fn kept_output(directory: &Path, number: usize) -> PathBuf {
    directory.join(number.to_string())
}

/// Records the state of each database that is migrated, and counts the rows of those that were copied, for a later restore.
fn databases(
    context: &mut Context,
    project: &Project,
    copied: &[String],
) -> Result<Vec<KeptDatabase>, DjangoError> {
    let host = context.host.uninterrupted();
    let look_at = |session: &mut Session, alias: &String| {
        let database = session.on(alias).state(&host)?;
        let rows = copied.contains(alias).then(|| session.on(alias).rows(&host, COUNTING));
        let rows = rows.and_then(|rows| {
            rows.inspect_err(|error| host.note(&format!("rows not counted: {}", crate::error_chain(error))))
                .ok()
        });
        Ok(KeptDatabase { database, rows })
    };
    let look = |session: &mut Session| -> Result<Vec<KeptDatabase>, DjangoError> {
        project.databases.migrate.iter().map(|alias| look_at(session, alias)).collect()
    };
    if let Some(session) = &mut context.django
        && session.stands_for(project)
        && session.responds(&host)
    {
        return look(session);
    }
    let mut session = Session::boot(&host, project)?;
    let found = look(&mut session);
    session.close(&host);
    found
}

/// Removes what no rollback needs that is still promised: the promise covers the newest `keep` updates that stand, as
/// far as each has kept its part.
pub(super) fn prune(site: &Site, state: &State, host: &Host) -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = site.config();
    let promised: Vec<Past> =
        standing(state, config.keep)?.into_iter().take_while(|past| past.run.kept().is_some()).collect();
    let is_promised = |run: &RunDirectory| promised.iter().any(|past| past.run.name == run.name);
    for run in state.runs()?.iter().filter(|run| !is_promised(run)) {
        forget(&config.site.repository, run, host)?;
    }
    let (environments, originals) = switched_from(&promised);
    let virtualenv = site.virtualenv()?;
    crate::python::prune(&state.virtualenvs(), virtualenv, &environments)?;
    for directory in crate::python::kept_originals(virtualenv) {
        if !originals.contains(&directory) {
            files::remove_tree(&directory)?;
        }
    }
    Ok(())
}

/// Removes the virtualenvs that a plan or a refused run built, but for the one that is wanted now.
pub(super) fn prune_built(
    site: &Site,
    state: &State,
    wanted: &StagedVirtualenv,
    standing: &[Past],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (mut needed, _) = switched_from(standing);
    needed.push(wanted.staged.clone());
    needed.extend(wanted.switch.staged());
    crate::python::prune(&state.virtualenvs(), site.virtualenv()?, &needed)?;
    Ok(())
}

/// Removes packages that a plan or a refused run prepared in the virtualenv: each copy takes as much room as what is live.
pub(super) fn prune_places(site: &Site, standing: &[Past]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (needed, _) = switched_from(standing);
    Ok(crate::python::in_place::prune(site.virtualenv()?, |place| needed.contains(place))?)
}

/// Returns the virtualenvs, and the directories in the place of the link, that the ways back of these updates lead to.
fn switched_from(updates: &[Past]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let switches = updates.iter().flat_map(Past::undo).filter_map(held_by!(SwitchVirtualenv));
    let (mut environments, mut originals) = (Vec::new(), Vec::new());
    for back in switches {
        match back.staged() {
            Some(environment) => environments.push(environment),
            None => originals.push(back.kept),
        }
    }
    (environments, originals)
}

/// Removes what a run has kept for its rollback.
fn forget(repository: &Path, run: &RunDirectory, host: &Host) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(kept) = run.kept() else { return Ok(()) };
    if let Some(KeptStatic { directory, .. }) = kept.static_files {
        files::remove_tree(&directory)?;
    }
    if let Some(directory) = kept.outputs {
        files::remove_tree(&directory)?;
    }
    git::forget_commit(host, repository, &run.name)?;
    Ok(files::remove_file(&run.kept_file())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::plan::Phase;

    fn started(step: &str, second: i64) -> Entry {
        let command = Command::new("compress");
        let is_own = !["stop-web", "migrate", "start-web"].contains(&step);
        Entry::StepStarted {
            step: step.into(),
            phase: Phase::Window,
            time: Timestamp::from_second(second).unwrap(),
            actions: is_own.then_some(Action::Run { command }).into_iter().collect(),
            undo: Vec::new(),
        }
    }

    fn finished(step: &str, duration_ms: u64) -> Entry {
        Entry::StepFinished { step: step.into(), duration_ms }
    }

    #[test]
    fn own_steps_count_while_the_web_is_stopped_and_their_end_is_known() {
        let entries = [
            started("early", 5),
            finished("early", 1_000),
            started("stop-web", 10),
            finished("stop-web", 1_000),
            started("compress", 20),
            finished("compress", 1_999),
            started("migrate", 30),
            finished("migrate", 1_000),
            started("fails", 40),
            Entry::StepFailed { step: "fails".into(), error: String::new() },
            started("start-web", 50),
            started("warm-up", 60),
            finished("warm-up", 1_000),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(own_steps_of(&entries), [[at(20), at(22)]]);
    }
}
