//! The listening socket of a keeper.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::{KeeperError, Settings};
use crate::services::{Address, ProcessId, listeners};

/// Reads an address: `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`.
///
/// # Errors
///
/// When it is none of them.
pub fn address(text: &str) -> Result<Address, KeeperError> {
    let found = match text.strip_prefix("unix:") {
        Some(path) => Some(Address::Unix(path.into())).filter(|_| path.starts_with('/')),
        None => text.parse().ok().map(Address::Tcp),
    };
    found.ok_or_else(|| KeeperError::Address { text: text.to_owned() })
}

/// An open socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    /// Keeps other keepers away from the file of a Unix socket.
    _lock: Option<File>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Opens the socket.
    pub(super) fn open(settings: &Settings) -> Result<Self, KeeperError> {
        let address = &settings.address;
        let refused = |source: io::Error| KeeperError::Listen { address: address.clone(), source };
        let in_use = || KeeperError::InUse { address: address.clone(), by: users(address) };
        let bound = |result: Result<(), Errno>| match result {
            Err(Errno::ADDRINUSE) => Err(in_use()),
            other => other.map_err(|error| refused(error.into())),
        };
        let new = |family| {
            socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|error| refused(error.into()))
        };
        let (socket, lock) = match address {
            Address::Tcp(place) => {
                let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = new(family)?;
                set_socket_reuseaddr(&socket, true).map_err(|error| refused(error.into()))?;
                bound(bind(&socket, place))?;
                (socket, None)
            }
            Address::Unix(path) => {
                let place = SocketAddrUnix::new(path).map_err(|error| refused(error.into()))?;
                let lock = lock(path).map_err(refused)?.ok_or_else(in_use)?;
                match fs::symlink_metadata(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(refused(error)),
                    Ok(found) if !found.file_type().is_socket() => {
                        return Err(KeeperError::NotASocket { path: path.clone() });
                    }
                    // Nobody listens at one that refuses connections: its program has ended.
                    Ok(_) => match connect(&new(AddressFamily::UNIX)?, &place) {
                        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(refused)?,
                        Ok(()) | Err(Errno::AGAIN) => return Err(in_use()),
                        Err(error) => return Err(refused(error.into())),
                    },
                }
                let socket = new(AddressFamily::UNIX)?;
                bound(bind(&socket, &place))?;
                // Nobody can connect before it listens.
                fs::set_permissions(path, Permissions::from_mode(settings.mode)).map_err(refused)?;
                (socket, Some(lock))
            }
        };
        bound(listen(&socket, settings.backlog))?;
        Ok(Listener { socket, _lock: lock })
    }

    /// Sets how many connections may wait.
    pub(super) fn queue(&self, backlog: i32) {
        // It listens already, so there is nothing to refuse.
        let _ = listen(&self.socket, backlog);
    }

    /// Returns another descriptor of the socket.
    pub(super) fn again(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

/// Locks the file beside a Unix socket's, which stays there; `None`: another keeper has the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_links());
    let file = options.open(PathBuf::from(name))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn no_links() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Says who listens at an address, as far as that is shown.
fn users(address: &Address) -> String {
    let names: Vec<String> = listeners(address).iter().map(ProcessId::describe).collect();
    match names.len() {
        0 => String::new(),
        1 => format!(" by process {}", names.concat()),
        _ => format!(" by processes {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:8000", "[::1]:8000", "unix:/run/site.sock"] {
            assert_eq!(address(text).unwrap().to_string(), text.trim_start_matches("unix:"));
        }
        for text in ["", ":8000", "8000", "localhost:8000", "/run/site.sock", "unix:site.sock", "127.0.0.1"] {
            let error = address(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is no address to listen at"));
        }
    }
}
