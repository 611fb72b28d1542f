//! `plan`: what an update would do. It prepares in earnest, so that what it says is what will happen. `rehearse` is a plan that is
//! not made without a rehearsal.

use std::io::IsTerminal;
use std::path::Path;

use deploykit::Site;
use deploykit::operations::django_manage::When;
use deploykit::update::{self, Prepared, Request};
use deploykit_init::{Question, open_questions};
use serde::Serialize;

use crate::args::{Global, PlanArgs, RehearseArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{WARN, paint};
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
    /// The questions of `init` that are still open in the configuration.
    questions: &'p [Question],
    /// What the configuration lacks to update a whole site.
    warnings: &'p [&'static str],
}

pub fn run(global: &Global, args: &PlanArgs, ui: Ui) -> Result<u8, Failure> {
    let request = Request {
        revision: args.revision.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        broken: args.broken,
        clear: args.clear,
        look: args.look,
        rehearsal: args.no_rehearsal.then_some(When::Never),
        ..Request::default()
    };
    show(global, request, args.exit_code, ui)
}

/// Rehearses an update.
pub fn rehearse(global: &Global, args: &RehearseArgs, ui: Ui) -> Result<u8, Failure> {
    let request = Request {
        revision: args.revision.clone(),
        lock_wait: args.lock_wait.unwrap_or_default(),
        broken: args.broken,
        rehearsal: Some(When::Always),
        ..Request::default()
    };
    show(global, request, false, ui)
}

/// Shows the plan of an update; with `exit_code`, the exit code tells whether there is one.
fn show(global: &Global, request: Request, exit_code: bool, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let request = Request { only_plan: true, ..request };
    let progress = Progress::new(ui);
    let prepared = update::prepare(&site, &request, Some(super::cancel()?), progress.clone());
    progress.flush();
    let questions = open_questions(&site.config().text);
    let warnings: Vec<&str> = site.lacks().into_iter().map(|(text, _)| text).collect();
    let (questions, warnings) = (questions.as_slice(), warnings.as_slice());
    let unsettled = unsettled(&site, questions, warnings);
    let refused = |error| {
        let mut failure = super::update::refused(&error, &site);
        let path = site.config().path.display();
        let open = questions.iter().map(|one| {
            let what = if one.key.is_empty() { "the question".to_owned() } else { format!("`{}`", one.key) };
            format!("answer {what} in {path}:{}: {}", one.line, one.why)
        });
        failure.hints.extend(open);
        failure
    };
    match prepared.map_err(refused)? {
        Prepared::Unchanged(report) => {
            let reason = report.notices.join("\n");
            let text = super::update::unchanged(&report);
            let answer = Answer { update: false, reason: Some(reason), plan: None, questions, warnings };
            ui.answer(&document(answer), &format!("{text}{unsettled}"))?;
            Ok(exit_code::DONE)
        }
        Prepared::Ready(update) => {
            let plan = update.plan();
            ui.say("");
            let answer = Answer { update: true, reason: None, plan: Some(plan.into()), questions, warnings };
            let text = render(plan, ui.verbose > 0, std::io::stdout().is_terminal());
            ui.answer(&document(answer), &format!("{}\n{unsettled}", text.trim_end()))?;
            Ok(if exit_code { exit_code::WAITING } else { exit_code::DONE })
        }
    }
}

/// Writes the open questions and what is lacking for a person.
fn unsettled(site: &Site, questions: &[Question], warnings: &[&str]) -> String {
    let mut text = String::new();
    for question in questions {
        text.push_str(&format!("{}\n", open_question(question, &site.config().path)));
    }
    for warning in warnings {
        text.push_str(&format!("{} {warning}.\n", paint(WARN, "Warning:")));
    }
    text
}

/// Writes an open question for a person, and where it stands.
pub fn open_question(question: &Question, path: &Path) -> String {
    let what = paint(WARN, "Needs a person:");
    let place = format!("{}:{}", path.display(), question.line);
    let key = if question.key.is_empty() { String::new() } else { format!("`{}`: ", question.key) };
    format!("{what} {key}{}\n  at {place}", question.why)
}
