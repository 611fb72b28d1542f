//! How much memory a program may still take before the kernel kills processes.
//!
//! Source: `proc_meminfo(5)`; the kernel's `cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::Size;

/// Where the control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// There is less memory than a step needs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`needs-memory` is {needed}, but only {available} of memory is available {}", place(group.as_deref()))]
pub struct MemoryError {
    /// The step.
    pub step: String,
    /// What it needs.
    pub needed: Size,
    /// What there is.
    pub available: Size,
    /// The control group that limits it; `None`: the machine does.
    pub group: Option<PathBuf>,
}

fn place(group: Option<&Path>) -> String {
    match group {
        Some(group) => format!("within the limit of the control group `{}`", group.display()),
        None => "on the machine (`MemAvailable`)".to_owned(),
    }
}

/// The memory that a step of the site's own needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedsMemory {
    /// The step.
    pub step: String,
    /// How much.
    pub needed: Size,
}

impl NeedsMemory {
    /// Compares the need with the memory available now on the machine and in the control groups that this process is in.
    ///
    /// # Errors
    ///
    /// When there is less. Succeeds when the available memory is not known.
    pub fn check(&self) -> Result<(), MemoryError> {
        match available() {
            Some((available, group)) if available < self.needed => {
                let (step, needed) = (self.step.clone(), self.needed);
                Err(MemoryError { step, needed, available, group })
            }
            _ => Ok(()),
        }
    }
}

/// Returns the least memory that is left on the machine and in the control groups that this process is in, with that group;
/// `None`: it is not known.
pub(crate) fn available() -> Option<(Size, Option<PathBuf>)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = of_machine(&read("/proc/meminfo")).map(|available| (available, None));
    let groups = of_groups(Path::new(GROUPS), &read("/proc/self/cgroup"));
    let groups = groups.into_iter().map(|(available, group)| (available, Some(group)));
    machine.into_iter().chain(groups).min_by_key(|(available, _)| *available)
}

/// Reads what the machine has left without swapping.
fn of_machine(meminfo: &str) -> Option<Size> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Size(kilobytes * 1024))
}

/// Reads what each control group above a process has left that has a limit. `own` is its `/proc/PID/cgroup`.
fn of_groups(root: &Path, own: &str) -> Vec<(Size, PathBuf)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (top, names) = match controllers {
            "" => (root.to_owned(), ["memory.max", "memory.current", "inactive_file"]),
            _ if controllers.split(',').any(|name| name == "memory") => (
                root.join("memory"),
                ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
            ),
            _ => continue,
        };
        let group = Path::new(group);
        // A group outside the namespace of this process is shown as `/../…`.
        if group.components().any(|part| part == Component::ParentDir) {
            continue;
        }
        for group in group.ancestors() {
            let directory: PathBuf = top.join(group.strip_prefix("/").unwrap_or(group));
            if let Some(left) = left(&directory, names) {
                found.push((left, group.to_owned()));
            }
        }
    }
    found
}

/// Returns how much memory one group may still use; the kernel frees cached files when it needs their memory.
fn left(directory: &Path, [limit, usage, cached]: [&str; 3]) -> Option<Size> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (limit, usage) = (number(limit)?, number(usage)?);
    let stat = read("memory.stat").unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.strip_prefix(' ')?.parse().ok());
    Some(Size(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has_left() {
        let meminfo = "MemTotal:       16384000 kB\nMemFree:  100 kB\nMemAvailable:    2000 kB\n";
        assert_eq!(of_machine(meminfo), Some(Size(2_048_000)));
        assert_eq!(of_machine("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn limits_of_both_versions_and_of_groups_above_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |group: &str, name: &str, text: &str| {
            let directory = root.path().join(group);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), text).unwrap();
        };
        for (name, text) in [
            ("memory.max", "1000\n"),
            ("memory.current", "700\n"),
            ("memory.stat", "anon 1\ninactive_file 100\n"),
        ] {
            write("system.slice", name, text);
        }
        write("system.slice/web", "memory.max", "max\n");
        write("system.slice/web", "memory.current", "600\n");
        let found = of_groups(root.path(), "0::/system.slice/web\n");
        assert_eq!(found, [(Size(400), PathBuf::from("/system.slice"))]);
        assert_eq!(of_groups(root.path(), "0::/../other\n"), []);
        write("memory/user", "memory.limit_in_bytes", "5000\n");
        write("memory/user", "memory.usage_in_bytes", "4000\n");
        write("memory/user", "memory.stat", "inactive_file 9\ntotal_inactive_file 500\n");
        let found = of_groups(root.path(), "3:cpu,cpuacct:/user\n2:memory:/user\n");
        assert_eq!(found, [(Size(1500), PathBuf::from("/user"))]);
    }

    #[test]
    fn what_is_not_there_is_said_with_both_sizes() {
        let need = NeedsMemory { step: "build".to_owned(), needed: Size(u64::MAX) };
        let error = need.check().unwrap_err();
        let said = |group| {
            let group = Option::<&str>::map(group, PathBuf::from);
            MemoryError { available: Size(2_000_000_000), group, ..error.clone() }.to_string()
        };
        let start = "`needs-memory` is 18446744 TB, but only 2 GB of memory is available ";
        assert_eq!(said(None), format!("{start}on the machine (`MemAvailable`)"));
        assert_eq!(said(Some("/web")), format!("{start}within the limit of the control group `/web`"));
        NeedsMemory { needed: Size(1), ..need }.check().unwrap();
    }
}
