//! What a rehearsal on copies of the databases came to, as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::django::MigrationOnCopy;
use crate::smoke::Problem;

/// The result of the rehearsal on copies of the databases, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rehearsal {
    /// What was not rehearsed, and why.
    pub skipped: Vec<NotRehearsed>,
    /// The size of all copies on the disk, in bytes.
    pub bytes: u64,
    /// The databases that were copied.
    pub copies: Vec<DatabaseCopy>,
    /// How long the command took that migrates in place of `migrate`; `None`: none was run.
    #[serde(rename = "command_ms", with = "crate::millis::maybe")]
    pub command: Option<Duration>,
    /// The databases with migrations to apply, or to reverse in a rollback.
    pub databases: Vec<RehearsedDatabase>,
    /// The site's own steps that were run.
    pub steps: Vec<String>,
    /// What the workers loaded, as fragments: "celery application `config`: 12 tasks".
    pub workers: Vec<String>,
    /// What the other version answered: the new one, or the previous one in a rollback.
    pub pages: Vec<RehearsedPage>,
    /// What the live version answered, started again on the copies with the old schema.
    pub live: Vec<RehearsedPage>,
    /// What any of it tried to connect to outside the machine: `api.example.org:443`.
    pub network: Vec<String>,
}

/// Something that was not rehearsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRehearsed {
    /// What: a step (`rehearse-pages`) with everything that follows it in the rehearsal, a database
    /// (`` database `events` ``), or a server (`Redis at 127.0.0.1:6379`).
    pub what: String,
    /// Why, as a fragment.
    pub reason: String,
    /// What would allow it, if that is known.
    pub help: Option<String>,
}

/// The copy of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseCopy {
    /// The alias.
    pub database: String,
    /// The size of the live database, in bytes.
    pub size_bytes: u64,
    /// How long the copy took, in milliseconds.
    pub duration_ms: u64,
    /// Whether the rows of the site's own tables were copied, too.
    pub rows: bool,
}

/// The migrations of a database on its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RehearsedDatabase {
    /// The alias.
    pub database: String,
    /// The migrations that were applied; none in a rollback.
    pub migrations: Vec<MigrationOnCopy>,
    /// How long all of them took together; `None`: this is a rollback.
    #[serde(rename = "applied_ms", with = "crate::millis::maybe")]
    pub applied: Option<Duration>,
    /// How long their reversal took; `None`: it was not rehearsed, or failed.
    #[serde(rename = "reversed_ms", with = "crate::millis::maybe")]
    pub reversed: Option<Duration>,
    /// How long a rollback took to restore the update's copy; `None`: it was not restored.
    #[serde(rename = "restored_ms", with = "crate::millis::maybe")]
    pub restored: Option<Duration>,
    /// Why the reversal failed.
    pub fault: Option<String>,
    /// The tables whose rows differed after the reversal, a fragment each.
    pub lost: Vec<String>,
    /// Whether the copy had all rows of the site's tables, and all were compared.
    pub all_rows: bool,
}

/// What a version answered when it was asked for a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RehearsedPage {
    /// The page's path, as in the settings.
    pub path: String,
    /// The status; `None`: there was no answer.
    pub status: Option<u16>,
    /// How long the answer took.
    #[serde(rename = "duration_ms", with = "crate::millis")]
    pub duration: Duration,
    /// What is not as expected.
    pub problems: Vec<Problem>,
    /// The first exception that it raised, with its place.
    pub exception: Option<String>,
    /// What it tried to connect to outside the machine.
    pub network: Vec<String>,
}

impl Rehearsal {
    /// Adds what was tried to be reached.
    pub(crate) fn reached(&mut self, places: impl IntoIterator<Item = String>) {
        self.network.extend(places);
        self.network.sort();
        self.network.dedup();
    }
}
