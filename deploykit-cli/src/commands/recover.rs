//! `recover`: rolls back or completes an interrupted or held update.

use deploykit::event::Outcome;
use deploykit::report::Report;
use deploykit::update;

use super::phased;
use crate::args::{Global, RecoverArgs};
use crate::commands::update::{finish, refused};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;
use crate::output::progress::Progress;
use crate::output::report::{render, render_recovery};

pub fn run(global: &Global, args: &RecoverArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let progress = Progress::new(ui);
    let cancel = super::cancel()?;
    if !args.forward
        && let Some(report) = phased::go_back(&site, &cancel, ui)?
    {
        return show(&report, args, ui);
    }
    let cancel = Some(cancel);
    let report = if args.forward {
        update::recover_forward(&site, cancel, progress.clone())
    } else {
        update::recover(&site, cancel, progress.clone())
    };
    progress.flush();
    let report = report.map_err(|error| refused(&error, &site))?;
    match &report {
        Some(report) => show(report, args, ui),
        None => {
            let nothing = document(serde_json::json!({ "recovered": false, "report": null }));
            ui.result(&nothing, "nothing to recover: no update is unfinished\n");
            Ok(exit_code::DONE)
        }
    }
}

fn show(report: &Report, args: &RecoverArgs, ui: Ui) -> Result<u8, Failure> {
    if is_wanted(report, args.forward) {
        // That is what was asked for.
        let answer = document(serde_json::json!({ "recovered": true, "report": report }));
        ui.result(&answer, &render_recovery(report));
        return Ok(exit_code::DONE);
    }
    let text = if args.forward { render(report) } else { render_recovery(report) };
    finish(report, &text, ui)
}

fn is_wanted(report: &Report, forward: bool) -> bool {
    match report.outcome {
        Outcome::Updated => forward && report.failure.is_none(),
        Outcome::RolledBack | Outcome::Refused => !forward,
        _ => false,
    }
}
