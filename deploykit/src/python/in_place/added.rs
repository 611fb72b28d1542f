//! Adds a package of the staged virtualenv to the next packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::{Next, create, within};
use crate::host::files::{self, Found, InPath};
use crate::python::error::PythonError;
use crate::python::own::replace;
use crate::python::packages::Package;
use crate::python::record::{self, is_bytecode, records_in};
use crate::python::share::{LONGEST_FIRST_LINE, share};
use crate::python::virtualenv::{Virtualenv, site_packages};

/// Maximum size, in bytes, of a file that is searched for paths; larger ones are hardly text.
const TEXT: u64 = 1_000_000;

impl Next<'_> {
    /// Adds a package of the staged virtualenv.
    pub(super) fn add(&self, name: &str, elsewhere: &mut BTreeSet<PathBuf>) -> Result<(), PythonError> {
        let not_known = || {
            let installed = Virtualenv::installed(self.staged);
            let version = installed.get(name).map(Package::intended).unwrap_or_default();
            PythonError::CannotUpdateInPlace { name: name.to_owned(), version }
        };
        let found = site_packages(self.staged).into_iter().find_map(|(_, packages)| {
            let list = records_in(&packages).remove(name)?;
            Some((packages, list))
        });
        let (packages, name_of_list) = found.ok_or_else(not_known)?;
        let inside = packages.strip_prefix(self.staged).unwrap_or(&packages).to_owned();
        let list = packages.join(&name_of_list);
        let mut lines = record::read(&list).at("read", &list)?;
        for line in &mut lines {
            let file = record::file_of(line);
            let path = within(&inside, file).ok_or_else(not_known)?;
            let (from, to) = (self.staged.join(&path), self.place.join(&path));
            if is_bytecode(file) || file == name_of_list {
            } else if path.starts_with(&inside) {
                self.names_nothing_staged(name, &from)?;
                // What is there is nobody's, or another package's that has the same file.
                files::remove_file(&to)?;
                share(&from, &to).at("copy", &from)?;
            } else {
                let contents = self.of_the_live(fs::read(&from).at("read", &from)?);
                *line = record::changed(line, &contents);
                create(files::parent(&to))?;
                fs::write(&to, contents).at("write", &to)?;
                let mode = fs::metadata(&from).at("look at", &from)?.permissions();
                fs::set_permissions(&to, mode).at("write", &to)?;
                self.keep(&path)?;
                elsewhere.insert(path);
            }
        }
        let text = record::text_of(&lines).at("read", &list)?;
        let list = self.place.join(&inside).join(name_of_list);
        // The staged one may be the same file.
        files::remove_file(&list)?;
        Ok(files::write_whole(&list, &text, 0o644)?)
    }

    /// Returns what a file is in the live virtualenv: its programs name its Python.
    pub(super) fn of_the_live(&self, contents: Vec<u8>) -> Vec<u8> {
        let bytes = |path: &Path| std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec();
        if contents.contains(&0) {
            return contents;
        }
        let mut staged = vec![self.staged.to_owned()];
        staged.extend(fs::canonicalize(self.staged));
        let live = bytes(self.virtualenv);
        let contents =
            staged.iter().fold(contents, |contents, staged| replace(&contents, &bytes(staged), &live));
        let end = contents.iter().position(|byte| *byte == b'\n').unwrap_or(contents.len());
        let first = &contents[..end];
        let is_short = end <= LONGEST_FIRST_LINE && !first.contains(&b' ');
        let python = bytes(&self.virtualenv.join("bin/python"));
        if is_short || !first.starts_with(&[b"#!", &python[..]].concat()) {
            return contents;
        }
        // As pip writes it.
        let start = [b"#!/bin/sh\n'''exec' \"", &python[..], b"\" \"$0\" \"$@\"\n' '''"].concat();
        [&start, &contents[end..]].concat()
    }

    /// Refuses a file that leads back to the staged virtualenv, which does not stay: an editable package of a Git repository lies there.
    fn names_nothing_staged(&self, name: &str, file: &Path) -> Result<(), PythonError> {
        let found = fs::symlink_metadata(file).at("look at", file)?;
        if !found.is_file() || found.len() > TEXT {
            return Ok(());
        }
        let staged = std::os::unix::ffi::OsStrExt::as_bytes(self.staged.as_os_str());
        match memmem::find(&fs::read(file).at("read", file)?, staged) {
            Some(_) => Err(PythonError::NamesStaged { name: name.to_owned(), file: file.to_owned() }),
            None => Ok(()),
        }
    }

    /// Adds what the staged virtualenv's packages list and the next packages lack: a package that went may have had a file of
    /// the same name.
    pub(super) fn complete(&self) -> Result<(), PythonError> {
        for (_, packages) in site_packages(self.staged) {
            let inside = packages.strip_prefix(self.staged).unwrap_or(&packages);
            let records = records_in(&packages).into_values();
            // Another version of pip stays what it is.
            for list in records.filter(|list| self.place.join(inside).join(list).exists()) {
                let list = packages.join(list);
                for line in record::read(&list).at("read", &list)? {
                    let path = within(inside, record::file_of(&line));
                    let Some(path) = path.filter(|path| path.starts_with(inside)) else { continue };
                    let (from, to) = (self.staged.join(&path), self.place.join(&path));
                    if !is_bytecode(&path)
                        && files::look(&to) == Found::Nothing
                        && files::look(&from) == Found::File
                    {
                        create(files::parent(&to))?;
                        share(&from, &to).at("copy", &from)?;
                    }
                }
            }
        }
        Ok(())
    }
}
