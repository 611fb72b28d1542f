//! `pylock.toml`, the format of the Python packaging specifications.
//!
//! Source: <https://packaging.python.org/en/latest/specifications/pylock-toml/>

use serde_json::Value;

use super::{Format, LockFileError, Locked, LockedSet, Reading, Source, git_url, items, text, texts};
use crate::python::packages::normalise;

pub(super) const FORMAT: Format = Format { name: "pylock.toml", manifest: None, update: "", read };

pub(super) const NAMED: Format = Format { name: "pylock.*.toml", ..FORMAT };

pub(super) fn read(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let data = &reading.data;
    let version = text(data, "lock-version").unwrap_or_default();
    if !version.starts_with("1.") {
        return Err(reading.other_version(format!("lock-version `{version}`"), "`1.0`"));
    }
    reading.has_all("group", texts(data, "dependency-groups"))?;
    reading.has_all("extra", texts(data, "extras"))?;
    let mut markers = reading.markers.clone();
    if reading.lock.groups.is_empty() {
        markers.groups = texts(data, "default-groups").map(normalise).collect();
    }
    packages(&Reading { lock: reading.lock, data: data.clone(), manifest: Value::Null, markers, ..*reading })
}

/// Reads the packages of a lock whose groups and extras are known to be there.
pub(super) fn packages(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let data = &reading.data;
    reading.is_for_this_python(text(data, "requires-python"))?;
    let environments: Vec<&str> = texts(data, "environments").collect();
    let mut is_here = environments.is_empty();
    for marker in &environments {
        is_here |= reading.meets("environments", Some(marker))?;
    }
    if !is_here {
        let environments = environments.into_iter().map(str::to_owned).collect();
        return Err(LockFileError::OtherPlatform { file: reading.lock.file.clone(), environments });
    }
    let mut set = LockedSet::default();
    for entry in items(data, "packages") {
        let name = reading.name_of(entry)?;
        if reading.meets(name, text(entry, "marker"))?
            && let Some(locked) = package(reading, name, entry)?
        {
            set.add(locked, &reading.lock.file)?;
        }
    }
    Ok(set)
}

/// Reads one entry; `None`: it is the project itself.
fn package(reading: &Reading<'_>, name: &str, entry: &Value) -> Result<Option<Locked>, LockFileError> {
    let version = text(entry, "version").unwrap_or_default();
    let locked =
        |hashes, source| Locked { name: name.to_owned(), version: version.to_owned(), hashes, source };
    if let Some(directory) = entry.get("directory") {
        let path = text(directory, "path").unwrap_or_default();
        let editable = directory.get("editable").and_then(Value::as_bool).unwrap_or_default();
        return Ok((path != ".").then(|| reading.directory(name, path, editable)));
    }
    if let Some(vcs) = entry.get("vcs") {
        let kind = text(vcs, "type").unwrap_or_default();
        if kind != "git" {
            return Err(reading.unreadable(format!("`{name}` has the VCS type `{kind}`, expected `git`")));
        }
        let field = |key| text(vcs, key).unwrap_or_default();
        return Ok(Some(locked(
            Vec::new(),
            Source::Git {
                url: git_url(field("url")),
                commit: field("commit-id").to_owned(),
                subdirectory: field("subdirectory").to_owned(),
            },
        )));
    }
    if let Some(archive) = entry.get("archive") {
        let hashes = hash(archive).into_iter().collect();
        return match (text(archive, "url"), text(archive, "path")) {
            (Some(url), _) => {
                let subdirectory = text(archive, "subdirectory");
                let fragment = subdirectory.map(|name| format!("#subdirectory={name}")).unwrap_or_default();
                Ok(Some(locked(hashes, Source::Archive(format!("{url}{fragment}")))))
            }
            (None, Some(path)) => reading.file(name, entry, path, hashes).map(Some),
            (None, None) => {
                Err(reading.unreadable(format!("the archive of `{name}` has neither `url` nor `path`")))
            }
        };
    }
    let files = || entry.get("sdist").into_iter().chain(items(entry, "wheels"));
    let hashes: Vec<String> = files().filter_map(hash).collect();
    let is_here = |file: &Value| text(file, "url").is_none() && text(file, "index").is_none();
    if let Some(path) = files().filter(|file| is_here(file)).find_map(|file| text(file, "path")) {
        return reading.file(name, entry, path, hashes).map(Some);
    }
    Ok(Some(locked(hashes, Source::Index(text(entry, "index").map(str::to_owned)))))
}

/// Returns the hash of a file that installers check: `sha256:…`.
fn hash(file: &Value) -> Option<String> {
    let hashes = file.get("hashes")?;
    ["sha256", "sha384", "sha512"].iter().find_map(|name| Some(format!("{name}:{}", text(hashes, name)?)))
}
