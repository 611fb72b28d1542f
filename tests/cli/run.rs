//! Runs the binary: sealed from the caller's settings, with a deadline, on pipes or on a terminal of its own.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use regex_lite::Regex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::site::TestSite;

/// How long anything may take that is not under test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until the answer is yes; fails when that takes too long.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the variables begin with that must not reach a program under test from the caller.
pub const FOREIGN: [&str; 9] =
    ["DEPLOYKIT_", "CLICOLOR", "RUST_", "PIP_", "UV_", "PYTHON", "DJANGO_", "NPM_CONFIG_", "npm_config_"];

/// The binary with its arguments.
pub struct Cli {
    command: Command,
    input: Vec<u8>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

/// Returns the binary, to be run in a directory.
pub fn deploykit(directory: impl AsRef<Path>, args: &[&str]) -> Cli {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deploykit"));
    command.args(args).current_dir(directory).env("TZ", "UTC");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = FOREIGN.iter().any(|prefix| text.starts_with(prefix));
        if own || ["NO_COLOR", "COLUMNS"].contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    Cli { command, input: Vec::new(), stdout: None, stderr: None }
}

/// Returns the binary, to be run in a site's checkout by a person of that site.
pub fn on(site: &TestSite, args: &[&str]) -> Cli {
    let mut cli = deploykit(&site.checkout, args);
    site.dress(&mut cli.command);
    cli
}

impl Cli {
    pub fn env(mut self, name: &str, value: &str) -> Cli {
        self.command.env(name, value);
        self
    }

    pub fn in_directory(mut self, directory: &Path) -> Cli {
        self.command.current_dir(directory);
        self
    }

    /// Lets the caller be another user; only root may do that.
    pub fn user(mut self, user: u32) -> Cli {
        self.command.uid(user).gid(user).env("HOME", "/nonexistent");
        self
    }

    /// Lets the caller have another umask than this process.
    pub fn umask(mut self, umask: &str) -> Cli {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")]);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.command.get_current_dir().unwrap());
        self.command = command;
        self
    }

    /// Pipes a text into it.
    pub fn input(mut self, text: &str) -> Cli {
        self.input = text.as_bytes().to_vec();
        self
    }

    /// Gives it another standard output than a pipe that is read.
    pub fn stdout(mut self, file: impl Into<Stdio>) -> Cli {
        self.stdout = Some(file.into());
        self
    }

    /// Gives it another standard error than a pipe that is read.
    pub fn stderr(mut self, file: impl Into<Stdio>) -> Cli {
        self.stderr = Some(file.into());
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Done {
        self.start().finish()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        self.command.stdin(Stdio::piped());
        self.command.stdout(self.stdout.take().unwrap_or_else(Stdio::piped));
        self.command.stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        let mut child = self.command.spawn().expect("the binary starts");
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = child.stdout.take().map(Reader::of);
        let stderr = child.stderr.take().map(Reader::of);
        Running { child, stdout, stderr }
    }

    /// Starts it on a terminal of its own, which is its controlling one: for it there is nothing else.
    pub fn on_terminal(self) -> Option<Terminal> {
        let setsid = crate::support::program("setsid")?;
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let size = rustix::termios::Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).unwrap();
        let mut command = Command::new(setsid);
        command.arg("--ctty").arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("TERM", "xterm-256color").current_dir(self.command.get_current_dir().unwrap());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().expect("the binary starts");
        let master = File::from(master);
        let reader = Reader::of(master.try_clone().unwrap());
        Some(Terminal { running: Running { child, stdout: Some(reader), stderr: None }, master })
    }
}

/// Collects what a stream brings.
#[derive(Debug)]
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn of(mut source: impl Read + Send + 'static) -> Reader {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end is gone is an error, not an end.
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Reader { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn finish(self) -> String {
        let bytes = Arc::clone(&self.bytes);
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
    }
}

/// The binary at work. It ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
}

impl Running {
    pub fn stdout(&self) -> String {
        self.stdout.as_ref().map(Reader::text).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        self.stderr.as_ref().map(Reader::text).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; one that does not come is a failure.
    #[track_caller]
    pub fn finish(mut self) -> Done {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}{}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: Option<Reader>| reader.map(Reader::finish).unwrap_or_default();
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Done { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary on a terminal.
#[derive(Debug)]
pub struct Terminal {
    pub running: Running,
    master: File,
}

impl Terminal {
    /// Returns what is to be seen so far.
    pub fn screen(&self) -> String {
        self.running.stdout()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.screen().contains(text) {
            assert!(Instant::now() < end, "no `{text}` on the terminal:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub fn finish(self) -> Done {
        self.running.finish()
    }

    /// Hangs up, as a lost connection does.
    pub fn hang_up(self) -> Running {
        let Terminal { mut running, master } = self;
        running.signal(Signal::HUP);
        running.stdout = None;
        drop(master);
        running
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Fails when it ended otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Returns the document on the standard output, which holds nothing else.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}{}", self.stdout, self.stderr))
    }

    /// Writes everything for a snapshot; what differs from run to run has a name instead.
    pub fn text(&self, site: Option<&TestSite>) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "exit code {}", self.code.map_or("none".to_owned(), |code| code.to_string()));
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                let _ = writeln!(text, "--- {name}");
                text.push_str(stream);
            }
        }
        assert!(!text.contains('\u{1b}'), "colour where there is no terminal: {text:?}");
        for line in text.lines() {
            assert_eq!(line.trim_end(), line, "a line ends in a space");
        }
        steady(&text, site)
    }
}

/// Puts names in the place of what differs from run to run.
pub fn steady(text: &str, site: Option<&TestSite>) -> String {
    let mut text = text.to_owned();
    if let Some(site) = site {
        text = text.replace(&site.root.display().to_string(), "/srv");
        text = text.replace(&site.gunicorn_address, "[ADDRESS]");
        let commits = |directory: &Path| site.git(directory, &["rev-list", "--all", "HEAD"]).unwrap();
        for commit in format!("{}{}", commits(&site.checkout), commits(&site.origin)).lines() {
            text = text.replace(commit, "[COMMIT]").replace(&commit[..7], "[COMMIT]");
        }
    }
    let patterns = [
        // Only on a slow machine.
        (r"(?m)^  … [\w-]+: .* so far\n", ""),
        (r"\benvironments/[0-9a-f]{10,}", "environments/[ID]"),
        (r"\b20\d{6}-\d+\b", "[RUN]"),
        // By the site's clock, or in documents.
        (r"\b20\d\d-\d\d-\d\d( \d\d:\d\d (UTC|P[SD]T)\b|T\d\d:\d\d(:\d\d)?(\.\d+)?Z)", "[TIME]"),
        (r" *\b(\d+\.\d+ s|\d+ min( \d+ s)?)\b", " [S] s"),
        (
            r"about \d+ s(, and for as long as [a-z0-9 ]+)? \(a rule of thumb: no",
            "about [S] s$1 (a rule of thumb: no",
        ),
        (r", \d+ s expected", ", [S] s expected"),
        (r"(\[S\] s) {3,}", "$1  "),
        (r"\b\d+ ms\b", "[MS] ms"),
        (r"\bprocess \d+\b", "process [PID]"),
        (r"\b\w+ \(process \[PID\]\)", "[USER] (process [PID])"),
        (r"\b\d+ attempts? in", "[N] attempts in"),
        (r"\b(Django|humanize) \d+(\.\d+)+", "$1 [VERSION]"),
    ];
    for (pattern, name) in patterns {
        text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

/// Makes a pipe whose ends nobody inherits by the way.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Makes a pipe that nobody reads and that takes nothing more.
pub fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = pipe();
    let flags = rustix::fs::fcntl_getfl(&write).unwrap();
    rustix::fs::fcntl_setfl(&write, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&write, &[b'.'; 4096]).is_ok() {}
    while rustix::io::write(&write, b".").is_ok() {}
    rustix::fs::fcntl_setfl(&write, flags).unwrap();
    (read, write)
}
