//! An update with nothing new: what it starts, and what it leaves alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use deploykit::Site;
use deploykit::event::{Event, Outcome, Record};
use deploykit::update::{self, Prepared, Request};

use crate::support::program;
use crate::support::releases::publish_good;
use crate::support::site::{TestSite, Transport};
use crate::support::snapshot::{Snapshot, assert_same};

/// Set for this test binary when it is started anew, under strace, to be the one that updates: the configuration.
const UPDATE: &str = "DEPLOYKIT_TEST_UPDATE";

#[test]
fn it_starts_git_and_nothing_else() {
    // Over the network: for a remote that is a path, git itself starts a shell.
    let Some(site) = TestSite::builder().transport(Transport::Daemon).start() else { return };
    publish_good(&site, "watched");
    let list = site.root.join("programs");
    let Some(first) = programs_of_an_update(&site, &list) else { return };
    assert!(first.iter().any(|name| name.starts_with("python")), "the update itself needs Python: {first:?}");
    assert_eq!(site.release().as_deref(), Some("watched"));
    let before = Snapshot::of(&site);
    let pids = site.processes();
    let state = site.checkout.join(".deploykit");
    let changed =
        || std::fs::metadata(&state).and_then(|state| state.modified()).expect("the state directory");
    let state_changed = changed();

    let Some(second) = programs_of_an_update(&site, &list) else { return };
    assert!(second.contains("git"), "it asks the remote: {second:?}");
    assert!(second.iter().all(|name| *name == "git" || name.starts_with("git-")), "{second:?}");
    assert_same(&before, &Snapshot::of(&site));
    assert_eq!(site.processes(), pids, "no service is called");
    assert_eq!(changed(), state_changed, "no file comes or goes");
}

/// Updates in a process of its own and returns the names of the programs that were started; `None` without strace.
fn programs_of_an_update(site: &TestSite, list: &Path) -> Option<BTreeSet<String>> {
    let mut command = Command::new(program("strace")?);
    command.args(["-f", "-qq", "-e", "trace=execve,connect", "-o"]).arg(list);
    command.arg(std::env::current_exe().expect("a test binary"));
    command.args(["--exact", "nothing_new::updates_when_told", "--nocapture"]);
    site.dress(&mut command);
    command.env(UPDATE, &site.config);
    let output = command.output().expect("strace starts");
    let list = std::fs::read_to_string(list).expect("what strace saw");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if list.is_empty() && text.contains("ptrace") {
        crate::support::skip("strace may not watch processes here")
    }
    assert!(output.status.success(), "{text}");
    let asked = list.contains(&*site.supervisor_socket.to_string_lossy());
    assert_eq!(
        asked,
        !text.contains("nothing was to do"),
        "supervisor is asked when there is something to do"
    );
    let packs = list.contains("\"maintenance\"");
    assert_eq!(packs, asked, "git looks what has piled up when something came");
    // `PID execve("/usr/bin/git", ["git", …], …) = 0`; the first one is this binary. What is unfinished may still fail,
    // as a name that is looked for along the path does.
    let is_start = |line: &&str| line.ends_with(" = 0") || line.ends_with("<unfinished ...>");
    let started = list.lines().filter(is_start).skip(1);
    let paths = started.filter_map(|line| line.split_once("execve(\"")?.1.split('"').next());
    Some(paths.filter_map(|path| Some(Path::new(path).file_name()?.to_string_lossy().into_owned())).collect())
}

/// The other process of the test above; does nothing when it is called by itself.
#[test]
fn updates_when_told() {
    let Some(config) = std::env::var_os(UPDATE) else { return };
    let site = Site::load(Path::new(&config), None).unwrap();
    let mut events = Vec::new();
    let mut watch = |record: &Record| events.push(record.event.clone());
    let report = match update::prepare(&site, &Request::default(), None, &mut watch).unwrap() {
        Prepared::Ready(update) => return assert_eq!(update.run().unwrap().outcome, Outcome::Updated),
        Prepared::Unchanged(report) => report,
    };
    assert_eq!(report.outcome, Outcome::Unchanged);
    println!("nothing was to do");
    let steps = events.iter().filter_map(|event| match event {
        Event::StepStarted { step, .. } => Some(step.as_str()),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), ["fetch"]);
}
