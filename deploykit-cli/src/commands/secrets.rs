//! `secrets`: step 7 of the manual as one-liners.

use std::io::{IsTerminal, Read};

use deploykit::internal::secrets::{self, DEFAULT_PATTERN, SecretsCheck};
use deploykit::update;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::args::{Global, SecretsCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;
use crate::output::visible::line;

/// The remote in which a revision is searched that is not a local name.
const DEFAULT_REMOTE: &str = "origin";

pub fn run(global: &Global, command: &SecretsCommand, ui: Ui) -> Result<u8, Failure> {
    match command {
        SecretsCommand::Check { revision, file, pattern, repository } => {
            let revision = revision.as_deref();
            let found = match file {
                Some(file) => {
                    let repository = repository.clone().map_or_else(super::here, Ok)?;
                    super::not_root_over_others(&repository)?;
                    let pattern = pattern.clone().unwrap_or_else(|| DEFAULT_PATTERN.to_owned());
                    let check = SecretsCheck { file: Some(file.clone()), pattern, ..SecretsCheck::default() };
                    update::check_secrets_of(&repository, DEFAULT_REMOTE, &check, revision)
                }
                None => {
                    let site = super::site_or(global, "`--file FILE`")?;
                    update::check_secrets(&site, revision)
                }
            };
            let found = found.map_err(|error| Failure::refused(error.as_ref()))?;
            let mut text = String::new();
            for missing in &found.missing {
                text.push_str(&format!(
                    "missing: {} (asked for in {})\n",
                    missing.name,
                    missing.asked_in.join(", ")
                ));
            }
            if !found.tolerated.is_empty() {
                let names: Vec<&str> = found.tolerated.iter().map(|missing| missing.name.as_str()).collect();
                text.push_str(&format!("optional, and missing as before: {}\n", names.join(", ")));
            }
            if text.is_empty() {
                text.push_str("nothing is missing\n");
            }
            if !found.missing.is_empty() {
                let names: Vec<&str> = found.missing.iter().map(|missing| missing.name.as_str()).collect();
                let message = format!("secrets are missing: {}", names.join(", "));
                let mut failure = Failure::message(exit_code::REFUSED, message, None);
                failure.hints = match file {
                    Some(file) => vec![format!("write values for them into `{}`", file.display())],
                    None => names.iter().map(|name| format!("deploykit secrets set {name}")).collect(),
                };
                failure.shown = Some(text);
                return Err(failure.with_result(&document(&found)));
            }
            ui.answer(&document(&found), &text)?;
            Ok(exit_code::DONE)
        }
        SecretsCommand::Set { name } => {
            let site = super::partial_site(global)?;
            let Some(file) = &site.config().secrets.file else {
                return Err(Failure::message(
                    exit_code::CONFIGURATION,
                    "the configuration names no secrets file",
                    "set `file` in [secrets]",
                ));
            };
            let value = ask(name)?;
            let host = super::host(Some(&site))?;
            let _lock = super::lock(Some(&site), &host, &format!("set the secret {name}"))?;
            secrets::set(file, name, &value).map_err(|error| Failure::refused(&error))?;
            let set = document(serde_json::json!({ "name": name, "file": file }));
            ui.result(&set, &format!("{name} is set in {}\n", file.display()));
            Ok(exit_code::DONE)
        }
    }
}

/// Asks for a value without showing it; without a terminal it is one line, or all, of the standard input.
fn ask(name: &str) -> Result<String, Failure> {
    let value = if std::io::stdin().is_terminal() {
        let _unseen = Unseen::start();
        rpassword::prompt_password(format!("Value of {} (not shown): ", line(name)))
    } else {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map(|_| text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let value = value.map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))?;
    if value.is_empty() {
        return Err(Failure::message(
            exit_code::USAGE,
            format!("no value for `{name}`: nothing was written"),
            None,
        ));
    }
    Ok(value)
}

/// A terminal that shows nothing of what is typed. `rpassword` sees to that, too, but only after its question is there,
/// and whoever pastes is quicker.
struct Unseen(Option<Termios>);

impl Unseen {
    fn start() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ECHO);
            // If that fails, `rpassword` says why.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes);
        }
        Unseen(before)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
