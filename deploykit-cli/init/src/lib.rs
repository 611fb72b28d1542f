//! Looks at a site's checkout and proposes its `deploykit.toml`: the `init` of deploykit's command line.
//!
//! [`look`] reads and starts nothing of the site's own: settings are Python files whose assignments are read as text,
//! service files are parsed, git is asked for branch and remote. What it found, and where, stands in [`Findings`];
//! [`Findings::to_toml`] is a pure function of it. What could not be found, or could be more than one thing, is a
//! [`Question`] with the line of the file that waits for the answer.
//!
//! The caller may boot Django and ask for pages, and hand in the answers: [`Findings::ask_django`], [`Findings::pages_answered`].
//!
//! `read/` has one file for each source, and decides nothing. `choose/` decides what is the site's. `write.rs` writes.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

mod asked;
mod choose;
mod compare;
mod error;
mod findings;
mod look;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use asked::Broken;
pub use compare::Difference;
pub use error::InitError;
pub use findings::{Findings, Question};
pub use look::{Request, look};
pub use open::open_questions;
