//! A real systemd in namespaces of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::wait_until;

/// A booted systemd; all of its processes end with it, and it ends with the test.
pub struct Systemd {
    pub directory: TempDir,
    child: Child,
}

impl Systemd {
    /// Boots it, or returns what was said instead.
    pub fn boot() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("systemd-").tempdir().expect("a temporary directory");
        let log = File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "/bin/sh"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/systemd.sh"))
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("util-linux is installed");
        let mut systemd = Systemd { directory, child };
        let up = wait_until(Duration::from_secs(60), || {
            systemd.is_up() || systemd.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        if up && systemd.is_up() { Ok(systemd) } else { Err(systemd.log()) }
    }

    /// Its process 1, as it is called outside.
    fn init(&self) -> Option<i32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child: i32 = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "systemd").then_some(child)
    }

    fn is_up(&self) -> bool {
        let Some(mut command) = self.command("systemctl") else { return false };
        let output = command.arg("is-system-running").output().expect("nsenter runs");
        ["running", "degraded"].contains(&String::from_utf8_lossy(&output.stdout).trim())
    }

    pub fn command(&self, program: impl AsRef<Path>) -> Option<Command> {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init()?.to_string());
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup"]);
        command.arg(format!("--wd={}", std::env::current_dir().expect("a directory").display()));
        command.arg("--").arg(program.as_ref()).stdin(Stdio::null());
        Some(command)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With process 1, all others of its namespace end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let name = self.directory.path().file_name().expect("a name").to_owned();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let cgroup = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let Some(cgroup) = cgroup.and_then(|line| line.split(' ').nth(1)) else { return };
        // Empty control groups do no harm, and some machines let nobody remove them.
        wait_until(Duration::from_secs(5), || remove_groups(&Path::new(cgroup).join(&name)));
    }
}

/// Removes a control group with those below it; `false` when one still has processes.
fn remove_groups(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return true };
    let inner: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    inner.iter().all(|path| remove_groups(path)) && fs::remove_dir(directory).is_ok()
}
