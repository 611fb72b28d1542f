//! The rehearsal of updates on copies of the databases.

mod canaries;
mod copies;
mod ended;
mod locks;
mod migrations;
mod missing;
mod programs;
mod redis;
mod releases;
mod rows;
mod scratch;
mod servers;
mod way_back;
