//! The update, rehearsed on a copy of the site.

mod copies;
mod releases;
mod servers;
