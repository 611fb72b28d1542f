//! `Pipfile.lock` of Pipenv.
//!
//! Source: <https://pipenv.pypa.io/en/latest/pipfile.html>, `calculate_hash` in
//! <https://github.com/pypa/pipenv/blob/main/pipenv/utils/pipfile.py>

use serde_json::{Map, Value, json};

use super::content_hash::hash;
use super::{Format, LockFileError, Locked, LockedSet, Reading, Source, git_url, items, keys, text, texts};
use crate::python::packages::normalise;

pub(super) const FORMAT: Format =
    Format { name: "Pipfile.lock", manifest: Some("Pipfile"), update: "pipenv lock", read };

/// Sections of a `Pipfile` that are no categories of packages.
const SECTIONS: [&str; 9] =
    ["source", "packages", "dev-packages", "requires", "scripts", "pipfile", "pipenv", "default", "develop"];

fn read(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let data = &reading.data;
    let meta = data.get("_meta").unwrap_or(&Value::Null);
    let version = meta.get("pipfile-spec").and_then(Value::as_u64);
    if version != Some(6) {
        let found =
            version.map_or("no pipfile-spec".to_owned(), |version| format!("pipfile-spec `{version}`"));
        return Err(reading.other_version(found, "`6`"));
    }
    let recorded = meta.pointer("/hash/sha256").and_then(Value::as_str).unwrap_or_default();
    if !content_hashes(&reading.manifest).iter().any(|hash| hash == recorded) {
        return Err(reading.stale());
    }
    let is_category = |name: &&str| *name != "_meta" && *name != "default";
    reading.has_all("group", keys(Some(data)).filter(is_category))?;
    reading.has_all("extra", [])?;
    let requires = meta.get("requires").unwrap_or(&Value::Null);
    let short = text(requires, "python_version").map(|version| match version.matches('.').count() {
        0 | 1 => format!("=={version}.*"),
        _ => format!("=={version}"),
    });
    let full = text(requires, "python_full_version").map(|version| format!("=={version}"));
    reading.is_for_this_python(full.or(short).filter(|version| !version.contains("==*")).as_deref())?;
    let mut set = LockedSet::default();
    for source in items(meta, "sources") {
        set.trust(reading, source)?;
    }
    let wanted = |name: &str| name == "default" || reading.markers.groups.contains(&normalise(name));
    for (_, packages) in data.as_object().into_iter().flatten().filter(|(name, _)| wanted(name)) {
        for (name, entry) in packages.as_object().into_iter().flatten() {
            if reading.meets(name, text(entry, "markers"))? {
                set.add(package(reading, meta, name, entry)?, &reading.lock.file)?;
            }
        }
    }
    Ok(set)
}

fn package(reading: &Reading<'_>, meta: &Value, name: &str, entry: &Value) -> Result<Locked, LockFileError> {
    let version = text(entry, "version").and_then(|version| version.strip_prefix("==")).unwrap_or_default();
    let hashes = texts(entry, "hashes").map(str::to_owned).collect();
    let source = if let Some(url) = text(entry, "git") {
        let field = |key| text(entry, key).unwrap_or_default().to_owned();
        Source::Git { url: git_url(url), commit: field("ref"), subdirectory: field("subdirectory") }
    } else if let Some(path) = text(entry, "path") {
        return reading.file(name, entry, path, hashes);
    } else if let Some(file) = text(entry, "file") {
        if !file.contains("://") {
            return reading.file(name, entry, file, hashes);
        }
        Source::Archive(file.to_owned())
    } else {
        let index = text(entry, "index");
        let named = items(meta, "sources").find(|source| index.is_some() && text(source, "name") == index);
        // Pipenv takes a package that names no index from the first one.
        let index = named
            .or_else(|| items(meta, "sources").next())
            .and_then(|source| Some((text(source, "name").unwrap_or_default(), text(source, "url")?)));
        Source::Index(index.map(|(name, url)| reading.with_variables(name, url)).transpose()?)
    };
    Ok(Locked { name: name.to_owned(), version: version.to_owned(), hashes, source })
}

/// Returns the hashes that the lock of this `Pipfile` has: of Pipenv since 2026, which normalises names, and of earlier
/// ones.
fn content_hashes(manifest: &Value) -> [String; 2] {
    let sources = manifest
        .get("source")
        .cloned()
        .unwrap_or_else(|| json!([{ "name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": true }]));
    let spelt: [fn(&str) -> String; 2] = [normalise, str::to_owned];
    spelt.map(|spelt| {
        let packages = |key: &str| -> Value {
            let packages = manifest.get(key).and_then(Value::as_object).into_iter().flatten();
            packages.map(|(name, wanted)| (spelt(name), wanted.clone())).collect::<Map<_, _>>().into()
        };
        let mut content = json!({
            "_meta": { "sources": sources, "requires": manifest.get("requires").unwrap_or(&json!({})) },
            "default": packages("packages"),
            "develop": packages("dev-packages"),
        });
        for category in keys(Some(manifest)).filter(|name| !SECTIONS.contains(name)) {
            content[category] = packages(category);
        }
        hash(&content, true)
    })
}
