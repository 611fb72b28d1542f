//! What actions work on.

use super::Session;
use crate::host::Host;

/// What actions work on: the host, and the Django process that was booted beforehand, if there is one.
#[derive(Debug, Default)]
pub struct Context {
    /// The machine.
    pub host: Host,
    /// A Django that waits for its work; a fresh one is started where there is none.
    #[doc(hidden)]
    pub django: Option<Session>,
}

impl From<Host> for Context {
    fn from(host: Host) -> Self {
        Context { host, django: None }
    }
}

impl Context {
    /// Ends the Django process, if there is one.
    pub fn close(&mut self) {
        if let Some(session) = self.django.take() {
            session.close(&self.host);
        }
    }
}
