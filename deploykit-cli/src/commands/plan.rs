//! `plan`: what an update would do. It prepares in earnest, so that what it says is what will happen.

use std::io::IsTerminal;

use deploykit::update::{self, Prepared, Request};
use serde::Serialize;

use crate::args::{Global, PlanArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::{Planned, document};
use crate::output::plan::render;
use crate::output::progress::Progress;

/// The document of `plan --json`.
#[derive(Debug, Serialize)]
struct Answer<'p> {
    /// Whether an update is available.
    update: bool,
    /// Why not.
    reason: Option<String>,
    plan: Option<Planned<'p>>,
}

pub fn run(global: &Global, args: &PlanArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let request = Request {
        revision: args.revision.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        broken: args.broken,
        clear: args.clear,
        look: args.look,
        only_plan: true,
        ..Request::default()
    };
    let progress = Progress::new(ui);
    let prepared = update::prepare(&site, &request, Some(super::cancel()?), progress.clone());
    progress.flush();
    match prepared.map_err(|error| super::update::refused(&error, &site))? {
        Prepared::Unchanged(report) => {
            let reason = report.notices.join("\n");
            let text = super::update::unchanged(&report);
            ui.answer(&document(Answer { update: false, reason: Some(reason), plan: None }), &text)?;
            Ok(exit_code::DONE)
        }
        Prepared::Ready(update) => {
            let plan = update.plan();
            ui.say("");
            let answer = Answer { update: true, reason: None, plan: Some(plan.into()) };
            let text = render(plan, ui.verbose > 0, std::io::stdout().is_terminal());
            ui.answer(&document(answer), &format!("{}\n", text.trim_end()))?;
            Ok(if args.exit_code { exit_code::WAITING } else { exit_code::DONE })
        }
    }
}
