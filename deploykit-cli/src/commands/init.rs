//! `init`: looks at the site here and writes its configuration.

use crate::args::InitArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{BOLD, WARN, paint};
use crate::output::json::document;

pub fn run(args: &InitArgs, ui: Ui) -> Result<u8, Failure> {
    let host = super::host(None)?;
    let findings = deploykit_init::look(&args.directory, &host).map_err(|error| Failure::refused(&error))?;
    if args.print {
        let text = findings.to_toml();
        let answer = serde_json::json!({ "configuration": text, "questions": &findings.questions });
        ui.exact(&document(answer), &text)?;
        return Ok(exit_code::DONE);
    }
    let path = findings.write().map_err(|error| Failure::refused(&error))?;
    let questions = &findings.questions;
    let mut text = format!("{} {}\n", paint(BOLD, "Wrote"), path.display());
    for question in questions {
        let place = format!("{}:{}", path.display(), question.line);
        text.push_str(&format!(
            "{} `{}`: {}\n  at {place}\n",
            paint(WARN, "Needs a person:"),
            question.key,
            question.why
        ));
    }
    text.push_str(if questions.is_empty() {
        "Read it through, then look at what an update would do: deploykit plan\n"
    } else {
        "Fix these lines, then look at what an update would do: deploykit plan\n"
    });
    ui.result(&document(serde_json::json!({ "path": path, "questions": questions })), &text);
    Ok(exit_code::DONE)
}
