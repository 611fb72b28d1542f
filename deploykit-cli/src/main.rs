//! The command line of deploykit: it parses, prints and maps exit codes; everything else is the library's.

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
use output::Ui;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit_code::DONE.into(),
                _ => exit_code::USAGE.into(),
            };
        }
    };
    start_log(cli.global.verbose);
    let ui = Ui::new(&cli.global);
    match commands::run(cli, ui) {
        Ok(code) => code.into(),
        Err(failure) => {
            if !failure.shown {
                if ui.json {
                    let document = output::json::Failed {
                        error: &failure.message,
                        exit_code: failure.code,
                        hints: &failure.hints,
                    };
                    ui.result(&document, "");
                }
                let _ = write!(anstream::stderr(), "{}", failure.text());
            }
            failure.code.into()
        }
    }
}

/// Logs go to the standard error: warnings always, every command with `-vv` or as `RUST_LOG` says.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(format!("deploykit={level}")))
        .init();
}
