//! The update, rehearsed on a copy of the site.

mod canaries;
mod copies;
mod ended;
mod locks;
mod migrations;
mod programs;
mod releases;
mod servers;
