//! The machine that everything runs on: processes with deadlines, files that are written whole.
//!
//! A [`Host`] is the only thing in the library that starts a program. It gives each one its own process group, a
//! closed standard input unless an answer is meant, a deadline from the moment of the spawn, and a place in the run's
//! transcript; it removes secret values from everything that leaves it.

mod cancel;
mod capture;
pub(crate) mod copies;
mod cores;
pub mod dotenv;
pub mod files;
pub mod glob;
pub mod ini;
mod memory;
pub mod owners;
pub(crate) mod process;
pub(crate) mod processes;
mod redact;
pub(crate) mod script;
mod started;
mod swap;
pub(crate) mod trial;
mod umask;
pub(crate) mod users;
pub(crate) mod variables;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use thiserror::Error;

pub use cancel::Cancel;
pub(crate) use memory::available as available_memory;
pub use memory::{MemoryError, NeedsMemory};
pub use process::Stream;
pub(crate) use process::start_beside;
pub use processes::ProcessId;
pub use redact::Redactor;
pub use swap::Swap;
pub use umask::Umask;
pub use variables::{Variables, VariablesError};

use crate::command::Command;
use process::Process;
use script::Script;
use started::Started;

pub(crate) use umask::with_umask;

/// How many of a program's last lines an error keeps.
pub const TAIL_LINES: usize = 20;

/// The local machine as deploykit sees it: variables of the site, cancellation, transcript, redaction.
///
/// Clones are cheap and share the transcript and the cancellation.
///
/// # Examples
///
/// ```
/// use deploykit::{Command, Host};
///
/// let host = Host::new();
/// let output = host.run(&Command::new("echo").arg("hello"))?;
/// assert_eq!(output.stdout, "hello\n");
/// # Ok::<(), deploykit::CommandError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Host {
    variables: Arc<Variables>,
    redactor: Arc<Redactor>,
    cancel: Option<Cancel>,
    transcript: Option<Arc<Mutex<File>>>,
    said: Option<Arc<Mutex<Said>>>,
    low_priority: bool,
    umask: Option<Umask>,
    /// The main processes of the services that were started, by service.
    started: Arc<Started>,
    /// Answers commands instead of programs.
    script: Option<Script>,
}

/// What actions said to a person.
#[derive(Debug, Default)]
struct Said {
    notices: Vec<String>,
    outcome: Option<String>,
}

/// What a program left behind.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The exit code; one that the command accepts.
    pub code: i32,
    /// The standard output, decoded leniently and as it came: for parsing, not for showing. Empty where lines were handed
    /// over.
    pub stdout: String,
    /// The standard output where it is not UTF-8.
    pub(crate) stdout_bytes: Option<Vec<u8>>,
    /// The standard error, likewise.
    pub stderr: String,
    /// The last lines of both in the order of their arrival, secrets removed; at most 20.
    pub tail: Vec<String>,
    /// From the spawn to the end.
    pub duration: Duration,
}

impl Output {
    /// Returns the standard output byte for byte: names of files need not be UTF-8.
    #[must_use]
    pub(crate) fn stdout_bytes(&self) -> &[u8] {
        self.stdout_bytes.as_deref().unwrap_or(self.stdout.as_bytes())
    }
}

/// Why a program did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such program in `PATH`, or no file at the path.
    #[error("command not found: `{program}`")]
    NotFound {
        /// The name or path.
        program: String,
    },
    /// The directory to run in is missing.
    #[error("cannot run `{command}`: there is no directory `{}`", directory.display())]
    NoDirectory {
        /// The command line.
        command: String,
        /// The missing directory.
        directory: PathBuf,
    },
    /// The system refused to start it.
    #[error("cannot start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It ended with an exit code that the command does not accept.
    #[error("`{command}` exited with code {code} after {:.1} s", duration.as_secs_f64())]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code.
        code: i32,
        /// From the spawn to the end.
        duration: Duration,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// A signal ended it.
    #[error("`{command}` was ended by signal {signal} after {:.1} s", duration.as_secs_f64())]
    Killed {
        /// The command line.
        command: String,
        /// The signal's number.
        signal: i32,
        /// From the spawn to the end.
        duration: Duration,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// It ran past its deadline; its process group was ended.
    #[error("`{command}` did not finish within {:.0} s", deadline.as_secs_f64())]
    DeadlinePassed {
        /// The command line.
        command: String,
        /// The deadline.
        deadline: Duration,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// The run was cancelled while it ran; its process group was ended.
    #[error("`{command}` was interrupted")]
    Cancelled {
        /// The command line.
        command: String,
    },
    /// A [scripted host](Host::scripted) does not expect the command.
    #[error("unexpected command: `{command}`")]
    Unexpected {
        /// The command line.
        command: String,
    },
}

impl CommandError {
    /// Returns the last lines of the program, oldest first; empty when it never ran.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            CommandError::Failed { tail, .. }
            | CommandError::Killed { tail, .. }
            | CommandError::DeadlinePassed { tail, .. } => tail,
            _ => &[],
        }
    }

    /// Returns the exit code, when there was one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            CommandError::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl Host {
    /// Makes a host with no variables of a site, no transcript and no cancellation.
    #[must_use]
    pub fn new() -> Self {
        Host::default()
    }

    /// Makes a host for tests, which runs no program: the script answers. See [`testing`](crate::testing).
    #[must_use]
    pub fn scripted(script: &Script) -> Self {
        Host { script: Some(script.clone()), ..Host::default() }
    }

    /// Sets the variables that commands of the site get.
    #[must_use]
    pub fn with_variables(mut self, variables: Variables) -> Self {
        self.variables = Arc::new(variables);
        self
    }

    /// Sets what must never leave the host.
    #[must_use]
    pub fn with_redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = Arc::new(redactor);
        self
    }

    /// Ends running commands when `cancel` is requested.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Returns the same host for a part of the run, which can be ended alone.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left.
    pub(crate) fn with_part(&self) -> std::io::Result<(Self, Cancel)> {
        let cancel = self.cancel.as_ref().map_or_else(Cancel::new, Cancel::part)?;
        Ok((Host { cancel: Some(cancel.clone()), ..self.clone() }, cancel))
    }

    /// Returns the same host, whose commands run to their end whatever is requested meanwhile.
    #[must_use]
    pub(crate) fn uninterrupted(&self) -> Self {
        Host { cancel: None, ..self.clone() }
    }

    /// Returns the same host, whose commands leave the processor and the disk to other programs, or no longer do.
    #[must_use]
    pub fn with_low_priority(&self, low: bool) -> Self {
        Host { low_priority: low, ..self.clone() }
    }

    /// Sets the umask of the programs that it runs; default: this process's own. What the caller's shell, cron or systemd
    /// have set must not show in the files of a site.
    ///
    /// Where the umask of this process is another, each program is started on a thread that has a umask of its own; where a
    /// container forbids that, a warning is logged, and [`Umask::set_for_process`] at the start of the program helps.
    #[must_use]
    pub(crate) fn with_umask(mut self, umask: Option<Umask>) -> Self {
        self.umask = umask;
        self
    }

    /// Returns the umask of the programs that it runs, if it is not this process's own.
    #[must_use]
    pub fn umask(&self) -> Option<Umask> {
        self.umask
    }

    /// Returns how nice whatever works for this host is at least.
    pub(crate) fn niceness(&self) -> i32 {
        if self.low_priority { process::NICE } else { 0 }
    }

    /// Appends every command line and its output to this file.
    #[must_use]
    pub fn with_transcript(mut self, file: File) -> Self {
        self.transcript = Some(Arc::new(Mutex::new(file)));
        self
    }

    /// Returns the site's variables.
    #[must_use]
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Returns the redactor; whatever text is taken from files or sockets goes through it before it is shown.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Returns the cancellation; `None`: nothing interrupts the programs of this host.
    #[must_use]
    pub fn cancel(&self) -> Option<&Cancel> {
        self.cancel.as_ref()
    }

    /// Tells whether the end of the run was requested.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(Cancel::is_requested)
    }

    /// Waits for `duration`, or until cancelled; returns `false` when cancelled.
    #[must_use]
    pub fn wait(&self, duration: Duration) -> bool {
        match &self.cancel {
            Some(cancel) => cancel.wait(duration),
            None => {
                std::thread::sleep(duration);
                true
            }
        }
    }

    /// Runs a program to its end and keeps all of its output, to be parsed.
    ///
    /// # Errors
    ///
    /// See [`CommandError`]; an exit code that the command does not accept is one.
    pub fn run(&self, command: &Command) -> Result<Output, CommandError> {
        if let Some(script) = &self.script {
            return script::run(self, script, command, true, &mut |_, _| ());
        }
        let mut process = Process::start(self, command)?;
        process.close_input();
        process.finish(&mut |_, _| ())
    }

    /// Runs a program to its end and hands over each line as it comes, secrets removed. Of the output only the
    /// [`tail`](Output::tail) is kept, however much it is.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub(crate) fn run_with_lines(
        &self,
        command: &Command,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Output, CommandError> {
        if let Some(script) = &self.script {
            return script::run(self, script, command, false, on_line);
        }
        let mut process = Process::start(self, command)?;
        process.forget_output();
        process.close_input();
        process.finish(on_line)
    }

    /// Runs a program whose output is not read: it is in the transcript, and its last lines in an error.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub fn run_unread(&self, command: &Command) -> Result<(), CommandError> {
        self.run_with_lines(command, &mut |_, _| ()).map(|_| ())
    }

    /// Runs a program on the caller's own terminal and streams, and returns its exit code, whatever it is.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn hand_over(&self, command: &Command) -> Result<i32, CommandError> {
        if let Some(script) = &self.script {
            let output = script::run(self, script, &command.clone().accept(0..=255), false, &mut |_, _| ())?;
            return Ok(output.code);
        }
        process::hand_over(self, command)
    }

    /// Returns the same host, which collects [notices](Host::notice) and [outcomes](Host::say_outcome) until they are taken.
    pub(crate) fn with_notices(&self) -> Self {
        Host { said: Some(Arc::default()), ..self.clone() }
    }

    fn said(&self) -> Option<MutexGuard<'_, Said>> {
        self.said.as_ref().map(|said| said.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Tells a person something that is no failure: through the host that collects notices, else as a warning.
    pub(crate) fn notice(&self, text: &str) {
        let text = self.redactor.redact(text).into_owned();
        match self.said() {
            Some(mut said) => said.notices.push(text),
            None => log::warn!("{text}"),
        }
    }

    /// Returns the notices since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        self.said().map(|mut said| std::mem::take(&mut said.notices)).unwrap_or_default()
    }

    /// Says how a step ended, where its plan could not know.
    pub(crate) fn say_outcome(&self, text: &str) {
        if let Some(mut said) = self.said() {
            said.outcome = Some(text.to_owned());
        }
    }

    /// Returns what was said last of how a step ended.
    pub(crate) fn take_outcome(&self) -> Option<String> {
        self.said().and_then(|mut said| said.outcome.take())
    }

    /// Adds a line to the transcript, if there is one. A transcript that cannot be written never fails a run.
    pub fn note(&self, line: &str) {
        self.note_lines(&format!("{}\n", self.redactor.redact(line)));
    }

    /// Adds whole lines, secrets removed already, at once: a program may write a million of them.
    fn note_lines(&self, lines: &str) {
        if let Some(file) = &self.transcript {
            let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Err(error) = file.write_all(lines.as_bytes()) {
                log::warn!("cannot write the transcript: {error}");
            }
        }
    }
}
