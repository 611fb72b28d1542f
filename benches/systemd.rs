//! A systemd of its own, in which the benchmark calls itself, and the site's units there.

#[path = "../tests/support/systemd/machine.rs"]
mod machine;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use machine::Systemd;

use crate::Outcome;
use crate::demo_site::{DemoSite, run, wait_until};

/// Says to the benchmark that it runs inside.
const INSIDE: &str = "BENCH_INSIDE_SYSTEMD";

/// The site's units, whose order matters: as long as the socket listens, a visitor starts the other one.
const UNITS: [&str; 2] = ["gunicorn.socket", SERVICE];
const SERVICE: &str = "gunicorn.service";

/// Tells whether there is a systemd that may be asked for anything.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Tells whether one may be booted: by root, outside.
pub fn may_be_booted() -> bool {
    let installed = Path::new("/lib/systemd/systemd").exists();
    !is_inside() && installed && rustix::process::geteuid().is_root()
}

/// Calls the benchmark again under a systemd, and tells whether its limits hold.
pub fn again(arguments: &[impl AsRef<OsStr>]) -> Outcome<bool> {
    let systemd = Systemd::boot().map_err(|log| format!("systemd does not come up in namespaces:\n{log}"))?;
    let mut command = systemd.command(std::env::current_exe()?).ok_or_else(|| systemd.log())?;
    let status =
        command.args(arguments).arg("--bench").env(INSIDE, "1").env_remove("XDG_RUNTIME_DIR").status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("under systemd: {status}\n{}", systemd.log()).into()),
    }
}

/// Installs the units of a site.
pub fn install(site: &DemoSite) -> Outcome<()> {
    for (name, text) in site.units() {
        fs::write(Path::new("/etc/systemd/system").join(name), text)?;
    }
    systemctl(&["daemon-reload"]).map(|_| ())
}

pub fn start() -> Outcome<()> {
    systemctl(&["start", UNITS[0]]).map(|_| ())
}

pub fn stop() -> Outcome<()> {
    systemctl(&["stop", UNITS[0], UNITS[1]]).map(|_| ())
}

/// Starts or stops the web without waiting for it.
pub fn order_web(verb: &str) -> Outcome<()> {
    systemctl(&[verb, "--no-block", SERVICE]).map(|_| ())
}

/// Returns the main process of the web.
pub fn web() -> Option<u32> {
    let pid = systemctl(&["show", "--property=MainPID", "--value", SERVICE]).ok()?;
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

fn systemctl(args: &[&str]) -> Outcome<String> {
    Ok(run(Command::new("systemctl").args(args))?)
}
