//! Django processes whose deploykit was killed: each finishes what it was at before it ends.

use std::fs;
use std::path::PathBuf;

use procfs::process::all_processes;

use super::Project;
use super::probe::LOADER;
use crate::host::ProcessId;

/// Returns the processes that an earlier deploykit booted for one of these projects and that have not ended.
pub(crate) fn orphans(projects: &[Project]) -> Vec<ProcessId> {
    let directories: Vec<PathBuf> =
        projects.iter().filter_map(|project| fs::canonicalize(&project.directory).ok()).collect();
    let Ok(all) = all_processes() else { return Vec::new() };
    all.filter_map(Result::ok)
        .filter(|process| process.cwd().is_ok_and(|directory| directories.contains(&directory)))
        .filter(|process| process.cmdline().is_ok_and(|words| words.iter().any(|word| word == LOADER)))
        .filter_map(|process| ProcessId::of(process.pid()))
        .collect()
}
