//! What was written into log files since a moment.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::ServiceState;
use super::journal::{JournalUnit, or_reason};
use crate::host::Host;
use crate::host::files::parent;

/// How much of one file is read at most, from its end: a program in a loop writes gigabytes.
const MOST: u64 = 1 << 20;

/// How many lines of one journal are read at most.
const MOST_OF_JOURNAL: usize = 5000;

/// What starts a traceback of Python.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// Where log files and journals ended at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    files: Vec<Marked>,
    #[serde(default)]
    units: Vec<MarkedUnit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MarkedUnit {
    name: String,
    unit: JournalUnit,
    since: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marked {
    name: String,
    path: PathBuf,
    /// 0 for a file that was not there.
    inode: u64,
    size_bytes: u64,
}

/// The lines of one file that were written since the mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLines {
    /// The service, or the name that the log was given.
    pub name: String,
    /// The file, or the command that shows the journal.
    #[serde(rename = "path")]
    pub source: PathBuf,
    /// Its last lines, oldest first, secrets removed.
    pub lines: Vec<String>,
}

impl LogMark {
    /// Marks the ends of the files and journals that services write their output to.
    #[must_use]
    pub fn of_states(states: &[ServiceState]) -> Self {
        let files =
            states.iter().flat_map(|state| state.logs.iter().map(|path| (state.service.as_str(), path)));
        let units = states.iter().filter_map(|state| {
            let (name, since) = (state.service.clone(), SystemTime::now());
            Some(MarkedUnit { name, unit: state.journal.clone()?, since })
        });
        LogMark { units: units.collect(), ..LogMark::of_files(files) }
    }

    /// Marks the ends of named files; one that is not there yet counts from its beginning.
    pub fn of_files<'a, P: AsRef<Path> + 'a>(files: impl IntoIterator<Item = (&'a str, P)>) -> Self {
        let mut mark = LogMark::default();
        for (name, path) in files {
            let path = path.as_ref();
            if mark.files.iter().any(|marked| marked.path == path) {
                continue;
            }
            let found = fs::metadata(path).ok();
            mark.files.push(Marked {
                name: name.to_owned(),
                path: path.to_owned(),
                inode: found.as_ref().map_or(0, MetadataExt::ino),
                size_bytes: found.as_ref().map_or(0, fs::Metadata::len),
            });
        }
        mark
    }

    /// Adds the files of another mark.
    #[must_use]
    pub fn and(mut self, other: LogMark) -> Self {
        for marked in other.files {
            if self.files.iter().all(|own| own.path != marked.path) {
                self.files.push(marked);
            }
        }
        self.units.extend(other.units);
        self
    }

    /// Marks the ends of the same files and journals as they are now.
    #[must_use]
    pub(crate) fn renewed(&self) -> Self {
        let files = self.files.iter().map(|marked| (marked.name.as_str(), &marked.path));
        let since = SystemTime::now();
        let units = self.units.iter().map(|marked| MarkedUnit { since, ..marked.clone() });
        LogMark { units: units.collect(), ..LogMark::of_files(files) }
    }

    /// Returns the last lines of each file and journal that were written since, at most `max_lines` of each, secrets removed. If
    /// there are more, the first traceback comes first: what failed later is often its consequence.
    ///
    /// A file that was rotated meanwhile is followed: the rest of the old one, where it still stands beside it, and all
    /// of the new one. One that was cut short counts from its beginning. Files without news, and those that cannot be
    /// read, are left out.
    #[must_use]
    pub fn new_lines(&self, host: &Host, max_lines: usize) -> Vec<NewLines> {
        let files = self.files.iter().map(|marked| NewLines {
            name: marked.name.clone(),
            source: marked.path.clone(),
            lines: last_lines(host, &marked.new_text(), usize::MAX),
        });
        let units = self.units.iter().map(|MarkedUnit { name, unit, since }| NewLines {
            name: name.clone(),
            source: unit.command().into(),
            lines: or_reason(unit.lines(host, Some(*since), MOST_OF_JOURNAL)),
        });
        let telling = files.chain(units).map(|new| NewLines { lines: telling(new.lines, max_lines), ..new });
        telling.filter(|new| !new.lines.is_empty()).collect()
    }
}

impl Marked {
    fn new_text(&self) -> Vec<u8> {
        let Ok(found) = fs::metadata(&self.path) else { return self.rest_of_rotated() };
        if found.ino() == self.inode || self.inode == 0 {
            let from = if found.len() < self.size_bytes { 0 } else { self.size_bytes };
            return read_from(&self.path, from).unwrap_or_default();
        }
        let mut text = self.rest_of_rotated();
        text.extend(read_from(&self.path, 0).unwrap_or_default());
        text
    }

    /// Reads what the marked file got after the mark and before it was renamed to `NAME.1`, `NAME-20260401`, ….
    fn rest_of_rotated(&self) -> Vec<u8> {
        let (Some(name), Ok(entries)) = (self.path.file_name(), fs::read_dir(parent(&self.path))) else {
            return Vec::new();
        };
        let name = name.to_string_lossy();
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&*name))
            .find(|entry| entry.metadata().is_ok_and(|found| found.ino() == self.inode && found.is_file()))
            .and_then(|entry| read_from(&entry.path(), self.size_bytes).ok())
            .unwrap_or_default()
    }
}

/// Returns the last lines of a log file, secrets removed; empty when it cannot be read.
#[must_use]
pub fn last_lines_of(host: &Host, path: &Path, max_lines: usize) -> Vec<String> {
    let from = fs::metadata(path).map_or(0, |found| found.len().saturating_sub(MOST));
    read_from(path, from).map(|text| last_lines(host, &text, max_lines)).unwrap_or_default()
}

/// Returns the last lines of the files that were written to within the given time, oldest first, secrets removed.
pub(super) fn recent_lines(
    host: &Host,
    paths: &[PathBuf],
    within: Duration,
    max_lines: usize,
) -> Vec<String> {
    let since = SystemTime::now().checked_sub(within);
    let recent = |path: &&PathBuf| {
        fs::metadata(path)
            .and_then(|found| found.modified())
            .ok()
            .zip(since)
            .is_some_and(|(at, since)| at >= since)
    };
    let texts = paths.iter().filter(recent).filter_map(|path| read_from(path, 0).ok());
    texts.flat_map(|text| last_lines(host, &text, max_lines)).collect()
}

fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    // A pipe or a terminal, as in `stdout_logfile=/dev/stdout`, would keep the reader for ever.
    if !fs::metadata(path)?.is_file() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(size.saturating_sub(MOST))))?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns at most so many of the lines: the end of the first traceback in up to half of them, then the last ones.
fn telling(lines: Vec<String>, max_lines: usize) -> Vec<String> {
    let count = lines.len();
    if count <= max_lines {
        return lines;
    }
    let last = |number: usize| lines[count - number..].to_vec();
    let Some(begin) = lines.iter().position(|line| line.contains(TRACEBACK)) else { return last(max_lines) };
    // Its own lines are indented; the error follows.
    let inside = lines[begin + 1..].iter().take_while(|line| line.starts_with(char::is_whitespace)).count();
    let end = (begin + inside + 2).min(count);
    let shown = (end - begin).min(max_lines / 2);
    // It is among the last ones anyway.
    if shown < 2 || begin + max_lines >= count {
        return last(max_lines);
    }
    let from = end - (shown - 1);
    // The error may come from deep within a library, far below the line of the site that matters.
    let own = own_frame(&lines[begin..end]).map(|frame| begin + frame.start..begin + frame.end);
    let above = own.filter(|frame| frame.start < from && frame.len() + 2 < shown).unwrap_or_default();
    let mut telling = vec![lines[begin].clone()];
    telling.extend_from_slice(&lines[above.clone()]);
    telling.extend_from_slice(&lines[from + above.len()..end]);
    telling.extend(last((max_lines - shown).min(count - end)));
    telling
}

/// Returns the innermost frame of a traceback that is the site's own code: neither Python's nor a package's.
fn own_frame(lines: &[String]) -> Option<Range<usize>> {
    let is_frame = |line: &str| line.trim_start().starts_with("File \"");
    let others = ["-packages/", "/lib/python", "\"<"];
    let is_own = |line: &String| is_frame(line) && !others.iter().any(|other| line.contains(other));
    let start = lines.iter().rposition(is_own)?;
    let code = lines[start + 1..].iter();
    let code = code.take_while(|line| line.starts_with(char::is_whitespace) && !is_frame(line)).count();
    Some(start..start + 1 + code)
}

fn last_lines(host: &Host, text: &[u8], max_lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(max_lines)
        .map(|line| host.redactor().redact(line).into_owned())
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::Redactor;

    fn append(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn lines(mark: &LogMark, max: usize) -> Vec<String> {
        let host = Host::new().with_redactor(Redactor::new(["hunter22".to_owned()]));
        mark.new_lines(&host, max).into_iter().flat_map(|log| log.lines).collect()
    }

    #[test]
    fn only_what_came_since_is_shown_and_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old.log"), directory.path().join("new.log"));
        append(&old, "before\n");
        let mark = LogMark::of_files([("web", &old), ("web", &new), ("again", &old)]);
        assert!(lines(&mark, 9).is_empty());
        append(&old, "one\ntwo hunter22\n\nhalf");
        append(&new, "fresh\n");
        assert_eq!(lines(&mark, 9), ["one", "two ***", "half", "fresh"]);
        assert_eq!(lines(&mark, 1), ["half", "fresh"]);
        let stored: LogMark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
        assert_eq!(stored, mark);
    }

    #[test]
    fn the_first_traceback_comes_first() {
        let text = |from: usize, to: usize| (from..to).map(|number| format!("line {number}"));
        let trace = |error: &str| {
            let inside = (0..6).map(|number| format!("  File {number}"));
            std::iter::once(TRACEBACK.to_owned()).chain(inside).chain([error.to_owned()]).collect::<Vec<_>>()
        };
        let lines: Vec<String> = text(0, 5)
            .chain(trace("ImportError: the first"))
            .chain(text(5, 50))
            .chain(trace("ImportError: the second"))
            .chain(["Reason: Worker failed to boot.".to_owned()])
            .collect();
        assert_eq!(
            telling(lines.clone(), 8),
            [
                TRACEBACK,
                "  File 4",
                "  File 5",
                "ImportError: the first",
                "  File 4",
                "  File 5",
                "ImportError: the second",
                "Reason: Worker failed to boot."
            ]
        );
        assert_eq!(telling(lines.clone(), 1000), lines);
        assert_eq!(telling(lines[..5].to_vec(), 2), ["line 3", "line 4"]);
        let end = &lines[lines.len() - 9..];
        assert_eq!(telling([&lines[20..30], end].concat(), 10).last(), end.last());
        assert_eq!(telling(vec![TRACEBACK.to_owned(), "x".to_owned()], 1), ["x"]);
    }

    #[test]
    fn the_sites_own_frame_is_shown() {
        let frame =
            |file: &str, code: &str| [format!("  File \"{file}\", line 1, in f"), format!("    {code}")];
        let library =
            |number: usize| frame("/srv/venv/lib/python3.11/site-packages/x.py", &number.to_string());
        let own = frame("/srv/site/pages/views.py", "Check.objects.filter(nothing=1)");
        let lines: Vec<String> = std::iter::once(TRACEBACK.to_owned())
            .chain((0..5).flat_map(library))
            .chain(own.clone())
            .chain((5..15).flat_map(library))
            .chain(["FieldError: nothing".to_owned()])
            .chain((0..40).map(|number| format!("line {number}")))
            .collect();
        let [file, code] = library(14);
        let error = "FieldError: nothing".to_owned();
        let shown = telling(lines.clone(), 12);
        assert_eq!(
            shown[..6],
            [TRACEBACK.to_owned(), own[0].clone(), own[1].clone(), file, code.clone(), error.clone()]
        );
        assert_eq!(shown.len(), 12);
        assert_eq!(telling(lines, 6)[..3], [TRACEBACK.to_owned(), code, error]);
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(&path, "before\n");
        let mark = LogMark::of_files([("web", &path)]);
        append(&path, "rest\n");
        fs::rename(&path, directory.path().join("web.log.1")).unwrap();
        assert_eq!(lines(&mark, 9), ["rest"]);
        append(&path, "new\n");
        assert_eq!(lines(&mark, 9), ["rest", "new"]);
    }

    #[test]
    fn a_file_that_was_cut_short_counts_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(&path, "a long line from before\n");
        let mark = LogMark::of_files([("web", &path)]);
        fs::write(&path, "new\n").unwrap();
        assert_eq!(lines(&mark, 9), ["new"]);
    }

    #[test]
    fn devices_and_huge_files_do_not_hold_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let mark = LogMark::of_files([("web", path.as_path()), ("tty", Path::new("/dev/zero"))]);
        let file = File::create(&path).unwrap();
        file.set_len(1 << 30).unwrap();
        append(&path, "\nlast\n");
        assert_eq!(lines(&mark, 1), ["last"]);
    }
}
