//! What was found, where, and what a person has to decide.

use std::fmt::Display;
use std::path::PathBuf;

use deploykit::services::Role;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "deploykit.toml";

/// What a question begins with, in a comment above the line that it is about.
pub(crate) const MARK: &str = "NEEDS A PERSON:";

/// The source of what the booted Django said.
pub(crate) const ASKED: &str = "asked Django";

/// The command of django-tenants and its relatives that migrates every schema.
pub(crate) const MIGRATE_SCHEMAS: &str = "migrate_schemas";

/// A value, what it was taken from, and what a person has to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    /// The value, or the best guess when there is a question.
    pub(crate) value: Option<T>,
    /// What it was taken from, as a fragment: "config/supervisor.conf".
    pub(crate) source: Option<String>,
    /// What a person has to decide, as a fragment; `None` when nothing is open.
    pub(crate) question: Option<String>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Found { value: None, source: None, question: None }
    }
}

impl<T> Found<T> {
    /// Makes a value that was found somewhere.
    pub(crate) fn new(value: T, source: impl Into<String>) -> Self {
        Found { value: Some(value), source: Some(source.into()), question: None }
    }

    /// Makes a best guess that a person has to confirm.
    pub(crate) fn guess(value: T, question: impl Into<String>) -> Self {
        Found { value: Some(value), source: None, question: Some(question.into()) }
    }

    /// Makes a gap that a person has to fill.
    pub(crate) fn open(question: impl Into<String>) -> Self {
        Found { value: None, source: None, question: Some(question.into()) }
    }

    /// Adds what a person has to decide.
    #[must_use]
    pub(crate) fn asking(mut self, question: impl Into<String>) -> Self {
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
    pub line: usize,
}

/// What manages a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundManager {
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
    /// Neither: a uWSGI that was started by a command or by an emperor.
    Uwsgi(Uwsgi),
}

/// A uWSGI that neither systemd nor supervisor runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uwsgi {
    /// The file with the number of its master process.
    pub(crate) pidfile: PathBuf,
    /// Its `master-fifo`.
    pub(crate) fifo: Option<PathBuf>,
    /// Starts it and returns; empty for an emperor's vassal.
    pub(crate) start: Vec<String>,
    /// The vassal's file.
    pub(crate) vassal: Option<PathBuf>,
}

/// A step of the site's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundStep {
    /// Its name.
    pub(crate) name: String,
    /// The step that it follows.
    pub(crate) after: &'static str,
    /// It is a command of manage.py.
    pub(crate) manage: bool,
    /// Its command.
    pub(crate) command: Vec<String>,
    /// What it creates in the checkout.
    pub(crate) outputs: Found<Vec<String>>,
    /// The rehearsal runs it, too.
    pub(crate) rehearse: bool,
    /// What it was taken from.
    pub(crate) source: String,
}

/// A service of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundService {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) role: Role,
    /// What manages it.
    pub(crate) manager: FoundManager,
    /// Seconds that its manager lets it take to end, when that is long.
    pub(crate) stop_seconds: Option<u64>,
    /// What makes it likely that a stop leaves processes behind, as sentences.
    pub(crate) cautions: Vec<String>,
    /// The file that it was found in.
    pub(crate) source: String,
    /// What a person has to decide, as a fragment.
    pub(crate) question: Option<String>,
}

/// A page of the site, with what it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundPage {
    /// Its path.
    pub(crate) path: String,
    /// Its status, when that is neither 200 nor a redirect.
    pub(crate) status: Option<u16>,
    /// Where it redirects to.
    pub(crate) redirect: Option<String>,
}

impl FoundPage {
    /// Makes a page that answers 200.
    pub(crate) fn new(path: impl Into<String>) -> Self {
        FoundPage { path: path.into(), ..FoundPage::default() }
    }
}

/// The commands that announce maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundMaintenance {
    /// `maintenanceon` and `maintenanceoff`, which deploykit knows.
    Own,
    /// The package django-maintenance-mode, which closes the site at once instead of announcing.
    Package,
}

/// Everything that was found. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The directory of the file, where relative paths start.
    pub(crate) directory: PathBuf,
    /// The file to write.
    pub(crate) file: PathBuf,
    /// A configuration that is there already, here or in a directory of the checkout above.
    pub(crate) existing: Option<PathBuf>,
    /// `production`, `staging` or `development`.
    pub(crate) environment: Found<String>,
    /// The checkout.
    pub(crate) repository: Found<PathBuf>,
    /// The directory of manage.py.
    pub(crate) project: Found<PathBuf>,
    /// `DJANGO_SETTINGS_MODULE`.
    pub(crate) settings: Found<String>,
    /// Variables that the services get and that are no secrets.
    pub(crate) env: Found<Vec<(String, String)>>,
    /// The file of variables that the services get.
    pub(crate) env_file: Found<PathBuf>,
    /// The remote to update from.
    pub(crate) remote: Found<String>,
    /// The branch to update to.
    pub(crate) branch: Found<String>,
    /// The virtualenv.
    pub(crate) virtualenv: Found<PathBuf>,
    /// Which Python the next update builds the virtualenv with, as a question, and a candidate.
    pub(crate) python: Option<(String, String)>,
    /// The requirements files.
    pub(crate) requirements: Found<Vec<PathBuf>>,
    /// The lock file.
    pub(crate) lock: Found<PathBuf>,
    /// The lock's groups.
    pub(crate) groups: Found<Vec<String>>,
    /// The lock's extras.
    pub(crate) extras: Found<Vec<String>>,
    /// The file of the secrets.
    pub(crate) secrets_file: Found<PathBuf>,
    /// How the settings ask for a secret.
    pub(crate) secrets_pattern: Found<String>,
    /// Secrets that the expression does not find.
    pub(crate) secrets_required: Vec<String>,
    /// `STATIC_ROOT`, as it stands in the settings.
    pub(crate) static_root: Found<String>,
    /// `static.collect`, when it is not `auto`.
    pub(crate) collect: Found<String>,
    /// `static.clear`, when it is not `auto`.
    pub(crate) clear: Found<String>,
    /// The databases by alias and vendor, as far as Django was asked.
    pub(crate) databases: Vec<(String, String)>,
    /// The command that migrates in place of `migrate`.
    pub(crate) migrate_command: Found<Vec<String>>,
    /// The services, the web first.
    pub(crate) services: Vec<FoundService>,
    /// What the project's own files start elsewhere: the file and the command.
    pub(crate) starts: Vec<(String, String)>,
    /// Which of them serves other sites as well, as a question.
    pub(crate) shared: Option<String>,
    /// Which cron jobs may run in the middle of an update, as a question.
    pub(crate) jobs: Option<String>,
    /// The site's own steps.
    pub(crate) steps: Vec<FoundStep>,
    /// Which commands may be further steps, as a question, and the first of them.
    pub(crate) more_steps: Option<(String, FoundStep)>,
    /// The commands that announce maintenance.
    pub(crate) maintenance: Found<FoundMaintenance>,
    /// The file that `maintenanceon` writes.
    pub(crate) status_file: Found<PathBuf>,
    /// The file whose existence makes the web server answer 503.
    pub(crate) page: Found<PathBuf>,
    /// The public address.
    pub(crate) base: Found<String>,
    /// Where the web service itself listens.
    pub(crate) connect: Found<String>,
    /// The settings make browsers use https.
    pub(crate) secure: bool,
    /// The pages that must work.
    pub(crate) pages: Found<Vec<FoundPage>>,
    /// More pages that are worth a question: those where people log in.
    pub(crate) more_pages: Vec<String>,
    /// Log files: name and path.
    pub(crate) logs: Vec<(String, PathBuf)>,
    /// The project's documents that gave hints: what they say is nobody's decision yet.
    pub(crate) documents: Vec<String>,
    /// What could not be asked, and why: Django, the pages.
    pub(crate) unasked: Vec<String>,
    /// What a person has to decide, with the lines of the written file.
    pub questions: Vec<Question>,
}

/// Returns names for a sentence: `a`, `b`.
pub(crate) fn in_backticks<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
