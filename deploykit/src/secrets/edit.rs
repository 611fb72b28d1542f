//! Sets one secret and leaves everything else as it is.

use std::path::Path;

use super::{Edit, Format, SecretsError, decode, dotenv, json, without_mark};
use crate::host::files;

/// The permissions of a new file: for its owner alone.
const MODE: u32 = 0o600;

/// Adds a secret, or replaces the value of the one with this name, and leaves every other byte of the file as it is.
///
/// In JSON the value becomes a string of the outermost object. The file is written whole or not at all and keeps its
/// permissions; a new one is for its owner alone. Where a name occurs several times, its last entry counts and is replaced.
///
/// # Errors
///
/// When the file cannot be read or written, the name or value cannot stand in it, or another program changes it meanwhile.
pub fn set(path: &Path, name: &str, value: &str) -> Result<(), SecretsError> {
    let old = contents(path)?;
    let new = with(Edit { path, name, value }, old.as_deref().unwrap_or_default())?;
    // Editors do not lock such a file: what a person saved meanwhile must not be lost.
    if contents(path)? != old {
        return Err(SecretsError::Changed { path: path.to_owned() });
    }
    if old.as_deref() != Some(new.as_bytes()) {
        files::write_whole(path, new.as_bytes(), MODE)?;
    }
    Ok(())
}

/// Returns the contents with the secret in them.
pub(super) fn with(edit: Edit, contents: &[u8]) -> Result<String, SecretsError> {
    let (mark, text) = without_mark(decode(edit.path, contents)?);
    let format = Format::of(edit.path, text);
    if !is_name(format, edit.name) {
        return Err(SecretsError::Name { name: edit.name.to_owned(), path: edit.path.to_owned() });
    }
    let text = match format {
        Format::Json => json::set(&edit, text)?,
        Format::Dotenv => dotenv::set(&edit, text)?,
    };
    Ok(format!("{mark}{text}"))
}

fn is_name(format: Format, name: &str) -> bool {
    match format {
        Format::Json => !name.trim().is_empty() && !name.contains(char::is_control),
        Format::Dotenv => crate::host::dotenv::is_name(name),
    }
}

/// Returns what is in a file; `None`: there is no file.
fn contents(path: &Path) -> Result<Option<Vec<u8>>, SecretsError> {
    files::read(path).map_err(|source| SecretsError::Read { path: path.to_owned(), source })
}

/// Reads bytes as a secrets file of either format, and sets a secret in it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    for path in ["secrets.json", ".env", "secrets"].map(Path::new) {
        let _ = super::SecretsFile::parse(path, bytes);
        for name in ["SECRET_KEY", "NEW"] {
            if let Ok(new) = with(Edit { path, name, value: "a \"b\" c" }, bytes) {
                let read = super::SecretsFile::parse(path, new.as_bytes());
                assert!(read.is_ok_and(|file| file.names().contains(name)), "{new}");
            }
        }
    }
}
