//! The journal of systemd: what the units wrote whose output goes to no file.
//!
//! Source: `journalctl(1)`.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::host::{CommandError, Host};

/// How long `journalctl` may take: it goes through files of gigabytes.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may take after a failure: the site may be down meanwhile.
const NEWS_DEADLINE: Duration = Duration::from_secs(3);

/// A unit whose output goes to the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalUnit {
    /// Its whole name.
    pub unit: String,
    /// It is one of the user's own units.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
}

impl JournalUnit {
    /// Returns the option of `journalctl` that chooses it.
    fn option(&self) -> &'static str {
        if self.user { "--user-unit" } else { "--unit" }
    }

    /// Returns the command that shows its lines to a person.
    #[must_use]
    pub fn command(&self) -> String {
        format!("journalctl {}={}", self.option(), self.unit)
    }

    /// Returns its last lines, oldest first, secrets removed: those that it wrote since a time, or any.
    ///
    /// # Errors
    ///
    /// When `journalctl` fails. Users who may not read the journal get no lines.
    pub(super) fn lines(
        &self,
        host: &Host,
        since: Option<SystemTime>,
        most: usize,
    ) -> Result<Vec<String>, CommandError> {
        let mut args = vec![format!("{}={}", self.option(), self.unit), format!("--lines={most}")];
        if let Some(since) = since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            args.push(format!("--since=@{}", since.as_secs()));
        }
        args.extend(["--no-pager", "--output=cat", "--quiet"].map(str::to_owned));
        let deadline = if since.is_some() { NEWS_DEADLINE } else { DEADLINE };
        let output =
            host.run(&Command::new("journalctl").args(args).env("LC_ALL", "C").deadline(deadline))?;
        let lines = output.stdout.lines().filter(|line| !line.trim().is_empty());
        Ok(lines.map(|line| host.redactor().redact(line).into_owned()).collect())
    }
}

/// Returns the last lines of a unit's journal, secrets removed; where they cannot be read, a line that says why.
#[must_use]
pub fn last_lines_of_unit(host: &Host, unit: &JournalUnit, max_lines: usize) -> Vec<String> {
    or_reason(unit.lines(host, None, max_lines))
}

pub(super) fn or_reason(lines: Result<Vec<String>, CommandError>) -> Vec<String> {
    // Not everybody may read the journal, and a failure itself is told without it.
    lines.unwrap_or_else(|error| vec![format!("(the journal cannot be read: {error})")])
}
