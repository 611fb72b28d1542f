//! A service whose main process is `deploykit hold-socket`: the socket gate stops and starts it, not its manager.
//!
//! The manager sees only the keeper, and the socket would close with that. So the keeper runs on, and what is stopped and
//! started is its command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};
use rustix::process::Signal;

use super::holding::{HoldingError, SocketChange, Wanted};
use super::limits::{Limits, option};
use super::pidfile::real;
use super::socket::listening;
use super::{Origin, ProcessId, ServiceError, ServiceManager, ServiceState, Socket, Status};

/// How long a keeper waits for the end of its command unless `--stop-timeout` says otherwise.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a manager whose service may be a keeper.
pub(super) struct Kept<'a> {
    gate: &'a Path,
    manager: Box<dyn ServiceManager + 'a>,
    /// The keeper that was seen last.
    keeper: Option<ProcessId>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(gate: &'a Path, manager: Box<dyn ServiceManager + 'a>) -> Self {
        Kept { gate, manager, keeper: None }
    }

    fn gate(&self) -> Socket {
        let holder = self.keeper.map(|keeper| format!("process {}", keeper.describe()));
        Socket { holder, hold: Some(self.gate.to_owned()), ..Socket::default() }
    }
}

impl ServiceManager for Kept<'_> {
    fn state(&mut self) -> Result<ServiceState, ServiceError> {
        let mut state = self.manager.state()?;
        self.keeper = match state.main.as_slice() {
            [main] if self.keeper == Some(*main) || keeps(*main, self.gate) => Some(*main),
            _ => None,
        };
        let Some(keeper) = self.keeper else { return Ok(state) };
        // Where its processes cannot be seen, the manager's word counts: the keeper runs.
        let Some(main) = command_of(keeper) else { return Ok(state) };
        state.main = main;
        let is_held = self.gate.exists();
        let what = match (state.main.as_slice(), is_held) {
            ([], true) => "holds its socket; the command is stopped".to_owned(),
            ([], false) => "holds its socket; the command is about to start".to_owned(),
            (main, _) => {
                let numbers: Vec<String> = main.iter().map(|process| process.pid.to_string()).collect();
                format!("holds its socket; the command is process {}", numbers.join(", "))
            }
        };
        state.detail = format!("{}, {what}", state.detail);
        state.status = match (state.status, state.main.is_empty(), is_held) {
            (Status::Running | Status::Starting, true, true) => Status::Stopped,
            (Status::Running | Status::Starting, true, false) => Status::Starting,
            (Status::Running | Status::Starting, false, true) => Status::Stopping,
            (status, ..) => status,
        };
        Ok(state)
    }

    fn startsecs(&mut self) -> Result<Duration, ServiceError> {
        // What the manager waits for is the keeper.
        if self.keeper.is_some() { Ok(Duration::ZERO) } else { self.manager.startsecs() }
    }

    fn origin(&mut self) -> Result<Origin, ServiceError> {
        self.manager.origin()
    }

    fn is_idle(&self, state: &ServiceState) -> bool {
        self.keeper.is_none() && self.manager.is_idle(state)
    }

    fn socket(&mut self, state: &ServiceState) -> Result<Socket, ServiceError> {
        if self.keeper.is_some() { Ok(self.gate()) } else { self.manager.socket(state) }
    }

    fn holding(&mut self, wanted: &Wanted<'_>) -> Result<SocketChange, HoldingError> {
        self.manager.holding(wanted)
    }

    fn start(&mut self, socket: &Socket) -> Result<(), ServiceError> {
        self.gate().open()?;
        if self.keeper.is_some() { Ok(()) } else { self.manager.start(socket) }
    }

    fn stop(&mut self, socket: &Socket) -> Result<(), ServiceError> {
        if self.keeper.is_some() { Ok(self.gate().close()?) } else { self.manager.stop(socket) }
    }

    fn limits(&mut self, state: &ServiceState) -> Result<Limits, ServiceError> {
        let Some(keeper) = self.keeper else { return self.manager.limits(state) };
        let words = keeper.words();
        let force = option(own_words(&words), &["--stop-timeout"]);
        // What it cannot read, it refuses.
        let force = force.and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let force = force.and_then(|time| Duration::try_from(time).ok()).unwrap_or(STOP_TIMEOUT);
        let limits = Limits {
            force: Some((force, "--stop-timeout")),
            signal: Some((Signal::TERM.as_raw(), "--die-on-term")),
            ..Limits::default()
        };
        Ok(limits.of_servers(&state.main, &[]))
    }

    fn leaves_killing_to_us(&self) -> bool {
        self.keeper.is_some() || self.manager.leaves_killing_to_us()
    }

    fn signal_rest(&mut self, signal: Signal) -> Result<bool, ServiceError> {
        // The keeper would be among the rest.
        if self.keeper.is_some() { Ok(false) } else { self.manager.signal_rest(signal) }
    }

    fn last_words(&mut self) -> Vec<String> {
        self.manager.last_words()
    }
}

/// Tells whether a process keeps a socket and waits at this gate. It shows its socket to its own user and to root only.
fn keeps(process: ProcessId, gate: &Path) -> bool {
    gate_of(process).is_some_and(|named| real(&named) == real(gate)) && !listening(process.pid).is_empty()
}

/// Returns the socket gate that a keeper names; `None`: the process is none, or cannot be seen.
fn gate_of(process: ProcessId) -> Option<PathBuf> {
    let words = process.words();
    let own = own_words(&words);
    own.iter().find(|word| *word == "hold-socket")?;
    Some(process.directory()?.join(option(own, &["--gate"])?))
}

/// Says why a service would start again by itself: its keeper waits at another gate.
pub(super) fn waits_elsewhere(main: &[ProcessId], gate: &Path) -> Option<String> {
    let parent = Process::new(main.first()?.pid).and_then(|process| process.stat()).ok()?.ppid;
    let named = gate_of(ProcessId::of(parent)?).filter(|named| real(named) != real(gate))?;
    Some(format!(
        "`hold-socket`, process {parent}, would start it again, because it waits at `{}`: change that to `--gate {}`",
        named.display(),
        gate.display()
    ))
}

/// Returns the words of a keeper that are not its command's.
fn own_words(words: &[String]) -> &[String] {
    words.split(|word| word == "--").next().unwrap_or_default()
}

/// Returns the processes of a keeper's command that have no other parent. What started a session of its own, such as a daemon,
/// is no part of the command. `None`: they cannot be seen.
fn command_of(keeper: ProcessId) -> Option<Vec<ProcessId>> {
    let session = Process::new(keeper.pid).and_then(|process| process.stat()).ok()?.session;
    let is_its = |stat: &Stat| stat.ppid == keeper.pid && stat.session == session;
    let all = all_processes().ok()?.filter_map(|process| process.ok()?.stat().ok());
    Some(all.filter(is_its).filter_map(|stat| ProcessId::of(stat.pid)).collect())
}
