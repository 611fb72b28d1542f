//! Arguments of the commands that run a single operation.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{CheckArgs, ProjectArgs, clock, duration};

#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Announce maintenance
    On {
        /// Start at this time, in the site's time zone
        #[arg(long, value_name = "HH:MM", value_parser = clock)]
        at: Option<jiff::civil::Time>,
        /// Start after this time; default: the configured notice
        #[arg(long = "in", value_name = "TIME", value_parser = duration, conflicts_with = "at")]
        within: Option<Duration>,
        /// Start at once
        #[arg(long, conflicts_with_all = ["at", "within"])]
        now: bool,
        /// The message for users
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// Show the page as well; with FILE only that page, and no configuration is needed
        #[arg(long, value_name = "FILE", num_args = 0..=1)]
        page: Option<Option<PathBuf>>,
        #[command(flatten)]
        check: CheckArgs,
    },
    /// End maintenance: the announcement and the page
    Off {
        /// Only this page; no configuration is needed then
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
        #[command(flatten)]
        check: CheckArgs,
    },
    /// Show whether maintenance is on
    Status {
        /// Only this page; no configuration is needed then
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
    },
}

impl MaintenanceCommand {
    /// Returns the page that a flag names.
    pub fn page_file(&self) -> Option<&PathBuf> {
        match self {
            MaintenanceCommand::On { page, .. } => page.as_ref()?.as_ref(),
            MaintenanceCommand::Off { page, .. } | MaintenanceCommand::Status { page } => page.as_ref(),
        }
    }
}

#[derive(Debug, Args)]
pub struct GitUpdateArgs {
    /// A commit, tag or branch; default: the tip of the branch
    pub revision: Option<String>,
    /// The checkout; no configuration is needed then
    #[arg(long, value_name = "DIRECTORY")]
    pub repository: Option<PathBuf>,
    /// The branch
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// The remote
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Keep local changes that nothing collides with
    #[arg(long)]
    pub keep_changes: bool,
    /// Rebase local commits
    #[arg(long)]
    pub rebase: bool,
    #[command(flatten)]
    pub check: CheckArgs,
}

#[derive(Debug, Args)]
pub struct PipInstallArgs {
    /// The virtualenv; no configuration is needed then; default without one: $VIRTUAL_ENV
    #[arg(long, value_name = "DIRECTORY")]
    pub virtualenv: Option<PathBuf>,
    /// A requirements file; may be given several times
    #[arg(short, long = "requirement", value_name = "FILE")]
    pub requirements: Vec<PathBuf>,
    /// A lock file instead: uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml
    #[arg(long, value_name = "FILE", conflicts_with = "requirements")]
    pub lock: Option<PathBuf>,
    /// A dependency group of the lock; may be given several times
    #[arg(long = "group", value_name = "NAME", requires = "lock")]
    pub groups: Vec<String>,
    /// An extra of the project; may be given several times
    #[arg(long = "extra", value_name = "NAME", requires = "lock")]
    pub extras: Vec<String>,
    /// pip, uv or auto
    #[arg(long, value_name = "NAME")]
    pub installer: Option<Installer>,
    /// The Python to build with: a version, or the path of an interpreter
    #[arg(long, value_name = "PYTHON")]
    pub python: Option<String>,
    /// Change the packages in the virtualenv instead of linking a new one
    ///
    /// Every program that uses the virtualenv sees the change at once: stop those that deploykit does not manage.
    #[arg(long, conflicts_with = "python")]
    pub in_place: bool,
    #[command(flatten)]
    pub check: CheckArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Installer {
    Auto,
    Pip,
    Uv,
}

#[derive(Debug, Args)]
pub struct ManageArgs {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SmokeCheckArgs {
    /// Addresses, or paths below the base; default: the configured pages
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// The address that paths belong to; no configuration is needed then
    #[arg(long, value_name = "URL", requires = "urls")]
    pub base: Option<String>,
    /// A text that every page must contain
    #[arg(long, value_name = "TEXT")]
    pub contains: Vec<String>,
    /// A text that no page may contain
    #[arg(long, value_name = "TEXT")]
    pub lacks: Vec<String>,
    /// The expected status of every page
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(100..600))]
    pub status: Option<u16>,
    /// The expected redirect of every page
    #[arg(long, value_name = "URL")]
    pub redirect: Option<String>,
    /// Maximum response time per page, such as 2s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub within: Option<Duration>,
    /// Connect there instead: HOST:PORT, unix:/PATH, uwsgi:HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Option<String>,
    /// A PEM file with the certificate of a private CA
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Repeat failing requests for at most this long, such as 60s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// List the secrets that the code asks for and the file lacks
    Check {
        /// A commit, tag or branch that was fetched; default: the live code
        revision: Option<String>,
        /// The secrets file; no configuration is needed then
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A regular expression whose first group is a name; default: get_secret("NAME")
        #[arg(long, value_name = "REGEX", requires = "file")]
        pattern: Option<String>,
        /// The checkout; default: the current directory
        #[arg(long, value_name = "DIRECTORY", requires = "file")]
        repository: Option<PathBuf>,
    },
    /// Ask for a value without showing it, or read it from a pipe, and store it
    Set {
        /// The name
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A service, or a name of [logs]; default: all
    pub name: Option<String>,
    /// Number of lines per log
    #[arg(short = 'n', long, default_value_t = 20)]
    pub lines: usize,
}
