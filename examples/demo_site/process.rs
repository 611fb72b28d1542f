//! Running programs for the demo site: sealed from the caller's settings, ended with the caller.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Marks every process of a site, so that all of them can be found at its end.
const MARK: &str = "DEMO_SITE_ROOT";

/// What went wrong while a demo site was built or used.
#[derive(Debug)]
pub enum Error {
    /// A program failed.
    Program { line: String, output: String },
    /// A file or directory could not be used, or a program not be started.
    Io { what: String, source: io::Error },
    /// Something did not come about in time.
    Late { what: String, log: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Program { line, output } => write!(f, "`{line}` failed:\n{output}"),
            Error::Io { what, .. } => write!(f, "cannot {what}"),
            Error::Late { what, log } => write!(f, "{what} did not come about in time:\n{log}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Adds to an I/O error what was attempted.
pub(super) fn io_error(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what: what.to_string(), source }
}

/// Makes a command that sees nothing of the caller's own settings of Python, pip and Git.
pub(super) fn sealed(program: impl AsRef<OsStr>, root: &Path, offline: bool) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let index = offline && (text.starts_with("PIP_") || text.starts_with("UV_"));
        let other = ["PYTHON", "GIT_", "DJANGO_", "DEMO_", "SUPERVISOR_"].iter().any(|p| text.starts_with(p));
        if index || other || text == "VIRTUAL_ENV" {
            command.env_remove(&name);
        }
    }
    command.env("HOME", root).env("LC_ALL", "C.UTF-8").env(MARK, root);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    command.stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let line = line(command);
    let output = command.output().map_err(io_error(format!("start `{line}`")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Program { line, output: format!("{stdout}{stderr}{}", output.status) })
}

/// Returns the program with its arguments, without the environment.
fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A server that ends with this value, and also when the process that holds it is killed: it lives under a shell that
/// waits for the end of a pipe.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its end is the signal to end.
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Starts a server that stays in the foreground; both of its outputs go to the log.
    pub fn start(command: &Command, log: &Path) -> Result<Server, Error> {
        const KEEPER: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & server=$!; cat <&3 >/dev/null; kill "$server"; wait "$server""#;
        let output = File::options().create(true).append(true).open(log).map_err(io_error("open a log"))?;
        let errors = output.try_clone().map_err(io_error("open a log"))?;
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            keeper.current_dir(directory);
        }
        keeper.stdin(Stdio::piped()).stdout(output).stderr(errors).process_group(0);
        let mut child = keeper.spawn().map_err(io_error(format!("start `{}`", line(command))))?;
        let pipe = child.stdin.take();
        Ok(Server { child, pipe })
    }

    /// Asks the server to end and waits for it.
    pub fn end(&mut self, patience: Duration) {
        self.pipe = None;
        let ended = wait_until(patience, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)));
        if !ended {
            kill(&[self.child.id()], true);
            let _ = self.child.wait();
        }
    }

    /// Ends the server with its processes at once.
    pub(super) fn kill(&self) {
        kill(&[self.child.id()], true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::from_secs(10));
    }
}

/// Sends SIGKILL to processes, or to their groups.
fn kill(pids: &[u32], groups: bool) {
    let sign = if groups { "-" } else { "" };
    let targets: Vec<String> = pids.iter().map(|pid| format!("{sign}{pid}")).collect();
    // The shell's own `kill`, which is always there. Those that are gone already do not matter.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"kill -s KILL -- "$@" 2>/dev/null"#, "kill"]).args(targets).env_remove(MARK);
    let _ = command.status();
}

/// Ends every process that carries the mark of the site, at once and without asking.
pub(super) fn end_all(root: &Path) {
    let mark = format!("{MARK}={}", root.display());
    wait_until(Duration::from_secs(10), || {
        let pids = marked(&mark);
        if !pids.is_empty() {
            kill(&pids, false);
        }
        pids.is_empty()
    });
}

fn marked(mark: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            // Empty for those that have ended and were not waited for yet.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

/// Polls until the answer is yes; returns `false` at the deadline.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port that no other demo site of this machine uses, for as long as this value lives.
///
/// It lies below the ports that the system gives away by itself, so it stays free while its server restarts.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds a free one.
    pub fn reserve() -> Result<Port, Error> {
        let user = fs::metadata("/proc/self").map_or(0, |meta| meta.uid());
        let directory = std::env::temp_dir().join(format!("demo-site-ports-{user}"));
        fs::create_dir_all(&directory).map_err(io_error(format!("create {}", directory.display())))?;
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let first = u64::from(clock.subsec_nanos()) + u64::from(std::process::id()) * 7919;
        for step in 0..10_000 {
            let Ok(number) = u16::try_from(20_000 + (first + step) % 10_000) else { continue };
            let path = directory.join(number.to_string());
            let lock = File::create(&path).map_err(io_error(format!("create {}", path.display())))?;
            if lock.try_lock().is_ok() && std::net::TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        Err(Error::Late { what: "a free port".to_owned(), log: String::new() })
    }

    /// Returns its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Returns `127.0.0.1:NUMBER`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

/// Copies a directory with all that is in it, over what is there.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    let what = || format!("copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to).map_err(io_error(what()))?;
    for entry in fs::read_dir(from).map_err(io_error(what()))? {
        let entry = entry.map_err(io_error(what()))?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() != "__pycache__" {
                copy_tree(&entry.path(), &target)?;
            }
        } else {
            fs::copy(entry.path(), &target).map_err(io_error(what()))?;
        }
    }
    Ok(())
}

impl super::DemoSite {
    /// Ends everything of the site at once, as a loss of power does.
    pub fn power_off(&mut self) {
        // nginx writes its title over the mark that it is found by.
        for server in [&self.nginx_server, &self.supervisor_server].into_iter().flatten() {
            server.kill();
        }
        end_all(&self.root);
        self.nginx_server = None;
        self.supervisor_server = None;
    }
}
