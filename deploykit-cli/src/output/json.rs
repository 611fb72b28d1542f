//! The documents of `--json` that are not the library's own; `docs/json.md` describes them all.

use deploykit::operations::Check;
use serde::Serialize;

/// What a one-liner did, or would do.
#[derive(Debug, Serialize)]
pub struct Done {
    /// The operation: `git-update`.
    pub operation: &'static str,
    /// Whether anything was changed, or with `--check` would be.
    pub changed: bool,
    /// Why, or why not.
    pub reason: String,
    /// What was there.
    pub before: String,
    /// What is there, or would be.
    pub after: String,
    /// Commits, packages, migrations.
    pub details: Vec<String>,
}

impl Done {
    pub fn new(operation: &'static str, check: &Check) -> Self {
        match check {
            Check::Unchanged { reason } => Done {
                operation,
                changed: false,
                reason: reason.clone(),
                before: String::new(),
                after: String::new(),
                details: Vec::new(),
            },
            Check::Change(change) => Done {
                operation,
                changed: true,
                reason: change.reason.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
                details: change.details.clone(),
            },
        }
    }

    /// Writes the same for a person.
    pub fn text(&self) -> String {
        if !self.changed {
            return format!("{}: nothing to do: {}\n", self.operation, self.reason);
        }
        let moved = match (self.before.is_empty(), self.after.is_empty()) {
            (false, false) => format!("{} → {}: ", self.before, self.after),
            (true, false) => format!("{}: ", self.after),
            _ => String::new(),
        };
        let mut text = format!("{}: {moved}{}\n", self.operation, self.reason);
        for detail in &self.details {
            text.push_str(&format!("  {detail}\n"));
        }
        text
    }
}

/// Why a command failed.
#[derive(Debug, Serialize)]
pub struct Failed<'f> {
    /// The message with its causes.
    pub error: &'f str,
    /// The exit code.
    pub exit_code: u8,
    /// The ways out.
    pub hints: &'f [String],
}
