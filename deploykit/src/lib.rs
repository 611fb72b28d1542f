//! deploykit
mod command;
pub mod host;

pub mod action;
pub mod django;
pub mod git;
pub mod http;
pub mod init;
pub mod operations;
pub mod python;
pub mod secrets;
pub mod services;

pub use action::{Action, ActionError, Context};
pub use command::Command;
pub use host::{Cancel, CommandError, Environment, Host, Output, Redactor};
pub use operations::{Change, Check, Operation};
