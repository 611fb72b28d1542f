//! Removes a package from the next packages.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::{Next, within};
use crate::host::files::{self, FileError, InPath};
use crate::python::error::PythonError;
use crate::python::packages::Package;
use crate::python::share::records_in;
use crate::python::sources::bytecode_of;
use crate::python::virtualenv::{names_in, site_packages};

impl Next<'_> {
    /// Removes the files of a package, as its record lists them.
    pub(super) fn remove(&self, name: &str, elsewhere: &mut BTreeSet<PathBuf>) -> Result<(), PythonError> {
        let mut is_known = false;
        for (_, packages) in site_packages(self.place) {
            let inside = packages.strip_prefix(self.place).unwrap_or(&packages).to_owned();
            // There may be several of one name where an installation was interrupted.
            while let Some(record) = records_in(&packages).remove(name) {
                is_known = true;
                self.remove_listed(&packages, &inside, &record, elsewhere)?;
                files::remove_tree(files::parent(&packages.join(record)))?;
            }
        }
        if is_known {
            return Ok(());
        }
        let version = self.before.get(name).map(Package::intended).unwrap_or_default();
        Err(PythonError::CannotUpdateInPlace { name: name.to_owned(), version })
    }

    fn remove_listed(
        &self,
        packages: &Path,
        inside: &Path,
        record: &Path,
        elsewhere: &mut BTreeSet<PathBuf>,
    ) -> Result<(), PythonError> {
        let list = packages.join(record);
        let text = fs::read(&list).at("read", &list)?;
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text[..]);
        let mut directories = BTreeSet::new();
        for line in reader.records() {
            let line = line.map_err(io::Error::from).at("read", &list)?;
            let Some(path) = within(inside, Path::new(line.get(0).unwrap_or_default())) else { continue };
            if !path.starts_with(inside) {
                self.keep(&path)?;
                elsewhere.insert(path);
                continue;
            }
            let file = self.place.join(path);
            bytecode_of(&file).iter().try_for_each(|compiled| remove(compiled))?;
            remove(&file)?;
            let above = file.ancestors().skip(1).take_while(|above| *above != packages);
            directories.extend(above.map(Path::to_owned));
        }
        // The deepest first; those that are not empty stay.
        for directory in directories.iter().rev() {
            let _ = fs::remove_dir(directory.join("__pycache__"));
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

pub(super) fn remove(file: &Path) -> Result<(), FileError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", file),
    }
}

/// Returns those of some packages that conda installed, by their normalised names: its records list their files.
pub(crate) fn of_conda(virtualenv: &Path, names: &BTreeSet<String>) -> Result<BTreeSet<String>, FileError> {
    let records = virtualenv.join("conda-meta");
    let mut wanted = Vec::new();
    for (_, packages) in site_packages(virtualenv) {
        let all = names_in(&packages).filter_map(|directory| {
            let stem = directory.strip_suffix(".dist-info").or(directory.strip_suffix(".egg-info"))?;
            let name = crate::python::normalise(stem.split('-').next()?);
            names.contains(&name).then_some((name, directory))
        });
        wanted.extend(all);
    }
    let mut found = BTreeSet::new();
    for file in names_in(&records).filter(|name| name.ends_with(".json")).map(|name| records.join(name)) {
        let text = fs::read(&file).at("read", &file)?;
        let is_listed = |directory: &str| memmem::find(&text, format!("/{directory}").as_bytes()).is_some();
        found.extend(
            wanted.iter().filter(|(_, directory)| is_listed(directory)).map(|(name, _)| name.clone()),
        );
    }
    Ok(found)
}
