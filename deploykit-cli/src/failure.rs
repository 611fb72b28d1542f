//! A command that failed: its message, its exit code, and the way out.

use std::error::Error;

use deploykit::site::ConfigError;

use crate::exit_code;
use crate::hints;
use crate::output::human::{BAD, BOLD, DIM, paint};
use crate::output::mistakes;

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    pub tail: Vec<String>,
    pub hints: Vec<String>,
    /// The whole text was shown already.
    pub shown: bool,
}

impl Failure {
    /// Something that was refused, or that failed before anything was touched.
    pub fn refused(error: &(dyn Error + 'static)) -> Self {
        Failure::with_code(exit_code::REFUSED, error)
    }

    pub fn with_code(code: u8, error: &(dyn Error + 'static)) -> Self {
        Failure {
            code,
            message: deploykit::error_chain(error),
            tail: deploykit::error_tail(error),
            hints: hints::hints(error),
            shown: false,
        }
    }

    pub fn message(code: u8, message: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Self {
        let hints = hint.into().map(str::to_owned).into_iter().collect();
        Failure { code, message: message.into(), tail: Vec::new(), hints, shown: false }
    }

    /// Writes it for a person.
    pub fn text(&self) -> String {
        let mut text = format!("{} {}\n", paint(BAD, "Error:"), self.message);
        if !self.tail.is_empty() {
            text.push_str(&paint(DIM, &format!("--- its last {} lines\n", self.tail.len())));
            for line in &self.tail {
                text.push_str(line);
                text.push('\n');
            }
            text.push_str(&paint(DIM, "---\n"));
        }
        for hint in &self.hints {
            text.push_str(&format!("{} {hint}\n", paint(BOLD, "Hint:")));
        }
        text
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let mut failure = Failure::with_code(exit_code::CONFIGURATION, &error);
        if let ConfigError::Invalid(all) = &error {
            let count = all.problems.len();
            let mistakes = if count == 1 { "a mistake" } else { "mistakes" };
            failure.message = format!("the configuration has {mistakes}\n{}", mistakes::render(all));
        }
        failure
    }
}
