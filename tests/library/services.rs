//! Services under a real supervisord, as a real gunicorn or uWSGI daemon, and behind commands.

mod apache;
mod asgi;
mod commands;
mod gunicorn;
mod leftover;
mod systemd;
mod together;
mod uwsgi;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use deploykit::action::Context;
use deploykit::operations::service_control::{ServiceControl, Want};
use deploykit::operations::{self, Operation};
use deploykit::services::{
    Before, CommandManager, Goal, Kill, LogMark, Manager, ProcessId, Role, Server, Serves, Service,
    ServiceAction, ServiceError, Status, Supervisor,
};
use deploykit::{Check, Host, Variables};
use rustix::process::Signal;

use crate::support::services::{
    Bystander, Cleaner, Supervisord, action, answers, daemon, eventually, gunicorn, kill, quick, signal,
    state, wsgi,
};

const SLEEPER: &str = "[program:web]\ncommand = sleep 600\nstartsecs = 0\nautostart = false\n";

fn perform(service: &Service, goal: Goal) -> Result<(), ServiceError> {
    action(service, goal).perform(&Host::new())
}

fn supervised(server: Server, name: &str) -> Service {
    quick(Service::new(name, Role::Web, Manager::Supervisor(Supervisor { server, program: None })))
}

fn alive(pids: &[ProcessId]) -> bool {
    pids.iter().any(ProcessId::is_alive)
}

#[test]
fn a_program_is_started_watched_and_stopped_and_doing_it_twice_changes_nothing() {
    let Some(supervisord) = Supervisord::start(SLEEPER) else { return };
    let web = supervisord.service("web");
    assert_eq!(state(&web).status, Status::Stopped);
    perform(&web, Goal::Stopped).unwrap();

    perform(&web, Goal::Running).unwrap();
    let first = state(&web);
    assert_eq!((first.status, first.main.len()), (Status::Running, 1));
    assert!(first.detail.starts_with("RUNNING, process "), "{}", first.detail);
    perform(&web, Goal::Running).unwrap();
    perform(&web, Goal::StaysUp).unwrap();
    assert_eq!(state(&web).main, first.main, "it was left alone");

    perform(&web, Goal::Stopped).unwrap();
    assert!(!alive(&first.pids));
    perform(&web, Goal::Stopped).unwrap();
    let after = state(&web);
    assert_eq!((after.status, after.main.len()), (Status::Stopped, 0));
}

#[test]
fn every_state_of_supervisor_is_told_apart() {
    let programs = "
[program:running]
command = sleep 600
startsecs = 0
[program:starting]
command = sleep 600
startsecs = 600
[program:fatal]
command = sh -c 'exit 3'
startretries = 0
[program:missing]
command = /no/such/program
startretries = 0
[program:backoff]
command = sh -c 'exit 3'
startretries = 1000
[program:done]
command = sh -c 'exit 0'
startsecs = 0
autorestart = false
[program:broken]
command = sh -c 'exit 1'
startsecs = 0
autorestart = false
[program:never]
command = sleep 600
autostart = false
";
    let Some(supervisord) = Supervisord::start(programs) else { return };
    for (name, status, detail) in [
        ("running", Status::Running, "RUNNING, process "),
        ("starting", Status::Starting, "STARTING, process "),
        ("fatal", Status::Failed, "FATAL: Exited too quickly"),
        ("missing", Status::Failed, "FATAL: can't find command '/no/such/program'"),
        ("backoff", Status::Retrying, "BACKOFF: Exited too quickly"),
        ("done", Status::Stopped, "EXITED"),
        ("broken", Status::Failed, "EXITED: Bad exit code 1"),
        ("never", Status::Stopped, "STOPPED"),
    ] {
        let service = supervisord.service(name);
        eventually(&format!("{name} is {status}"), || state(&service).status == status);
        if status != Status::Retrying {
            assert!(state(&service).detail.starts_with(detail), "{name}: {}", state(&service).detail);
        }
    }
    let starting = supervisord.service("starting");
    assert_eq!(state(&starting).startsecs, Duration::from_secs(600));
    perform(&starting, Goal::Running).expect("it has a process, and nobody waits ten minutes for its name");
    perform(&starting, Goal::Stopped).unwrap();
    perform(&supervisord.service("backoff"), Goal::Stopped).unwrap();
    assert_eq!(state(&supervisord.service("backoff")).status, Status::Stopped);
    perform(&supervisord.service("fatal"), Goal::Stopped).expect("nothing of it runs");

    let error = perform(&supervisord.service("fatal"), Goal::Running).unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. } | ServiceError::NotStartable { .. }), "{error:?}");
    let error = perform(&supervisord.service("missing"), Goal::Running).unwrap_err();
    assert!(matches!(error, ServiceError::NotStartable { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "service `missing` cannot be started: NO_FILE: can't find command '/no/such/program'"
    );
    let error = perform(&supervisord.service("running"), Goal::StaysUp).map(|()| "up");
    assert_eq!(error.unwrap(), "up");
}

#[test]
fn a_group_is_all_of_its_processes() {
    let programs = "[program:celery]\ncommand = sleep 600\nnumprocs = 2\nprocess_name = %(program_name)s_%(process_num)d\n\
                    startsecs = 0\nautostart = false\n[program:huey]\ncommand = sleep 600\nstartsecs = 0\n\
                    [group:site]\nprograms = huey\n";
    let Some(supervisord) = Supervisord::start(programs) else { return };
    let celery = supervisord.service("celery");
    perform(&celery, Goal::Running).unwrap();
    let both = state(&celery);
    assert_eq!((both.status, both.main.len()), (Status::Running, 2));

    let one = supervisord.service("celery:celery_1");
    perform(&one, Goal::Stopped).unwrap();
    assert_eq!(state(&celery).status, Status::Failed, "a part of it is not all of it");
    assert_eq!(state(&celery).main.len(), 1);
    perform(&celery, Goal::Running).unwrap();
    assert_eq!(state(&celery).main.len(), 2);
    perform(&celery, Goal::Stopped).unwrap();
    assert!(!alive(&both.pids) && state(&celery).status == Status::Stopped);

    for name in ["huey", "site:huey", "site", "site:*"] {
        assert_eq!(state(&supervisord.service(name)).status, Status::Running, "{name}");
    }
    let named = Service { name: "jobs".to_owned(), ..supervisord.service("x") };
    let Manager::Supervisor(supervisor) = named.manager.clone() else { panic!("made so") };
    let manager = Manager::Supervisor(Supervisor { program: Some("site:huey".to_owned()), ..supervisor });
    assert_eq!(state(&Service { manager, ..named }).status, Status::Running);
}

#[test]
fn an_unknown_program_is_answered_with_the_known_ones() {
    let programs = format!(
        "{SLEEPER}[program:huey]\ncommand = sleep 600\nautostart = false\n[group:site]\nprograms = huey\n"
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let error = supervisord.service("gunicorn").state(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "supervisord knows no program `gunicorn`, but site:huey, web");
}

#[test]
fn a_supervisord_that_is_gone_is_told_apart_from_one_that_refuses() {
    let Some(mut supervisord) = Supervisord::start(&SLEEPER.replace("autostart = false", "")) else { return };
    let web = supervisord.service("web");
    eventually("it runs", || state(&web).status == Status::Running);
    let pids = state(&web).pids;
    supervisord.kill();
    assert!(supervisord.path("s").exists(), "a killed one leaves its socket");
    let error = web.state(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::NobodyAnswers { .. }), "{error:?}");
    let socket = supervisord.path("s").canonicalize().unwrap();
    assert_eq!(
        error.to_string(),
        format!("supervisord does not run: nobody answers at `{}`", socket.display())
    );
    pids.into_iter().for_each(kill);

    fs::remove_file(&socket).unwrap();
    let error = perform(&web, Goal::Stopped).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("supervisord does not run: there is no socket `{}`", socket.display())
    );

    fs::remove_file(supervisord.path("supervisord.conf")).unwrap();
    let error = perform(&web, Goal::Running).unwrap_err();
    assert!(matches!(error, ServiceError::File(_)), "{error:?}");
}

#[test]
fn something_else_on_the_socket_is_no_supervisord() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<x/>",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            while !String::from_utf8_lossy(&asked).contains("</methodCall>") {
                let end = asked.iter().position(|byte| *byte == 0).unwrap_or(asked.len());
                assert!(stream.read(&mut asked[end..]).unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let service = supervised(Server::Url(format!("unix://{}", socket.display())), "web");
    for what in ["HTTP status 404", "its answer is not XML-RPC"] {
        let error = service.state(&Host::new()).unwrap_err();
        let expected = format!("`{}` does not answer like supervisord: {what}", socket.display());
        assert_eq!(error.to_string(), expected);
    }
    server.join().unwrap();
}

#[test]
fn a_port_with_a_password_is_used_as_the_file_says() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server =
        format!("[inet_http_server]\nport = 127.0.0.1:{port}\nusername = site\npassword = pass:%%word\n");
    let Some(supervisord) = Supervisord::start_with(&server, SLEEPER) else { return };
    let web = supervisord.service("web");
    perform(&web, Goal::Running).unwrap();
    assert_eq!(state(&web).status, Status::Running);
    perform(&web, Goal::Stopped).unwrap();

    let service = supervised(Server::Url(format!("http://127.0.0.1:{port}")), "web");
    let error = service.state(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), format!("`http://127.0.0.1:{port}` rejected the user name and password"));
}

#[test]
fn a_worker_that_dies_after_its_start_is_found() {
    let script = "echo \"no broker at redis://me:secret@host/\"; sleep 0.5; exit 1";
    let programs =
        format!("[program:celery]\ncommand = sh -c '{script}'\nstartsecs = 0\nautostart = false\n");
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let celery = supervisord.service("celery");
    perform(&celery, Goal::Running).unwrap();
    let error = perform(&celery, Goal::StaysUp).unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    assert!(error.to_string().starts_with("service `celery` did not stay up: "), "{error}");
    assert_eq!(error.tail().last().map(String::as_str), Some("no broker at redis://me:***@host/"));
}

#[test]
fn what_a_service_writes_after_a_mark_is_kept() {
    let programs = "[program:web]\ncommand = sh -c 'echo hello; exec sleep 600'\nstartsecs = 0\nautostart = false\n\
                    redirect_stderr = true\nstdout_logfile = %(here)s/web.log\n";
    let Some(supervisord) = Supervisord::start(programs) else { return };
    let web = supervisord.service("web");
    let mark = LogMark::of_states(&[state(&web)]);
    perform(&web, Goal::Running).unwrap();
    eventually("the line is there", || !mark.new_lines(&Host::new(), 5).is_empty());
    let lines = mark.new_lines(&Host::new(), 5);
    assert_eq!((lines[0].name.as_str(), lines[0].lines.as_slice()), ("web", ["hello".to_owned()].as_slice()));
    assert!(lines[0].source.ends_with("web.log"));
}

#[test]
fn a_grandchild_that_lives_on_is_found() {
    // The manager's word is that the program has stopped; the grandchild has left its group and ignores everything.
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("stubborn.sh");
    let text = "trap '' TERM\nsetsid sh -c \"trap '' TERM; echo \\$\\$ > child; sleep 600 & wait\" &\nwhile :; do sleep 1; done\n";
    fs::write(&script, text).unwrap();
    let programs = format!(
        "[program:web]\ncommand = sh {}\ndirectory = %(here)s\nstartsecs = 0\nstopwaitsecs = 1\nautostart = false\n",
        script.display()
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let web =
        Service { stop_timeout: Duration::from_secs(5), kill: Kill::Never, ..supervisord.service("web") };
    perform(&web, Goal::Running).unwrap();
    eventually("the grandchild runs", || {
        fs::read_to_string(supervisord.path("child")).is_ok_and(|text| text.ends_with('\n'))
            && state(&web).pids.len() >= 3
    });
    let before = state(&web).pids;
    let child: i32 = fs::read_to_string(supervisord.path("child")).unwrap().trim().parse().unwrap();
    let error = perform(&web, Goal::Stopped).unwrap_err();
    let ServiceError::StillRunning { processes, .. } = &error else { panic!("{error:?}") };
    assert!(processes.contains(&format!("{child} (`sh`)")), "{processes:?}");
    assert_eq!(state(&web).status, Status::Stopped, "that is what supervisor says");

    let known = ServiceAction { old: before.clone(), ..action(&web, Goal::Stopped) };
    let error = known.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "known from before: {error:?}");
    // What is only known to have run before is waited for; what is known to be the service's is ended.
    let auto = Service { kill: Kill::Auto, stop_timeout: Duration::from_millis(300), ..web.clone() };
    let error = ServiceAction { service: auto.clone(), ..known.clone() }.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    assert!(ProcessId::of(child).is_some());
    let mine = ServiceAction { service: auto, before: Before::of(before.clone()), ..known.clone() };
    mine.perform(&Host::new()).unwrap();
    assert!(!alive(&before) && ProcessId::of(child).is_none());
    known.perform(&Host::new()).unwrap();
}

#[test]
fn a_start_that_leaves_the_old_process_in_charge_has_failed() {
    let Some(supervisord) = Supervisord::start(SLEEPER) else { return };
    let web = supervisord.service("web");
    perform(&web, Goal::Running).unwrap();
    let old = state(&web).pids;
    let again = ServiceAction { old: old.clone(), ..action(&web, Goal::Running) };
    let error = again.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::OldProcess { pid, .. } if pid == old[0].pid), "{error:?}");
    perform(&web, Goal::Stopped).unwrap();
    perform(&web, Goal::Running).unwrap();
    let between = state(&web).main;
    again.perform(&Host::new()).unwrap();
    assert!(!alive(&between), "somebody started it before its time");
    assert_eq!(state(&web).status, Status::Running);
}

#[test]
fn a_stop_that_takes_too_long_is_an_error_and_can_be_interrupted() {
    let programs = "[program:web]\ncommand = sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done'\n\
                    startsecs = 0\nstopwaitsecs = 600\nautostart = false\n";
    let Some(supervisord) = Supervisord::start(programs) else { return };
    let web = Service { stop_timeout: Duration::from_millis(300), ..supervisord.service("web") };
    let mark = LogMark::of_states(&[state(&web)]);
    perform(&web, Goal::Running).unwrap();
    eventually("it ignores the signal", || !mark.new_lines(&Host::new(), 1).is_empty());
    let error = perform(&web, Goal::Stopped).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    let now = state(&web);
    assert_eq!(now.status, Status::Stopping);

    let cancel = deploykit::Cancel::new().unwrap();
    cancel.request();
    let service = Service { stop_timeout: Duration::from_secs(600), ..web };
    let error = action(&service, Goal::Stopped).perform(&Host::new().with_cancel(cancel)).unwrap_err();
    assert!(matches!(error, ServiceError::Cancelled { .. }), "{error:?}");
    now.pids.into_iter().for_each(kill);
}

#[test]
fn an_operation_stops_in_order_and_its_undo_brings_back_exactly_what_ran() {
    let programs = "[program:web]\ncommand = sleep 600\nstartsecs = 0\n[program:celery]\ncommand = sleep 600\n\
                    startsecs = 0\n[program:idle]\ncommand = sleep 600\nautostart = false\nstartsecs = 0\n\
                    [program:redis]\ncommand = sleep 600\nstartsecs = 0\n";
    let Some(supervisord) = Supervisord::start(programs) else { return };
    let with_role = |name, role| Service { role, ..supervisord.service(name) };
    let services = vec![
        with_role("web", Role::Web),
        with_role("celery", Role::Worker),
        with_role("idle", Role::Worker),
        with_role("redis", Role::Required),
    ];
    let control = |want| ServiceControl { services: services.clone(), want };
    let running = || -> Vec<String> {
        let states = control(Want::Stop).observe(&Host::new()).unwrap();
        states
            .into_iter()
            .filter(|state| state.status == Status::Running)
            .map(|state| state.service)
            .collect()
    };
    eventually("all run that should", || running() == ["web", "celery", "redis"]);
    let mut context = Context::default();

    let Check::Change(stop) = control(Want::Stop).check(&context.host).unwrap() else { panic!("all run") };
    operations::perform(&stop, &mut context).unwrap();
    operations::perform(&stop, &mut context).unwrap();
    assert_eq!(running(), ["redis"]);
    let unchanged = control(Want::Stop).check(&context.host).unwrap();
    assert!(matches!(unchanged, Check::Unchanged { .. }), "{unchanged:?}");
    operations::undo(&stop, &mut context).unwrap();
    operations::undo(&stop, &mut context).unwrap();
    assert_eq!(running(), ["web", "celery", "redis"]);

    let Check::Change(start) = operations::apply(&control(Want::Start), &mut context).unwrap() else {
        panic!("one does not run")
    };
    assert_eq!(running().len(), 4);
    operations::undo(&start, &mut context).unwrap();
    assert_eq!(running(), ["web", "celery", "redis"]);

    let before = control(Want::Restart).observe(&context.host).unwrap();
    operations::apply(&control(Want::Restart), &mut context).unwrap();
    let after = control(Want::Restart).observe(&context.host).unwrap();
    assert_eq!(running(), ["web", "celery", "redis"]);
    for index in [0, 1] {
        assert_ne!(before[index].main, after[index].main, "{} runs anew", before[index].service);
    }
    assert_eq!(before[3].main, after[3].main, "redis was left alone");
}
