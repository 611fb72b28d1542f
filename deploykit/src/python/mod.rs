//! Python: virtualenvs, the packages in them, and the installers pip and uv.
//!
//! A virtualenv is never changed while a site uses it. A new one is [built](Build) beside it, at the place where it stays
//! (its scripts hold absolute paths), and [goes live](Switch) by one rename. What is installed is read from the files of
//! the environment, so knowing that nothing is to do costs no start of Python.

mod build;
mod error;
mod installer;
mod packages;
mod requirements;
mod resolve;
mod seeds;
mod switch;
mod virtualenv;

pub use build::{Build, Built, COMPLETE};
pub use error::PythonError;
pub use installer::{Installer, Tool, newer_pip};
pub use packages::{Package, PackageChange, Packages, normalise};
pub use requirements::{LocalRequirement, Requirements};
pub use resolve::{Resolution, Resolved, read_pip_report, read_uv_output};
pub use switch::{Switch, Target, kept_originals, prune};
pub use virtualenv::Virtualenv;

pub(crate) use build::vacant;
pub(crate) use installer::{find_uv, holds_credentials};
pub(crate) use switch::remove_half_built;
