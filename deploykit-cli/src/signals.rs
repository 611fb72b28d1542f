//! SIGINT, SIGTERM and SIGQUIT ask for the end; a lost terminal does not end a run, and Ctrl-Z does not stop it in its midst.

use std::io;

use deploykit::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTOU};
use signal_hook::iterator::Signals;

/// Makes a cancellation that SIGINT, SIGTERM and SIGQUIT request, and lets pass what else a terminal sends.
///
/// # Errors
///
/// When the system refuses a handler.
pub fn listen() -> io::Result<Cancel> {
    let cancel = Cancel::new()?;
    let requested = cancel.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE, SIGTSTP, SIGTTOU])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGINT | SIGTERM | SIGQUIT => requested.request(),
                // The run goes on without its terminal; `status --follow` shows it again.
                _ => log::info!("signal {signal} does not end a run"),
            }
        }
    });
    Ok(cancel)
}
