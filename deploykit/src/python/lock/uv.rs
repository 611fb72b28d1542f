//! `uv.lock`, which only uv can read: it is a graph in a format of uv's own. uv checks it and exports it as `pylock.toml`.
//!
//! Source: <https://docs.astral.sh/uv/concepts/projects/sync/>

use std::path::Path;

use serde_json::Value;

use super::super::installer::{find_uv, isolated};
use super::{
    Format, LockFileError, LockedSet, Program, Reading, files_directory, items, keys, parse, pylock, read,
    text, texts,
};
use crate::command::Command;
use crate::host::CommandError;

pub(super) const FORMAT: Format =
    Format { name: "uv.lock", manifest: Some("pyproject.toml"), update: "uv lock", read: export };

/// The variables that tell uv of an index.
const INDEXES: [&str; 6] =
    ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"];

/// How `uv lock --check` ends for a lock that is out of date; when it fails otherwise, it ends with 2.
const STALE: i32 = 1;

fn export(reading: &Reading<'_>) -> Result<LockedSet, LockFileError> {
    let lock = reading.lock;
    let no_uv = || LockFileError::NoUv { file: lock.file.clone() };
    let program = reading.program.ok_or_else(no_uv)?;
    let uv = find_uv(program.host).ok_or_else(no_uv)?;
    let manifest = &reading.manifest;
    let of_tool = manifest.pointer("/tool/uv/dev-dependencies").map(|_| "dev");
    reading.has_all("group", keys(manifest.get("dependency-groups")).chain(of_tool))?;
    reading.has_all("extra", keys(manifest.pointer("/project/optional-dependencies")))?;
    reading.is_for_this_python(text(&reading.data, "requires-python"))?;

    let mut warnings = Vec::new();
    match dynamic(reading) {
        None => {
            let check = command(&uv, program, lock.project.as_path(), &["lock", "--check", "--offline"]);
            // With another index than that of the lock, uv would resolve anew.
            let check = INDEXES.into_iter().fold(check, Command::env_remove);
            let output = program.host.run(&check.accept([STALE]));
            let output = output.map_err(|error| failed(reading, "`uv lock --check`", error))?;
            if output.code == STALE {
                return Err(reading.stale());
            }
        }
        Some(name) => warnings.push(format!(
            "not checked whether `uv.lock` is up to date: that would run code of `{name}`, whose dependencies are dynamic"
        )),
    }

    let selected = lock.groups.iter().flat_map(|name| ["--group", name]);
    let selected = selected.chain(lock.extras.iter().flat_map(|name| ["--extra", name]));
    let words = ["export", "--frozen", "--no-default-groups", "--no-emit-project", "--format", "pylock.toml"];
    let command =
        command(&uv, program, &lock.project, &words).args(["--no-header", "--no-annotate"]).args(selected);
    let output = program.host.run(&command).map_err(|error| failed(reading, "`uv export`", error))?;
    let data = parse(Path::new("pylock.toml"), &output.stdout)?;
    let markers = reading.markers.clone();
    let mut set = pylock::packages(&Reading { data, manifest: Value::Null, markers, ..*reading })?;
    set.replace_indexes(|url| reading.with_credentials_of_uv(url));
    set.warnings = warnings;
    Ok(set)
}

fn command(uv: &Path, program: Program<'_>, project: &Path, words: &[&str]) -> Command {
    // uv would download a Python, and look for the virtualenv of the project.
    isolated(Command::new(uv).args(words))
        .args([Path::new("--python"), program.python])
        .env("UV_PYTHON_DOWNLOADS", "never")
        .directory(project)
        .deadline(program.budget.left())
}

fn failed(reading: &Reading<'_>, step: &'static str, source: CommandError) -> LockFileError {
    LockFileError::Program { file: reading.lock.file.clone(), step, source: Box::new(source) }
}

/// Returns the first local package whose dependencies only its own code can tell.
fn dynamic(reading: &Reading<'_>) -> Option<String> {
    let locals = items(&reading.data, "package").filter_map(|entry| {
        let source = entry.get("source")?;
        let kinds = ["editable", "directory", "virtual"];
        Some((text(entry, "name")?, kinds.iter().find_map(|kind| text(source, kind))?))
    });
    let mut dynamic = locals.filter(|(_, path)| {
        let file = files_directory(&reading.lock.file).join(path).join("pyproject.toml");
        let manifest = read(&file).and_then(|text| parse(&file, &text)).unwrap_or_default();
        let Some(project) = manifest.get("project") else { return true };
        texts(project, "dynamic").any(|field| field.ends_with("dependencies"))
    });
    dynamic.next().map(|(name, _)| name.to_owned())
}
