//! Packages that neither pip nor uv installed, but conda or the package manager of the system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::in_place::of_conda;
use super::packages::normalise;
use super::virtualenv::{names_in, site_packages};
use crate::host::files::FileError;

pub(crate) const CONDA: &str = "conda";

/// What the file `INSTALLER` says, and the program that is meant.
///
/// Source: <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>
const MANAGERS: [(&str, &str); 3] = [(CONDA, CONDA), ("rpm", "rpm"), ("debian", "dpkg")];

/// Returns those of some packages that such a program installed, by their normalised names, with the program.
pub(crate) fn managed(
    virtualenv: &Path,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, &'static str>, FileError> {
    let mut found = BTreeMap::new();
    for (_, packages) in site_packages(virtualenv) {
        for directory in names_in(&packages) {
            let stem = directory.strip_suffix(".dist-info").and_then(|stem| stem.split('-').next());
            let Some(name) = stem.map(normalise).filter(|name| names.contains(name)) else { continue };
            let installer =
                fs::read_to_string(packages.join(&directory).join("INSTALLER")).unwrap_or_default();
            let manager = MANAGERS.iter().find(|(said, _)| *said == installer.trim());
            found.extend(manager.map(|(_, program)| (name, *program)));
        }
    }
    // Many packages of conda say `pip`.
    found.extend(of_conda(virtualenv, names)?.into_iter().map(|name| (name, CONDA)));
    Ok(found)
}
