//! `manage`: any manage.py command in the site's environment.

use deploykit::CommandError;

use crate::args::{Global, ManageArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;

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

fn captured(host: &deploykit::Host, command: &deploykit::Command, ui: Ui) -> Result<u8, Failure> {
    let (code, output) = match host.run(command) {
        Ok(output) => (output.code, output.stdout),
        Err(CommandError::Failed { code, tail, .. }) => (code, tail.join("\n")),
        Err(error) => return Err(Failure::refused(&error)),
    };
    let document = serde_json::json!({ "command": command.to_string(), "exit_code": code, "output": output });
    ui.result(&document, "");
    Ok(u8::try_from(code).unwrap_or(exit_code::UNEXPECTED))
}
