//! The `RECORD` of an installed package: a line for each of its files.
//!
//! Source: <https://packaging.python.org/en/latest/specifications/recording-installed-packages/>

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use csv::StringRecord;
use sha2::{Digest, Sha256};

use super::packages::normalise;
use super::virtualenv::names_in;

/// Returns the records of all packages, relative to the directory of packages, by normalised names.
pub(super) fn records_in(packages: &Path) -> BTreeMap<String, PathBuf> {
    names_in(packages)
        .filter_map(|directory| {
            let (name, _) = directory.strip_suffix(".dist-info")?.split_once('-')?;
            let record = Path::new(&directory).join("RECORD");
            packages.join(&record).is_file().then(|| (normalise(name), record))
        })
        .collect()
}

/// Reads a record.
pub(super) fn read(path: &Path) -> io::Result<Vec<StringRecord>> {
    let text = fs::read(path)?;
    let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text[..]);
    Ok(reader.into_records().collect::<Result<_, _>>()?)
}

/// Returns the file that a line is about, relative to the directory of packages.
pub(super) fn file_of(line: &StringRecord) -> &Path {
    Path::new(line.get(0).unwrap_or_default())
}

/// Returns the line of a file with other contents.
pub(super) fn changed(line: &StringRecord, contents: &[u8]) -> StringRecord {
    let file = line.get(0).unwrap_or_default();
    let hash = format!("sha256={}", hash_of(contents));
    [file, &hash, &contents.len().to_string()].into_iter().collect()
}

/// Returns the text of a record.
pub(super) fn text_of(lines: &[StringRecord]) -> io::Result<Vec<u8>> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    for line in lines {
        writer.write_record(line)?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

/// Tells whether a file is bytecode, which only some installers list and which may be missing.
pub(super) fn is_bytecode(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "pyc")
}

pub(super) fn hash_of(contents: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(contents))
}
