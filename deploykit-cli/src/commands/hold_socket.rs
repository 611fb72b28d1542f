//! `hold-socket`: keeps a listening socket open, and a server running that serves there.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::sleep;

use deploykit::internal::keeper::{
    Event, Keeper, KeeperError, POLLING, Settings, become_command, is_launched,
};
use rustix::process::Signal;
use signal_hook::consts::{
    SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::Signals;

use super::exec::{cannot_run, place};
use crate::args::HoldSocketArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;

/// This very program, also after its file was replaced.
const OWN: &str = "/proc/self/exe";

pub fn run(args: HoldSocketArgs, ui: Ui) -> Result<u8, Failure> {
    if is_launched() {
        return become_server(&args.command);
    }
    let unexpected = |error: &io::Error| Failure::with_code(exit_code::UNEXPECTED, error);
    let gate = super::absolute(&args.gate);
    let address = args.address.to_string();
    let program = args.command.first().cloned().unwrap_or_default();
    // While an update is unfinished, the virtualenv may be anything.
    if place(Path::new(&program)).is_none() && !gate.exists() {
        return Err(cannot_run(&program, &io::Error::from(ErrorKind::NotFound)));
    }
    let own = std::env::args_os().skip(1).take_while(|word| word != "--");
    let launcher = [OWN.into()].into_iter().chain(own).collect();
    let mut signals = Signals::new([
        SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGTSTP, SIGPIPE,
    ])
    .map_err(|error| unexpected(&error))?;
    let held = format!("keeps the server stopped, and requests waiting, while `{}` exists", gate.display());
    let mut keeper = Keeper::new(Settings {
        address: args.address,
        backlog: args.backlog,
        mode: args.mode,
        gate,
        stop_timeout: args.stop_timeout,
        command: args.command,
        launcher,
    })
    .map_err(|error| failure(&error))?;
    loop {
        for signal in signals.pending() {
            match signal {
                SIGTERM | SIGINT | SIGQUIT => keeper.end(),
                SIGHUP => keeper.pass_on(Signal::HUP),
                SIGUSR1 => keeper.pass_on(Signal::USR1),
                SIGTTIN => keeper.pass_on(Signal::TTIN),
                SIGTTOU => keeper.pass_on(Signal::TTOU),
                // With SIGUSR2, gunicorn would start another one, which the keeper does not know.
                _ => {}
            }
        }
        let goes_on =
            keeper.look(&mut |event| ui.say(&format!("deploykit: {}", text(&event, &address, &held))));
        if !goes_on.map_err(|error| failure(&error))? {
            return Ok(exit_code::DONE);
        }
        sleep(POLLING);
    }
}

/// Becomes the server of a keeper.
fn become_server(command: &[OsString]) -> Result<u8, Failure> {
    match become_command(command) {
        Err(KeeperError::Command { program, source }) => Err(cannot_run(&program, &source)),
        result => result.map(|never: Infallible| match never {}).map_err(|error| failure(&error)),
    }
}

fn failure(error: &KeeperError) -> Failure {
    let hint = match error {
        KeeperError::InUse { .. } => "stop the process that listens there, or choose another address",
        KeeperError::NotASocket { .. } => "remove the file, or choose another path",
        KeeperError::NotAGate { .. } => {
            "name `/SITE/.deploykit/hold/NAME`: beside deploykit.toml, NAME as in `[[services]]`"
        }
        KeeperError::Gate { .. } => {
            "run this as the user who updates the site, or as root: nobody else can see the socket gate"
        }
        KeeperError::Descriptor => "start this without it: add `3<&-`",
        _ => return Failure::refused(error),
    };
    Failure::message(exit_code::REFUSED, deploykit::error_chain(error), hint)
}

fn text(event: &Event, address: &str, held: &str) -> String {
    match event {
        Event::InUse { by } => format!("`{address}` is in use{by}; waiting for its end"),
        Event::Listens => format!("listens at {address}"),
        Event::NoHandOver(error) => format!("cannot hand the socket to other processes: {error}"),
        Event::Held => held.to_owned(),
        Event::Started { pid } => format!("the server runs as process {pid}"),
        Event::Ended { how, again } => {
            format!("the server ended: {how}; it starts again in {} s", again.as_secs())
        }
        Event::Killed => "killed the server: it did not end in time".to_owned(),
    }
}
