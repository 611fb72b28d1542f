//! `docs`: the reference of the configuration.

use deploykit::site::{self, Section};

use crate::args::DocsArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

pub fn run(args: &DocsArgs, ui: Ui) -> Result<u8, Failure> {
    let sections = match &args.key {
        Some(key) => site::describe(key).map_err(|error| Failure::with_code(exit_code::USAGE, &error))?,
        None => site::reference(),
    };
    let text: Vec<String> = sections.iter().map(Section::to_string).collect();
    ui.answer(&document(serde_json::json!({ "sections": sections })), &text.join("\n"))?;
    Ok(exit_code::DONE)
}
