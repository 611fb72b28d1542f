//! What of a site sees other mounts than this process: the sandbox of a rehearsal, a web server that was started beforehand.

use std::fs;
use std::path::{Path, PathBuf};

use super::site::demo_site::DemoSite;

/// Returns the command lines of a site's processes that see other mounts than this process.
pub fn in_other_mounts(site: &DemoSite) -> Vec<String> {
    let mounts = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let ours = mounts(Path::new("/proc/self"));
    let lines = processes().filter_map(|process| {
        let is_other = mounts(&process).is_some_and(|theirs| Some(theirs) != ours);
        let line = fs::read_to_string(process.join("cmdline")).ok()?.replace('\0', " ");
        (is_other && line.contains(&*site.root.to_string_lossy())).then_some(line)
    });
    lines.collect()
}

/// Returns what is left of a web server that was started beforehand: its processes, its mounts, its files.
pub fn left_of_bridge(site: &DemoSite) -> Vec<String> {
    let mut left = in_other_mounts(site);
    let of_site = format!(" {}/", site.root.display());
    for process in processes() {
        let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
        let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        if directory.starts_with(&site.root) && line.contains("# bridge") {
            left.push(format!("{} runs in {}", process.display(), directory.display()));
        }
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        let mounts = mounts.lines().filter(|mount| mount.contains(&of_site));
        left.extend(mounts.map(|mount| format!("{} sees {mount}", process.display())));
    }
    let directories = [bridge(site), old_bridge(site)].into_iter().filter(|directory| directory.exists());
    left.extend(directories.map(|directory| directory.display().to_string()));
    left
}

/// Tells whether a web server that was started beforehand serves: its gate is open, and it lives.
pub fn bridge_serves(site: &DemoSite) -> bool {
    bridge(site).join("free").exists() && !in_other_mounts(site).is_empty()
}

/// Tells whether a web server that was started beforehand, by its directory, waits at its gate.
pub fn waits(directory: &Path) -> bool {
    let master = fs::read_to_string(directory.join("master")).unwrap_or_default();
    let master: serde_json::Value = serde_json::from_str(&master).unwrap_or_default();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", master["pid"])).unwrap_or_default();
    !directory.join("free").exists() && line.contains("# bridge")
}

/// Returns the directory of the web server that was started beforehand.
pub fn bridge(site: &DemoSite) -> PathBuf {
    site.checkout.join(".deploykit/bridge")
}

/// Returns the directory of the old version's web server that waits for an undo.
pub fn old_bridge(site: &DemoSite) -> PathBuf {
    site.checkout.join(".deploykit/old-bridge")
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |path: &PathBuf| path.to_string_lossy()[6..].bytes().all(|byte| byte.is_ascii_digit());
    entries.map(|entry| entry.path()).filter(is_number)
}
