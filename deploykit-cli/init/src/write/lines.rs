//! Lines of TOML with comments for an administrator.

use std::path::{Path, PathBuf};

use crate::findings::{Found, MARK, Question};
use crate::read::files::shown;

/// Where the comments after values start.
const COLUMN: usize = 42;
/// Characters of a comment's line.
const WIDTH: usize = 110;

pub(super) const NOT_UTF8: &str =
    "the name is not UTF-8, which this file cannot hold; rename it or give another";

/// A file that is being written.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<String>,
    pub(super) questions: Vec<Question>,
    /// The section that the next lines are in.
    pub(super) section: &'static str,
}

impl Lines {
    pub(super) fn blank(&mut self) {
        self.lines.push(String::new());
    }

    pub(super) fn head(&mut self, section: &'static str, header: &str, note: &str) {
        self.blank();
        self.section = section;
        self.line(header, note);
    }

    pub(super) fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {}", plain(text)));
    }

    pub(super) fn line(&mut self, line: &str, note: &str) {
        if note.is_empty() {
            self.lines.push(line.to_owned());
        } else {
            // One space at least, where the value is longer than the column.
            self.lines.push(format!("{line:<COLUMN$} # {}", plain(note)));
        }
    }

    pub(super) fn text(&mut self, key: &str, found: &Found<String>, example: &str) {
        self.value(key, found.value.as_deref().map(quoted), found, example);
    }

    pub(super) fn path(&mut self, key: &str, found: &Found<PathBuf>, from: &Path, example: &str) {
        let value = found.value.as_deref().map(|path| quoted(&shown(from, path)));
        if found.value.as_deref().is_some_and(|path| path.to_str().is_none()) {
            self.value(key, value, &found.clone().asking(NOT_UTF8), example);
        } else {
            self.value(key, value, found, example);
        }
    }

    /// Writes an array of strings, on several lines where it is long.
    pub(super) fn list(&mut self, key: &str, texts: &[String]) {
        let line = format!("{key} = {}", array(texts));
        if line.chars().count() <= WIDTH {
            return self.line(&line, "");
        }
        self.lines.push(format!("{key} = ["));
        let mut line = String::from("   ");
        for text in texts {
            let item = format!(" {},", quoted(text));
            if line.chars().count() + item.chars().count() > WIDTH && line.trim() != "" {
                self.lines.push(std::mem::replace(&mut line, String::from("   ")));
            }
            line.push_str(&item);
        }
        self.lines.extend([line, "]".to_owned()]);
    }

    /// Writes a value, with its question above it; a question without a value stands above an example.
    pub(super) fn value<T>(&mut self, key: &str, value: Option<String>, meta: &Found<T>, example: &str) {
        if let Some(question) = &meta.question {
            self.ask(key, question);
        }
        match value {
            Some(value) => {
                let note = meta.source.as_deref().map(found).unwrap_or_default();
                self.line(&format!("{key} = {value}"), &note);
            }
            None if meta.question.is_some() => self.comment(&format!("{key} = {example}")),
            None => {}
        }
    }

    /// Writes a question above the line that is about to come.
    pub(super) fn ask(&mut self, key: &str, question: &str) {
        let key = if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        self.wrapped(&format!("{MARK} {question}"), "  ");
        self.questions.push(Question { key, why: question.to_owned(), line: self.lines.len() + 1 });
    }

    /// Writes a comment of several lines, all but the first one indented.
    pub(super) fn wrapped(&mut self, text: &str, indent: &str) {
        let mut line = String::new();
        for word in plain(text).split(' ') {
            if line.is_empty() {
                line = word.to_owned();
            } else if line.chars().count() + word.chars().count() + 3 <= WIDTH {
                line = format!("{line} {word}");
            } else {
                self.comment(&line);
                line = format!("{indent}{word}");
            }
        }
        self.comment(&line);
    }
}

pub(super) fn found(source: &str) -> String {
    if source.is_empty() { String::new() } else { format!("found: {source}") }
}

/// Returns a text as TOML, on one line whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().any(char::is_control) {
        return basic(text);
    }
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns texts as an array of TOML.
pub(super) fn array(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// Returns a text between double quotes.
fn basic(text: &str) -> String {
    // What JSON escapes TOML reads alike; it alone forbids a bare DEL.
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

/// Returns a name as a key of TOML.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    // A key may be quoted in the two short ways only.
    if bare { name.to_owned() } else { basic(name) }
}

/// Returns a text that can stand in a comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
