//! The rehearsal of updates on copies of the databases.

mod canaries;
mod copies;
mod ended;
mod locks;
mod migrations;
mod programs;
mod releases;
mod servers;
