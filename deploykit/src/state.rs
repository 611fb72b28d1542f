//! The state directory of a site: its owner, its lock, its runs, and the record of the last good update.

mod copied;
#[cfg(test)]
mod former_tests;
mod owner;
mod seen;
mod started;

use std::io;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::host::files::{self, FileError, InPath};
use crate::journal::{Entry, Journal, JournalError, is_finished};
use crate::names;
use crate::report::Report;

pub use copied::Copied;
pub use owner::{Owner, OwnerError};
pub(crate) use owner::{real, state_above};
pub use seen::{Names, Print, Seen};
pub use started::{Started, Unread};

/// The state directory, `.deploykit/` beside the configuration.
#[derive(Clone, Debug)]
pub struct State {
    directory: PathBuf,
}

/// What the last good update left: what the next one may rely on without looking closer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Current {
    /// The commit that serves.
    pub commit: String,
    /// The packages, and the files that they were taken from.
    pub packages: Option<crate::operations::pip_install::Record>,
    /// What identified the configuration.
    pub settings: String,
    /// The names under STATIC_ROOT that were collected from a source.
    pub static_files: Option<crate::django::StaticRecord>,
    /// What was seen beside the commit; `None`: an earlier version did not look.
    pub seen: Option<Seen>,
}

impl Current {
    /// Completes what was seen, now that it is live.
    pub(crate) fn settle(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.settle();
        }
    }
}

/// What the site's Django last said of itself, for commands that do not boot it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// `TIME_ZONE`.
    pub time_zone: Option<String>,
    /// Whether the project has commands that announce maintenance.
    pub announces: bool,
    /// The file that they write.
    pub status_file: Option<PathBuf>,
}

/// What is known of a run beforehand, for the process that finishes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// What the next update may rely on, once this run is over.
    #[serde(flatten)]
    pub current: Current,
    /// The names of the static files that it adds.
    #[serde(default)]
    pub added: Vec<String>,
}

/// What a finished update leaves for its rollback, beside its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What the good update before it had left.
    pub current: Current,
    /// The database as the update left it.
    pub database: crate::django::DatabaseState,
    /// The previous static files; `None`: they stayed.
    pub static_files: Option<KeptStatic>,
    /// The rows that the database had then; only where a copy of it was made.
    #[serde(default)]
    pub rows: Option<crate::django::RowCounts>,
    /// The other databases that it migrates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<KeptDatabase>,
    /// The directory with the previous outputs of the site's own steps; `None`: they stayed.
    #[serde(default)]
    pub outputs: Option<PathBuf>,
}

/// One of several databases as a finished update left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptDatabase {
    /// The database as the update left it, with its alias.
    pub database: crate::django::DatabaseState,
    /// The rows that it had then; only where a copy of it was made.
    #[serde(default)]
    pub rows: Option<crate::django::RowCounts>,
}

/// Static files that a finished update put aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptStatic {
    /// Where they are; nothing is there if there were none.
    #[serde(with = "crate::names::one")]
    #[serde(alias = "folder")]
    pub directory: PathBuf,
    /// The names that the update added, sorted.
    pub added: Vec<String>,
}

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    /// Its name: the day and a number, such as `20261122-1`.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
}

impl State {
    /// Names the state directory without making it.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        State { directory: directory.to_owned() }
    }

    /// Makes the directory if it is missing: only its owner can enter it, and git ignores it.
    ///
    /// # Errors
    ///
    /// When it cannot be made, something else is in its place, or it belongs to another user.
    pub fn create(&self) -> Result<(), FileError> {
        files::private_directory(&self.directory)?;
        let ignore = self.directory.join(".gitignore");
        if !ignore.exists() {
            files::write_whole(&ignore, b"*\n", 0o600)?;
        }
        files::private_directory(&self.directory.join("runs"))
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the lock file.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Returns the directory of virtualenvs.
    #[must_use]
    pub fn virtualenvs(&self) -> PathBuf {
        self.directory.join("environments")
    }

    /// Returns where the staged tree waits between two preparations.
    #[must_use]
    pub fn staged_tree(&self) -> PathBuf {
        self.directory.join("next-tree")
    }

    /// Returns the scratch directory of a rehearsal.
    #[must_use]
    pub fn rehearsal(&self) -> PathBuf {
        self.directory.join("rehearsal")
    }

    /// Returns the directory of the new version's web server that is started beforehand.
    #[must_use]
    pub fn bridge(&self) -> PathBuf {
        self.directory.join("bridge")
    }

    /// Returns the directory of the live version's second web server, which serves if the run is undone.
    #[must_use]
    pub fn old_bridge(&self) -> PathBuf {
        self.directory.join("old-bridge")
    }

    /// Returns what the site's Django said of itself; nothing when it was not asked yet.
    #[must_use]
    pub fn known(&self) -> Known {
        // What cannot be read is found out again.
        let text = std::fs::read(self.directory.join("known.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Remembers what the site's Django said of itself.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_known(&self, known: &Known) -> Result<(), FileError> {
        let path = self.directory.join("known.json");
        if path.is_file() && *known == self.known() {
            return Ok(());
        }
        write(&path, known)
    }

    /// Returns the runs, oldest first.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read; a site without runs is fine.
    pub fn runs(&self) -> Result<Vec<RunDirectory>, FileError> {
        let directory = self.directory.join("runs");
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("read", &directory)?,
        };
        let mut runs: Vec<RunDirectory> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                order(&name)?;
                Some(RunDirectory { name, path: entry.path() })
            })
            .collect();
        runs.sort_by_key(|run| order(&run.name));
        Ok(runs)
    }

    /// Makes the directory of a new run.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new_run(&self) -> Result<RunDirectory, FileError> {
        let day = Timestamp::now().to_zoned(TimeZone::system()).strftime("%Y%m%d").to_string();
        // The newest run is the last by its name, also where the clock was set back meanwhile or shows another zone's day.
        let name = match self.runs()?.last().and_then(|run| order(&run.name)) {
            Some((last, number)) if last >= day => format!("{last}-{}", number.saturating_add(1)),
            _ => format!("{day}-1"),
        };
        let path = self.directory.join("runs").join(&name);
        files::private_directory(&path)?;
        Ok(RunDirectory { name, path })
    }

    /// Returns the newest run that changed something and is not over, with its journal.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read.
    pub fn unfinished(&self) -> Result<Option<(RunDirectory, Vec<Entry>)>, JournalError> {
        for run in self.runs()?.into_iter().rev() {
            let path = run.journal();
            if path.exists() {
                if Journal::is_over(&path) {
                    return Ok(None);
                }
                let entries = self.read_journal(&run)?;
                return Ok((!is_finished(&entries)).then_some((run, entries)));
            }
        }
        Ok(None)
    }

    /// Reads the journal of a run, which this site must have written.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or came from elsewhere.
    pub fn read_journal(&self, run: &RunDirectory) -> Result<Vec<Entry>, JournalError> {
        let path = run.journal();
        let entries = Journal::read(&path)?;
        self.is_own(&run.name, &path, &entries)?;
        Ok(entries)
    }

    /// Records the directories beside those of the site before they are made: a killed process cannot remove them.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_beside(&self, directories: &[PathBuf]) -> Result<(), FileError> {
        let path = self.directory.join("beside.json");
        // Not synced: what a loss of power takes with it is litter that the next preparation replaces.
        let directories: Vec<String> = directories.iter().map(names::text).collect();
        let text = serde_json::to_string(&directories).unwrap_or_default();
        files::open_private(&path).and_then(|file| file.set_len(0).at("write", &path))?;
        std::fs::write(&path, text).at("write", &path)
    }

    /// Forgets them: they are put away.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn forget_beside(&self) -> Result<(), FileError> {
        files::remove_file(&self.directory.join("beside.json"))
    }

    /// Returns the directories that a killed process left beside those of the site; `None`: no process was killed.
    #[must_use]
    pub fn beside(&self) -> Option<Vec<PathBuf>> {
        let bytes = files::read_private(&self.directory.join("beside.json")).ok()??;
        let directories: Vec<String> = serde_json::from_slice(&bytes).unwrap_or_default();
        Some(directories.iter().map(|directory| names::path(directory)).collect())
    }

    /// Returns what the last good update left; the default when there was none or it cannot be read.
    #[must_use]
    pub fn current(&self) -> Current {
        read(&self.directory.join("current.json")).unwrap_or_default()
    }

    /// Keeps what a good update left.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_current(&self, current: &Current) -> Result<(), FileError> {
        write(&self.directory.join("current.json"), current)
    }
}

impl RunDirectory {
    /// Returns its journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.jsonl")
    }

    /// Returns the file of its events.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// Returns the file with every command line and its output.
    #[must_use]
    pub fn transcript(&self) -> PathBuf {
        self.path.join("output.log")
    }

    /// Returns what it left for its rollback; `None`: it left nothing, or that was pruned.
    #[must_use]
    pub fn kept(&self) -> Option<Kept> {
        read(&self.kept_file())
    }

    /// Writes what it leaves for its rollback.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_kept(&self, kept: &Kept) -> Result<(), FileError> {
        write(&self.kept_file(), kept)
    }

    /// Returns the file of what it left for its rollback.
    #[must_use]
    pub fn kept_file(&self) -> PathBuf {
        self.path.join("kept.json")
    }

    /// Keeps what the next update may rely on, should this one be finished by a recovery.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_next(&self, next: &Next) -> Result<(), FileError> {
        write(&self.path.join("current.json"), next)
    }

    /// Returns that; the default when it cannot be read: the next update then looks closer.
    #[must_use]
    pub fn next(&self) -> Next {
        read(&self.path.join("current.json")).unwrap_or_default()
    }

    /// Returns its report, when it has one.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        read(&self.path.join("report.json"))
    }

    /// Writes its report.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_report(&self, report: &Report) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(report).unwrap_or_default();
        files::write_whole(&self.path.join("report.json"), text.as_bytes(), 0o600)
    }
}

/// Reads what was written by this site; what others put there is as if it was not.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_private(path).ok()??).ok()
}

/// Writes something for its owner alone.
fn write(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    files::write_whole(path, serde_json::to_string(value).unwrap_or_default().as_bytes(), 0o600)
}

/// Splits a run's name for sorting; `None` when it is none.
fn order(name: &str) -> Option<(String, u32)> {
    let (day, number) = name.split_once('-')?;
    (day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    Some((day.to_owned(), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_within_their_day_and_sorted_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("state"));
        state.create().unwrap();
        let names: Vec<String> = (0..11).map(|_| state.new_run().unwrap().name).collect();
        let listed: Vec<String> = state.runs().unwrap().into_iter().map(|run| run.name).collect();
        assert_eq!(listed, names);
        assert!(names[10].ends_with("-11"), "{names:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_hide_the_newest_run() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("state"));
        state.create().unwrap();
        for run in ["20991231-9", "20991231-10"] {
            std::fs::create_dir(state.directory().join("runs").join(run)).unwrap();
        }
        assert_eq!(state.new_run().unwrap().name, "20991231-11");
    }

    #[test]
    fn the_directory_is_private_and_a_link_in_its_place_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("state"));
        state.create().unwrap();
        assert_eq!(std::fs::metadata(state.directory()).unwrap().permissions().mode() & 0o777, 0o700);
        std::os::unix::fs::symlink(state.directory(), directory.path().join("link")).unwrap();
        assert!(State::at(&directory.path().join("link")).create().is_err());
        std::fs::set_permissions(state.directory(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = crate::error_chain(&state.create().unwrap_err());
        assert!(error.ends_with("others can write into it"), "{error}");
    }
}
