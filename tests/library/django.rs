//! The booted Django process against real sites.

mod announcing;
mod booting;
mod collecting;
mod history;
mod losing;
mod migrating;
