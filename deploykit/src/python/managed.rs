//! Packages that neither pip nor uv installed, but conda or the package manager of the system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::packages::normalise;
use super::virtualenv::{names_in, of_conda, site_packages};
use crate::host::files::FileError;

pub(crate) const CONDA: &str = "conda";

/// What the file `INSTALLER` says, and the program that is meant.
///
/// Source: <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>
const MANAGERS: [(&str, &str); 2] = [("rpm", "rpm"), ("debian", "dpkg")];

/// Returns those of some packages that such a program installed, by their normalised names, with the program.
pub(crate) fn managed(
    virtualenv: &Path,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, &'static str>, FileError> {
    let mut found = BTreeMap::new();
    for (_, packages) in site_packages(virtualenv) {
        let directories: Vec<String> = names_in(&packages)
            .filter(|directory| name_of(directory).is_some_and(|name| names.contains(&name)))
            .collect();
        for directory in &directories {
            let installer =
                fs::read_to_string(packages.join(directory).join("INSTALLER")).unwrap_or_default();
            let manager = MANAGERS.iter().find(|(said, _)| *said == installer.trim());
            found.extend(manager.and_then(|(_, program)| Some((name_of(directory)?, *program))));
        }
        // Many packages of conda say `pip`.
        let of_conda = of_conda(virtualenv, &packages, directories)?;
        found.extend(of_conda.iter().filter_map(|directory| Some((name_of(directory)?, CONDA))));
    }
    Ok(found)
}

/// Returns the normalised name of the package that a directory such as `six-1.dist-info` describes.
fn name_of(directory: &str) -> Option<String> {
    let stem = directory.strip_suffix(".dist-info").or(directory.strip_suffix(".egg-info"))?;
    stem.split('-').next().map(normalise)
}
