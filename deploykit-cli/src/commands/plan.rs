//! `plan`: what an update would do. It prepares in earnest, so that what it says is what will happen.

use deploykit::update::{self, Prepared, Request};

use crate::args::{Global, PlanArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::plan::render;
use crate::output::progress::Progress;

pub fn run(global: &Global, args: &PlanArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let request = Request {
        revision: args.revision.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        only_plan: true,
        ..Request::default()
    };
    let mut progress = Progress::new(ui.quiet || ui.json, ui.verbose > 0);
    let prepared = update::prepare(&site, &request, Some(super::cancel()?), &mut progress);
    let code = match prepared.map_err(|error| super::update::refused(&error, ui))? {
        Prepared::Unchanged(report) => {
            let text = format!("{}\n", report.notices.join("\n"));
            let document = serde_json::json!({ "update": false, "plan": null, "report": report });
            ui.result(&document, &text);
            exit_code::DONE
        }
        Prepared::Ready(update) => {
            let plan = update.plan();
            let document = serde_json::json!({ "update": true, "plan": plan, "report": null });
            ui.result(&document, &format!("\n{}", render(plan, ui.verbose > 0)));
            if args.exit_code { exit_code::WAITING } else { exit_code::DONE }
        }
    };
    Ok(code)
}
