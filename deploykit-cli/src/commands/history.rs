//! `history`: the past updates, newest first.

use std::io::IsTerminal;

use deploykit::internal::git::short;
use deploykit::report::Report;

use crate::args::{Global, HistoryArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{clip, date_and_time, milliseconds, table};
use crate::output::json::document;

/// Maximum length of a failure in a line on a terminal.
const FAILED: usize = 60;

pub fn run(global: &Global, args: &HistoryArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    let runs = super::state(&site)?.runs().map_err(|error| Failure::refused(&error))?;
    let reports: Vec<Report> = runs
        .iter()
        .rev()
        .filter_map(deploykit::internal::state::RunDirectory::report)
        .take(args.lines)
        .collect();
    let terminal = std::io::stdout().is_terminal();
    let rows: Vec<Vec<String>> = reports.iter().map(|report| row(report, terminal)).collect();
    let text = if rows.is_empty() { "no updates yet\n".to_owned() } else { table(&rows, "") };
    ui.answer(&document(serde_json::json!({ "runs": reports })), &text)?;
    Ok(exit_code::DONE)
}

fn row(report: &Report, terminal: bool) -> Vec<String> {
    let failed = report
        .failure
        .as_ref()
        .map_or(String::new(), |failure| format!("{}: {}", failure.step, first_line(&failure.error)));
    vec![
        report.run.clone().unwrap_or_default(),
        date_and_time(report.started),
        format!("{} → {}", short(&report.from), short(&report.to)),
        super::update::outcome_text(report),
        milliseconds(report.duration_ms),
        report.window_ms.map_or(String::new(), |ms| {
            format!("{} {}", if report.requests_wait { "waited" } else { "down" }, milliseconds(ms))
        }),
        if terminal { clip(&failed, FAILED) } else { failed },
    ]
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
