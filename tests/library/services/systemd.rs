//! Units of a real systemd, in namespaces of its own.

use std::net::TcpStream;
use std::process::Command;

use deploykit::services::{Socket, Systemd, last_lines_of_unit};

use super::*;
use crate::support::site::demo_site::{Address, Port, visitor};
use crate::support::systemd::{inside, systemctl, unit, until_unit_is};

fn unit_service(name: &str) -> Service {
    quick(Service::new(name, Role::Web, Manager::Systemd(Systemd::default())))
}

#[test]
fn every_state_of_systemd_is_told_apart() {
    if !inside(&every_state_of_systemd_is_told_apart) {
        return;
    }
    let write = |name: &str, text: &str| unit(&format!("{name}.service"), &format!("[Service]\n{text}"));
    write("web", "ExecStart=/bin/sh -c 'sleep 600 & exec sleep 600'\n");
    write("dies", "ExecStart=/bin/sh -c 'echo the last words; exit 3'\n");
    write("again", "ExecStart=/bin/sh -c 'exit 3'\nRestart=always\nRestartSec=600\n");
    write(
        "often",
        "ExecStart=/bin/sh -c 'test -e /run/fixed && exec sleep 600'\nRestart=always\nRestartSec=1ms\n",
    );
    write("missing", "ExecStart=/no/such/program\n");
    write(
        "stubborn",
        "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\nTimeoutStopSec=600\n",
    );
    write("slow", "Type=notify\nExecStart=/bin/sleep 600\n");

    // Started, watched, stopped; twice changes nothing.
    let web = unit_service("web");
    assert_eq!((state(&web).status, state(&web).detail.as_str()), (Status::Stopped, "inactive (dead)"));
    perform(&web, Goal::Stopped).unwrap();
    perform(&web, Goal::Running).unwrap();
    eventually("both processes are there", || state(&web).pids.len() == 2);
    let first = state(&web);
    assert_eq!((first.status, first.main.len()), (Status::Running, 1));
    perform(&web, Goal::Running).unwrap();
    perform(&web, Goal::StaysUp).unwrap();
    assert_eq!(state(&web).main, first.main, "it was left alone");
    perform(&web, Goal::Stopped).unwrap();
    assert!(!alive(&first.pids));
    perform(&web, Goal::Stopped).unwrap();

    // `systemctl start` answers 0 for it.
    let dies = unit_service("dies");
    let error = perform(&dies, Goal::Running).and_then(|()| perform(&dies, Goal::StaysUp)).unwrap_err();
    let ServiceError::Died { detail, .. } = &error else { panic!("{error:?}") };
    assert_eq!(detail, "failed (failed): exit code 3");
    eventually("the journal has its last words", || {
        let error = perform(&dies, Goal::Running).and_then(|()| perform(&dies, Goal::StaysUp)).unwrap_err();
        error.tail().iter().any(|line| line == "the last words")
    });
    assert_eq!(state(&dies).status, Status::Failed);
    assert_eq!(
        last_lines_of_unit(&Host::new(), &state(&dies).journal.unwrap(), 100)[..1],
        ["the last words"]
    );
    if let Some(gunicorn) = gunicorn() {
        let site = wsgi();
        let command = format!("{} --no-control-socket nosuch:app", gunicorn.display());
        write("broken", &format!("WorkingDirectory={}\nExecStart={command}\n", site.path().display()));
        let broken = unit_service("broken");
        let mark = LogMark::of_states(&[state(&broken)]);
        let error =
            perform(&broken, Goal::Running).and_then(|()| perform(&broken, Goal::StaysUp)).unwrap_err();
        eventually("the journal says why", || {
            let new = mark.new_lines(&Host::new(), 20);
            let has = |text: &str| new.iter().any(|log| log.lines.iter().any(|line| line.ends_with(text)));
            let command = Path::new("journalctl --unit=broken.service");
            has("ModuleNotFoundError: No module named 'nosuch'")
                && has("Worker failed to boot.")
                && new.iter().all(|log| log.lines.len() <= 20 && log.source == command)
        });
        assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    }
    write("logs", "ExecStart=/bin/echo said\nStandardOutput=append:/run/logs.log\nStandardError=null\n");
    assert_eq!(state(&unit_service("logs")).journal, None);
    perform(&dies, Goal::Stopped).expect("nothing of it runs");

    let again = unit_service("again");
    perform(&again, Goal::Running).and_then(|()| perform(&again, Goal::StaysUp)).unwrap_err();
    eventually("it is to be started again", || state(&again).status == Status::Retrying);
    perform(&again, Goal::Stopped).unwrap();

    // Refused for being started too often, until it is fixed.
    let often = unit_service("often");
    perform(&often, Goal::Running).and_then(|()| perform(&often, Goal::StaysUp)).unwrap_err();
    until_unit_is("often", "failed");
    fs::write("/run/fixed", "").unwrap();
    perform(&often, Goal::Running).unwrap();
    perform(&often, Goal::StaysUp).unwrap();

    let missing = unit_service("missing");
    perform(&missing, Goal::Running).and_then(|()| perform(&missing, Goal::StaysUp)).unwrap_err();
    let error = unit_service("nosuch").state(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "systemd knows no unit `nosuch.service`");
    systemctl(&["mask", "--quiet", "--runtime", "masked.service"]);
    let error = perform(&unit_service("masked"), Goal::Running).unwrap_err();
    assert!(error.tail().join("\n").contains("masked"), "{error:?}");

    let stubborn = Service { stop_timeout: Duration::from_millis(500), ..unit_service("stubborn") };
    perform(&stubborn, Goal::Running).unwrap();
    let error = perform(&stubborn, Goal::Stopped).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    assert_eq!(state(&stubborn).status, Status::Stopping);

    let slow = unit_service("slow");
    perform(&slow, Goal::Running).expect("it has a process, and the watch waits for the rest");
    assert_eq!(state(&slow).status, Status::Starting);

    // A user's own units, without the variable that a login shell has.
    fs::write("/etc/systemd/user/mine.service", "[Service]\nExecStart=/bin/sleep 600\n").unwrap();
    systemctl(&["start", "user-manager.service"]);
    let mine = Systemd { unit: Some("mine.service".to_owned()), user: true };
    let mine = quick(Service::new("jobs", Role::Worker, Manager::Systemd(mine)));
    perform(&mine, Goal::Running).unwrap();
    assert_eq!(state(&mine).main.len(), 1);
    perform(&mine, Goal::Stopped).unwrap();
    assert_eq!(state(&mine).status, Status::Stopped);
}

#[test]
fn what_a_socket_starts_is_kept_from_it() {
    if !inside(&what_a_socket_starts_is_kept_from_it) {
        return;
    }
    let Some(gunicorn) = gunicorn() else { return };
    let (site, port) = (wsgi(), Port::reserve().unwrap());
    let hold = site.path().join("hold/web");
    let write = |before: &str| {
        let text = format!(
            "[Service]\nWorkingDirectory={}\n{before}ExecStart={} --no-control-socket mysite:app\n",
            site.path().display(),
            gunicorn.display()
        );
        unit("web.service", &text);
    };
    unit("web.socket", &format!("[Socket]\nListenStream={}\n", port.address()));
    write("");
    systemctl(&["start", "web.socket"]);
    let web = Service { hold: Some(hold.clone()), ..unit_service("web") };
    let ask = || {
        let address = Address::Tcp(port.address());
        visitor::request(&address, "localhost", "/", None, Duration::from_secs(60))
    };

    // Not started yet, and about to be by the first request.
    let idle = state(&web);
    assert_eq!((idle.status, idle.main.len()), (Status::Running, 0), "{}", idle.detail);
    assert!(idle.detail.contains("`web.socket` starts it for the next request"), "{}", idle.detail);
    assert_eq!(ask().unwrap().body, "hello");

    // Nothing in its unit waits: the socket is stopped with it.
    let socket = state(&web).socket;
    assert_eq!(socket, Socket { units: vec!["web.socket".to_owned()], ..Socket::default() });
    let stop = ServiceAction { socket, ..action(&web, Goal::Stopped) };
    stop.perform(&Host::new()).unwrap();
    TcpStream::connect(port.address()).unwrap_err();
    assert_eq!(state(&web).status, Status::Stopped);
    ServiceAction { goal: Goal::Running, ..stop }.perform(&Host::new()).unwrap();
    assert_eq!(ask().unwrap().body, "hello");

    // With a line that waits, the socket stays, and so do the requests.
    let line = |hold: &Path| {
        format!("ExecStartPre=/bin/sh -c 'while [ -e {} ]; do sleep 0.05; done'\n", hold.display())
    };
    write(&line(&hold));
    let socket = state(&web).socket;
    let expected =
        Socket { holder: Some("`web.socket`".to_owned()), hold: Some(hold.clone()), ..Socket::default() };
    assert_eq!(socket, expected);
    let stop = ServiceAction { old: state(&web).pids, socket, ..action(&web, Goal::Stopped) };
    stop.perform(&Host::new()).unwrap();
    let answer = std::thread::scope(|scope| {
        let request = scope.spawn(ask);
        until_unit_is("web.service", "activating");
        let held = state(&web);
        assert_eq!((held.status, held.main.len()), (Status::Stopped, 0), "{}", held.detail);
        assert!(held.detail.ends_with("; it waits until it may start"), "{}", held.detail);
        // Stopped once more, as a recovery does; the request still waits.
        stop.perform(&Host::new()).unwrap();
        assert!(!request.is_finished() && hold.exists());
        let start = ServiceAction { goal: Goal::Running, ..stop.clone() };
        start.perform(&Host::new()).unwrap();
        ServiceAction { goal: Goal::StaysUp, ..start }.perform(&Host::new()).unwrap();
        request.join().unwrap()
    });
    assert_eq!(answer.unwrap().body, "hello");
    assert!(!hold.exists());

    // Whoever cannot look into the directory of the file would not wait.
    let other = site.path().join("hold/other");
    unit("other.socket", "[Socket]\nListenStream=/run/other.sock\n");
    unit("other.service", &format!("[Service]\nUser=nobody\n{}ExecStart=/bin/sleep 600\n", line(&other)));
    systemctl(&["start", "other.socket", "other.service"]);
    let other = Service { hold: Some(other), ..unit_service("other") };
    assert_eq!(state(&other).socket, Socket { units: vec!["other.socket".to_owned()], ..Socket::default() });

    // Stopped by a person, it stays so, and the next start finds the file that keeps it.
    let mut context = Context::default();
    let control = |want| ServiceControl { services: vec![web.clone()], want };
    operations::apply(&control(Want::Stop), &mut context).unwrap();
    assert_eq!((state(&web).status, hold.exists()), (Status::Stopped, true));
    operations::apply(&control(Want::Start), &mut context).unwrap();
    assert_eq!((ask().unwrap().body.as_str(), hold.exists()), ("hello", false));
    operations::apply(&control(Want::Restart), &mut context).unwrap();
    assert_eq!((ask().unwrap().body.as_str(), hold.exists()), ("hello", false));
}

#[test]
fn a_timer_is_stopped_once_its_job_has_ended_by_itself() {
    if !inside(&a_timer_is_stopped_once_its_job_has_ended_by_itself) {
        return;
    }
    // It ends when it is told to through a file, and writes down how it ended.
    let job = "while [ ! -e /run/go-on ]; do sleep 0.05; done; echo done > /run/ended";
    unit("mail.service", &format!("[Service]\nType=oneshot\nExecStart=/bin/sh -c '{job}'\n"));
    unit("mail.timer", "[Timer]\nOnActiveSec=0\nOnUnitActiveSec=600\nAccuracySec=1ms\n");
    let timer = Systemd { unit: Some("mail.timer".to_owned()), user: false };
    let timer = quick(Service::new("mail", Role::Timer, Manager::Systemd(timer)));
    let control = |want| ServiceControl { services: vec![timer.clone()], want };
    let mut context = Context::default();
    operations::apply(&control(Want::Start), &mut context).unwrap();
    until_unit_is("mail.service", "activating");
    let busy = state(&timer);
    assert_eq!(busy.status, Status::Running, "{}", busy.detail);
    assert!(busy.jobs[0].starts_with("its job `mail.service` (process "), "{:?}", busy.jobs);

    // A job that takes too long fails the stop, runs on, and does not keep the timer from its start.
    let impatient = Service { stop_timeout: Duration::from_millis(300), ..timer.clone() };
    let error = perform(&impatient, Goal::Stopped).unwrap_err();
    let ServiceError::JobRuns { jobs, .. } = &error else { panic!("{error:?}") };
    assert_eq!(jobs, &busy.jobs);
    assert_eq!(state(&timer).status, Status::Stopped);
    perform(&timer, Goal::Running).unwrap();
    perform(&timer, Goal::StaysUp).unwrap();
    assert_eq!(state(&timer).jobs, busy.jobs, "the same job still runs");

    std::thread::scope(|scope| {
        let stop = scope.spawn(|| {
            perform(&Service { stop_timeout: Duration::from_secs(60), ..timer.clone() }, Goal::Stopped)
        });
        until_unit_is("mail.timer", "inactive");
        assert!(!stop.is_finished() && !Path::new("/run/ended").exists());
        fs::write("/run/go-on", "").unwrap();
        stop.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_to_string("/run/ended").unwrap(), "done\n");
    assert!(state(&timer).jobs.is_empty());
    // Stopped before, it stays so.
    operations::apply(&control(Want::Restart), &mut context).unwrap();
    assert_eq!(state(&timer).status, Status::Stopped);
}

/// `docs/how-to/systemd.md` says what sudo must allow: that, and nothing else, is what runs as `sudo -n`.
#[test]
fn sudo_runs_what_the_guide_allows() {
    if !inside(&sudo_runs_what_the_guide_allows) {
        return;
    }
    unit("gunicorn.service", "[Service]\nExecStart=/bin/sleep 600\n");
    // Seen in these namespaces only, and found before a real one.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/usr/local/sbin"]).status().unwrap();
    assert!(mounted.success());
    let (sudo, asked) = (Path::new("/usr/local/sbin/sudo"), Path::new("/run/asked"));
    // Like sudo without a password, which knows programs by their paths.
    let script = "#!/bin/sh\ntest \"$1\" = -n || exit 1\nshift\nprogram=$(command -v \"$1\")\nshift\n\
         echo \"/usr/bin/${program##*/} $*\" >>/run/asked\nexec \"$program\" \"$@\"\n";
    fs::write(sudo, script).unwrap();
    fs::set_permissions(sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let service = Service { sudo: true, ..unit_service("gunicorn") };
    for goal in [Goal::Running, Goal::Stopped, Goal::Running] {
        perform(&service, goal).unwrap();
    }
    let asked = fs::read_to_string(asked).unwrap();
    let guide = include_str!("../../../docs/how-to/systemd.md");
    let allowed: Vec<&str> =
        guide.lines().filter_map(|line| line.split_once("NOPASSWD: ")).map(|(_, command)| command).collect();
    assert!(asked.lines().all(|line| allowed.contains(&line)), "{asked}");
    assert!(allowed.iter().all(|line| asked.lines().any(|other| other == *line)), "{asked}");
}
