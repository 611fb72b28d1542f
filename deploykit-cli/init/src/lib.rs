//! Looks at a site's checkout and proposes its `deploykit.toml`.
//!
//! [`look`] reads and starts nothing of the site's own: settings are Python files whose assignments are read as text,
//! service files are parsed, git is asked for branch and remote. What it found, and where, stands in [`Findings`];
//! [`Findings::to_toml`] is a pure function of it. What could not be found, or could be more than one thing, is a
//! [`Question`] with the line of the file that waits for the answer.

mod checkout;
mod choose;
mod expression;
mod files;
mod literals;
mod look;
mod packages;
mod python;
mod secrets;
mod supervisor;
mod systemd;
#[cfg(test)]
mod tests;
mod web;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use deploykit::services::Role;

pub use look::{ELSEWHERE, look, look_also_in};

/// The name of the file.
pub const FILE_NAME: &str = "deploykit.toml";

/// Why there is nothing to write.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is a configuration already, here or in a directory of the checkout above.
    #[error("there is a configuration already: `{}`", path.display())]
    Exists {
        /// The file, which is left as it is.
        path: PathBuf,
    },
    /// The directory is neither in a git checkout nor right above exactly one.
    #[error("`{}` is not inside a git checkout{}", directory.display(), listed(checkouts))]
    NotACheckout {
        /// Where the search began.
        directory: PathBuf,
        /// The checkouts right below it, when there are several.
        checkouts: Vec<PathBuf>,
    },
    /// The checkout holds no Django project.
    #[error("there is no `manage.py` in `{}` or up to three directories below it", repository.display())]
    NoProject {
        /// The checkout.
        repository: PathBuf,
    },
    /// The directory cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// root calls, and the checkout belongs to somebody else.
    #[error(transparent)]
    Distrust(#[from] deploykit::errors::DistrustError),
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The run was cancelled while it looked.
    #[error("interrupted while looking at `{}`", directory.display())]
    Cancelled {
        /// Where it looked.
        directory: PathBuf,
    },
}

fn listed(checkouts: &[PathBuf]) -> String {
    if checkouts.is_empty() {
        return String::new();
    }
    let names: Vec<String> = checkouts.iter().map(|path| format!("`{}`", path.display())).collect();
    format!(", and there are several below it: {}", names.join(", "))
}

/// A value, what it was taken from, and what a person has to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The value, or the best guess when there is a question.
    pub value: Option<T>,
    /// What it was taken from, as a fragment: "config/supervisor.conf".
    pub source: Option<String>,
    /// What a person has to decide, as a fragment; `None` when nothing is open.
    pub question: Option<String>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Found { value: None, source: None, question: None }
    }
}

impl<T> Found<T> {
    /// Makes a value that was found somewhere.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Found { value: Some(value), source: Some(source.into()), question: None }
    }

    /// Makes a best guess that a person has to confirm.
    pub fn guess(value: T, question: impl Into<String>) -> Self {
        Found { value: Some(value), source: None, question: Some(question.into()) }
    }

    /// Makes a gap that a person has to fill.
    pub fn open(question: impl Into<String>) -> Self {
        Found { value: None, source: None, question: Some(question.into()) }
    }

    /// Adds what a person has to decide.
    #[must_use]
    pub fn asking(mut self, question: impl Into<String>) -> Self {
        self.question = Some(question.into());
        self
    }
}

/// Something that only a person can say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Question {
    /// The key, from the top of the file: `site.project`.
    pub key: String,
    /// Why it is asked, as a fragment.
    pub why: String,
    /// The line of the written file where the value stands or should stand, from 1.
    pub line: Option<usize>,
}

/// What manages a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundManager {
    /// supervisord.
    Supervisor {
        /// Its configuration file; `None` when only the program's own file was found.
        config: Option<PathBuf>,
        /// What supervisord calls the program, when that is not the service's name: `group:name`.
        program: Option<String>,
    },
    /// systemd, through `systemctl`.
    Systemd {
        /// Its unit.
        unit: String,
        /// Whether it takes `sudo`: for everybody but root.
        sudo: bool,
    },
}

/// A service of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundService {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What manages it.
    pub manager: FoundManager,
    /// Seconds that its manager lets it take to end, when that is long.
    pub stop_seconds: Option<u64>,
    /// What makes it likely that a stop leaves processes behind, as sentences.
    pub cautions: Vec<String>,
    /// The file that it was found in.
    pub source: String,
    /// What a person has to decide, as a fragment.
    pub question: Option<String>,
}

/// The commands that announce maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundMaintenance {
    /// `maintenanceon` and `maintenanceoff`, which deploykit knows.
    Own,
    /// The package django-maintenance-mode, which closes the site at once instead of announcing.
    Package,
}

/// Everything that was found. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The directory that the file is for.
    pub directory: PathBuf,
    /// A configuration that is there already, here or in a directory of the checkout above.
    pub existing: Option<PathBuf>,
    /// `production`, `staging` or `development`.
    pub environment: Found<String>,
    /// The checkout.
    pub repository: Found<PathBuf>,
    /// The directory of manage.py.
    pub project: Found<PathBuf>,
    /// `DJANGO_SETTINGS_MODULE`.
    pub settings: Found<String>,
    /// Variables that the services get and that are no secrets.
    pub env: Found<Vec<(String, String)>>,
    /// The file of variables that the services get.
    pub env_file: Found<PathBuf>,
    /// The remote to update from.
    pub remote: Found<String>,
    /// The branch to update to.
    pub branch: Found<String>,
    /// The virtualenv.
    pub virtualenv: Found<PathBuf>,
    /// The requirements files.
    pub requirements: Found<Vec<PathBuf>>,
    /// The file of the secrets.
    pub secrets_file: Found<PathBuf>,
    /// How the settings ask for a secret.
    pub secrets_pattern: Found<String>,
    /// `STATIC_ROOT`, as it stands in the settings.
    pub static_root: Found<String>,
    /// The services, the web first.
    pub services: Vec<FoundService>,
    /// The commands that announce maintenance.
    pub maintenance: Found<FoundMaintenance>,
    /// The file that `maintenanceon` writes.
    pub status_file: Found<PathBuf>,
    /// The file whose existence makes the web server answer 503.
    pub page: Found<PathBuf>,
    /// The public address.
    pub base: Found<String>,
    /// Where the web service itself listens.
    pub connect: Found<String>,
    /// Log files: name and path.
    pub logs: Vec<(String, PathBuf)>,
    /// What a person has to decide, with the lines of the file for [`Findings::directory`].
    pub questions: Vec<Question>,
}

impl Findings {
    /// Returns the text of a `deploykit.toml` that stands in `directory`.
    #[must_use]
    pub fn to_toml(&self, directory: &Path) -> String {
        write::draft(self, directory).0
    }

    /// Writes `deploykit.toml` into [`Findings::directory`] and returns its path.
    ///
    /// # Errors
    ///
    /// [`InitError::Exists`] when there is one, [`InitError::Write`] when the system refuses.
    pub fn write(&self) -> Result<PathBuf, InitError> {
        if let Some(path) = &self.existing {
            return Err(InitError::Exists { path: path.clone() });
        }
        let path = self.directory.join(FILE_NAME);
        let written = std::fs::File::create_new(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, self.to_toml(&self.directory).as_bytes())?;
            file.sync_all()
        });
        match written {
            Ok(()) => Ok(path),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(InitError::Exists { path }),
            Err(source) => Err(InitError::Write { path, source }),
        }
    }
}
