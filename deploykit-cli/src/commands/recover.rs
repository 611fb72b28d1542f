//! `recover`: finishes the way back of an update that was cut off or held.

use deploykit::update;

use crate::args::{Global, RecoverArgs};
use crate::commands::update::{Watch, finish};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, _args: &RecoverArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let mut watch = Watch::new(ui, None)?;
    let report = update::recover(&site, Some(super::cancel()?), &mut watch)
        .map_err(|error| Failure::refused(&error))?;
    match report {
        None => {
            let document = serde_json::json!({ "outcome": "unchanged" });
            ui.result(&document, "nothing to recover: no update is unfinished\n");
            Ok(exit_code::DONE)
        }
        Some(report) => Ok(match finish(&report, ui) {
            // The old version serves: that is what was asked for.
            exit_code::ROLLED_BACK | exit_code::REFUSED => exit_code::DONE,
            code => code,
        }),
    }
}
