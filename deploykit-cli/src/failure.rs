//! A command that failed: its message, its exit code, and the way out.

use std::error::Error;

use deploykit::Redactor;
use deploykit::site::ConfigError;
use serde::Serialize;
use serde_json::Value;

use crate::exit_code;
use crate::hints;
use crate::output::human::{BAD, paint, unwind};
use crate::output::mistakes;
use crate::output::report::{counted, lines, render_hints};
use crate::output::visible::indented;

/// Why a command ends with another code than 0. With `--json` it is the document.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The version of this form; 1.
    version: u32,
    /// The message with its causes.
    #[serde(rename = "error")]
    pub message: String,
    #[serde(rename = "exit_code")]
    pub code: u8,
    /// The last lines of the program that failed.
    pub tail: Vec<String>,
    /// The ways out.
    pub hints: Vec<String>,
    /// The command's own document, as far as it came to one.
    pub result: Option<Box<Value>>,
    /// What a person is shown instead of the message.
    #[serde(skip)]
    pub shown: Option<String>,
}

impl Failure {
    /// Something that was refused, or that failed before anything was touched.
    pub fn refused(error: &(dyn Error + 'static)) -> Self {
        Failure::with_code(exit_code::REFUSED, error)
    }

    pub fn with_code(code: u8, error: &(dyn Error + 'static)) -> Self {
        let failure = Failure::message(code, deploykit::error_chain(error), None);
        let tail = deploykit::error_tail(error);
        // Whatever the site, a password in an address is nobody's business.
        Failure { tail, hints: hints::hints(error), ..failure }.hiding(&Redactor::default())
    }

    pub fn message(code: u8, message: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Self {
        let hints = hint.into().map(str::to_owned).into_iter().collect();
        let message = message.into();
        Failure { version: 1, code, message, tail: Vec::new(), hints, result: None, shown: None }
    }

    /// Adds the command's own document.
    pub fn with_result(mut self, result: &impl Serialize) -> Self {
        self.result = serde_json::to_value(result).ok().map(Box::new);
        self
    }

    /// Makes its hints name flags instead of keys of the configuration.
    pub fn hinting_at_flags(mut self) -> Self {
        self.hints = self.hints.iter().map(|hint| hints::in_flags(hint)).collect();
        self
    }

    /// Takes secrets out of it.
    pub fn hiding(mut self, redactor: &Redactor) -> Self {
        for text in [&mut self.message].into_iter().chain(&mut self.tail).chain(&mut self.shown) {
            *text = redactor.redact(text).into_owned();
        }
        self
    }

    /// Writes it for a person.
    pub fn text(&self) -> String {
        let mut text = match &self.shown {
            Some(shown) => shown.clone(),
            None => format!("{} {}\n", paint(BAD, "Error:"), unwind(&indented(&self.message))),
        };
        if !self.tail.is_empty() && self.shown.is_none() {
            lines(&mut text, &format!("its last {}", counted(self.tail.len())), &self.tail);
        }
        text.push_str(&render_hints(&self.hints));
        text
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let mut failure = Failure::with_code(exit_code::CONFIGURATION, &error);
        if let ConfigError::Invalid(all) = &error {
            let count = all.problems.len();
            let mistakes = if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") };
            let head = format!("{} the configuration has {mistakes}", paint(BAD, "Error:"));
            failure.shown = Some(format!("{head}\n{}\n", mistakes::render(all)));
        }
        failure
    }
}
