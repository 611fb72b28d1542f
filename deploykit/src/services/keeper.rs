//! The keeper: a program that keeps a listening socket open, and a command running that serves there.
//!
//! It starts the command again whenever that ends, and keeps it stopped while deploykit holds the socket gate. The command
//! finds the socket as the programs of systemd do (`sd_listen_fds(3)`): descriptor 3, `LISTEN_FDS` and `LISTEN_PID`.

mod bind;
mod hand_over;
mod launch;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    test_kill_process_group, wait,
};
use thiserror::Error;

use super::Address;
use bind::Listener;
pub use bind::address;
pub use launch::{become_command, is_launched};

/// How often [`Keeper::look`] should be called: requests wait meanwhile.
pub const POLLING: Duration = Duration::from_millis(20);

/// The pause before a command that ended by itself starts again; it doubles with each time.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// A command that ran for so long begins with the shortest pause again.
const LONG: Duration = Duration::from_secs(30);

/// What a keeper keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub address: Address,
    /// How many connections may wait; the kernel has a limit of its own, `net.core.somaxconn`.
    pub backlog: i32,
    /// The permissions of a Unix socket's file.
    pub mode: u32,
    /// The socket gate: while this file exists, the command is kept stopped.
    pub gate: PathBuf,
    /// How long the command may take to end after SIGTERM, before it is killed.
    pub stop_timeout: Duration,
    /// The command with its arguments.
    pub command: Vec<OsString>,
    /// A program that calls [`become_command`] with the command if [`is_launched`]; the command follows its own arguments and `--`.
    pub launcher: Vec<OsString>,
}

/// What a keeper did or saw.
#[derive(Debug)]
pub enum Event {
    /// Somebody listens at the address, and the keeper waits for the end of that.
    InUse {
        /// Who, as far as that is shown.
        by: String,
    },
    /// It has the socket.
    Listens,
    /// Nobody can get the socket from it, because of this.
    NoHandOver(io::Error),
    /// deploykit holds the socket gate: the command is kept stopped.
    Held,
    /// The command runs.
    Started {
        /// Its process number.
        pid: i32,
    },
    /// The command could not be started, or ended by itself.
    Ended {
        /// How.
        how: String,
        /// After how long it starts again.
        again: Duration,
    },
    /// The command did not end in time, and was killed.
    Killed,
}

/// Why a keeper cannot keep the socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The address is none.
    #[error("`{text}` is no address to listen at")]
    Address {
        /// What was given.
        text: String,
    },
    /// Somebody listens there.
    #[error("`{address}` is in use{by}")]
    InUse {
        /// The address.
        address: Address,
        /// By whom, as far as that is shown.
        by: String,
    },
    /// Something else is where the socket's file is to be.
    #[error("`{}` exists and is not a socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses the socket.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no socket gate.
    #[error("`{}` is not the socket gate of a service", path.display())]
    NotAGate {
        /// The file.
        path: PathBuf,
    },
    /// Whether the socket gate exists cannot be seen.
    #[error("cannot see whether the socket gate `{}` exists", path.display())]
    Gate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The working directory is gone, or the system refuses something that it refuses to nobody.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The command cannot be executed.
    #[error("cannot run `{}`", program.display())]
    Command {
        /// Its program.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// Descriptor 3 came from whoever started the keeper.
    #[error("descriptor 3 is open already, and the command expects the socket there")]
    Descriptor,
}

/// A command that runs, and what is left of one.
#[derive(Debug)]
struct Running {
    pid: Pid,
    since: Instant,
    /// How the command ended, if others of its process group live on.
    ended: Option<String>,
    told: Option<Instant>,
    /// It was told to end while it ran.
    is_stopped: bool,
    is_killed: bool,
}

/// Keeps a socket and a command. [`Keeper::look`] does what is due, and never waits.
#[derive(Debug)]
pub struct Keeper {
    settings: Settings,
    directory: PathBuf,
    since: Instant,
    listener: Option<Listener>,
    hand_over: Option<OwnedFd>,
    running: Option<Running>,
    is_held: bool,
    is_ending: bool,
    is_waiting: bool,
    pause: Duration,
    /// When the command starts next.
    next: Instant,
}

impl Keeper {
    /// Looks at the settings; the first [`Keeper::look`] opens the socket. The command starts in the current directory of
    /// now, by its path: an update may put another directory there.
    ///
    /// # Errors
    ///
    /// When the gate is none or cannot be seen.
    pub fn new(settings: Settings) -> Result<Self, KeeperError> {
        let gate = &settings.gate;
        let top = gate
            .parent()
            .filter(|hold| hold.ends_with(".deploykit/hold"))
            .and_then(|hold| hold.ancestors().nth(2));
        if !top.is_some_and(Path::is_dir) {
            return Err(KeeperError::NotAGate { path: gate.clone() });
        }
        exists(gate).map_err(|source| KeeperError::Gate { path: gate.clone(), source })?;
        let what = "find the working directory";
        let directory = launch::directory().map_err(|source| KeeperError::System { what, source })?;
        // What the command leaves behind belongs to the keeper: it is waited for, and is no zombie.
        let what = "become the parent of what the command leaves behind";
        let adopted = set_child_subreaper(Some(getpid()));
        adopted.map_err(|error| KeeperError::System { what, source: error.into() })?;
        let now = Instant::now();
        Ok(Keeper {
            settings,
            directory,
            since: now,
            listener: None,
            hand_over: None,
            running: None,
            is_held: false,
            is_ending: false,
            is_waiting: false,
            pause: PAUSES[0],
            next: now,
        })
    }

    /// Asks for the end: first of the command, then of the keeper.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// Sends the command a signal, if it runs and is not about to end.
    pub fn pass_on(&self, signal: Signal) {
        if let Some(running) = &self.running
            && running.ended.is_none()
            && running.told.is_none()
        {
            // It may have ended meanwhile.
            let _ = kill_process(running.pid, signal);
        }
    }

    /// Does what is due; `false`: it has ended.
    ///
    /// # Errors
    ///
    /// When there is no socket to keep.
    pub fn look(&mut self, observe: &mut dyn FnMut(Event)) -> Result<bool, KeeperError> {
        self.reap(observe);
        if self.is_ending && self.running.is_none() {
            return Ok(false);
        }
        if self.listener.is_none() && !self.listen(observe)? {
            return Ok(true);
        }
        // What cannot be seen is taken for there.
        let is_held = exists(&self.settings.gate).unwrap_or(true);
        if is_held && !self.is_held {
            if let Some(listener) = &self.listener {
                // The server may have made the queue shorter.
                listener.queue(self.settings.backlog);
            }
            observe(Event::Held);
        }
        if self.is_held && !is_held {
            (self.pause, self.next) = (PAUSES[0], Instant::now());
        }
        self.is_held = is_held;
        match &mut self.running {
            Some(running) if is_held || self.is_ending || running.ended.is_some() => {
                running.end(self.settings.stop_timeout, observe);
            }
            Some(_) => {}
            None if is_held || Instant::now() < self.next => {}
            None => self.start(observe),
        }
        if let (Some(control), Some(listener)) = (&self.hand_over, &self.listener) {
            hand_over::answer(control, listener, &self.settings.address);
        }
        Ok(true)
    }

    /// Opens the socket; `false`: somebody has the address, who may be about to end.
    fn listen(&mut self, observe: &mut dyn FnMut(Event)) -> Result<bool, KeeperError> {
        match Listener::open(&self.settings) {
            Err(KeeperError::InUse { by, .. }) if self.since.elapsed() < self.settings.stop_timeout => {
                if !std::mem::replace(&mut self.is_waiting, true) {
                    observe(Event::InUse { by });
                }
                return Ok(false);
            }
            other => self.listener = Some(other?),
        }
        observe(Event::Listens);
        match hand_over::open() {
            Ok(control) => self.hand_over = Some(control),
            Err(error) => observe(Event::NoHandOver(error)),
        }
        Ok(true)
    }

    fn start(&mut self, observe: &mut dyn FnMut(Event)) {
        let Some(listener) = &self.listener else { return };
        match launch::start(&self.settings, &self.directory, listener) {
            Ok(pid) => {
                let now = Instant::now();
                self.running = Some(Running {
                    pid,
                    since: now,
                    ended: None,
                    told: None,
                    is_stopped: false,
                    is_killed: false,
                });
                observe(Event::Started { pid: pid.as_raw_nonzero().get() });
            }
            Err(error) => {
                let how = format!("cannot start in `{}`: {error}", self.directory.display());
                self.again(how, Duration::ZERO, observe);
            }
        }
    }

    /// Takes note of what has ended: the command, and orphans of it.
    fn reap(&mut self, observe: &mut dyn FnMut(Event)) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(running) = self.running.as_mut().filter(|running| running.pid == pid) {
                running.ended = Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, signal) => format!("signal {}", signal.unwrap_or_default()),
                });
            }
        }
        let Some(running) = &self.running else { return };
        // A worker that outlives its master would serve beside the next ones.
        if running.ended.is_some() && test_kill_process_group(running.pid) == Err(Errno::SRCH) {
            let (how, ran) = (running.ended.clone().unwrap_or_default(), running.since.elapsed());
            let is_stopped = running.is_stopped;
            self.running = None;
            // Only what ended by itself has to wait before it starts again.
            if self.is_held || self.is_ending || is_stopped {
                return;
            }
            self.again(how, ran, observe);
        }
    }

    /// Lets the command start again after a pause.
    fn again(&mut self, how: String, ran: Duration, observe: &mut dyn FnMut(Event)) {
        if ran >= LONG {
            self.pause = PAUSES[0];
        }
        let again = self.pause;
        self.next = Instant::now() + again;
        self.pause = (again * 2).min(PAUSES[1]);
        observe(Event::Ended { how, again });
    }
}

impl Running {
    /// Tells the command to end, once, and kills it with all that it started after its time.
    fn end(&mut self, timeout: Duration, observe: &mut dyn FnMut(Event)) {
        // Those that are gone meanwhile do not matter.
        let Some(told) = self.told else {
            (self.told, self.is_stopped) = (Some(Instant::now()), self.ended.is_none());
            let _ = match self.ended {
                None => kill_process(self.pid, Signal::TERM),
                Some(_) => kill_process_group(self.pid, Signal::TERM),
            };
            return;
        };
        if told.elapsed() >= timeout && !std::mem::replace(&mut self.is_killed, true) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            observe(Event::Killed);
        }
    }
}

/// Tells whether a file exists.
fn exists(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
