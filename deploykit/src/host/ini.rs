//! Files of `[section]` and `key = value`, as Python's `configparser` reads them.
//!
//! Source: <https://docs.python.org/3/library/configparser.html>; supervisor's reader takes `;` and `#` for comments behind a blank.

use thiserror::Error;

/// The sections of a file, in its order.
#[derive(Debug, Default)]
pub struct Sections(Vec<(String, Vec<(String, String)>)>);

/// A line that is neither. It is not quoted: it may contain a password.
#[derive(Debug, Error)]
#[error("line {line}: expected `[section]` or `key = value`")]
pub struct IniError {
    line: usize,
}

impl Sections {
    /// Returns the names of the sections.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Tells whether there is a section of this name.
    pub fn has(&self, section: &str) -> bool {
        self.names().any(|name| name == section)
    }

    /// Returns a value by its key in lower case; the last one counts.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let mut keys =
            self.0.iter().rev().filter(|(name, _)| name == section).flat_map(|(_, keys)| keys.iter().rev());
        keys.find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Reads a text. Keys become lower case. A value may continue in indented lines.
///
/// # Errors
///
/// When a line is neither a section nor a key with a value.
pub fn parse(text: &str) -> Result<Sections, IniError> {
    let mut sections = Sections::default();
    for (index, line) in text.lines().enumerate() {
        let content = without_comment(line).trim_end();
        let trimmed = content.trim_start();
        if trimmed.is_empty() {
            continue;
        }
        let wrong = || IniError { line: index + 1 };
        let last = sections.0.last_mut();
        if trimmed.len() < content.len()
            && let Some((_, value)) = last.as_ref().and_then(|(_, keys)| keys.last())
        {
            let value = format!("{value}\n{trimmed}");
            if let Some((_, last)) = last.and_then(|(_, keys)| keys.last_mut()) {
                *last = value;
            }
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            sections.0.push((name.trim().to_owned(), Vec::new()));
            continue;
        }
        let (_, keys) = last.ok_or_else(wrong)?;
        let (name, value) = trimmed.split_once(['=', ':']).ok_or_else(wrong)?;
        keys.push((name.trim().to_lowercase(), value.trim().to_owned()));
    }
    Ok(sections)
}

/// Cuts a comment off: `;` or `#` at the start of a line or after a blank.
fn without_comment(line: &str) -> &str {
    let mut blank = true;
    for (index, c) in line.char_indices() {
        if blank && matches!(c, ';' | '#') {
            return &line[..index];
        }
        blank = c.is_whitespace();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_continue_and_comments_end() {
        let text = "; a\n[a]\nKey = 1 ; one\n  two\n# no\nother: x;y\n[b]\n[a]\nkey=3\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.names().collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(sections.get("a", "key"), Some("3"));
        assert_eq!(sections.get("a", "other"), Some("x;y"));
        assert!(sections.has("b") && sections.get("b", "key").is_none());
        assert_eq!(parse("[a]\nkey = 1\n  2\n").unwrap().get("a", "key"), Some("1\n2"));
    }

    #[test]
    fn a_line_that_is_neither_is_named_by_its_number() {
        for (text, line) in [("key = 1\n", 1), ("[a]\nhunter22\n", 2)] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("line {line}: expected `[section]` or `key = value`"));
        }
    }
}
