//! Programs that are killed with all their descendants at a chosen system call; see `killer.c`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::site::TestSite;

/// How long an update or a recovery may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the killer's own exit code is after a kill.
const KILLED: i32 = 99;

/// Where a tree of processes is killed.
#[derive(Clone, Debug)]
pub struct Kill {
    /// A kind of system calls, if need be with a part of a path (`rename=/bridge/`), or `time`.
    pub kind: &'static str,
    pub after: bool,
    /// The n-th call of the kind, from 1; or milliseconds. 0: never.
    pub number: u64,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kill { kind, after, number } = self;
        write!(f, "{} {kind} {number}", if *after { "after" } else { "before" })
    }
}

impl Kill {
    /// Nothing is killed, and the calls that change something are counted.
    pub const NEVER: Kill = Kill { kind: "open", after: false, number: 0 };
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: it was killed.
    pub code: Option<i32>,
    /// At what it was killed, or how many calls there were of each kind.
    pub told: String,
    pub output: String,
}

/// Builds the killer; `None` where there is no compiler or no debugger may be.
pub fn build() -> Option<PathBuf> {
    let compiler = crate::support::program("cc")?;
    let killer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("killer");
    let source = crate::support::root().join("tests/kills/killer.c");
    let built =
        Command::new(compiler).args(["-O1", "-Wall", "-Werror", "-o"]).arg(&killer).arg(source).output();
    let built = built.expect("the compiler starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let tried = Command::new(&killer).args(["/dev/null", "open", "before", "0", "--", "true"]).output();
    let tried = tried.expect("the killer starts");
    if tried.status.success() {
        return Some(killer);
    }
    crate::support::skip(&format!("no debugger may be here: {}", String::from_utf8_lossy(&tried.stderr)))
}

/// Makes all of `/tmp` read-only but for two directories that may lie there, the site and the tools of the tests, and runs
/// what follows.
const NO_TMP: &str = "mount --bind /tmp /tmp && mount --bind \"$0\" \"$0\" && mount --bind \"$1\" \"$1\" && \
                      mount -o remount,bind,ro /tmp && shift && exec \"$@\"";

fn without_tmp(site: &TestSite) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", NO_TMP]).arg(&site.root).arg(crate::support::tools());
    command
}

/// Tells whether a process here may have mounts of its own, which takes root.
fn may_mount(site: &TestSite) -> bool {
    let tried = without_tmp(site).arg("true").output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Runs `deploykit` in the site's checkout as a person of that site does, and kills it; `no_tmp`: no temporary
/// directory can be used meanwhile.
pub fn run(killer: &Path, site: &TestSite, args: &[&str], kill: &Kill, no_tmp: bool) -> Ended {
    let path = |name: &str| site.root.join("log").join(name);
    let mut command = if no_tmp && may_mount(site) {
        let mut command = without_tmp(site);
        command.arg(killer);
        command
    } else {
        Command::new(killer)
    };
    site.dress(&mut command);
    if no_tmp {
        command.env("TMPDIR", site.root.join("no-such-directory"));
    }
    command.current_dir(&site.checkout).arg(path("killer"));
    command.args([kill.kind, if kill.after { "after" } else { "before" }, &kill.number.to_string(), "--"]);
    command.arg(env!("CARGO_BIN_EXE_deploykit")).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DEPLOYKIT_") {
            command.env_remove(&name);
        }
    }
    let output = fs::File::create(path("deploykit.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a log")).stderr(output);
    let mut child = command.spawn().expect("the killer starts");
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                // All that it watches dies with it.
                let _ = child.kill();
                break child.wait().expect("a child");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    let code = status.code().unwrap_or(-1);
    Ended {
        code: (code != KILLED).then_some(code),
        told: read("killer").trim_end().to_owned(),
        output: read("deploykit.log"),
    }
}
