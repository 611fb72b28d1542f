//! What people and scripts see: text on the standard error, results on the standard output.

pub mod human;
pub mod json;
pub mod mistakes;
pub mod plan;
pub mod progress;
pub mod report;

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::args::{Color, Global};

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

    /// Prints what was done: as a document with `--json`, as text otherwise.
    pub fn result<T: Serialize>(&self, document: &T, text: &str) {
        if !self.quiet || self.json {
            self.answer(document, text);
        }
    }

    /// Prints what was asked for, which `--quiet` does not take away.
    pub fn answer<T: Serialize>(&self, document: &T, text: &str) {
        if self.json {
            let text = serde_json::to_string_pretty(document).unwrap_or_default();
            print(&format!("{text}\n"));
        } else {
            print(text);
        }
    }

    /// Prints one line of a stream of documents.
    pub fn result_line(&self, line: &str) {
        print(&format!("{line}\n"));
    }

    /// Says something to a person.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }
}

/// Writes to the standard output. A reader that went away is no failure; a full disk is worth a word.
fn print(text: &str) {
    let mut stdout = anstream::stdout();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        log::error!("cannot write the result: {error}");
    }
}
