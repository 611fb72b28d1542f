//! The booted Django process against real sites.

mod announcing;
mod booting;
mod collecting;
mod forking;
mod history;
mod losing;
mod migrating;
mod old_code;
