//! Updates a Django site on its own server, and rolls back completely when anything fails.
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
//! | use one operation | [`operations`] |
//! | start programs, write files | [`host`], [`command`](Command) |
//! | see what may change a site | [`action`] |
//! | know what happens | [`event`], [`journal`] |
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
pub mod django;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod git;
pub mod host;
pub mod http;
pub mod init;
pub mod journal;
mod keys;
pub mod lock;
pub mod names;
pub mod operations;
pub mod plan;
pub mod python;
pub mod report;
pub mod runner;
pub mod secrets;
pub mod services;
pub mod site;
pub mod smoke;
pub mod state;
pub mod testing;
pub mod update;

pub use action::{Action, ActionError, Context};
pub use command::{Command, quote};
pub use error::error_chain;
pub use host::{Cancel, CommandError, Host, Output, Redactor, Umask, Variables};
/// Times in [`plan`], [`report`] and [`event`] are of this crate.
pub use jiff;
pub use operations::{Change, Check, Operation};
pub use report::error_tail;
pub use site::Site;
