//! `status`: how the site is, and with `--follow` the update that runs now, seen from another terminal.

use deploykit::Site;
use deploykit::event::{Observer, Record};
use deploykit::internal::bridge::Bridge;
use deploykit::internal::git::short;
use deploykit::internal::journal::{can_finish, held_at};
use deploykit::internal::lock::{Holder, Lock};
use deploykit::internal::state::{RunDirectory, State};
use serde::Serialize;

use super::follow;
use super::maintenance::{self, Announced};
use crate::args::{Global, StatusArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::human::{date_and_time, unwind, with_times};
use crate::output::json::document;
use crate::output::progress::Progress;
use crate::output::report;
use crate::output::visible::indented;
use crate::output::{Ui, print};

/// The document of `status --json`.
#[derive(Debug, Serialize)]
struct Status {
    environment: &'static str,
    commit: Option<String>,
    branch: Option<String>,
    running: Option<Holder>,
    unfinished_run: Option<String>,
    /// Whether it is held, since a step could not be undone; else it was interrupted.
    #[serde(skip)]
    held: bool,
    /// Whether `recover --forward` can finish it.
    can_finish: Option<bool>,
    last_run: Option<deploykit::report::Report>,
    /// Whether a web server that an interrupted run started beforehand serves.
    bridge_serves: bool,
    maintenance_page: Option<bool>,
    #[serde(flatten)]
    announced: Announced,
    services: Vec<super::services::Row>,
    services_error: Option<String>,
}

pub fn run(global: &Global, args: &StatusArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    if args.follow {
        return show_run(&site, ui);
    }
    let status = look(&site)?;
    ui.answer(&document(&status), &text(&status))?;
    Ok(exit_code::DONE)
}

fn look(site: &Site) -> Result<Status, Failure> {
    let state = super::state(site)?;
    let config = site.config();
    let head =
        deploykit::internal::git::head(&config.site.repository).map_err(|error| Failure::refused(&error))?;
    let unfinished = state.unfinished().map_err(|error| Failure::refused(&error))?;
    let running = Lock::holder(&state.lock());
    let unfinished = unfinished.filter(|_| running.is_none());
    let runs = state.runs().map_err(|error| Failure::refused(&error))?;
    // A run that goes on has no report yet.
    let report = if running.is_some() { RunDirectory::report } else { deploykit::update::report_of };
    // A manager that does not answer is news about the site, not a failure to look.
    let (services, services_error) = match super::services::rows(Some(site), &config.services) {
        Ok(rows) => (rows, None),
        Err(failure) => (Vec::new(), Some(failure.message)),
    };
    let announced = match site.status_file() {
        Some(file) => Announced::in_file(&file),
        None if site.announces() => Announced::without_file(),
        None => Announced::default(),
    };
    Ok(Status {
        environment: config.environment.as_str(),
        commit: Some(head.commit),
        branch: head.branch,
        can_finish: unfinished.as_ref().map(|(_, entries)| can_finish(entries)),
        held: unfinished.as_ref().is_some_and(|(_, entries)| held_at(entries).is_some()),
        unfinished_run: unfinished.map(|(run, _)| run.name),
        running,
        last_run: runs.iter().rev().find_map(report),
        bridge_serves: running_bridge(&state),
        maintenance_page: config.maintenance.page.as_ref().map(|page| page.exists()),
        announced,
        services,
        services_error,
    })
}

fn running_bridge(state: &State) -> bool {
    let mut left =
        [state.bridge(), state.old_bridge()].into_iter().filter_map(|one| Bridge::left_in(&one).ok()?);
    left.any(|bridge| bridge.is_open())
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<13} {value}\n"));
    let branch = status.branch.as_deref().unwrap_or("detached");
    let commit = status.commit.as_deref().map_or("none", short);
    line("version", &format!("{commit} ({branch}), {}", status.environment));
    if let Some(holder) = &status.running {
        line("running", &with_times(&holder.to_string()));
    }
    if let Some(run) = &status.unfinished_run {
        let ways = match status.can_finish {
            Some(true) => "`deploykit recover` rolls it back, `deploykit recover --forward` completes it",
            _ => "`deploykit recover` rolls it back",
        };
        let why = if status.held { "is held" } else { "was interrupted" };
        line("unfinished", &format!("run {run} {why}: {ways}"));
    }
    if status.bridge_serves && status.unfinished_run.is_some() {
        line("web", "the web server that this run started beforehand serves until `deploykit recover`");
    }
    if let Some(last) = &status.last_run {
        let (run, outcome) = (last.run.as_deref().unwrap_or_default(), super::update::outcome_text(last));
        line("last update", &format!("{run} at {}: {outcome}", date_and_time(last.started)));
        if status.unfinished_run.is_some()
            && let Some(failure) = &last.failure
        {
            line("failed", &format!("step `{}`: {}", failure.step, unwind(&indented(&failure.error))));
            if let Some((step, error)) = &failure.undo {
                line("not undone", &format!("`{step}`: {}", unwind(&indented(error))));
            }
        }
    }
    let maintenance = maintenance::text(&status.announced, status.maintenance_page);
    if !maintenance.is_empty() {
        line("maintenance", &maintenance);
    }
    if let Some(error) = &status.services_error {
        line("services", error);
    } else if !status.services.is_empty() {
        text.push_str("services\n");
        text.push_str(&super::services::text(&status.services));
    }
    text
}

/// Shows the events of the run that holds the lock, from its beginning to its end.
fn show_run(site: &Site, ui: Ui) -> Result<u8, Failure> {
    let state = super::state(site)?;
    let Some(holder) = Lock::holder(&state.lock()) else {
        ui.say("no update is running");
        return Ok(exit_code::DONE);
    };
    ui.say(&with_times(&holder.to_string()));
    let mut progress = Progress::new(ui);
    let observe = |record: &Record| {
        if ui.json {
            print(&format!("{}\n", serde_json::to_string(record).unwrap_or_default()))?;
        }
        progress.observe(record);
        Ok(())
    };
    let run = follow::follow(&state, &holder, holder.since, observe, || false)?;
    progress.flush();
    if let Some(report) = run.and_then(|run| run.report()) {
        ui.say(&format!("\n{}", report::render(&report).trim_end()));
    }
    Ok(exit_code::DONE)
}
