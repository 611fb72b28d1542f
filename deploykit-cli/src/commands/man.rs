//! `man`: the help as manual pages, one for each command.

use std::fs;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::{Cli, ManArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::print;

pub fn run(args: &ManArgs) -> Result<u8, Failure> {
    // Each page names the command's own help.
    let mut top = Cli::command().disable_help_subcommand(true);
    top.build();
    let Some(directory) = &args.directory else {
        print(&page(named(&top, &args.command)?)?)?;
        return Ok(exit_code::DONE);
    };
    fs::create_dir_all(directory)
        .map_err(|error| failed(&format!("create `{}`", directory.display()), &error))?;
    for command in all(&top) {
        let path = directory.join(format!("{}.1", title(command)));
        fs::write(&path, page(command)?)
            .map_err(|error| failed(&format!("write `{}`", path.display()), &error))?;
    }
    Ok(exit_code::DONE)
}

/// Finds a command by its words.
fn named<'a>(top: &'a Command, words: &[String]) -> Result<&'a Command, Failure> {
    let found = words.iter().try_fold(top, |command, word| command.find_subcommand(word));
    found.ok_or_else(|| {
        let message = format!("there is no command `{}`", words.join(" "));
        Failure::message(exit_code::USAGE, message, "list all commands: `deploykit help`")
    })
}

/// Returns a command and all below it that the help shows.
fn all(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).flat_map(all);
    std::iter::once(command).chain(below).collect()
}

/// Returns the name of a command's page, such as `deploykit-secrets-set`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .source(concat!("deploykit ", env!("CARGO_PKG_VERSION")))
        .manual("deploykit")
        .render(&mut page)
        .map_err(|error| failed("make a manual page", &error))?;
    // What follows the options in the help is the table of exit codes.
    Ok(String::from_utf8_lossy(&page).replace("\n.SH EXTRA\n", "\n.SH \"EXIT STATUS\"\n"))
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::message(exit_code::UNEXPECTED, format!("cannot {what}: {error}"), None)
}
