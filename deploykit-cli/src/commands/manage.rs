//! `manage`: any manage.py command in the site's environment.

use deploykit::Host;

use crate::args::{Global, ManageArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

/// The commands of Django that change nothing of the site, or are a person's own way in: they run beside an update. Whatever
/// else a project has may change something.
const LOOKING: [&str; 18] = [
    "--version",
    "check",
    "dbshell",
    "diffsettings",
    "dumpdata",
    "findstatic",
    "help",
    "inspectdb",
    "runserver",
    "sendtestemail",
    "shell",
    "shell_plus",
    "showmigrations",
    "sqlflush",
    "sqlmigrate",
    "sqlsequencereset",
    "test",
    "version",
];

/// The command's own streams and terminal are handed on, and its exit code is ours.
pub fn run(global: &Global, args: &ManageArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let command = site.project().manage(args.args.iter().map(String::as_str));
    let name = args.args.first().map_or("", String::as_str);
    let lock = |host: &Host| match LOOKING.contains(&name) {
        true => Ok(None),
        false => super::lock(Some(&site), host, &format!("manage {name}")),
    };
    if ui.json {
        let host = super::host(Some(&site))?;
        let _lock = lock(&host)?;
        return captured(&host, &command, ui);
    }
    let host = site.host(None);
    let _lock = lock(&host)?;
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
