//! What packages brought into a virtualenv, as far as their records say.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::names;
use crate::python::virtualenv::{file_of_record, lines_of, site_packages};

/// What packages brought.
pub(super) struct Packaged {
    /// The directories of packages, from the top of the virtualenv.
    pub(super) directories: Vec<PathBuf>,
    /// Files, and directories that are a package's own in an older form of installation.
    owned: HashSet<PathBuf>,
}

impl Packaged {
    pub(super) fn read(virtualenv: &Path) -> Self {
        let mut packaged = Packaged { directories: Vec::new(), owned: HashSet::new() };
        for (_, directory) in site_packages(virtualenv) {
            let Ok(inside) = directory.strip_prefix(virtualenv).map(Path::to_owned) else { continue };
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                if name.ends_with(".dist-info") {
                    packaged.add(&inside, &path.join("RECORD"), file_of_record);
                } else if name.ends_with(".egg-info")
                    && !packaged.add(&inside.join(&*name), &path.join("installed-files.txt"), |line| line)
                {
                    packaged.add(&inside, &path.join("top_level.txt"), |line| line);
                    let single = path.join("top_level.txt");
                    let tops = fs::read_to_string(single).unwrap_or_default();
                    packaged.owned.extend(tops.lines().map(|top| inside.join(format!("{top}.py"))));
                }
            }
            packaged.directories.push(inside);
        }
        packaged
    }

    /// Adds what a list names, relative to `base`; tells whether there is one.
    fn add(&mut self, base: &Path, list: &Path, file: impl Fn(&[u8]) -> &[u8]) -> bool {
        let Ok(text) = fs::read(list) else { return false };
        for line in lines_of(&text) {
            let name = file(line.trim_ascii_end());
            if !name.is_empty() {
                self.owned.insert(names::normal(&base.join(std::ffi::OsStr::from_bytes(name))));
            }
        }
        true
    }

    pub(super) fn owns(&self, path: &Path) -> bool {
        self.owned.contains(path)
    }
}
