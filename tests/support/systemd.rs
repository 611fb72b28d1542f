//! A real systemd in namespaces of its own, and tests that run inside.

use std::any::type_name_of_val;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::services::{children, eventually};
use super::site::demo_site::wait_until;

/// Says to a test that it runs inside.
const INSIDE: &str = "DEPLOYKIT_TEST_INSIDE_SYSTEMD";

/// How long a test may take inside.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tells a test, which names itself, whether it runs under a systemd of its own. If not, it is started anew under one, to
/// its end, and has nothing more to do itself. It takes root, and is skipped with a reason otherwise.
#[track_caller]
pub fn inside<T>(test: &T) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    super::leave_out_if_fast("systemd");
    if !rustix::process::geteuid().is_root() {
        super::skip("only root can make the namespaces for a systemd")
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        super::skip("`/lib/systemd/systemd` is not installed; run tests/run")
    }
    let (_, name) = type_name_of_val(test).split_once("::").expect("a test is in a module");
    match Systemd::boot() {
        Ok(systemd) => systemd.run(name),
        Err(log) => super::skip(&format!("systemd does not come up in namespaces:\n{log}")),
    }
    false
}

/// Writes a unit, and lets systemd read it.
#[track_caller]
pub fn unit(name: &str, text: &str) {
    fs::write(Path::new("/etc/systemd/system").join(name), text).expect("a unit is written");
    systemctl(&["daemon-reload"]);
}

/// Runs `systemctl` and returns what it said.
#[track_caller]
pub fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).stdin(Stdio::null()).output().expect("systemctl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A booted systemd; all of its processes end with it, and it ends with the test.
struct Systemd {
    directory: TempDir,
    child: Child,
}

impl Systemd {
    /// Boots it, or returns what was said instead.
    fn boot() -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("systemd-").tempdir().expect("a temporary directory");
        let log = File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "/bin/sh"])
            .arg(super::root().join("tests/support/systemd.sh"))
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
        let is_systemd = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd")
        };
        children(i32::try_from(self.child.id()).ok()?).into_iter().find(is_systemd)
    }

    fn is_up(&self) -> bool {
        let Some(mut command) = self.command("systemctl") else { return false };
        let output = command.arg("is-system-running").output().expect("nsenter runs");
        ["running", "degraded"].contains(&String::from_utf8_lossy(&output.stdout).trim())
    }

    fn command(&self, program: impl AsRef<Path>) -> Option<Command> {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init()?.to_string());
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup"]);
        command.arg(format!("--wd={}", std::env::current_dir().expect("a directory").display()));
        command.arg("--").arg(program.as_ref()).stdin(Stdio::null());
        Some(command)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Runs a test of this binary inside.
    #[track_caller]
    fn run(&self, name: &str) {
        let output = self.directory.path().join("output");
        let file = File::create(&output).expect("a file");
        let this = std::env::current_exe().expect("a program");
        let mut child = self
            .command(this)
            .expect("it is up")
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .spawn()
            .expect("nsenter runs");
        let mut status = None;
        let ended = wait_until(PATIENCE, || {
            status = child.try_wait().expect("a child");
            status.is_some()
        });
        let said = fs::read_to_string(&output).unwrap_or_default();
        assert!(ended, "the test did not end:\n{said}\n{}", self.log());
        assert!(
            status.is_some_and(|status| status.success()) && said.contains("1 passed"),
            "inside systemd:\n{said}\n{}",
            self.log()
        );
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

/// Waits until a unit is in a state.
#[track_caller]
pub fn until_unit_is(unit: &str, state: &str) {
    eventually(&format!("{unit} is {state}"), || {
        systemctl(&["show", "--property=ActiveState", "--value", unit]).trim() == state
    });
}
