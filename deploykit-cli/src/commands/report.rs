//! `report`: what came of a past run, as it was shown at its end.

use deploykit::internal::lock::Lock;
use deploykit::internal::state::RunDirectory;
use deploykit::report::Report;
use deploykit::update::report_of;

use crate::args::{Global, ReportArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::report::{hints, render_hints, render_past};

pub fn run(global: &Global, args: &ReportArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    let state = super::state(&site)?;
    let runs = state.runs().map_err(|error| Failure::refused(&error))?;
    // A run that goes on has no report yet.
    let report_of = if Lock::holder(&state.lock()).is_some() { RunDirectory::report } else { report_of };
    let report = match &args.run {
        Some(name) => find(&runs, name, report_of)?,
        None => match runs.iter().rev().find_map(report_of) {
            Some(report) => report,
            None => return Err(Failure::message(exit_code::REFUSED, "there is no run yet", None)),
        },
    };
    let text = render_past(&report) + &render_hints(&hints(&report));
    ui.answer(&report, &text)?;
    Ok(exit_code::DONE)
}

fn find(
    runs: &[RunDirectory],
    name: &str,
    report_of: fn(&RunDirectory) -> Option<Report>,
) -> Result<Report, Failure> {
    let Some(run) = runs.iter().find(|run| run.name == name) else {
        let message = format!("there is no run `{name}`");
        return Err(Failure::message(exit_code::USAGE, message, "`deploykit history` lists them"));
    };
    report_of(run).ok_or_else(|| {
        let message = format!("run {name} has no report: it goes on, or was interrupted");
        Failure::message(exit_code::REFUSED, message, "see `deploykit status`")
    })
}
