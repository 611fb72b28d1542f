//! Why no configuration is written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::findings::in_backticks;

/// Why there is nothing to write.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is a configuration already, here or in a directory of the checkout above.
    #[error("there is a configuration already: `{}`", path.display())]
    Exists {
        /// The file, which is left as it is.
        path: PathBuf,
    },
    /// The directory is neither in a git checkout nor right above exactly one.
    #[error("`{}` is not inside a git checkout{}", directory.display(), listed(checkouts))]
    NotACheckout {
        /// Where the search began.
        directory: PathBuf,
        /// The checkouts right below it, when there are several.
        checkouts: Vec<PathBuf>,
    },
    /// The checkout holds no Django project.
    #[error("there is no `manage.py` in `{}` or up to three directories below it", repository.display())]
    NoProject {
        /// The checkout.
        repository: PathBuf,
    },
    /// The directory cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// root calls, and the checkout belongs to somebody else.
    #[error(transparent)]
    Distrust(#[from] deploykit::errors::DistrustError),
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The run was cancelled while it looked.
    #[error("interrupted while looking at `{}`", directory.display())]
    Cancelled {
        /// Where it looked.
        directory: PathBuf,
    },
}

fn listed(checkouts: &[PathBuf]) -> String {
    if checkouts.is_empty() {
        return String::new();
    }
    format!(", and there are several below it: {}", in_backticks(checkouts.iter().map(|path| path.display())))
}
