//! A service of systemd: a `.socket` unit holds the socket, and a drop-in lets the service wait at the socket gate.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{ChangedFile, HoldingError, SocketChange, Wanted, unfit};
use crate::command::Command;
use crate::services::Address;

/// The name of the drop-in.
const DROP_IN: &str = "deploykit-held-socket.conf";

/// Makes the change for a unit; `systemctl` makes a command with these arguments.
pub(in crate::services) fn change(
    wanted: &Wanted<'_>,
    unit: &str,
    is_user: bool,
    systemctl: impl Fn(&[&str]) -> Command,
) -> Result<SocketChange, HoldingError> {
    let unfit = |reason: String| unfit(wanted.service, reason);
    let name = unit.strip_suffix(".service").ok_or_else(|| unfit(format!("`{unit}` is no `.service`")))?;
    if name.contains('@') {
        return Err(unfit(format!("`{unit}` comes from a template")));
    }
    let gate = wanted.gate.to_str().filter(|path| path.chars().all(is_plain));
    let gate = gate.ok_or_else(|| {
        unfit(format!("the path `{}` would have to be quoted in a unit", wanted.gate.display()))
    })?;
    let directory = directory(is_user).ok_or_else(|| unfit("there is no `HOME`".to_owned()))?;
    let socket = format!("{name}.socket");
    let files = [
        (directory.join(&socket), socket_text(wanted, unit)?),
        (directory.join(format!("{unit}.d")).join(DROP_IN), drop_in(&socket, gate)),
    ];
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(unfit(format!("there is a file `{}` already", taken.display())));
    }
    let files = files.map(|(path, after)| ChangedFile { path, before: None, after });
    let run = |args: &[&str]| systemctl(args).deadline(Duration::from_secs(300));
    let (reload, start) = (run(&["daemon-reload"]), run(&["start", unit]));
    Ok(SocketChange {
        files: files.into(),
        apply: vec![reload.clone(), run(&["stop", unit]), run(&["enable", "--now", &socket]), start.clone()],
        before_undo: vec![run(&["disable", "--now", &socket]), run(&["stop", unit])],
        undo: vec![reload, start],
    })
}

/// Returns where an administrator's units are.
fn directory(is_user: bool) -> Option<PathBuf> {
    if !is_user {
        return Some("/etc/systemd/system".into());
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(config.join("systemd/user"))
}

/// Tells a character that means nothing to systemd or to a shell.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "/._-+@".contains(c)
}

fn socket_text(wanted: &Wanted<'_>, unit: &str) -> Result<String, HoldingError> {
    let mut text = format!("[Unit]\nDescription=Socket of {unit}\n\n[Socket]\n");
    match wanted.address {
        Address::Tcp(address) => text.push_str(&format!("ListenStream={address}\n")),
        Address::Unix(path) => {
            let path = path.to_str().filter(|path| path.chars().all(is_plain));
            let path =
                path.ok_or_else(|| unfit(wanted.service, "the path of its socket would have to be quoted"))?;
            let found = wanted.socket_file()?;
            let (mode, user, group) = (found.mode() & 0o666, found.uid(), found.gid());
            text.push_str(&format!(
                "ListenStream={path}\nSocketMode={mode:04o}\nSocketUser={user}\nSocketGroup={group}\n"
            ));
        }
    }
    text.push_str("Backlog=4096\n\n[Install]\nWantedBy=sockets.target\n");
    Ok(text)
}

fn drop_in(socket: &str, gate: &str) -> String {
    format!(
        "[Unit]\nRequires={socket}\n\n[Service]\nExecStartPre=/bin/sh -c 'while [ -e {gate} ]; do sleep 0.05; done'\n\
         TimeoutStartSec=infinity\n"
    )
}
