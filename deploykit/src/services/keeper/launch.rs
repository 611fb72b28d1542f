//! How a keeper starts its command.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::stdio::dup2_stdin;

use super::bind::Listener;
use super::{KeeperError, Settings};

/// The variable that tells a launcher the process number of its keeper.
const KEEPER: &str = "DEPLOYKIT_HOLD_SOCKET";

/// The first descriptor that a program gets from systemd.
const FIRST: i32 = 3;

/// Returns the current directory by the path that whoever came here took, if that is known.
pub(super) fn directory() -> io::Result<PathBuf> {
    let here = fs::metadata(".")?;
    let is_here = |path: &PathBuf| {
        let found =
            fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (here.dev(), here.ino()));
        path.is_absolute() && found
    };
    match env::var_os("PWD").map(PathBuf::from).filter(is_here) {
        Some(path) => Ok(path),
        None => env::current_dir(),
    }
}

/// Starts the launcher in a process group of its own, with the socket as its standard input.
pub(super) fn start(settings: &Settings, directory: &Path, listener: &Listener) -> io::Result<Pid> {
    let mut words = settings.launcher.iter();
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program)
        .args(words)
        .arg("--")
        .args(&settings.command)
        .env(KEEPER, getpid().as_raw_nonzero().to_string())
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDNAMES")
        .env("PWD", directory)
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::from(listener.again()?))
        .spawn()?;
    // The keeper waits for all that end, and not by this handle.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Tells whether a keeper has started this process, to become its command.
#[must_use]
pub fn is_launched() -> bool {
    env::var_os(KEEPER).is_some()
}

/// Becomes the command: in the launcher, which a keeper has started. Returns only if that fails.
///
/// The command ends with the keeper: a killed one leaves nobody with the socket.
///
/// # Errors
///
/// What the system says.
pub fn become_command(command: &[OsString]) -> Result<std::convert::Infallible, KeeperError> {
    let system = |what| move |source: io::Error| KeeperError::System { what, source };
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| system("end with the keeper")(error.into()))?;
    let keeper = env::var(KEEPER).ok().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    if keeper.is_none() || getppid() != keeper {
        return Err(system("end with the keeper")(io::Error::other("it has ended already")));
    }
    let pass_on = system("pass the socket on");
    let pass = || -> io::Result<_> {
        let socket = fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST)?;
        fcntl_setfd(&socket, FdFlags::empty())?;
        dup2_stdin(File::open("/dev/null")?)?;
        Ok(socket)
    };
    let socket = pass().map_err(pass_on)?;
    if socket.as_raw_fd() != FIRST {
        return Err(KeeperError::Descriptor);
    }
    let (program, words) = command.split_first().ok_or(KeeperError::Descriptor)?;
    let error = Command::new(program)
        .args(words)
        .env_remove(KEEPER)
        .env("LISTEN_PID", std::process::id().to_string())
        .exec();
    Err(KeeperError::Command { program: program.clone(), source: error })
}
