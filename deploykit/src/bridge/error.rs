//! Why a version cannot be started beforehand, or cannot take over.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::error::error_chain;
use crate::host::files::FileError;

/// Why a web server that was started beforehand did not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// It is not there any more.
    #[error("the web server that was started beforehand has ended (see `{}`)", log.display())]
    Ended {
        /// Where its output went.
        log: PathBuf,
    },
    /// The process that booted it has ended.
    #[error("the run that started the web server beforehand was interrupted")]
    NotOurs,
    /// The workers do not come through the gate.
    #[error("the web server that was started beforehand did not serve within {} s (see `{}`)", after.as_secs(), log.display())]
    Shut {
        /// How long it was waited for.
        after: Duration,
        /// Where its output goes.
        log: PathBuf,
    },
    /// A process of it cannot be ended.
    #[error("cannot end the web server that was started beforehand")]
    Stays {
        /// What the system says.
        source: std::io::Error,
    },
    /// The manager has given up its own web.
    #[error("service `{service}` failed after its start")]
    Died {
        /// The service.
        service: String,
    },
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why no web server is started beforehand: a fragment for a person.
#[derive(Debug)]
pub(crate) struct Unfit(pub String);

impl Unfit {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Unfit(reason.into())
    }

    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Unfit(error_chain(error))
    }
}
