//! `recover`: rolls back or completes an interrupted or held update.

use deploykit::event::Outcome;
use deploykit::report::Report;
use deploykit::update;

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
    let cancel = Some(super::cancel()?);
    let report = if args.forward {
        update::recover_forward(&site, cancel, progress.clone())
    } else {
        update::recover(&site, cancel, progress.clone())
    };
    progress.flush();
    let report = report.map_err(|error| refused(&error, &site))?;
    match &report {
        // That is what was asked for.
        Some(report) if is_wanted(report, args.forward) => {
            let answer = document(serde_json::json!({ "recovered": true, "report": report }));
            ui.result(&answer, &render_recovery(report));
            Ok(exit_code::DONE)
        }
        Some(report) if args.forward => finish(report, &render(report), ui),
        Some(report) => finish(report, &render_recovery(report), ui),
        None => {
            let nothing = document(serde_json::json!({ "recovered": false, "report": null }));
            ui.result(&nothing, "nothing to recover: no update is unfinished\n");
            Ok(exit_code::DONE)
        }
    }
}

fn is_wanted(report: &Report, forward: bool) -> bool {
    match report.outcome {
        Outcome::Updated => forward && report.failure.is_none(),
        Outcome::RolledBack | Outcome::Refused => !forward,
        _ => false,
    }
}
