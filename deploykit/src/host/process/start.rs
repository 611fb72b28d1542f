//! How a program begins: its priority, what std starts, its input.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, getpriority_process, setpriority_process};

use crate::command::Command;
use crate::host::{CommandError, Host, with_umask};

/// How nice a program is at low priority; the kernel's default for disks follows from it.
///
/// Source: <https://docs.kernel.org/block/ioprio.html>
pub(crate) const NICE: i32 = 10;

/// Lowers the priority of a program that has just begun, or of this thread; of one that has children already, it would be
/// too late for these.
pub(crate) fn lower_priority(pid: Option<Pid>) {
    let now = getpriority_process(pid).unwrap_or_default();
    if let Err(error) = setpriority_process(pid, now.max(NICE)) {
        log::debug!("the priority of {pid:?} stays: {error}");
    }
}

/// Makes what std starts: program, arguments, directory, environment.
pub(super) fn builder(
    host: &Host,
    command: &Command,
    line: &str,
) -> Result<std::process::Command, CommandError> {
    let mut builder = std::process::Command::new(command.program());
    builder.args(command.arguments());
    if let Some(directory) = command.working_directory() {
        if !directory.is_dir() {
            return Err(CommandError::NoDirectory {
                command: line.to_owned(),
                directory: directory.to_owned(),
            });
        }
        builder.current_dir(directory);
    }
    if command.wants_site_environment() {
        builder.envs(host.variables().iter());
    }
    for (name, value) in command.variables() {
        match value {
            Some(value) => builder.env(name, value),
            None => builder.env_remove(name),
        };
    }
    builder.envs(command.secret_variables());
    Ok(builder)
}

/// Runs a program on our own streams, as a shell's `exec` would, and returns what a shell's `$?` would be.
pub(crate) fn hand_over(host: &Host, command: &Command) -> Result<i32, CommandError> {
    let line = command.to_string();
    let mut builder = builder(host, command, &line)?;
    let status = with_umask(host.umask, || builder.status());
    let status = status.map_err(|source| start_error(host, command, source))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// Starts a program with exactly this environment that may outlive this one. Its output goes to a file.
pub(crate) fn start_beside(
    host: &Host,
    command: &Command,
    environment: &HashMap<OsString, OsString>,
    log: File,
) -> Result<Child, CommandError> {
    let refused = |source| start_error(host, command, source);
    host.note(&format!("$ {}", host.redactor().redact(&command.to_string())));
    let line = command.to_string();
    let mut builder = builder(host, command, &line)?;
    let input = input_file(&command.given_input().unwrap_or_default()).map_err(refused)?;
    builder.env_clear().envs(environment).stdin(input);
    builder.stdout(log.try_clone().map_err(refused)?).stderr(log);
    builder.spawn().map_err(refused)
}

/// Returns a file in memory: there may be no `/tmp`, or no room in it, and an undo has to go on all the same.
pub(super) fn input_file(input: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("deploykit-input", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

pub(super) fn start_error(host: &Host, command: &Command, source: io::Error) -> CommandError {
    if source.kind() == io::ErrorKind::NotFound {
        CommandError::NotFound { program: command.program().to_owned() }
    } else {
        let command = host.redactor().redact(&command.to_string()).into_owned();
        CommandError::Start { command, source }
    }
}
