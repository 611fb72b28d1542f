//! `recover`: finishes the way back of an update that was cut off or held.

use deploykit::event::Outcome;
use deploykit::update;

use crate::args::{Global, RecoverArgs};
use crate::commands::update::{finish, refused};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;
use crate::output::progress::Progress;
use crate::output::report::render_recovery;

pub fn run(global: &Global, _args: &RecoverArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let mut progress = Progress::new(ui);
    let report = update::recover(&site, Some(super::cancel()?), &mut progress);
    progress.flush();
    let report = report.map_err(|error| refused(&error, &site))?;
    match &report {
        // The old version serves: that is what was asked for.
        Some(report) if matches!(report.outcome, Outcome::RolledBack | Outcome::Refused) => {
            let answer = document(serde_json::json!({ "recovered": true, "report": report }));
            ui.result(&answer, &render_recovery(report));
            Ok(exit_code::DONE)
        }
        Some(report) => finish(report, &render_recovery(report), ui),
        None => {
            let nothing = document(serde_json::json!({ "recovered": false, "report": null }));
            ui.result(&nothing, "nothing to recover: no update is unfinished\n");
            Ok(exit_code::DONE)
        }
    }
}
