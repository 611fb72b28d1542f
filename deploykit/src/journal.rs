//! The write-ahead journal of a run: what is about to be done and how it is undone, on the disk before it is done.
//!
//! One JSON object a line, synced line by line. A torn last line, which a crash can leave, is as if it had not been
//! written: what it announces has not happened yet.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::Action;
use crate::event::Outcome;
use crate::host::files::{self, FileError, InPath};
use crate::plan::{Phase, Step, StepKind};

/// The version of the format; a journal of a newer one is refused.
pub const VERSION: u32 = 1;

/// What could not be done, where it could not be written or synced.
const WRITE: &str = "write the journal";

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The run began to change things.
    RunStarted {
        /// The format's version.
        version: u32,
        /// The run.
        run: String,
        /// When.
        time: Timestamp,
        /// The process.
        pid: u32,
        /// Who called it.
        user: String,
        /// The environment.
        environment: String,
        /// The live commit.
        from: String,
        /// The pinned commit.
        to: String,
        /// What keeps the site in maintenance, should it come to that.
        hold: Vec<Action>,
        /// The directories beside those of the site that are removed when the run is over.
        #[serde(default, with = "crate::names::many")]
        beside: Vec<PathBuf>,
        /// The finished update that this run rolls back; `None`: it is an update itself.
        #[serde(default)]
        rolls_back: Option<String>,
        /// All steps, so that a recovery can also go on.
        #[serde(default)]
        planned: Vec<Step>,
        /// The number of the site's state directory: a journal without it came from elsewhere.
        #[serde(default)]
        state: Option<String>,
    },
    /// A step is about to be done.
    StepStarted {
        /// The step.
        step: StepKind,
        /// The part of the update that it belongs to.
        phase: Phase,
        /// When.
        time: Timestamp,
        /// What is about to be done.
        actions: Vec<Action>,
        /// What undoes it.
        undo: Vec<Action>,
    },
    /// A step was done.
    StepFinished {
        /// The step.
        step: StepKind,
        /// How long it took.
        duration_ms: u64,
    },
    /// A step failed; whatever it did will be undone.
    StepFailed {
        /// The step.
        step: StepKind,
        /// Why.
        error: String,
    },
    /// A step was undone.
    StepUndone {
        /// The step.
        step: StepKind,
    },
    /// A step could not be undone.
    UndoFailed {
        /// The step.
        step: StepKind,
        /// Why.
        error: String,
    },
    /// The run is over: nothing is left to do or undo.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// When.
        time: Timestamp,
    },
}

/// Why a journal cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be opened, read, written or synced.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line other than the last one is no entry.
    #[error("the journal `{}` is damaged in line {line}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Another site wrote it, or an unknown one.
    #[error("the journal `{}` was not written by this site", path.display())]
    Foreign {
        /// The journal.
        path: PathBuf,
    },
    /// A newer deploykit wrote it.
    #[error("the journal `{}` has format {found}, and this deploykit reads up to {VERSION}", path.display())]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Up to here it holds whole entries.
    length: u64,
}

impl Journal {
    /// Opens a new or existing journal. An incomplete last line is removed, so that the next entry starts a new line.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or what it holds is no journal.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = files::open_private(path)?;
        let (_, length) = parse(&bytes_of(path)?, path)?;
        let mut journal = Journal { path: path.to_owned(), file, length };
        files::sync_directory(files::parent(path)).and_then(|()| journal.cut()).at(WRITE, path)?;
        Ok(journal)
    }

    /// Takes an empty file, wherever it is.
    #[cfg(test)]
    pub(crate) fn of_file(path: &Path, file: File) -> Self {
        Journal { path: path.to_owned(), file, length: 0 }
    }

    /// Appends an entry and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written; then what it announces must not be done.
    pub fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let result = serde_json::to_string(entry).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            // Half a line, which a full disk may have left, would spoil this one.
            self.cut()?;
            self.file.write_all(line.as_bytes())?;
            self.file.sync_data()?;
            self.length += line.len() as u64;
            Ok(())
        });
        Ok(result.at(WRITE, &self.path)?)
    }

    /// Cuts off what is behind the last whole entry.
    fn cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.length { self.file.set_len(self.length) } else { Ok(()) }
    }

    /// Tells from the last line alone whether the run is over; `false` also when that cannot be known without a closer
    /// look.
    #[must_use]
    pub fn is_over(path: &Path) -> bool {
        let Ok(bytes) = std::fs::read(path) else { return false };
        let last = bytes.strip_suffix(b"\n").and_then(|whole| whole.rsplit(|byte| *byte == b'\n').next());
        last.is_some_and(|line| matches!(serde_json::from_slice(line), Ok(Entry::RunFinished { .. })))
    }

    /// Reads a journal.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged before its last line, or comes from a newer deploykit.
    pub fn read(path: &Path) -> Result<Vec<Entry>, JournalError> {
        parse(&bytes_of(path)?, path).map(|(entries, _)| entries)
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).at("read the journal", path)
}

/// Returns the whole entries, and where the last of them ends.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Entry>, u64), JournalError> {
    let mut entries = Vec::new();
    let mut length = 0;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let last = index + 1 == lines.len();
        if let Ok(header) = serde_json::from_slice::<Header>(line)
            && header.version > VERSION
        {
            return Err(JournalError::Newer { path: path.to_owned(), found: header.version });
        }
        match serde_json::from_slice(line) {
            // Without its line end it may be a part that happens to be readable.
            Ok(entry) if line.ends_with(b"\n") => {
                entries.push(entry);
                length += line.len() as u64;
            }
            _ if last => {}
            _ => return Err(JournalError::Damaged { path: path.to_owned(), line: index + 1 }),
        }
    }
    Ok((entries, length))
}

/// A step that was begun and is not undone yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Begun<'e> {
    /// The step.
    pub step: &'e StepKind,
    /// The part of the update that it belongs to.
    pub phase: Phase,
    /// What was to be done.
    pub actions: &'e [Action],
    /// What undoes it.
    pub undo: &'e [Action],
}

/// Returns the steps that were begun and not undone since, newest first. One that was begun again counts once.
#[must_use]
pub fn left_to_undo(entries: &[Entry]) -> Vec<Begun<'_>> {
    let mut left: Vec<Begun<'_>> = Vec::new();
    for entry in entries {
        match entry {
            Entry::StepStarted { step, phase, actions, undo, .. } => {
                left.retain(|begun| begun.step != step);
                left.push(Begun { step, phase: *phase, actions, undo });
            }
            Entry::StepUndone { step } => left.retain(|begun| begun.step != step),
            _ => {}
        }
    }
    left.reverse();
    left
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Returns whether the run that wrote these entries is over.
#[must_use]
pub fn is_finished(entries: &[Entry]) -> bool {
    entries.is_empty() || matches!(entries.last(), Some(Entry::RunFinished { .. }))
}

/// Returns whether the run that wrote these entries can be finished: it says what it planned, and has undone nothing, unless its undo
/// waits for other hosts.
#[must_use]
pub fn can_finish(entries: &[Entry]) -> bool {
    way_forward(entries).is_ok()
}

/// Returns all steps of a run that can be finished, or why it cannot.
pub(crate) fn way_forward(entries: &[Entry]) -> Result<&[Step], &'static str> {
    // Where an undo waits for other hosts, what it undid before can be done again: they may leave only the way forward.
    let waits = |action: &Action| matches!(action, Action::AwaitRollback(_) | Action::FollowMigrations(_));
    let left = left_to_undo(entries);
    let at = left.iter().filter(|begun| begun.undo.iter().any(waits)).map(|begun| begun.step).max();
    let is_undo = |entry: &Entry| match entry {
        Entry::StepUndone { step } => at.is_none_or(|at| step <= at),
        Entry::UndoFailed { step, .. } => at.is_none_or(|at| step != at),
        _ => false,
    };
    match entries.first() {
        _ if entries.iter().any(is_undo) => Err("its undo has begun"),
        Some(Entry::RunStarted { planned, .. }) if !planned.is_empty() => Ok(planned),
        _ => Err("its journal does not list its planned steps"),
    }
}

/// Returns the step that could not be undone, for which the site is held; `None`: the run was interrupted, or a recovery
/// has undone something since.
#[must_use]
pub fn held_at(entries: &[Entry]) -> Option<&StepKind> {
    let last = entries.iter().rev().find(|entry| {
        matches!(entry, Entry::StepUndone { .. } | Entry::UndoFailed { .. } | Entry::RunFinished { .. })
    });
    match last {
        Some(Entry::UndoFailed { step, .. }) => Some(step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undone(step: &str) -> Entry {
        Entry::StepUndone { step: step.into() }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&undone("code")).unwrap();
        journal.append(&undone("static")).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [undone("code"), undone("static")]);
    }

    #[test]
    fn a_run_is_over_when_its_last_line_says_so_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        assert!(!Journal::is_over(&path));
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&undone("code")).unwrap();
        assert!(!Journal::is_over(&path));
        let time = Timestamp::UNIX_EPOCH;
        journal.append(&Entry::RunFinished { outcome: Outcome::Updated, time }).unwrap();
        assert!(Journal::is_over(&path) && is_finished(&Journal::read(&path).unwrap()));
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, &torn[..torn.len() - 1]).unwrap();
        assert!(!Journal::is_over(&path));
    }

    #[test]
    fn a_run_is_held_until_something_more_is_undone() {
        let failed = || Entry::UndoFailed { step: "migrate".into(), error: "no way back".into() };
        let again = || Entry::StepFinished { step: "page-up".into(), duration_ms: 1 };
        assert_eq!(held_at(&[]), None);
        assert_eq!(held_at(&[undone("start-web")]), None);
        assert_eq!(held_at(&[undone("start-web"), failed(), again()]), Some(&StepKind::Migrate));
        assert_eq!(held_at(&[failed(), undone("migrate")]), None);
    }

    #[test]
    fn a_torn_last_line_has_not_been_written() {
        let whole = serde_json::to_string(&undone("code")).unwrap() + "\n";
        for end in 0..whole.len() {
            let text = format!("{whole}{}", &whole[..end]);
            assert_eq!(parse(text.as_bytes(), Path::new("j")).unwrap().0, [undone("code")], "{text}");
        }
    }

    #[test]
    fn what_follows_a_torn_line_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        Journal::open(&path).unwrap().append(&undone("code")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in ["{\"entry\":\"step_un", "\0\0\0\0\n"] {
            std::fs::write(&path, [&whole, torn.as_bytes()].concat()).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            journal.append(&undone("static")).unwrap();
            journal.append(&undone("page-up")).unwrap();
            let entries = Journal::read(&path).unwrap();
            assert_eq!(entries, [undone("code"), undone("static"), undone("page-up")], "{torn:?}");
        }
    }

    #[test]
    fn half_a_line_that_a_full_disk_left_goes_before_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&undone("code")).unwrap();
        journal.file.write_all(b"{\"entry\":").unwrap();
        journal.append(&undone("static")).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [undone("code"), undone("static")]);
    }

    #[test]
    fn damage_in_the_middle_and_newer_formats_are_refused() {
        let whole = serde_json::to_string(&undone("code")).unwrap();
        let damaged = parse(format!("{whole}\nnonsense\n{whole}\n").as_bytes(), Path::new("j")).unwrap_err();
        assert_eq!(damaged.to_string(), "the journal `j` is damaged in line 2");
        let newer =
            parse(b"{\"entry\":\"run_started\",\"version\":9,\"x\":1}\n", Path::new("j")).unwrap_err();
        assert_eq!(newer.to_string(), "the journal `j` has format 9, and this deploykit reads up to 1");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, Path::new("j"));
        }
    }
}
