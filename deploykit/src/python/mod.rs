//! Python: virtualenvs, the packages in them, and the installers pip and uv.
//!
//! A virtualenv is never changed while a site uses it, but for one that must stay [in its place](in_place). A new one is
//! [built](Build) beside it, at the place where it stays (its scripts hold absolute paths), and [goes live](Switch) by one
//! rename. What is installed is read from the files of the virtualenv, so knowing that nothing is to do costs no start of
//! Python.

mod access;
mod asked;
mod build;
mod bytecode;
mod error;
pub(crate) mod in_place;
mod installer;
mod interpreter;
mod kept;
mod lines;
mod lock;
mod managed;
mod marker;
mod own;
mod packages;
mod placed;
mod record;
mod requirements;
mod resolve;
mod share;
mod sources;
mod switch;
mod virtualenv;
mod wanted;

pub use build::{Build, Built};
pub use error::PythonError;
pub use in_place::Place;
pub use installer::{Installer, Tool, newer_pip};
pub use interpreter::unfit;
pub use kept::keep_newest;
pub use lock::{Lock, LockFileError};
pub use own::OwnFiles;
pub use packages::{Package, PackageChange, Packages, normalise};
pub use placed::Bytecode;
pub use requirements::{LocalRequirement, Requirements};
pub use resolve::{Resolution, Resolved, UpgradeStrategy, read_pip_report, read_uv_output};
pub use sources::Source;
pub use switch::{Switch, Target, kept_originals, prune};
pub use virtualenv::Virtualenv;
pub use wanted::Wanted;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    /// Reads bytes as what installers and their virtualenvs write.
    pub(crate) fn pip(bytes: &[u8]) {
        use super::{installer, packages, resolve};
        let text = String::from_utf8_lossy(bytes);
        let sets =
            [resolve::read_pip_report(bytes), resolve::read_uv_output(&text)].map(Result::unwrap_or_default);
        let _ = (sets[0].changes_to(&sets[1]), sets[1].changes_to(&sets[0]));
        for set in &sets {
            let _ = (set.key("3.11", false), set.constraints(), set.summary());
        }
        let _ = (installer::newer_pip(&text), installer::refusal(&text), resolve::release(&text));
        let _ = (packages::clean_url(&text), packages::normalise(&text));
        super::virtualenv::fuzz(bytes);
    }

    /// Reads bytes as a requirements file.
    pub(crate) use super::requirements::fuzz as requirements;

    /// Reads bytes as a lock file.
    pub(crate) use super::lock::fuzz as lock;
}

pub(crate) use installer::{Budget, find_uv, holds_credentials, index_of_pip};
pub(crate) use interpreter::{Interpreter, Required, is_version};
pub(crate) use lock::LockedSet;
pub(crate) use managed::managed;
pub(crate) use marker::Marker;
pub(crate) use packages::SEEDS;
pub(crate) use sources::{names_without, without};
pub(crate) use switch::remove_half_built;
pub(crate) use virtualenv::{scripts_of, site_packages};
