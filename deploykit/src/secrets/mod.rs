//! The file of secret settings: which names it has, which ones the code wants, and how a new one gets in.
//!
//! Names may be shown, values never: no type here shows one, and no error quotes the file.

mod check;
mod dotenv;
mod edit;
mod json;
mod sensitive;
mod source;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use check::{
    DEFAULT_PATTERN, Missing, SecretsCheck, SecretsOutcome, asked_for, compile_pattern, names_asked_for,
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use edit::fuzz;
pub use edit::set;
pub(crate) use sensitive::Sensitive;

use crate::host::files::FileError;

/// What is to be set where.
#[derive(Clone, Copy)]
struct Edit<'e> {
    path: &'e Path,
    name: &'e str,
    value: &'e str,
}

impl Edit<'_> {
    fn failed(&self) -> SecretsError {
        SecretsError::Edit { name: self.name.to_owned(), path: self.path.to_owned() }
    }
}

/// A file of secret settings: a JSON object, or lines of `NAME=value`. `Debug` shows names only.
///
/// # Examples
///
/// ```
/// use deploykit::internal::secrets::SecretsFile;
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("secrets.json");
/// std::fs::write(&path, r#"{"SECRET_KEY": "hunter22", "EMAIL": {"password": "swordfish"}}"#)?;
/// let secrets = SecretsFile::read(&path)?;
/// assert!(secrets.names().contains("SECRET_KEY"));
/// assert_eq!(secrets.values().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SecretsFile {
    path: PathBuf,
    names: BTreeSet<String>,
    sensitive: Sensitive,
    values: Vec<String>,
}

/// Why a file of secrets cannot be used or changed. Nothing of its contents is in here but names.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// The file cannot be read.
    #[error("cannot read the secrets file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not UTF-8.
    #[error("`{}`, line {line}: expected UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line of the first byte that is not, from 1.
        line: usize,
    },
    /// The file is no JSON.
    #[error("`{}`, line {line}, column {column}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser stumbled over, without the text itself.
        reason: String,
    },
    /// The file is JSON, but no object.
    #[error("`{}`: expected a JSON object with a name for every secret", path.display())]
    NotObject {
        /// The file.
        path: PathBuf,
    },
    /// A line is not `NAME=value`, or other programs read it in another way.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why it is not read.
        reason: &'static str,
    },
    /// A name cannot be the name of a secret.
    #[error("`{name}` cannot be the name of a secret in `{}`", path.display())]
    Name {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A value cannot be written in this kind of file.
    #[error("the value for `{name}` cannot be written in `{}`: {reason}", path.display())]
    Value {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What about it cannot.
        reason: &'static str,
    },
    /// The name stands for a list or an object, which is not replaced by a text.
    #[error("`{name}` in `{}` is an array or an object and is not replaced", path.display())]
    Nested {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Another program changed the file meanwhile; nothing was written.
    #[error("`{}` was changed by somebody else meanwhile", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The changed file would not read back as it should; nothing was written.
    #[error("cannot set `{name}` in `{}` without touching other lines", path.display())]
    Edit {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The pattern that finds names in the code is no regular expression.
    #[error("the pattern for secrets cannot be read")]
    Pattern {
        /// What is wrong with it.
        #[source]
        source: regex_lite::Error,
    },
    /// The pattern captures nothing.
    #[error("the pattern for secrets needs a group, `(…)`, around the name")]
    NoGroup,
}

/// How a file holds its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON object.
    Json,
    /// Lines of `NAME=value`.
    Dotenv,
}

impl Format {
    /// Goes by the name of the file, and by its first character where the name says nothing.
    fn of(path: &Path, text: &str) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".json") || name.ends_with(".jsonc") {
            Format::Json
        } else if name.starts_with(".env") || name.ends_with(".env") {
            Format::Dotenv
        } else if text.trim_start().starts_with(['{', '[']) {
            Format::Json
        } else {
            Format::Dotenv
        }
    }
}

impl SecretsFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is neither a JSON object nor lines of `NAME=value`.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let bytes =
            std::fs::read(path).map_err(|source| SecretsError::Read { path: path.to_owned(), source })?;
        SecretsFile::parse(path, &bytes)
    }

    /// Reads the contents of a file; `path` tells the format and is for messages.
    ///
    /// # Errors
    ///
    /// When they are neither a JSON object nor lines of `NAME=value`.
    pub fn parse(path: &Path, contents: &[u8]) -> Result<Self, SecretsError> {
        let (_, text) = without_mark(decode(path, contents)?);
        let mut sensitive = Sensitive::default();
        let names = match Format::of(path, text) {
            Format::Json => json::names_and_values(path, text, &mut sensitive)?,
            Format::Dotenv => {
                let assignments = dotenv::assignments(path, text)?;
                assignments.iter().for_each(|found| sensitive.add(&[found.name], &found.value));
                assignments.iter().map(|found| found.name.to_owned()).collect()
            }
        };
        let values = sensitive.hidden("");
        Ok(SecretsFile { path: path.to_owned(), names, sensitive, values })
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names; in JSON those of the outermost object.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Returns what must not be shown, for a [`Redactor`](crate::Redactor): every string and number in the file, nested ones
    /// too, with the long lines of those that have several and the passwords of those that are URLs. What its name
    /// calls a path, a host or the name of something is left out, as are words that are in many such files without being
    /// secret, like `localhost`.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// Returns its values with what is known of each.
    pub(crate) fn sensitive(&self) -> &Sensitive {
        &self.sensitive
    }
}

impl fmt::Debug for SecretsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsFile").field("path", &self.path).field("names", &self.names).finish()
    }
}

fn decode<'t>(path: &Path, contents: &'t [u8]) -> Result<&'t str, SecretsError> {
    std::str::from_utf8(contents).map_err(|error| {
        let line = contents[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        SecretsError::NotText { path: path.to_owned(), line }
    })
}

/// Splits the byte order mark that some editors write from the text.
fn without_mark(text: &str) -> (&str, &str) {
    let length = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    text.split_at(length)
}
