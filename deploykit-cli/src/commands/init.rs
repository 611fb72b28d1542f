//! `init`: looks at the site here, asks its Django and its pages, and writes its configuration.

mod ask;
mod check;

use deploykit::Host;
use deploykit_init::{Findings, Request};

use crate::args::{Global, InitArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{BOLD, WARN, paint};
use crate::output::json::document;

pub fn run(global: &Global, args: &InitArgs, ui: Ui) -> Result<u8, Failure> {
    let request = Request {
        directory: args.directory.clone(),
        file: global.config.clone(),
        environment: global.environment.clone(),
    };
    if args.check {
        return check::run(global, args, ui);
    }
    let findings = look(&request, args, ui)?;
    let (questions, unasked) = (&findings.questions, findings.unasked());
    if args.print {
        let text = findings.to_toml();
        let answer = serde_json::json!({ "configuration": text, "questions": questions, "unasked": unasked });
        ui.exact(&document(answer), &text)?;
        return Ok(exit_code::DONE);
    }
    let path = findings.write().map_err(|error| Failure::refused(&error))?;
    let mut text = format!("{} {}\n", paint(BOLD, "Wrote"), path.display());
    for why in unasked {
        text.push_str(&format!("{} {why}\n", paint(WARN, "Note:")));
    }
    for question in questions {
        text.push_str(&format!("{}\n", super::plan::open_question(question, &path)));
    }
    text.push_str(if questions.is_empty() {
        "Read it through, then look at what an update would do: deploykit plan\n"
    } else {
        "Fix these lines, then look at what an update would do: deploykit plan\n"
    });
    let answer = serde_json::json!({ "path": path, "questions": questions, "unasked": unasked });
    ui.result(&document(answer), &text);
    Ok(exit_code::DONE)
}

/// Looks at the site; then asks its Django and its pages, as the configuration found says, unless only files are wanted.
fn look(request: &Request, args: &InitArgs, ui: Ui) -> Result<Findings, Failure> {
    let cancel = super::cancel()?;
    let host = Host::new().with_cancel(cancel.clone());
    let mut findings = deploykit_init::look(request, &host).map_err(|error| Failure::refused(&error))?;
    if !args.print {
        findings.may_be_written().map_err(|error| Failure::refused(&error))?;
    }
    if args.files_only {
        return Ok(findings);
    }
    match ask::site(&findings) {
        Ok(site) => {
            if let Err((why, broken)) = ask::django(&mut findings, &site, &cancel, ui) {
                findings.django_failed(&why, broken);
            }
            ask::pages(&mut findings, &cancel);
        }
        Err(why) => findings.django_failed(&why, None),
    }
    if host.is_cancelled() {
        return Err(Failure::message(exit_code::REFUSED, "interrupted; nothing was written", None));
    }
    Ok(findings)
}
