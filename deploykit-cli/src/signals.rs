//! SIGINT and SIGTERM ask for the end; a lost terminal does not end a run.

use std::io;

use deploykit::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::iterator::Signals;

/// Makes a cancellation that SIGINT and SIGTERM request, and lets SIGHUP pass.
///
/// # Errors
///
/// When the system refuses a handler.
pub fn listen() -> io::Result<Cancel> {
    let cancel = Cancel::new()?;
    let requested = cancel.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGPIPE])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGINT | SIGTERM => requested.request(),
                // The run goes on without its terminal; `status --follow` shows it again.
                _ => log::info!("signal {signal} does not end a run"),
            }
        }
    });
    Ok(cancel)
}
