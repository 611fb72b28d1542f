//! `report`: what came of a past run, as it was shown at its end.

use deploykit::report::Report;
use deploykit::state::RunFolder;

use crate::args::{Global, ReportArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::report::{hints, render_hints, render_past};

pub fn run(global: &Global, args: &ReportArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let runs = site.state().runs().map_err(|error| Failure::refused(&error))?;
    let report = match &args.run {
        Some(name) => find(&runs, name)?,
        None => match runs.iter().rev().find_map(RunFolder::report) {
            Some(report) => report,
            None => return Err(Failure::message(exit_code::REFUSED, "there is no run yet", None)),
        },
    };
    let text = render_past(&report) + &render_hints(&hints(&report));
    ui.answer(&report, &text)?;
    Ok(exit_code::DONE)
}

fn find(runs: &[RunFolder], name: &str) -> Result<Report, Failure> {
    let Some(run) = runs.iter().find(|run| run.name == name) else {
        let message = format!("there is no run `{name}`");
        return Err(Failure::message(exit_code::USAGE, message, "`deploykit history` lists them"));
    };
    run.report().ok_or_else(|| {
        let message = format!("run {name} has no report: it goes on, or was cut off");
        Failure::message(exit_code::REFUSED, message, "see `deploykit status`")
    })
}
