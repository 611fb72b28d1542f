//! Services of one role end at the same time.

use deploykit::action::Action;
use deploykit::event::{Outcome, Record};
use deploykit::internal::journal::Journal;
use deploykit::internal::runner::{Events, Runner};
use deploykit::operations::ApplyError;
use deploykit::plan::{Phase, Step};

use super::*;

/// A worker that ends, once it was told to, when the other two were told as well.
const WORKER: &str = "\
rm -f told-$1 ended-$1
trap 'rm ready-$1; touch told-$1; until test -e told-a && test -e told-b && test -e told-c; do sleep 0.02; done; \
      touch ended-$1; exit 0' TERM
touch ready-$1
while :; do sleep 0.05; done
";

/// Waits for the workers, and fails.
const WAIT: &str = "until test -e ready-a && test -e ready-b && test -e ready-c; do sleep 0.02; done; exit 1";

fn workers() -> String {
    let program = |name: &str| {
        format!(
            "[program:{name}]\ncommand = sh worker.sh {name}\ndirectory = %(here)s\nstartsecs = 0\nstopwaitsecs = 600\n\
             autostart = false\n"
        )
    };
    ["a", "b", "c"].map(program).concat()
}

/// A service that is a file, and runs a command when it is stopped.
fn file_service(directory: &Path, name: &str, role: Role, stop: &str) -> Service {
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let manager = CommandManager {
        start: argv(&["touch", name]),
        stop: argv(&["sh", "-c", stop]),
        status: argv(&["test", "-e", name]),
        held: false,
        directory: Some(directory.to_owned()),
    };
    quick(Service { stay_up: Some(Duration::ZERO), ..Service::new(name, role, Manager::Command(manager)) })
}

fn worker(supervisord: &Supervisord, name: &str) -> Service {
    Service { role: Role::Worker, ..supervisord.service(name) }
}

/// Returns whom supervisord told to end, in order.
fn told(supervisord: &Supervisord) -> Vec<String> {
    let log = fs::read_to_string(supervisord.path("supervisord.log")).unwrap();
    let lines = log.lines().filter_map(|line| line.split_once("killing ")?.1.split_once(" (pid "));
    lines.filter(|(_, rest)| rest.contains("SIGTERM")).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn workers_are_told_in_order_and_waited_for_together_and_then_the_web() {
    let Some(supervisord) = Supervisord::start(&workers()) else { return };
    let directory = supervisord.directory.path();
    fs::write(directory.join("worker.sh"), WORKER).unwrap();
    fs::write(directory.join("web"), "").unwrap();
    let mut services = vec![file_service(directory, "web", Role::Web, "ls -d ended-* > before-web; rm web")];
    services.extend(["a", "b", "c"].map(|name| worker(&supervisord, name)));
    let mut context = Context::default();
    let control = |want| ServiceControl { services: services.clone(), want };
    let Check::Change(start) = operations::apply(&control(Want::Start), &mut context).unwrap() else {
        panic!("the workers do not run");
    };
    let ready = |name: &str| directory.join(format!("ready-{name}")).exists();
    eventually("all are ready", || ["a", "b", "c"].into_iter().all(ready));

    let Check::Change(stop) = operations::apply(&control(Want::Stop), &mut context).unwrap() else {
        panic!("all run");
    };
    assert_eq!(fs::read_to_string(directory.join("before-web")).unwrap(), "ended-a\nended-b\nended-c\n");
    assert_eq!(told(&supervisord), ["c", "b", "a"], "whoever relies on another one is told first");

    // The same by the runner, and on its way back.
    let wait = deploykit::Command::new("sh").args(["-c", WAIT]).directory(directory);
    let wait = Action::Run { command: wait.deadline(Duration::from_secs(60)) };
    let steps = [
        Step::with_actions("start", Phase::Finish, "", start.actions.clone(), start.undo.clone()),
        Step::with_actions("fail", Phase::Finish, "", vec![wait], Vec::new()),
    ];
    let (mut unheard, mut journal) =
        (|_: &Record| (), Journal::open(&directory.join("journal.jsonl")).unwrap());
    let mut events = Events::new(&mut unheard);
    let mut runner = Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
    assert_eq!(runner.run(&steps, &[]).unwrap().outcome, Outcome::RolledBack);
    assert_eq!(told(&supervisord)[3..], ["c", "b", "a"]);
    operations::apply(&control(Want::Start), runner.context).unwrap();
    eventually("all are ready", || ["a", "b", "c"].into_iter().all(ready));
    let stop = Step::with_actions("stop", Phase::Announce, "", stop.actions.clone(), Vec::new());
    assert_eq!(runner.run(&[stop], &[]).unwrap().outcome, Outcome::Updated);
    assert_eq!(told(&supervisord)[6..], ["c", "b", "a"]);
}

#[test]
fn each_is_waited_for_whatever_becomes_of_the_others() {
    let programs = ["a", "c"].map(|name| format!("[program:{name}]\ncommand = sleep 600\nstartsecs = 0\n"));
    let Some(supervisord) = Supervisord::start(&programs.concat()) else { return };
    let directory = supervisord.directory.path();
    for name in ["b", "d"] {
        fs::write(directory.join(name), "").unwrap();
    }
    let failing = |name| file_service(directory, name, Role::Worker, "echo it is busy && exit 3");
    let mut services = vec![worker(&supervisord, "a"), failing("b"), worker(&supervisord, "c")];
    eventually("all run", || services.iter().all(|service| state(service).status == Status::Running));
    let stop = |services: &[Service]| {
        let before: Vec<ProcessId> = services.iter().flat_map(|service| state(service).main).collect();
        let control = ServiceControl { services: services.to_vec(), want: Want::Stop };
        let error = operations::apply(&control, &mut Context::default()).unwrap_err();
        assert!(!alive(&before), "those that can be stopped were");
        assert!(services.iter().all(|service| state(service).status == Status::Running), "and are back");
        assert_eq!(deploykit::error_tail(&error), ["it is busy"]);
        let ApplyError::Undone { failed } = error else { panic!("{error}") };
        let deploykit::action::ActionError::Service(error) = *failed else { panic!("{failed}") };
        error
    };
    let error = stop(&services);
    assert!(matches!(&error, ServiceError::Command { service, .. } if service == "b"), "{error:?}");

    services.push(failing("d"));
    let error = stop(&services);
    let text = error.to_string();
    let (first, second) = text.split_once("; ").expect("two failed");
    assert!(
        first.starts_with("service `d`: its stop command failed: ") && first.contains("code 3"),
        "{text}"
    );
    assert!(second.starts_with("service `b`: its stop command failed: "), "{text}");
    assert_eq!(error.tail(), ["it is busy"]);
}

#[test]
fn nobody_is_told_after_the_end_of_the_run_was_requested() {
    let programs = ["a", "b"].map(|name| format!("[program:{name}]\ncommand = sleep 600\nstartsecs = 0\n"));
    let Some(supervisord) = Supervisord::start(&programs.concat()) else { return };
    let services = vec![worker(&supervisord, "a"), worker(&supervisord, "b")];
    eventually("both run", || services.iter().all(|service| state(service).status == Status::Running));
    let cancel = deploykit::Cancel::new().unwrap();
    cancel.request();
    let mut context = Context::from(Host::new().with_cancel(cancel));
    let error = operations::apply(&ServiceControl { services, want: Want::Stop }, &mut context).unwrap_err();
    let text = "all changes were undone because the operation failed: interrupted";
    assert_eq!(deploykit::error_chain(&error), text);
    assert!(told(&supervisord).is_empty());
}
