//! What the tests share: a sealed environment, tools that may be missing, real servers in temporary directories.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod apart;
pub mod corpus;
pub mod database;
pub mod disk;
pub mod django;
pub mod harness;
pub mod held;
pub mod http;
pub mod pooler;
pub mod probe;
pub mod releases;
pub mod services;
pub mod site;
pub mod snapshot;
pub mod systemd;
pub mod visitor;

pub use harness::skip;

use std::path::{Path, PathBuf};

pub mod git;
pub mod python;

/// The programs of the tests that `tests/run --fast` runs.
const FAST: [&str; 3] = ["git", "python3", "sh"];

/// Returns the top directory of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package lives in the workspace")
}

/// Returns the directory that `tests/run` fills: `wheels/` (packages for offline installs), `venv/` (uv, supervisor) and `clients/`
/// (clients of task queues).
pub fn tools() -> PathBuf {
    std::env::var_os("DEPLOYKIT_TEST_TOOLS").map_or_else(|| root().join("target/test-tools"), PathBuf::from)
}

/// Returns a program from the test tools or the machine; when it is missing the test is skipped with a printed reason,
/// and fails where nothing may be missing (`CI=true`).
pub fn program(name: &str) -> Option<PathBuf> {
    if !FAST.contains(&name) {
        leave_out_if_fast(name);
    }
    let own = tools().join("venv/bin").join(name);
    let found = if own.exists() { Some(own) } else { find_in_path(name) };
    Some(found.unwrap_or_else(|| skip(&format!("`{name}` is not installed; run tests/run"))))
}

/// Skips the test if only those run that need nothing but git and Python: `tests/run --fast`.
pub fn leave_out_if_fast(needed: &str) {
    if std::env::var_os("DEPLOYKIT_FAST").is_some() {
        harness::leave_out(&format!("needs {needed}"));
    }
}

/// Returns the directory of wheels; like [`program`] when it is missing.
pub fn wheels() -> Option<PathBuf> {
    leave_out_if_fast("packages");
    let directory = tools().join("wheels");
    if directory.is_dir() {
        return Some(directory);
    }
    skip(&format!("`{}` is missing; run tests/run", directory.display()))
}

/// Returns what `tests/install` fetched of npm: the files of a project that builds with Vite, and npm's cache.
pub fn vite() -> Option<PathBuf> {
    let directory = tools().join("vite");
    let found = directory.join("package-lock.json").exists() && program("npm").is_some();
    if found { Some(directory) } else { skip("Vite is missing from the test tools; run tests/run") }
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|directory| directory.join(name)).find(|file| file.is_file())
}
