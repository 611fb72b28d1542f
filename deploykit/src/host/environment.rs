//! The environment that the site's programs see.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Variables of the site, from its configuration and its `env-file`. Values may be secret: `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// Why an `env-file` cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The file cannot be read.
    #[error("cannot read the environment file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line is not `NAME=value`. The line itself is not shown, since it may hold a secret.
    #[error("`{}`, line {line}: expected `NAME=value`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
}

impl Environment {
    /// Makes an empty environment.
    #[must_use]
    pub fn new() -> Self {
        Environment::default()
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Adds the lines of a file: `NAME=value`, `export NAME=value`, `#` comments; quotes around a value are removed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line has no `=`.
    pub fn read_file(&mut self, path: &Path) -> Result<(), EnvironmentError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| EnvironmentError::Read { path: path.to_owned(), source })?;
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            match parse_line(line) {
                Some((name, value)) => self.set(name, value),
                None if line.trim().is_empty() || line.trim_start().starts_with('#') => {}
                None => return Err(EnvironmentError::Line { path: path.to_owned(), line: index + 1 }),
            }
        }
        Ok(())
    }

    /// Returns the variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns one value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Splits one `NAME=value` line as systemd's `EnvironmentFile` and the usual dotenv readers do; `None` for anything else.
pub(crate) fn parse_line(line: &str) -> Option<(&str, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return None;
    }
    let value = value.trim();
    for mark in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(mark) {
            let end = inner.find(mark)?;
            return Some((name, inner[..end].to_owned()));
        }
    }
    // A `#` after white space starts a comment; one within a word does not.
    let comment = value
        .char_indices()
        .find(|(at, c)| *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    let value = comment.map_or(value, |(at, _)| value[..at].trim_end());
    Some((name, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_shells_and_systemd_read_them() {
        assert_eq!(parse_line("A=1"), Some(("A", "1".into())));
        assert_eq!(parse_line("export A = \"x # y\" # z"), Some(("A", "x # y".into())));
        assert_eq!(parse_line("A= # note"), Some(("A", String::new())));
        assert_eq!(parse_line("A='#1'"), Some(("A", "#1".into())));
        assert_eq!(parse_line("A=b#c # d"), Some(("A", "b#c".into())));
        assert_eq!(parse_line("2A=b"), None);
        assert_eq!(parse_line("just words"), None);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# fine\n\nA=1\nhunter2\n").unwrap();
        let error = Environment::new().read_file(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("line 4: expected `NAME=value`"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn debug_shows_names_only() {
        let mut environment = Environment::new();
        environment.set("TOKEN", "hunter2");
        assert_eq!(format!("{environment:?}"), "{\"TOKEN\"}");
    }
}
