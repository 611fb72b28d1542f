//! How a keeper hands its listening socket to another process of its user: by SCM_RIGHTS, `unix(7)`.
//!
//! The control socket has an abstract name, so it leaves no file and ends with the keeper. One message answers each
//! connection: the address as text, and the descriptor. Whoever asks must compare the peer's credentials with the keeper
//! that it means, since anybody may take the name of a keeper that has ended.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, listen, sendmsg, socket_with,
};
use rustix::process::{geteuid, getpid};

use super::bind::Listener;
use crate::services::Address;

/// How many may ask at once.
const BACKLOG: i32 = 16;

/// Opens the control socket, `@deploykit-hold-socket-PID`.
pub(super) fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let name = format!("deploykit-hold-socket-{}", getpid().as_raw_nonzero());
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Answers those who ask, of the same user and root; others get nothing.
pub(super) fn answer(control: &OwnedFd, listener: &Listener, address: &Address) {
    while let Ok(connection) = accept_with(control, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        let may = |peer: rustix::net::UCred| peer.uid == geteuid() || peer.uid.is_root();
        if !socket_peercred(&connection).is_ok_and(may) {
            continue;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        message.push(SendAncillaryMessage::ScmRights(&descriptors));
        let text = address.to_string();
        // Who has gone without the answer needs none.
        let _ = sendmsg(&connection, &[IoSlice::new(text.as_bytes())], &mut message, SendFlags::NOSIGNAL);
    }
}
