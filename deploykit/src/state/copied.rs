//! How long the last copies for a rehearsal took: a database that would take too long is copied without its rows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{State, read, write};
use crate::host::files::FileError;

/// A copy that was faster than this says little about a larger one.
const SHORT: Duration = Duration::from_secs(1);

/// How long a copy counts: one slow copy must not prevent others for ever.
const COUNTS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The last copies with all rows, by alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Copied(BTreeMap<String, Copy>);

/// A copy of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copy {
    /// The size of the live database.
    size_bytes: u64,
    duration_ms: u64,
    ended: Timestamp,
}

impl Copied {
    /// Records a copy that was just made.
    pub(crate) fn add(&mut self, alias: &str, size_bytes: u64, duration_ms: u64) {
        self.0.insert(alias.to_owned(), Copy { size_bytes, duration_ms, ended: Timestamp::now() });
    }

    /// Returns how long a copy of so many bytes would take by the speed of the last one; `None`: nothing counts that tells.
    #[must_use]
    pub fn expected(&self, alias: &str, size_bytes: u64) -> Option<Duration> {
        let (last, took) = self.last(alias)?;
        let millis = took.as_millis() * u128::from(size_bytes) / u128::from(last.size_bytes);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// Returns how many bytes can be copied in this time; `None`: nothing counts that tells.
    #[must_use]
    pub fn possible(&self, alias: &str, time: Duration) -> Option<u64> {
        let (last, took) = self.last(alias)?;
        let bytes = time.as_millis() * u128::from(last.size_bytes) / took.as_millis();
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn last(&self, alias: &str) -> Option<(&Copy, Duration)> {
        let last = self.0.get(alias)?;
        let took = Duration::from_millis(last.duration_ms);
        let counts = Timestamp::now().duration_since(last.ended) < COUNTS;
        (counts && took >= SHORT && last.size_bytes > 0).then_some((last, took))
    }
}

impl State {
    /// Returns the last copies for a rehearsal; none when they cannot be read: then only the size of a database counts.
    #[must_use]
    pub fn copied(&self) -> Copied {
        read(&self.directory.join("copied.json")).unwrap_or_default()
    }

    /// Keeps the last copies for a rehearsal.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn set_copied(&self, copied: &Copied) -> Result<(), FileError> {
        write(&self.directory.join("copied.json"), copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_copy_tells_how_long_the_next_one_takes() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path());
        let mut copied = state.copied();
        assert_eq!(copied.expected("default", 1000), None);
        copied.add("default", 1_000_000_000, 20_000);
        copied.add("small", 1_000_000, 999);
        copied.add("empty", 0, 2000);
        state.set_copied(&copied).unwrap();
        let copied = state.copied();
        assert_eq!(copied.expected("default", 1_500_000_000), Some(Duration::from_secs(30)));
        assert_eq!(copied.possible("default", Duration::from_secs(60)), Some(3_000_000_000));
        for alias in ["small", "empty", "other"] {
            assert_eq!(copied.possible(alias, Duration::from_secs(60)), None, "{alias}");
        }
    }

    #[test]
    fn an_old_copy_does_not_count() {
        let mut copied = Copied::default();
        copied.add("default", 1_000_000, 20_000);
        let last = copied.0.get_mut("default").unwrap();
        last.ended -= COUNTS;
        assert_eq!(copied.expected("default", 1_000_000), None);
    }
}
