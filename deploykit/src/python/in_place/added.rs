//! Adds a package of the staged virtualenv to the next packages.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::{Next, create, within};
use crate::host::files::{self, FileError, Found, InPath};
use crate::python::error::PythonError;
use crate::python::own::replace;
use crate::python::packages::Package;
use crate::python::share::{LONGEST_FIRST_LINE, hash_of, records_in, share};
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
            let record = records_in(&packages).remove(name)?;
            Some((packages, record))
        });
        let (packages, record) = found.ok_or_else(not_known)?;
        let inside = packages.strip_prefix(self.staged).unwrap_or(&packages).to_owned();
        let list = packages.join(&record);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_path(&list)
            .map_err(|error| FileError { what: "read", path: list.clone(), source: error.into() })?;
        let mut writer =
            csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        for line in reader.records() {
            let mut line = line.map_err(io::Error::from).at("read", &list)?;
            let file = line.get(0).unwrap_or_default().to_owned();
            let path = within(&inside, Path::new(&file)).ok_or_else(not_known)?;
            let (from, to) = (self.staged.join(&path), self.place.join(&path));
            let is_compiled = path.extension().is_some_and(|ending| ending == "pyc");
            if is_compiled || Path::new(&file) == record {
            } else if path.starts_with(&inside) {
                self.names_nothing_staged(name, &from)?;
                // What is there is nobody's, or another package's that has the same file.
                files::remove_file(&to)?;
                share(&from, &to).at("copy", &from)?;
            } else {
                let contents = self.of_the_live(fs::read(&from).at("read", &from)?);
                let hash = format!("sha256={}", hash_of(&contents));
                line = [&file, &hash, &contents.len().to_string()].into_iter().collect();
                create(files::parent(&to))?;
                fs::write(&to, contents).at("write", &to)?;
                let mode = fs::metadata(&from).at("look at", &from)?.permissions();
                fs::set_permissions(&to, mode).at("write", &to)?;
                self.keep(&path)?;
                elsewhere.insert(path);
            }
            writer.write_record(&line).map_err(io::Error::from).at("read", &list)?;
        }
        let text = writer.into_inner().map_err(|error| error.into_error()).at("read", &list)?;
        let list = self.place.join(&inside).join(&record);
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
            for record in records.filter(|record| self.place.join(inside).join(record).exists()) {
                let list = packages.join(&record);
                let text = fs::read(&list).at("read", &list)?;
                let mut reader =
                    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text[..]);
                for line in reader.records() {
                    let line = line.map_err(io::Error::from).at("read", &list)?;
                    let path = within(inside, Path::new(line.get(0).unwrap_or_default()));
                    let Some(path) = path.filter(|path| path.starts_with(inside)) else { continue };
                    let (from, to) = (self.staged.join(&path), self.place.join(&path));
                    let is_compiled = path.extension().is_some_and(|ending| ending == "pyc");
                    if !is_compiled && files::look(&to) == Found::Nothing && files::look(&from) == Found::File
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
