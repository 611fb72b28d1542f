//! The environment that the site's programs see.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Variables of the site, from its configuration and its `env-file`. Values may be secret: `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    variables: BTreeMap<String, String>,
}

/// Why an `env-file` cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VariablesError {
    /// The file cannot be read.
    #[error("cannot read the environment file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line is not `NAME=value`, or other programs read it in another way. The line itself is not shown, since it may
    /// hold a secret.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// Why it is not read.
        reason: &'static str,
    },
}

impl Variables {
    /// Makes an empty environment.
    #[must_use]
    pub fn new() -> Self {
        Variables::default()
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Adds the lines of a file: `NAME=value`, `export NAME=value`, comments, values of several lines in quotes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, a line is not `NAME=value`, or systemd, shells and python-dotenv read it differently.
    pub fn read_file(&mut self, path: &Path) -> Result<(), VariablesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| VariablesError::Read { path: path.to_owned(), source })?;
        let assignments = super::dotenv::parse(text.trim_start_matches('\u{feff}')).map_err(|bad| {
            VariablesError::Line { path: path.to_owned(), line: bad.line, reason: bad.reason }
        })?;
        for assignment in assignments {
            self.set(assignment.name, assignment.value);
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

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# fine\n\nA=1\nhunter2\n").unwrap();
        let error = Variables::new().read_file(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("line 4: expected `NAME=value`"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn debug_shows_names_only() {
        let mut variables = Variables::new();
        variables.set("TOKEN", "hunter2");
        assert_eq!(format!("{variables:?}"), "{\"TOKEN\"}");
    }
}
