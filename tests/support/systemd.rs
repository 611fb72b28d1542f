//! A real systemd in namespaces of its own, and tests that run inside.

mod machine;

use std::any::type_name_of_val;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use machine::Systemd;

use super::services::eventually;
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
        Ok(systemd) => run(&systemd, name),
        Err(log) => super::skip(&format!("systemd does not come up in namespaces:\n{log}")),
    }
    false
}

/// Runs a test of this binary inside a booted systemd.
#[track_caller]
fn run(systemd: &Systemd, name: &str) {
    let output = systemd.directory.path().join("output");
    let file = File::create(&output).expect("a file");
    let this = std::env::current_exe().expect("a program");
    let mut child = systemd
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
    assert!(ended, "the test did not end:\n{said}\n{}", systemd.log());
    assert!(
        status.is_some_and(|status| status.success()) && said.contains("1 passed"),
        "inside systemd:\n{said}\n{}",
        systemd.log()
    );
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

/// Waits until a unit is in a state.
#[track_caller]
pub fn until_unit_is(unit: &str, state: &str) {
    eventually(&format!("{unit} is {state}"), || {
        systemctl(&["show", "--property=ActiveState", "--value", unit]).trim() == state
    });
}
