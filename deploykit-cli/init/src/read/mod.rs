//! Reads what files and git say, one source per file; nothing is decided here.

mod apache;
pub(crate) mod around;
mod caddy;
pub(crate) mod cron;
mod expression;
pub(crate) mod files;
pub(crate) mod front;
pub(crate) mod git;
pub(crate) mod hints;
pub(crate) mod literals;
pub(crate) mod nginx;
pub(crate) mod program;
mod script;
pub(crate) mod scripts;
pub(crate) mod settings;
mod supervisor;
mod systemd;
mod uwsgi;
