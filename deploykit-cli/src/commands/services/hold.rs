//! `services hold`: shows or makes the change after which a service's listening socket is held.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use deploykit::internal::files;
use deploykit::services::{Holding, HoldingError, Service, SocketChange};
use deploykit::{Command, Host, Site, error_chain};
use serde::Serialize;

use crate::args::{Global, HoldArgs};
use crate::commands::update::{can_ask, consent};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::{Document, document};
use crate::output::progress::Progress;

/// What to do where the change has to be made by hand.
const BY_HAND: &str = "change the configuration by hand: docs/held-sockets.md has examples";

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Told {
    service: String,
    held: bool,
    holder: Option<String>,
    diff: Option<String>,
    apply: Vec<String>,
    undo: Vec<String>,
}

pub fn run(global: &Global, args: &HoldArgs, ui: Ui) -> Result<u8, Failure> {
    let site = crate::commands::partial_site(global)?;
    let service = super::chosen(&site, std::slice::from_ref(&args.name))?.remove(0);
    let host = crate::commands::host(Some(&site))?;
    let record = site.state().directory().join("held").join(format!("{}.json", args.name));
    if args.undo {
        return undo(&site, &service, &record, args, &host, ui);
    }
    let deploykit = std::env::current_exe();
    let deploykit = deploykit.map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))?;
    let mut replaced = [&site.config().site.repository].into_iter().chain(&site.config().python.virtualenv);
    let is_in = |path: &&PathBuf| path.canonicalize().is_ok_and(|real| deploykit.starts_with(real));
    if let Some(directory) = replaced.find(is_in) {
        let message = format!("this deploykit is in `{}`, which updates replace", directory.display());
        let hint = "install deploykit elsewhere, such as in `/usr/local/bin`";
        return Err(Failure::message(exit_code::REFUSED, message, hint));
    }
    let holding = service.holding(&deploykit, &site.config().site.repository, &host);
    match holding.map_err(|error| failure(&error).hiding(host.redactor()))? {
        Holding::Held(holder) => say_held(&service, holder, record.exists(), ui),
        Holding::Change(change) if args.apply => apply(&site, &service, &change, &record, args, &host, ui),
        Holding::Change(change) => show(&service, &change, ui),
    }
}

/// Says who holds the socket.
fn say_held(service: &Service, holder: String, is_recorded: bool, ui: Ui) -> Result<u8, Failure> {
    let mut text = format!("{holder} holds the socket of `{}`\n", service.name);
    if is_recorded {
        text.push_str(&format!("`deploykit services hold {} --undo` undoes the change\n", service.name));
    }
    ui.answer(&told(service, Some(holder), None), &text)?;
    Ok(exit_code::DONE)
}

/// Prints the change: the diff on the standard output, for `patch`, and what to type on the standard error.
fn show(service: &Service, change: &SocketChange, ui: Ui) -> Result<u8, Failure> {
    let told = told(service, None, Some(change));
    let lines = |title: &str, commands: &[String]| {
        format!("\n{title}\n{}", commands.iter().map(|line| format!("  {line}\n")).collect::<String>())
    };
    let mut text = format!("After this change, the socket of `{}` is held:\n", service.name);
    if !ui.json {
        ui.say(&text);
    }
    ui.answer(&told, &change.diff())?;
    text = lines("To apply it (the service restarts, and requests fail meanwhile):", &told.body().apply);
    if change.may_be_written().is_ok() {
        text.push_str(&format!("or\n  deploykit services hold {} --apply\n", service.name));
    }
    text.push_str(&lines("To undo it:", &told.body().undo));
    text.push_str(&format!(
        "\nAfterwards, `deploykit services hold {}` says who holds the socket.",
        service.name
    ));
    if !ui.json {
        ui.say(&text);
    }
    Ok(exit_code::DONE)
}

fn told(service: &Service, holder: Option<String>, change: Option<&SocketChange>) -> Document<Told> {
    let may = change.is_none_or(|change| change.may_be_written().is_ok());
    let sudo = |line: String| if may || line.starts_with("sudo ") { line } else { format!("sudo {line}") };
    let typed = |commands: &[Command]| commands.iter().map(|one| sudo(one.to_string())).collect::<Vec<_>>();
    let name = &service.name;
    let patch = |flags: &str| vec![sudo(format!("patch {flags}-d / -p1 <{name}.diff"))];
    let (apply, undo) = change.map_or_else(Default::default, |change| {
        let save = vec![format!("deploykit services hold {name} >{name}.diff")];
        let apply = [save, patch(""), typed(&change.apply)].concat();
        (apply, [typed(&change.before_undo), patch("-R "), typed(&change.undo)].concat())
    });
    let (held, diff) = (holder.is_some(), change.map(SocketChange::diff));
    document(Told { service: name.clone(), held, holder, diff, apply, undo })
}

/// Refuses a change of files that belong to somebody else, and says what that user types.
fn may_be_written(
    service: &Service,
    change: &SocketChange,
    lines: impl FnOnce(&Told) -> &Vec<String>,
) -> Result<(), Failure> {
    let Err(error) = change.may_be_written() else { return Ok(()) };
    let told = told(service, None, Some(change));
    let mut failure = failure(&error);
    failure.hints = vec![format!("type this:\n{}", lines(told.body()).join("\n"))];
    Err(failure.with_result(&told))
}

/// Asks whether the service may restart.
fn may_restart(service: &Service, args: &HoldArgs, ui: Ui) -> Result<(), Failure> {
    let refuse = |message: &str, hint| Err(Failure::message(exit_code::REFUSED, message, hint));
    if !args.yes && !can_ask() {
        return refuse("there is no terminal to ask for confirmation on", Some("add `-y`"));
    }
    ui.say(&format!("`{}` restarts, and requests fail meanwhile.", service.name));
    if args.yes {
        return Ok(());
    }
    let cancel = crate::commands::cancel()?;
    if consent(&Progress::new(ui), &cancel) {
        return Ok(());
    }
    refuse("not confirmed; nothing was changed", None)
}

fn apply(
    site: &Site,
    service: &Service,
    change: &SocketChange,
    record: &Path,
    args: &HoldArgs,
    host: &Host,
    ui: Ui,
) -> Result<u8, Failure> {
    may_be_written(service, change, |told| &told.apply)?;
    if !ui.json {
        ui.say(&host.redactor().redact(&change.diff()));
    }
    is_unchanged(service, record)?;
    may_restart(service, args, ui)?;
    let _lock = crate::commands::lock(Some(site), host, "services hold")?;
    // Somebody else may have changed it before the lock was ours.
    is_unchanged(service, record)?;
    let serves = pages(site, host).is_ok();
    write_record(record, change)?;
    let applied = match change.apply(service, host) {
        Err(error @ HoldingError::Changed { .. }) => {
            // Nothing was written yet.
            files::remove_file(record).map_err(|error| Failure::refused(&error))?;
            let mut failure = failure(&error);
            failure.hints = vec!["run this command again: it reads the file anew".to_owned()];
            return Err(failure);
        }
        applied => applied.map_err(|error| error_chain(&error)),
    };
    let applied =
        applied.and_then(|holder| if serves { pages(site, host).map(|()| holder) } else { Ok(holder) });
    let why = match applied {
        Ok(holder) => return say_held(service, holder, true, ui),
        Err(why) => why,
    };
    // Not with the host that an interruption has reached.
    let calm = site.host(None);
    let undone = change.undo(service, &calm);
    let (code, message) = match undone {
        Ok(()) => {
            files::remove_file(record).map_err(|error| Failure::refused(&error))?;
            (
                exit_code::ROLLED_BACK,
                format!("{why}; the files were restored, and `{}` runs as before", service.name),
            )
        }
        Err(error) => (exit_code::HELD, format!("{why}; undoing it failed as well: {}", error_chain(&error))),
    };
    let mut failure = Failure::message(code, message, None);
    if code == exit_code::HELD {
        failure.hints.push(undo_hint(service));
    }
    Err(failure.hiding(host.redactor()))
}

/// Refuses a change on top of one that is recorded.
fn is_unchanged(service: &Service, record: &Path) -> Result<(), Failure> {
    if !record.exists() {
        return Ok(());
    }
    let message = format!("an earlier change of `{}` was not undone", service.name);
    let mut failure = Failure::message(exit_code::REFUSED, message, None);
    failure.hints.push(undo_hint(service));
    Err(failure)
}

fn undo_hint(service: &Service) -> String {
    format!("run `deploykit services hold {} --undo`", service.name)
}

/// Undoes an applied change.
fn undo(
    site: &Site,
    service: &Service,
    record: &Path,
    args: &HoldArgs,
    host: &Host,
    ui: Ui,
) -> Result<u8, Failure> {
    let text = fs::read_to_string(record).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("no change of `{}` is recorded", service.name);
            Failure::message(
                exit_code::REFUSED,
                message,
                "undo it by hand: `--undo` undoes only what `--apply` changed",
            )
        }
        _ => Failure::with_code(exit_code::UNEXPECTED, &error),
    })?;
    let change: SocketChange =
        serde_json::from_str(&text).map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))?;
    may_be_written(service, &change, |told| &told.undo)?;
    may_restart(service, args, ui)?;
    let _lock = crate::commands::lock(Some(site), host, "services hold")?;
    change.undo(service, host).map_err(|error| {
        let mut failure = failure(&error).hiding(host.redactor());
        failure.code = exit_code::HELD;
        failure
            .hints
            .push(format!("fix this, then run `deploykit services hold {} --undo` again", service.name));
        failure
    })?;
    files::remove_file(record).map_err(|error| Failure::refused(&error))?;
    let text = format!("`{}` runs as before; nothing holds its socket any more\n", service.name);
    ui.result(&told(service, None, None), &text);
    Ok(exit_code::DONE)
}

/// Requests the configured pages.
fn pages(site: &Site, host: &Host) -> Result<(), String> {
    let Some(check) = site.smoke_check() else { return Ok(()) };
    check.verify(host).map(|_| ()).map_err(|error| error_chain(&error))
}

/// Writes down how to undo the change, before it is made.
fn write_record(record: &Path, change: &SocketChange) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(change);
    let text = text.map_err(|error| Failure::with_code(exit_code::UNEXPECTED, &error))?;
    let directory = record.parent().map(PathBuf::from).unwrap_or_default();
    let written =
        files::private_directory(&directory).and_then(|()| files::write_whole(record, &text, 0o600));
    written.map_err(|error| Failure::refused(&error))
}

fn failure(error: &HoldingError) -> Failure {
    let mut failure = Failure::refused(error);
    match error {
        HoldingError::Unfit { .. } => failure.hints.push(BY_HAND.to_owned()),
        HoldingError::ByHand { todo, .. } => failure.hints.push(todo.clone()),
        HoldingError::Changed { .. } => failure
            .hints
            .push("compare the file with `before` and `after` in `.deploykit/held/NAME.json`".to_owned()),
        _ => {}
    }
    failure
}
