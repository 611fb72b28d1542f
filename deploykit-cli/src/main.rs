//! The command line of deploykit: it parses, prints and maps exit codes; everything else is the library's.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit_code;
mod failure;
mod hints;
mod output;
mod signals;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::Cli;
use failure::Failure;
use output::Ui;
use output::visible::{indented, visible};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = Ui::new(&cli.global);
    start_log(ui);
    let result = commands::run(cli, ui);
    output::log::flush();
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            if ui.json {
                ui.result(&failure, "");
            }
            let _ = write!(anstream::stderr(), "{}", visible(&failure.text()));
            failure.code.into()
        }
    }
}

/// Shows the help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return exit_code::DONE.into();
    }
    // The line could not be read, but whoever wants a document gets one.
    if std::env::args_os().any(|word| word == "--json") {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let failure = Failure::message(exit_code::USAGE, message, None);
        Ui { json: true, quiet: false, verbose: 0 }.result(&failure, "");
    }
    exit_code::USAGE.into()
}

/// Logs go to the standard error: warnings always, every command with `-vv` or as `RUST_LOG` says.
fn start_log(ui: Ui) {
    let level = match (ui.quiet, ui.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(format!("deploykit={level}")))
        .format(|out, record| {
            let text = record.args().to_string();
            writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), visible(&indented(&text)))
        })
        .target(env_logger::Target::Pipe(Box::new(output::log::Log)))
        .init();
}
