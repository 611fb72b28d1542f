//! Removes a package from the next packages.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Next, within};
use crate::host::files::{self, FileError, InPath};
use crate::python::error::PythonError;
use crate::python::packages::Package;
use crate::python::record::{self, records_in};
use crate::python::sources::bytecode_of;
use crate::python::virtualenv::site_packages;

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
        list: &Path,
        elsewhere: &mut BTreeSet<PathBuf>,
    ) -> Result<(), PythonError> {
        let list = packages.join(list);
        let mut directories = BTreeSet::new();
        for line in record::read(&list).at("read", &list)? {
            let Some(path) = within(inside, record::file_of(&line)) else { continue };
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
