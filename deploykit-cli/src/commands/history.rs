//! `history`: the past updates, newest first.

use deploykit::report::Report;

use crate::args::{Global, HistoryArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{milliseconds, short, table};

pub fn run(global: &Global, args: &HistoryArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let runs = site.state().runs().map_err(|error| Failure::refused(&error))?;
    let reports: Vec<Report> =
        runs.iter().rev().filter_map(deploykit::state::RunFolder::report).take(args.lines).collect();
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    let text = if rows.is_empty() { "no updates yet\n".to_owned() } else { table(&rows, "") };
    ui.result(&reports, &text);
    Ok(exit_code::DONE)
}

fn row(report: &Report) -> Vec<String> {
    let started =
        report.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
    let window = report.window_ms.map_or(String::new(), |ms| format!("window {}", milliseconds(ms)));
    vec![
        report.run.clone().unwrap_or_default(),
        started,
        format!("{} → {}", short(&report.from), short(&report.to)),
        super::update::outcome_text(report.outcome).to_owned(),
        milliseconds(report.duration_ms),
        window,
        report
            .failure
            .as_ref()
            .map_or(String::new(), |failure| format!("{}: {}", failure.step, first_line(&failure.error))),
    ]
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
