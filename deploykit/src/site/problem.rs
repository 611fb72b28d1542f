//! The mistakes of a configuration, each with its place in the file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::keys::Problem;

/// Why there is no configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The site lies at a path that is not UTF-8: programs are given paths as text.
    #[error("the path of the configuration `{}` is not UTF-8", crate::names::shown_path(path))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// There is no `deploykit.toml` in the directory or above it.
    #[error("there is no `deploykit.toml` in `{}` or a directory above it", directory.display())]
    NotFound {
        /// Where the search began.
        directory: PathBuf,
    },
    /// The file has mistakes.
    #[error("{0}")]
    Invalid(Mistakes),
    /// The configuration, or a file that it names, belongs to somebody who is not trusted.
    #[error(transparent)]
    Distrust(#[from] crate::host::owners::DistrustError),
    /// The environment file of the site cannot be used.
    #[error(transparent)]
    Environment(#[from] crate::host::VariablesError),
}

/// All mistakes of one file.
#[derive(Clone, Debug)]
pub struct Mistakes {
    /// The file.
    pub path: PathBuf,
    /// Its text, from which lines can be shown.
    pub text: String,
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Mistakes {
    /// Returns the line of a problem, from 1.
    #[must_use]
    pub fn line(&self, problem: &Problem) -> usize {
        let before = self.text.get(..problem.span.start).unwrap_or(&self.text);
        before.matches('\n').count() + 1
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let start = if index == 0 { "" } else { "\n" };
            write!(f, "{start}{}:{}: ", self.path.display(), self.line(problem))?;
            if !problem.key.is_empty() {
                write!(f, "`{}`: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}
