//! What can be wrong with a lock file.

use std::path::PathBuf;

use thiserror::Error;

use crate::host::CommandError;

/// Why a lock file could not be read, or not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockFileError {
    /// The name of the file is not that of a known format.
    #[error("`{}` is not named as a lock file: expected {}", file.display(), quoted(known))]
    UnknownName {
        /// The file.
        file: PathBuf,
        /// The names of the known formats.
        known: Vec<String>,
    },
    /// The lock file, or the file that it was made from, is missing or cannot be read.
    #[error("cannot read `{}`", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is not as its format demands.
    #[error("cannot read `{}`: {problem}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file has a version of its format that lacks what an installation needs, or that is not known.
    #[error("`{}` has {found}, expected {expected}", file.display())]
    Version {
        /// The lock file.
        file: PathBuf,
        /// What it says of itself: `lock-version 2.0`.
        found: String,
        /// `lock-version 2.1`.
        expected: &'static str,
        /// The command that writes the expected version; empty where several tools write such locks.
        update: &'static str,
    },
    /// The lock was not made from the dependencies that the project has now.
    #[error("`{}` is out of date: it does not match `{}`", file.display(), manifest.display())]
    Stale {
        /// The lock file.
        file: PathBuf,
        /// `pyproject.toml` or `Pipfile`.
        manifest: PathBuf,
        /// The command that updates the lock.
        update: &'static str,
    },
    /// A group or an extra is wanted that the lock does not have.
    #[error("`{}` has no {kind} `{name}`: {}", file.display(), known_names(known))]
    UnknownSelection {
        /// The lock file.
        file: PathBuf,
        /// `group` or `extra`.
        kind: &'static str,
        /// The name that is wanted.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The lock is for another Python than that of the virtualenv.
    #[error("`{}` requires Python {required}, and the virtualenv has Python {python}", file.display())]
    OtherPython {
        /// The lock file.
        file: PathBuf,
        /// What it requires: `>=3.12`.
        required: String,
        /// The full version of the virtualenv's Python.
        python: String,
    },
    /// The lock is for other platforms.
    #[error("`{}` does not support this platform, only {}", file.display(), quoted(environments))]
    OtherPlatform {
        /// The lock file.
        file: PathBuf,
        /// The markers of its platforms.
        environments: Vec<String>,
    },
    /// An entry does not say exactly what to install.
    #[error("`{package}` in `{}` has no {missing}", file.display())]
    Incomplete {
        /// The lock file.
        file: PathBuf,
        /// The name of the package.
        package: String,
        /// `version`, `hash` or `commit`.
        missing: &'static str,
    },
    /// An entry is a directory that is not a package of the checkout.
    #[error("`{package}` in `{}` is the directory `{}`, which is not a package of the checkout", file.display(), path.display())]
    Directory {
        /// The lock file.
        file: PathBuf,
        /// The name of the package.
        package: String,
        /// The directory.
        path: PathBuf,
    },
    /// Two versions of a package apply.
    #[error("`{}` has `{package}` twice: {one} and {other}", file.display())]
    Twice {
        /// The lock file.
        file: PathBuf,
        /// The name of the package.
        package: String,
        /// One version.
        one: String,
        /// The other one.
        other: String,
    },
    /// The address of an index names a variable that is not set.
    #[error("the address of the index `{index}` of `{}` needs the variable `{variable}`, which is not set", file.display())]
    NoVariable {
        /// The lock file.
        file: PathBuf,
        /// The name of the index.
        index: String,
        /// The name of the variable.
        variable: String,
    },
    /// Only uv can read the lock, and there is no uv.
    #[error("only uv can read `{}`, and uv is not installed", file.display())]
    NoUv {
        /// The lock file.
        file: PathBuf,
    },
    /// A program that reads the lock failed.
    #[error("cannot read `{}`: {step} failed", file.display())]
    Program {
        /// The lock file.
        file: PathBuf,
        /// What was being done.
        step: &'static str,
        /// How the program ended.
        #[source]
        source: Box<CommandError>,
    },
}

fn quoted(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}

fn known_names(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", quoted(known)) }
}
