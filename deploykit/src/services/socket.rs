//! Who keeps a service's listening socket while it is stopped, and what keeps it from being started meanwhile.

use std::collections::BTreeSet;
use std::path::PathBuf;

use procfs::net::{TcpState, UnixState};
use procfs::process::{FDTarget, Process, all_processes};
use serde::{Deserialize, Serialize};

use super::{Listening, ProcessId, ServiceState};
use crate::host::files::{self, FileError};

/// The contents of the file, for a person who finds it.
const HELD: &str = "deploykit keeps this service stopped; `deploykit status` says why.\n";

/// What becomes of the requests, and of programs that would start the service by themselves, while it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Who keeps the listening socket, so that requests wait; `None`: it closes with the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The program that starts the service waits while this file exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<PathBuf>,
    /// systemd's units that would start the service for the next request, and are stopped with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// Where only the service listens: nothing is started while another process listens there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<Listening>,
}

impl Socket {
    /// Keeps the service from being started.
    pub(super) fn close(&self) -> Result<(), FileError> {
        let Some(hold) = &self.hold else { return Ok(()) };
        files::private_directory(files::parent(hold))?;
        files::write_whole(hold, HELD.as_bytes(), 0o600)
    }

    /// Lets it be started again.
    pub(super) fn open(&self) -> Result<(), FileError> {
        self.hold.as_deref().map_or(Ok(()), files::remove_file)
    }
}

/// Finds the parent of a service's main process, if that has its listening socket open.
///
/// Here and below, root can look into all processes, and others into their own.
pub(super) fn parent_that_holds(state: &ServiceState) -> Option<String> {
    let main = state.main.first()?;
    let parent = Process::new(parent(&Process::new(main.pid).ok()?)?).ok()?;
    holds(&parent, &listening(main.pid)).then(|| describe(&parent)).flatten()
}

/// Finds a sibling of a service's main process, not one of its own, that has its listening socket open.
pub(super) fn sibling_that_holds(state: &ServiceState) -> Option<String> {
    let main = state.main.first()?;
    let manager = parent(&Process::new(main.pid).ok()?)?;
    let sockets = listening(main.pid);
    if sockets.is_empty() {
        return None;
    }
    let is_own = |pid| state.main.iter().chain(&state.pids).any(|own| own.pid == pid);
    let mut others = all_processes()
        .ok()?
        .filter_map(Result::ok)
        .filter(|other| !is_own(other.pid()) && parent(other) == Some(manager) && holds(other, &sockets));
    describe(&others.next()?)
}

fn holds(process: &Process, sockets: &[u64]) -> bool {
    open_sockets(process).any(|socket| sockets.contains(&socket))
}

fn describe(process: &Process) -> Option<String> {
    Some(format!("process {}", ProcessId::of(process.pid())?.describe()))
}

fn parent(process: &Process) -> Option<i32> {
    Some(process.stat().ok()?.ppid)
}

/// Returns the inodes of the sockets that a process listens at.
pub(super) fn listening(pid: i32) -> Vec<u64> {
    let Ok(process) = Process::new(pid) else { return Vec::new() };
    let tcp = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let tcp = tcp.filter(|entry| entry.state == TcpState::Listen).map(|entry| entry.inode);
    // One that was accepted has the same path, and is connected.
    let unix = process.unix().into_iter().flatten();
    let unix = unix.filter(|entry| entry.path.is_some() && entry.state == UnixState::UNCONNECTED);
    let all: BTreeSet<u64> = tcp.chain(unix.map(|entry| entry.inode)).collect();
    open_sockets(&process).filter(|inode| all.contains(inode)).collect()
}

pub(super) fn open_sockets(process: &Process) -> impl Iterator<Item = u64> {
    let found = process.fd().into_iter().flatten().filter_map(Result::ok);
    found.filter_map(|one| match one.target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn listening_sockets_are_told_from_connections() {
        let directory = tempfile::tempdir().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let inode = |fd: &dyn std::os::fd::AsRawFd| {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            let text = link.to_string_lossy().into_owned();
            text.trim_start_matches("socket:[").trim_end_matches(']').parse::<u64>().unwrap()
        };
        let (tcp, path) = (TcpListener::bind("127.0.0.1:0").unwrap(), directory.path().join("s"));
        let unix = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = unix.accept().unwrap();
        let found = listening(me);
        assert!(found.contains(&inode(&tcp)) && found.contains(&inode(&unix)), "{found:?}");
        assert!(!found.contains(&inode(&client)) && !found.contains(&inode(&accepted)), "{found:?}");
    }

    #[test]
    fn the_hold_file_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let hold = directory.path().join("hold/web");
        let socket = Socket { hold: Some(hold.clone()), ..Socket::default() };
        socket.close().unwrap();
        socket.close().unwrap();
        assert!(hold.exists());
        socket.open().unwrap();
        socket.open().unwrap();
        assert!(!hold.exists());
        Socket::default().close().unwrap();
    }
}
