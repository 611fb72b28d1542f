//! `status`: how the site is, and with `--follow` the update that runs now, seen from another terminal.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use deploykit::Site;
use deploykit::event::{Event, Observer, Record};
use deploykit::lock::{Holder, Lock};
use serde::Serialize;

use crate::args::{Global, ServiceNames, StatusArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::short;
use crate::output::progress::Progress;

/// How often a follower looks for new events.
const LOOK: Duration = Duration::from_millis(200);

/// The document of `status --json`.
#[derive(Debug, Serialize)]
struct Status {
    environment: &'static str,
    commit: Option<String>,
    branch: Option<String>,
    running: Option<Holder>,
    unfinished_run: Option<String>,
    last_run: Option<deploykit::report::Report>,
    maintenance_page: Option<bool>,
    services: Vec<super::services::Row>,
    services_error: Option<String>,
}

pub fn run(global: &Global, args: &StatusArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    if args.follow {
        return follow(&site, ui);
    }
    let status = look(&site)?;
    ui.result(&status, &text(&status));
    Ok(exit_code::DONE)
}

fn look(site: &Site) -> Result<Status, Failure> {
    let state = site.state();
    let config = site.config();
    let head = deploykit::git::head(&config.repository).map_err(|error| Failure::refused(&error))?;
    let unfinished = state.unfinished().map_err(|error| Failure::refused(&error))?;
    let running = Lock::holder(&state.lock());
    let runs = state.runs().map_err(|error| Failure::refused(&error))?;
    // A manager that does not answer is news about the site, not a failure to look.
    let (services, services_error) = match super::services::rows(site, &ServiceNames { names: Vec::new() }) {
        Ok(rows) => (rows, None),
        Err(failure) => (Vec::new(), Some(failure.message)),
    };
    Ok(Status {
        environment: config.environment.as_str(),
        commit: Some(head.commit),
        branch: head.branch,
        unfinished_run: unfinished.filter(|_| running.is_none()).map(|(run, _)| run.name),
        running,
        last_run: runs.iter().rev().find_map(deploykit::state::RunFolder::report),
        maintenance_page: config.page.as_ref().map(|page| page.exists()),
        services,
        services_error,
    })
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<13} {value}\n"));
    let branch = status.branch.as_deref().unwrap_or("detached");
    let commit = status.commit.as_deref().map_or("none", short);
    line("version", &format!("{commit} ({branch}), {}", status.environment));
    if let Some(holder) = &status.running {
        line("running", &holder.to_string());
    }
    if let Some(run) = &status.unfinished_run {
        line(
            "unfinished",
            &format!("run {run} was cut off or held; `deploykit recover` brings the site back"),
        );
    }
    if let Some(last) = &status.last_run {
        let started = last.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M");
        let outcome = super::update::outcome_text(last.outcome);
        line("last update", &format!("{} {started}: {outcome}", last.run.as_deref().unwrap_or_default()));
    }
    match status.maintenance_page {
        Some(true) => line("maintenance", "the page is up"),
        Some(false) => line("maintenance", "the page is down"),
        None => {}
    }
    if let Some(error) = &status.services_error {
        line("services", error);
    } else if !status.services.is_empty() {
        text.push_str("services\n");
        text.push_str(&super::services::text(&status.services));
    }
    text
}

/// Shows the events of the running update, from its beginning to its end.
fn follow(site: &Site, ui: Ui) -> Result<u8, Failure> {
    let state = site.state();
    let runs = state.runs().map_err(|error| Failure::refused(&error))?;
    let running = Lock::holder(&state.lock()).is_some();
    let Some(run) = runs.last().filter(|_| running) else {
        ui.say("no update is running");
        return Ok(exit_code::DONE);
    };
    let file = std::fs::File::open(run.events()).map_err(|error| Failure::refused(&error))?;
    let mut reader = BufReader::new(file);
    let mut progress = Progress::new(ui.quiet || ui.json, ui.verbose > 0);
    let mut line = String::new();
    loop {
        let alive = Lock::holder(&state.lock()).is_some();
        let read = reader.read_line(&mut line).map_err(|error| Failure::refused(&error))?;
        if line.ends_with('\n') {
            if ui.json {
                ui.result_line(line.trim_end());
            }
            if let Ok(record) = serde_json::from_str::<Record>(&line) {
                progress.observe(&record);
                if matches!(record.event, Event::RunFinished { .. }) {
                    break;
                }
            }
            line.clear();
        } else if read == 0 && !alive {
            ui.say("the update ended without a word; see `deploykit status`");
            break;
        } else {
            std::thread::sleep(LOOK);
        }
    }
    Ok(exit_code::DONE)
}
