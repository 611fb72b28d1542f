//! What people and scripts see: text on the standard error, results on the standard output.

pub mod human;
pub mod json;
pub mod log;
pub mod mistakes;
pub mod plan;
pub mod progress;
pub mod report;
pub mod visible;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use serde::Serialize;

use crate::args::{Color, Global};
use crate::exit_code;
use crate::failure::Failure;
use visible::visible;

/// How long the end of a command waits for a terminal or a file that does not take the last lines.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How to talk to whoever called.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// One JSON document instead of text on the standard output.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    /// How much more to say.
    pub verbose: u8,
}

impl Ui {
    pub fn new(global: &Global) -> Self {
        let choice = match global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Ui { json: global.json, quiet: global.quiet, verbose: global.verbose }
    }

    /// Prints what was done: as a document with `--json`, as text otherwise. What was done is done: that it cannot be
    /// printed does not make it a failure.
    pub fn result<T: Serialize>(&self, document: &T, text: &str) {
        if (!self.quiet || self.json)
            && let Err(failure) = self.answer(document, text)
        {
            ::log::error!("{}", failure.message);
        }
    }

    /// Prints what was asked for, which `--quiet` does not take away.
    pub fn answer<T: Serialize>(&self, document: &T, text: &str) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(document).unwrap_or_default();
            print(&format!("{text}\n"))
        } else {
            print(&visible(text))
        }
    }

    /// Prints what a program is to read, byte for byte.
    pub fn exact<T: Serialize>(&self, document: &T, text: &str) -> Result<(), Failure> {
        if self.json { self.answer(document, text) } else { print(text) }
    }

    /// Says something to a person.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            log::flush();
            let _ = writeln!(anstream::stderr(), "{}", visible(text));
        }
    }
}

/// Writes to the standard output. A reader that went away, as in `… | head`, is no failure; a full disk is.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let message = format!("cannot write to the standard output: {error}");
            Err(Failure::message(exit_code::UNEXPECTED, message, None))
        }
        _ => Ok(()),
    }
}
