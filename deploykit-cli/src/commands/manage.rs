//! `manage`: any manage.py command in the site's environment.

use crate::args::{Global, ManageArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

/// The command's own streams and terminal are handed on, and its exit code is ours.
pub fn run(global: &Global, args: &ManageArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let command = site.project().manage(args.args.iter().map(String::as_str));
    if ui.json {
        return captured(&super::host(Some(&site))?, &command, ui);
    }
    let host = site.host(None);
    let code = host.hand_over(&command).map_err(|error| Failure::refused(&error))?;
    Ok(u8::try_from(code).unwrap_or(exit_code::UNEXPECTED))
}

/// Its answer is the document, whatever its exit code.
fn captured(host: &deploykit::Host, command: &deploykit::Command, ui: Ui) -> Result<u8, Failure> {
    let output = host.run(&command.clone().accept(0..=255)).map_err(|error| Failure::refused(&error))?;
    let answer = serde_json::json!({
        "command": command.to_string(),
        "exit_code": output.code,
        "stdout": output.stdout,
        "stderr": output.stderr,
    });
    ui.answer(&document(answer), "")?;
    Ok(u8::try_from(output.code).unwrap_or(exit_code::UNEXPECTED))
}
