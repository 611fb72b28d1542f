//! The command line. The doc comments are the help.

mod named;
mod operations;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use deploykit::update::PausePoint;

pub use self::named::{
    CheckArgs, ExecArgs, HoldArgs, HoldSocketArgs, ProjectArgs, ServiceArgs, ServicesCommand, Words,
};
pub use self::operations::{
    GitUpdateArgs, Installer, LogsArgs, MaintenanceCommand, ManageArgs, PipInstallArgs, SecretsCommand,
    SmokeCheckArgs,
};
use crate::exit_code;

/// Updates a Django site on its own server, and rolls back when a step fails
#[derive(Debug, Parser)]
#[command(name = "deploykit", version, after_help = exit_code::TABLE, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration; default: deploykit.toml here or in a directory above
    #[arg(short, long, global = true, value_name = "FILE", env = "DEPLOYKIT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Override the environment; default: the one in the configuration
    #[arg(
        short, long, global = true, value_name = "NAME", env = "DEPLOYKIT_ENVIRONMENT",
        value_parser = ["production", "staging", "development"],
    )]
    pub environment: Option<String>,
    /// Print one JSON document on the standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more; twice: every command
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Inspect the site here and write deploykit.toml
    Init(InitArgs),
    /// Make the state of a copied, moved or restored site this one's
    Adopt(AdoptArgs),
    /// Check whether the site is ready for an update, and what would shorten its window
    Doctor,
    /// Show what an update would do, and why; the live site stays untouched
    Plan(PlanArgs),
    /// Prepare an update and rehearse it on copies of the databases
    Rehearse(RehearseArgs),
    /// Update the site
    Update(UpdateArgs),
    /// Roll back an unfinished update, or complete it
    Recover(RecoverArgs),
    /// Roll back the last finished update
    Rollback(RollbackArgs),
    /// Show the version, services, maintenance, and a running or unfinished update
    Status(StatusArgs),
    /// List the past updates
    History(HistoryArgs),
    /// Show the report of a past run
    Report(ReportArgs),
    /// Announce maintenance, end it, or show whether it is on
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// Stop or start services and wait for them, or show their status
    #[command(subcommand)]
    Services(ServicesCommand),
    /// Update the checkout to the newest commit
    GitUpdate(GitUpdateArgs),
    /// Update the virtualenv to match the requirements or a lock file
    PipInstall(PipInstallArgs),
    /// Run a manage.py command with the site's variables
    Manage(ManageArgs),
    /// Run a command, such as a cron job, once no update is running
    #[command(after_help = exit_code::OF_EXEC)]
    Exec(ExecArgs),
    /// Keep a listening socket open, and a server running that serves there
    #[command(after_help = exit_code::OF_HOLD_SOCKET)]
    HoldSocket(HoldSocketArgs),
    /// Request pages and check the answers
    SmokeCheck(SmokeCheckArgs),
    /// Compare the secrets with what the code asks for, or set one
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Show the last lines of the services' logs
    Logs(LogsArgs),
    /// Print the site's variables for a shell: eval "$(deploykit env)"
    Env,
    /// Describe the keys of deploykit.toml
    Docs(DocsArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them: deploykit man update | man -l -
    Man(ManArgs),
}

impl Command {
    /// Tells whether flags replace the configuration.
    pub fn names_its_site(&self) -> bool {
        match self {
            Command::Maintenance(command) => command.page_file().is_some(),
            Command::Services(command) => command.services().is_some_and(|args| args.manager.is_some()),
            Command::GitUpdate(args) => args.repository.is_some(),
            Command::PipInstall(args) => args.virtualenv.is_some(),
            Command::Manage(args) => args.project.project.is_some(),
            Command::SmokeCheck(args) => args.base.is_some(),
            Command::Secrets(SecretsCommand::Check { file, .. }) => file.is_some(),
            _ => false,
        }
    }
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The directory to look at
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Print the configuration instead of writing it
    #[arg(long)]
    pub print: bool,
    /// Compare the existing configuration with the site, and change nothing
    #[arg(long, conflicts_with = "print")]
    pub check: bool,
    /// With --check: exit with 10 when something differs
    #[arg(long, requires = "check")]
    pub exit_code: bool,
    /// Read files only: boot no Django, query no service, request no page
    #[arg(long)]
    pub files_only: bool,
}

#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Also set aside an unfinished run; make sure first that the site works
    #[arg(long)]
    pub abandon: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A commit, tag or branch; default: the tip of the configured branch
    pub revision: Option<String>,
    /// Go on although no page is as expected: this update fixes them
    #[arg(long)]
    pub broken: bool,
    /// Collect all static files, and remove everything else from STATIC_ROOT
    #[arg(long)]
    pub clear: bool,
    /// Prepare completely, even when nothing seems to have changed
    #[arg(long)]
    pub look: bool,
    /// Leave out the rehearsal on copies of the databases
    #[arg(long)]
    pub no_rehearsal: bool,
    /// Exit with 10 when an update is available
    #[arg(long)]
    pub exit_code: bool,
    /// Wait at most this long for another run to end, such as 15m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub lock_wait: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct RehearseArgs {
    /// A commit, tag or branch; default: the tip of the configured branch
    pub revision: Option<String>,
    /// Go on although no page is as expected: this update fixes them
    #[arg(long)]
    pub broken: bool,
    /// Wait at most this long for another run to end, such as 15m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub lock_wait: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// A commit, tag or branch; default: the tip of the configured branch
    pub revision: Option<String>,
    /// Collect all static files, and remove everything else from STATIC_ROOT
    #[arg(long)]
    pub clear: bool,
    /// Prepare completely, even when nothing seems to have changed
    #[arg(long)]
    pub look: bool,
    /// Pause when the run has come so far: prepared, quiet, stopped, placed, migrated or started
    #[arg(long, value_name = "POINT")]
    pub until: Option<PausePoint>,
    /// Let the paused run go on, to its end or to --until
    #[arg(
        long = "continue",
        conflicts_with_all = [
            "revision", "clear", "look", "at", "within", "now", "message", "broken", "no_rehearsal", "lock_wait", "events"
        ]
    )]
    pub go_on: bool,
    /// With --continue: refuse unless the plan has this digest, which a pause shows with --json
    #[arg(long, requires = "go_on")]
    pub digest: Option<String>,
    // This is the process of a run that pauses.
    #[arg(long, hide = true, requires = "until")]
    pub detached: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The update, as `history` names it; refused unless it is the last finished one
    #[arg(value_name = "RUN")]
    pub target: Option<String>,
    /// Restore the copy of the database from before the update; what was written since is lost
    #[arg(long)]
    pub from_copy: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

// How an update or a rollback starts.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Start the maintenance at this time, in the site's time zone
    #[arg(long, value_name = "HH:MM", value_parser = clock)]
    pub at: Option<jiff::civil::Time>,
    /// Start the maintenance after this time, such as 20m
    #[arg(long = "in", value_name = "TIME", value_parser = duration, conflicts_with = "at")]
    pub within: Option<Duration>,
    /// Start at once, without the configured notice
    #[arg(long, conflicts_with_all = ["at", "within"])]
    pub now: bool,
    /// The message for users
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Go on although no page is as expected: this update fixes them
    #[arg(long)]
    pub broken: bool,
    /// Leave out the rehearsal on copies of the databases
    #[arg(long)]
    pub no_rehearsal: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Wait at most this long for another run to end, such as 15m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub lock_wait: Option<Duration>,
    /// Append every event to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Roll back the unfinished update; the default
    #[arg(long, conflicts_with = "forward")]
    pub back: bool,
    /// Complete the unfinished update; roll back only when a step or the smoke check fails
    #[arg(long)]
    pub forward: bool,
    /// Accepted for scripts: `recover` never asks for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show the running update until it ends
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Number of runs, newest first
    #[arg(short = 'n', long, default_value_t = 20)]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run, as `history` names it; default: the last one
    pub run: Option<String>,
}

#[derive(Debug, Args)]
pub struct DocsArgs {
    /// A key or section, such as git.branch, branch or git; default: all
    pub key: Option<String>,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command, such as update or secrets set; default: deploykit itself
    pub command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    pub directory: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    parsed.ok_or_else(|| "write it like 30s, 20m or 1h30m".to_owned())
}

fn clock(text: &str) -> Result<jiff::civil::Time, String> {
    let (hour, minute) = text.split_once(':').ok_or("write it like 18:30")?;
    let number = |text: &str| text.parse::<i8>().map_err(|_| "write it like 18:30".to_owned());
    jiff::civil::Time::new(number(hour)?, number(minute)?, 0, 0)
        .map_err(|_| "there is no such time of day".to_owned())
}
