//! Packages that conda installed.

use std::fs;
use std::path::Path;

use memchr::memmem;

use super::names_in;
use crate::host::files::{FileError, InPath};
use crate::names::PACKAGES;

/// Returns those of some directories such as `six-1.dist-info` that conda brought: `INSTALLER` or its own records say so.
pub(crate) fn of_conda(
    path: &Path,
    packages: &Path,
    directories: Vec<String>,
) -> Result<Vec<String>, FileError> {
    let installer = |name: &str| fs::read_to_string(packages.join(name).join("INSTALLER"));
    let is_said = |name: &String| installer(name).is_ok_and(|said| said.trim() == "conda");
    let (mut found, others): (Vec<_>, Vec<_>) = directories.into_iter().partition(is_said);
    if others.is_empty() {
        return Ok(found);
    }
    // What is prepared or kept inside the virtualenv has no such records.
    let places = path.parent().filter(|places| places.ends_with(PACKAGES));
    let records = places.and_then(Path::parent).unwrap_or(path).join("conda-meta");
    let files = names_in(&records).filter(|name| name.ends_with(".json")).map(|name| records.join(name));
    let texts = files.map(|file| fs::read(&file).at("read", &file));
    let texts = texts.collect::<Result<Vec<Vec<u8>>, FileError>>()?;
    let is_listed = |name: &String| {
        // An `egg-info` may be a file.
        let part = format!("/{name}");
        texts.iter().any(|text| memmem::find(text, part.as_bytes()).is_some())
    };
    found.extend(others.into_iter().filter(is_listed));
    Ok(found)
}
