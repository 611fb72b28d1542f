//! What actions work on.

use super::Session;
use crate::host::Host;

/// What actions work on: the host, and the Django process that was booted beforehand, if there is one.
#[derive(Debug, Default)]
pub struct Context {
    /// The machine.
    pub host: Host,
    /// A Django that waits for its work; a fresh one is started where there is none.
    pub django: Option<Session>,
}
