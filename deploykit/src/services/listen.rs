//! Where a service listens, and who listens there once it was stopped.
//!
//! Source: `proc_pid_net(5)`, `tcp(7)` and `unix(7)`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use procfs::net::TcpState;
use procfs::process::{Process, all_processes};
use serde::{Deserialize, Serialize};

use super::ProcessId;
use super::socket::open_sockets;
use crate::host::users::shown_user;
use crate::http::Address;

/// The type of a socket with connections, and the state of one without.
const SOCK_STREAM: u8 = 1;
const UNCONNECTED: u8 = 1;

/// A listening socket that only processes of one service have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Where.
    pub address: Address,
    /// The number that tells the socket from later ones at the same address.
    pub inode: u64,
}

/// A listening socket of this machine.
struct Entry {
    address: Address,
    inode: u64,
    /// Its user; of Unix sockets that is not shown.
    user: Option<u32>,
}

/// Lists the listening sockets of our network namespace.
fn table() -> Vec<Entry> {
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let tcp = tcp.filter(|entry| entry.state == TcpState::Listen).map(|entry| Entry {
        address: Address::Tcp(entry.local_address),
        inode: entry.inode,
        user: Some(entry.uid),
    });
    let unix = fs::read("/proc/net/unix").unwrap_or_default();
    let unix: Vec<Entry> = unix.split(|byte| *byte == b'\n').filter_map(unix_entry).collect();
    tcp.chain(unix).collect()
}

/// Reads a line of `/proc/net/unix`. A path is bytes, and may contain blanks; procfs reads nothing at all then.
fn unix_entry(line: &[u8]) -> Option<Entry> {
    // The slot, references, protocol, flags, type, state and inode.
    let (mut fields, mut rest) = (Vec::new(), line);
    while fields.len() < 7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (field, behind) = rest.split_at(end);
        fields.push(std::str::from_utf8(field).ok()?);
        rest = behind;
    }
    let path = Path::new(OsStr::from_bytes(rest.strip_prefix(b" ")?));
    let is = |field: usize, wanted: u8| u8::from_str_radix(fields[field], 16) == Ok(wanted);
    // One that was accepted has the same path, and is connected. A relative path may be another directory's.
    let counts = is(4, SOCK_STREAM) && is(5, UNCONNECTED) && path.is_absolute() && !is_control(path);
    let inode = fields[6].parse().ok()?;
    counts.then(|| Entry { address: Address::Unix(path.to_owned()), inode, user: None })
}

/// Tells gunicorn's control socket, which serves no pages: every gunicorn of a user takes the same path over.
/// Source: gunicorn's setting `control_socket`.
fn is_control(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "gunicorn.ctl")
}

/// Returns the processes, of those that we may look into, that have one of these sockets open.
fn owners(inodes: &BTreeSet<u64>) -> Vec<ProcessId> {
    let Ok(all) = all_processes() else { return Vec::new() };
    all.filter_map(Result::ok)
        .filter(|process| open_sockets(process).any(|inode| inodes.contains(&inode)))
        .filter_map(|process| ProcessId::of(process.pid()))
        .collect()
}

/// Finds where only these processes listen: a socket that others have open as well outlives them.
pub(super) fn listening(processes: &[ProcessId]) -> Vec<Listening> {
    let own = processes.iter().filter_map(|process| Process::new(process.pid).ok());
    let own: BTreeSet<u64> = own.flat_map(|process| open_sockets(&process).collect::<Vec<_>>()).collect();
    let table = table();
    let is_own = |entry: &&Entry| own.contains(&entry.inode);
    let alone = |entry: &&Entry| {
        table.iter().all(|other| own.contains(&other.inode) || !other.address.excludes(&entry.address))
    };
    let mut found: Vec<Listening> = table
        .iter()
        .filter(is_own)
        .filter(alone)
        .map(|entry| Listening { address: entry.address.clone(), inode: entry.inode })
        .collect();
    if !found.is_empty() {
        let is_shared = |one: &Listening| {
            owners(&BTreeSet::from([one.inode])).iter().any(|owner| !processes.contains(owner))
        };
        found.retain(|one| !is_shared(one));
    }
    found
}

/// Who listens at an address where a service is to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) address: Address,
    /// Their numbers and names, or as much as is shown of them.
    pub(super) holders: String,
    /// One of them belongs to the service.
    pub(super) is_known: bool,
}

/// Returns who listens at one of these addresses; `known` are processes of the service.
pub(super) fn taken(listening: &[Listening], known: &[ProcessId]) -> Option<Taken> {
    if listening.is_empty() {
        return None;
    }
    let table = table();
    let pairs = listening.iter().flat_map(|wanted| table.iter().map(move |entry| (wanted, entry)));
    pairs
        .filter(|(wanted, entry)| entry.address.excludes(&wanted.address))
        .find_map(|(wanted, entry)| taken_by(entry, entry.inode == wanted.inode, known))
}

/// Returns who listens at one address; `is_same` says that the socket is still the same one.
fn taken_by(entry: &Entry, is_same: bool, known: &[ProcessId]) -> Option<Taken> {
    let holders = owners(&BTreeSet::from([entry.inode]));
    let mut is_known = holders.iter().any(|holder| known.contains(holder));
    if holders.is_empty() && is_same {
        // Nobody shows us who has it: the service, or when that has ended somebody who keeps it.
        is_known = known.iter().any(ProcessId::is_alive);
        if !is_known {
            return None;
        }
    }
    let names: Vec<String> = holders.iter().map(ProcessId::describe).collect();
    let holders = match (names.len(), entry.user) {
        (0, Some(user)) => format!("a process of {}", shown_user(user)),
        (0, None) => "a process that is not shown to this user".to_owned(),
        (1, _) => format!("process {}", names.concat()),
        _ => format!("processes {}", names.join(", ")),
    };
    Some(Taken { address: entry.address.clone(), holders, is_known })
}

/// Returns the processes that listen at an address, as far as they are shown to us.
pub(crate) fn listeners(address: &Address) -> Vec<ProcessId> {
    let inodes: BTreeSet<u64> = table()
        .into_iter()
        .filter(|entry| entry.address.excludes(address))
        .map(|entry| entry.inode)
        .collect();
    if inodes.is_empty() { Vec::new() } else { owners(&inodes) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::{Duration, Instant};

    use super::*;

    fn own() -> ProcessId {
        ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    /// Returns so many of our own that this is true of, once they are ours alone: a process that another test starts has them
    /// too, until it is the program that it starts.
    fn own_among(count: usize, is_wanted: impl Fn(&Listening) -> bool) -> Vec<Listening> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let found: Vec<Listening> = listening(&[own()]).into_iter().filter(&is_wanted).collect();
            if found.len() == count {
                return found;
            }
            assert!(Instant::now() < end, "{found:?}");
        }
    }

    #[test]
    fn listeners_are_found_while_they_listen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let _client = UnixStream::connect(&path).unwrap();
        let (port, path) = (Address::Tcp(tcp.local_addr().unwrap()), Address::Unix(path));
        let found = own_among(2, |one| [&port, &path].contains(&&one.address));
        let seen = taken(&found, &[own()]).unwrap();
        assert!(seen.is_known && seen.holders.contains(&std::process::id().to_string()), "{seen:?}");
        assert!(!taken(&found, &[]).unwrap().is_known);
        assert!(listeners(&port).contains(&own()));
        drop((tcp, unix));
        // A process that another test starts has them too, until it is the program that it starts.
        let end = Instant::now() + Duration::from_secs(20);
        while taken(&found, &[own()]).is_some() || !listeners(&port).is_empty() {
            assert!(Instant::now() < end, "somebody still listens: {:?}", listeners(&port));
        }
    }

    #[test]
    fn a_socket_of_any_name_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let names = [OsStr::new("pages"), OsStr::new("a b"), OsStr::from_bytes(b"caf\xe9")];
        let paths = names.map(|name| directory.path().join(name));
        let _listeners = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
        for path in paths {
            let address = Address::Unix(path);
            assert!(listeners(&address).contains(&own()), "{address}");
            // The journal has it.
            let text = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&text).unwrap(), address, "{text}");
        }
    }

    #[test]
    fn gunicorn_s_control_socket_is_no_address_of_a_service() {
        let directory = tempfile::tempdir().unwrap();
        let [pages, control] = ["gunicorn.sock", "gunicorn.ctl"].map(|name| directory.path().join(name));
        let _listeners = [&pages, &control].map(|path| UnixListener::bind(path).unwrap());
        let is_here =
            |one: &Listening| matches!(&one.address, Address::Unix(path) if path.starts_with(&directory));
        let found = own_among(1, is_here);
        assert_eq!(found[0].address, Address::Unix(pages));
        assert!(listeners(&Address::Unix(control)).is_empty());
    }
}
