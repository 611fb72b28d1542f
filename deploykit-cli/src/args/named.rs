//! Arguments of `services`, `exec` and `hold-socket`, and flags that replace keys of the configuration.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use deploykit::internal::keeper;
use deploykit::services::{Address, ManagerKind};

#[derive(Debug, Subcommand)]
pub enum ServicesCommand {
    /// Stop services and wait until all their processes have ended
    Stop(ServiceChangeArgs),
    /// Start services and wait until they stay up
    Start(ServiceChangeArgs),
    /// Stop and start services
    Restart(ServiceChangeArgs),
    /// Show the status of services
    Status(ServiceArgs),
    /// Show or make the change after which a service's listening socket is held
    Hold(HoldArgs),
}

impl ServicesCommand {
    /// Returns the arguments that choose services.
    pub fn services(&self) -> Option<&ServiceArgs> {
        match self {
            ServicesCommand::Stop(args) | ServicesCommand::Start(args) | ServicesCommand::Restart(args) => {
                Some(&args.services)
            }
            ServicesCommand::Status(services) => Some(services),
            ServicesCommand::Hold(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub struct ServiceChangeArgs {
    #[command(flatten)]
    pub services: ServiceArgs,
    #[command(flatten)]
    pub check: CheckArgs,
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The web service, as in the configuration
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Make the change, restart the service, and check that its socket is held
    #[arg(long)]
    pub apply: bool,
    /// Undo a change that --apply made
    #[arg(long, conflicts_with = "apply")]
    pub undo: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

// Services: named as in the configuration, or described by flags.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Their names; default: all
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// What manages the service; no configuration is needed then
    #[arg(long, value_name = "MANAGER", requires = "names", value_parser = manager())]
    pub manager: Option<ManagerKind>,
    /// supervisor: supervisord's configuration file (`--config` names deploykit's)
    #[arg(long, value_name = "FILE", requires = "manager", required_if_eq("manager", "supervisor"))]
    pub supervisor_config: Option<PathBuf>,
    /// systemd: the unit is one of `systemctl --user`
    #[arg(long, requires = "manager")]
    pub user: bool,
    /// gunicorn, uwsgi: its pidfile
    #[arg(
        long, value_name = "FILE", requires = "manager",
        required_if_eq_any([("manager", "gunicorn"), ("manager", "uwsgi")]),
    )]
    pub pidfile: Option<PathBuf>,
    /// gunicorn, uwsgi, command: the command that starts it and returns
    #[arg(long, value_name = "COMMAND", requires = "manager", value_parser = words)]
    pub start: Option<Words>,
    /// command: the command that stops the service
    #[arg(long, value_name = "COMMAND", requires = "manager", value_parser = words)]
    pub stop: Option<Words>,
    /// command: the command that exits with 0 while the service runs
    #[arg(
        long, value_name = "COMMAND", requires = "manager", value_parser = words,
        required_if_eq("manager", "command"),
    )]
    pub status: Option<Words>,
}

/// A program with its arguments.
#[derive(Clone, Debug, Default)]
pub struct Words(pub Vec<String>);

// A single operation that changes something, and can say beforehand what.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct CheckArgs {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub check: bool,
    /// With --check: exit with 10 when something would change
    #[arg(long, requires = "check")]
    pub exit_code: bool,
}

// A Django project without a configuration.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    /// The directory of manage.py; no configuration is needed then
    #[arg(long, value_name = "DIRECTORY", requires = "virtualenv")]
    pub project: Option<PathBuf>,
    /// The virtualenv of the project
    #[arg(long, value_name = "DIRECTORY", requires = "project")]
    pub virtualenv: Option<PathBuf>,
    /// DJANGO_SETTINGS_MODULE; default: what manage.py says
    #[arg(long, value_name = "MODULE", requires = "project")]
    pub settings: Option<String>,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// If the site is being changed, skip the command and exit with 0
    #[arg(long, conflicts_with = "wait")]
    pub skip: bool,
    /// Maximum wait for an update or an unfinished run
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::duration)]
    pub wait: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct HoldSocketArgs {
    /// Where to listen: 127.0.0.1:8000, [::1]:8000 or unix:/PATH
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub address: Address,
    /// The socket gate of the service, /SITE/.deploykit/hold/NAME: the server is stopped while it exists
    #[arg(long, value_name = "FILE")]
    pub gate: PathBuf,
    /// Number of connections that may wait; the kernel's limit is net.core.somaxconn
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..))]
    pub backlog: i32,
    /// Permissions of a Unix socket
    #[arg(long, value_name = "OCTAL", default_value = "666", value_parser = mode)]
    pub mode: u32,
    /// How long the server may take to end, before it is killed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::duration)]
    pub stop_timeout: Duration,
    /// The server and its arguments; it gets the socket as descriptor 3, as from systemd
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

fn address(text: &str) -> Result<Address, &'static str> {
    keeper::address(text).map_err(|_| "write it like 127.0.0.1:8000, [::1]:8000 or unix:/run/site.sock")
}

fn mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or("write it like 660")
}

/// Reads a kind of manager by its name in the configuration.
fn manager() -> impl TypedValueParser<Value = ManagerKind> {
    let names = ManagerKind::ALL.iter().map(|kind| kind.as_str());
    PossibleValuesParser::new(names).try_map(|name| {
        let kind = ManagerKind::ALL.iter().find(|kind| kind.as_str() == name);
        kind.copied().ok_or("there is no such manager")
    })
}

/// Splits a command into words as a shell does; no shell runs it.
fn words(text: &str) -> Result<Words, String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    if words.is_empty() { Err("it is empty".to_owned()) } else { Ok(Words(words)) }
}
