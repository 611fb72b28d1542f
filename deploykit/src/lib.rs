//! Updates a Django site on its own server, and rolls back when a step fails.
//!
//! A [`Site`] is read from its `deploykit.toml`; [`update::prepare`] does beforehand whatever can be done beforehand and
//! answers with a [`Plan`](plan::Plan); [`update::Update::run`] does the rest, journalled step by step, and undoes it when a
//! step fails. Each of the six operations is usable alone as well: it has a `check` that changes nothing, and [`operations::apply`]
//! performs what it asks for.
//!
//! ```no_run
//! use deploykit::operations::{self, git_update::GitUpdate};
//! use deploykit::{Check, Context, Host};
//!
//! let update = GitUpdate { branch: "main".into(), ..GitUpdate::new("/srv/site") };
//! let host = Host::new();
//! update.fetch(&host)?;
//! match operations::apply(&update, &mut Context::from(host))? {
//!     Check::Unchanged { reason } => println!("nothing to do: {reason}"),
//!     Check::Change(change) => println!("{} → {}: {}", change.before, change.after, change.reason),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The library never prints, never exits and never reads the terminal: [`event`]s are its only output besides what its
//! functions return.
//!
//! | to … | look at |
//! |---|---|
//! | run a whole update | [`update`], [`site`], [`plan`], [`report`] |
//! | know whether a site is ready for one | [`doctor`] |
//! | use one operation | [`operations`] |
//! | start programs | [`Host`], [`Command`] |
//! | see what may change a site | [`action`] |
//! | know what happens | [`event`] |
//! | tell failures apart | [`errors`], [`report::Failure`] |
//! | test a tool that embeds it | [`testing`] |

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

mod command;
mod digest;
mod error;
mod millis;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod action;
mod bridge;
mod django;
pub mod doctor;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod git;
mod host;
mod http;
mod jobs;
mod journal;
mod keys;
mod lock;
mod names;
pub mod operations;
mod pause;
pub mod plan;
mod python;
pub mod report;
mod runner;
mod secrets;
pub mod services;
pub mod site;
mod smoke;
mod state;
pub mod testing;
pub mod update;

/// The errors of the library's parts: the sources of [`ActionError`], [`update::UpdateError`] and the operations' own errors.
pub mod errors {
    pub use crate::bridge::BridgeError;
    pub use crate::django::DjangoError;
    pub use crate::git::GitError;
    pub use crate::host::MemoryError;
    pub use crate::host::files::FileError;
    pub use crate::host::owners::DistrustError;
    pub use crate::http::{ConnectError, HttpError};
    pub use crate::jobs::JobsError;
    pub use crate::journal::JournalError;
    pub use crate::lock::LockError;
    pub use crate::pause::PauseError;
    pub use crate::python::{LockFileError, PythonError};
    pub use crate::services::ServiceError;
    pub use crate::smoke::SmokeError;
    pub use crate::state::OwnerError;
}

/// What the command line and the tests of this project use beyond the public interface. It may change at any time.
#[doc(hidden)]
pub mod internal {
    pub use crate::host::{dotenv, files, glob, ini, owners};

    /// How long managers and gunicorn let a service take to end.
    pub mod limits {
        pub use crate::services::limits::{Limits, graceful, systemd_seconds};
    }

    /// The program that keeps a listening socket.
    pub mod keeper {
        pub use crate::services::keeper::{
            Event, Keeper, KeeperError, POLLING, Settings, address, become_command, is_launched,
        };
    }

    macro_rules! modules {
        ($($name:ident)*) => {
            $(pub mod $name {
                pub use crate::$name::*;
            })*
        };
    }

    modules! { bridge django git http journal lock names pause python runner secrets smoke state }
}

pub use action::{Action, ActionError, Context};
pub use command::{Command, quote};
pub use error::error_chain;
pub use host::{Cancel, CommandError, Host, Output, Redactor, Stream, Umask, Variables, VariablesError};
/// Times in [`plan`], [`report`] and [`event`] are of this crate.
pub use jiff;
pub use operations::{Change, Check, Operation};
pub use report::{error_tail, find_source};
pub use site::Site;
