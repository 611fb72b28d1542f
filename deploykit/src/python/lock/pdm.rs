//! `pdm.lock`.
//!
//! Source: <https://pdm-project.org/en/latest/usage/lockfile/>

use serde_json::{Map, Value, json};

use super::content_hash::hash;
use super::index::with_person;
use super::{Format, LockFileError, Locked, LockedSet, Reading, Source, git_url, items, keys, text, texts};
use crate::python::packages::normalise;

pub(super) const FORMAT: Format =
    Format { name: "pdm.lock", manifest: Some("pyproject.toml"), update: "pdm lock", read };

/// The group of the project's own dependencies.
const DEFAULT: &str = "default";

fn read(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let (data, manifest) = (&reading.data, &reading.manifest);
    let metadata = data.get("metadata").unwrap_or(&Value::Null);
    let version = text(metadata, "lock_version").unwrap_or_default();
    if !version.starts_with("4.") {
        return Err(reading.other_version(format!("lock_version `{version}`"), "`4`"));
    }
    // Without it, packages do not say which groups they belong to.
    if !texts(metadata, "strategy").any(|strategy| strategy == "inherit_metadata") {
        return Err(
            reading.other_version("no strategy `inherit_metadata`".to_owned(), "PDM's default strategies")
        );
    }
    let recorded = text(metadata, "content_hash").unwrap_or_default();
    if recorded != format!("sha256:{}", content_hash(manifest)) {
        return Err(reading.stale());
    }
    // A lock has extras among its groups.
    let extras: Vec<&str> = keys(manifest.pointer("/project/optional-dependencies")).collect();
    let locked = |is_extra: bool| {
        let is_one = |name: &str| extras.iter().any(|extra| normalise(extra) == normalise(name));
        texts(metadata, "groups").filter(move |name| *name != DEFAULT && is_one(name) == is_extra)
    };
    reading.has_all("group", locked(false))?;
    reading.has_all("extra", locked(true))?;
    let targets: Vec<&str> =
        items(metadata, "targets").filter_map(|target| text(target, "requires_python")).collect();
    reading.is_for_this_python((!targets.is_empty()).then(|| targets.join("||")).as_deref())?;
    let mut set = LockedSet::default();
    let default = add_sources(reading, &mut set)?;
    for entry in items(data, "package") {
        let name = reading.name_of(entry)?;
        let is_wanted = texts(entry, "groups").any(|group| {
            let (markers, group_name) = (&reading.markers, normalise(group));
            group == DEFAULT || markers.groups.contains(&group_name) || markers.extras.contains(&group_name)
        });
        if is_wanted && reading.meets(name, text(entry, "marker"))? {
            set.add(package(reading, name, entry, default.as_ref())?, &reading.lock.file)?;
        }
    }
    Ok(set)
}

/// Adds the indexes of the project, which the lock does not name: each of them may have each package. Returns the one that
/// takes the place of PyPI.
fn add_sources(reading: &Reading<'_>, set: &mut LockedSet) -> Result<Option<String>, LockFileError> {
    let own = reading.manifest.pointer("/tool/pdm").unwrap_or(&Value::Null);
    let mut default = None;
    for source in items(own, "source") {
        let name = text(source, "name").unwrap_or_default();
        let Some(written) = text(source, "url") else { continue };
        let person = |key| text(source, key).map(|written| reading.with_variables(name, written)).transpose();
        let url = reading.with_variables(name, written)?;
        let url = with_person(&url, person("username")?.as_deref(), person("password")?.as_deref());
        set.trust(reading, source)?;
        if text(source, "type") == Some("find_links") {
            set.links.push(url);
        } else if name == "pypi" {
            default = Some(url);
        } else {
            set.indexes.push(url);
        }
    }
    Ok(default)
}

fn package(
    reading: &Reading<'_>,
    name: &str,
    entry: &Value,
    default: Option<&String>,
) -> Result<Locked, LockFileError> {
    let version = text(entry, "version").unwrap_or_default();
    let hashes = items(entry, "files").filter_map(|file| text(file, "hash")).map(str::to_owned).collect();
    let source = if let Some(url) = text(entry, "git") {
        let field = |key| text(entry, key).unwrap_or_default().to_owned();
        Source::Git { url: git_url(url), commit: field("revision"), subdirectory: field("subdirectory") }
    } else if let Some(url) = text(entry, "url") {
        Source::Archive(url.to_owned())
    } else if let Some(path) = text(entry, "path") {
        return reading.file(name, entry, path, hashes);
    } else {
        Source::Index(default.cloned())
    };
    Ok(Locked { name: name.to_owned(), version: version.to_owned(), hashes, source })
}

/// Source: `content_hash` in <https://github.com/pdm-project/pdm/blob/main/src/pdm/project/project_file.py>
fn content_hash(manifest: &Value) -> String {
    let part = |pointer: &str, default: Value| manifest.pointer(pointer).cloned().unwrap_or(default);
    let mut groups: Map<String, Value> = Map::new();
    for pointer in ["/dependency-groups", "/tool/pdm/dev-dependencies"] {
        for (name, wanted) in manifest.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
            let group = groups.entry(normalise(name)).or_insert_with(|| json!([]));
            if let (Value::Array(group), Value::Array(wanted)) = (group, wanted) {
                group.extend(wanted.iter().cloned());
            }
        }
    }
    let content = json!({
        "sources": part("/tool/pdm/source", json!([])),
        "dependencies": part("/project/dependencies", json!([])),
        "dev-dependencies": groups,
        "optional-dependencies": part("/project/optional-dependencies", json!({})),
        "requires-python": part("/project/requires-python", json!("")),
        "resolution": part("/tool/pdm/resolution", json!({})),
    });
    hash(&content, false)
}
