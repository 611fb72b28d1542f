//! `poetry.lock` of Poetry 2.
//!
//! Source: <https://github.com/python-poetry/poetry/blob/main/src/poetry/packages/locker.py>

use serde_json::{Map, Value, json};

use super::content_hash::hash;
use super::index::OF_POETRY;
use super::{Format, LockFileError, Locked, LockedSet, Reading, Source, git_url, items, keys, text, texts};
use crate::python::packages::normalise;

pub(super) const FORMAT: Format =
    Format { name: "poetry.lock", manifest: Some("pyproject.toml"), update: "poetry lock", read };

/// The group of the project's own dependencies.
const MAIN: &str = "main";

fn read(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let (data, manifest) = (&reading.data, &reading.manifest);
    let metadata = data.get("metadata").unwrap_or(&Value::Null);
    let version = text(metadata, "lock-version").unwrap_or_default();
    // Those of Poetry 1 do not say which package belongs to which group.
    if !version.starts_with("2.") || version == "2.0" {
        return Err(
            reading.other_version(format!("lock-version `{version}`"), "`2.1`, which Poetry 2 writes")
        );
    }
    let recorded = text(metadata, "content-hash").unwrap_or_default();
    if !content_hashes(manifest).iter().any(|hash| hash == recorded) {
        return Err(reading.stale());
    }
    let groups = items(data, "package").flat_map(|entry| texts(entry, "groups"));
    let declared =
        keys(manifest.get("dependency-groups")).chain(keys(manifest.pointer("/tool/poetry/group")));
    reading.has_all("group", groups.chain(declared))?;
    reading.has_all("extra", keys(data.get("extras")))?;
    reading.is_for_this_python(text(metadata, "python-versions"))?;
    let mut set = LockedSet::default();
    for entry in items(data, "package") {
        let name = reading.name_of(entry)?;
        if is_wanted(reading, name, entry)? {
            set.add(package(reading, name, entry)?, &reading.lock.file)?;
        }
    }
    Ok(set)
}

/// Tells whether a wanted group has the package here. Its marker may be one for all groups, or one for each.
fn is_wanted(reading: &Reading<'_>, name: &str, entry: &Value) -> Result<bool, LockFileError> {
    let markers = entry.get("markers");
    for group in texts(entry, "groups") {
        if group != MAIN && !reading.markers.groups.contains(&normalise(group)) {
            continue;
        }
        let marker = markers.and_then(|markers| markers.as_str().or_else(|| text(markers, group)));
        if reading.meets(name, marker)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn package(reading: &Reading<'_>, name: &str, entry: &Value) -> Result<Locked, LockFileError> {
    let version = text(entry, "version").unwrap_or_default();
    let hashes = items(entry, "files").filter_map(|file| text(file, "hash")).map(str::to_owned).collect();
    let source = entry.get("source").unwrap_or(&Value::Null);
    let field = |key| text(source, key).unwrap_or_default();
    let source = match field("type") {
        "" => Source::Index(None),
        "legacy" => {
            Source::Index(Some(reading.with_credentials(OF_POETRY, field("reference"), field("url"))))
        }
        "url" => Source::Archive(field("url").to_owned()),
        "git" => Source::Git {
            url: git_url(field("url")),
            commit: field("resolved_reference").to_owned(),
            subdirectory: field("subdirectory").to_owned(),
        },
        "file" => return reading.file(name, entry, field("url"), hashes),
        "directory" => {
            let editable = entry.get("develop").and_then(Value::as_bool).unwrap_or_default();
            return Ok(reading.directory(name, field("url"), editable));
        }
        kind => return Err(reading.unreadable(format!("`{name}` has a source of the unknown type `{kind}`"))),
    };
    Ok(Locked { name: name.to_owned(), version: version.to_owned(), hashes, source })
}

/// Returns the hashes that the lock of this project has: of Poetry from 2.3 on, which counts `[dependency-groups]`, and of
/// earlier ones.
fn content_hashes(manifest: &Value) -> [String; 2] {
    let table =
        |pointer: &str| manifest.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
    let (project, poetry) = (table("/project"), table("/tool/poetry"));
    let part = |table: &Map<String, Value>, keys: &[&str]| -> Map<String, Value> {
        let present = keys.iter().filter_map(|key| Some(((*key).to_owned(), table.get(*key)?.clone())));
        present.collect()
    };
    let project = part(&project, &["requires-python", "dependencies", "optional-dependencies"]);
    let former = ["dependencies", "source", "extras", "dev-dependencies"];
    let poetry = part(&poetry, &[&former[..], &["group"]].concat());
    [table("/dependency-groups"), Map::new()].map(|groups| {
        let mut content = Map::new();
        if project.is_empty() && groups.is_empty() {
            content = poetry.clone();
            for key in former {
                content.entry(key).or_insert(Value::Null);
            }
        } else {
            content.insert("tool".to_owned(), json!({ "poetry": poetry }));
        }
        for (key, part) in [("project", &project), ("dependency-groups", &groups)] {
            if !part.is_empty() {
                content.insert(key.to_owned(), Value::Object(part.clone()));
            }
        }
        hash(&Value::Object(content), false)
    })
}
