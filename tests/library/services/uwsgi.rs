//! uWSGI, alone by its FIFO, as a vassal, and under supervisor.

use std::process::Command;

use deploykit::services::Uwsgi;

use super::*;
use crate::support::services::{server, uwsgi_answers};

/// A directory with the application and `site.ini`, whose last lines are given.
fn site(lines: &str) -> tempfile::TempDir {
    let site = wsgi();
    let text = format!(
        "[uwsgi]\nchdir = %d\nmodule = mysite:app\nsocket = %du.sock\nmaster = true\nprocesses = 2\nneed-app = true\n\
         pidfile = %du.pid\n{lines}\n"
    );
    fs::write(site.path().join("site.ini"), text).unwrap();
    site
}

const ALONE: &str = "master-fifo = %du.fifo\ndaemonize = %du.log";

fn alone(site: &Path) -> Option<Service> {
    let start =
        vec![server("uwsgi")?.to_string_lossy().into_owned(), "--ini".to_owned(), "site.ini".to_owned()];
    let (pidfile, fifo, directory) = (site.join("u.pid"), Some(site.join("u.fifo")), Some(site.to_owned()));
    let manager = Manager::Uwsgi(Uwsgi { pidfile, start, fifo, directory, ..Uwsgi::default() });
    Some(quick(Service::new("uwsgi", Role::Web, manager)))
}

/// Starts a request that takes two seconds, and waits until it is under way.
fn slow(site: &Path) -> std::thread::JoinHandle<bool> {
    let (socket, mark) = (site.join("u.sock"), site.join("slow"));
    let asking = std::thread::spawn(move || uwsgi_answers(&socket, "/slow"));
    eventually("the slow request is under way", || mark.exists());
    asking
}

#[test]
fn a_uwsgi_alone_ends_by_its_fifo_and_completes_what_is_under_way() {
    let site = site(ALONE);
    let Some(service) = alone(site.path()) else { return };
    let _cleaner = Cleaner(&service);
    assert_eq!(state(&service).status, Status::Stopped);
    perform(&service, Goal::Running).unwrap();
    perform(&service, Goal::StaysUp).unwrap();
    let first = state(&service);
    assert_eq!((first.status, first.main.len()), (Status::Running, 1));
    assert!(first.logs[0].ends_with("u.log") && first.obstacle.is_none(), "{first:?}");
    assert_eq!(
        first.cautions,
        ["it may take 60 s to end (`worker-reload-mercy`), and `stop-timeout` is 20 s"]
    );
    assert!(first.socket.listens.iter().any(|one| one.address.to_string().ends_with("u.sock")), "{first:?}");
    let slow = slow(site.path());
    let stop = ServiceAction { old: first.pids.clone(), ..action(&service, Goal::Stopped) };
    stop.perform(&Host::new()).unwrap();
    assert!(slow.join().unwrap(), "the request was completed");
    assert!(!alive(&first.pids));
    let stopped = state(&service);
    assert_eq!(stopped.status, Status::Stopped, "{}", stopped.detail);
    assert!(site.path().join("u.pid").exists(), "uWSGI leaves it behind");
    stop.perform(&Host::new()).unwrap();
    ServiceAction { goal: Goal::Running, ..stop }.perform(&Host::new()).unwrap();
    eventually("it answers again", || uwsgi_answers(&site.path().join("u.sock"), "/"));
}

#[test]
fn a_uwsgi_whose_application_is_broken_does_not_start() {
    let site = site(ALONE);
    let Some(service) = alone(site.path()) else { return };
    let _cleaner = Cleaner(&service);
    let text = fs::read_to_string(site.path().join("site.ini")).unwrap().replace("mysite", "broken");
    fs::write(site.path().join("site.ini"), text).unwrap();
    let started = perform(&service, Goal::Running).and_then(|()| perform(&service, Goal::StaysUp));
    let error = started.unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    assert!(error.tail().iter().any(|line| line.contains("no such thing")), "{:?}", error.tail());
}

#[test]
fn a_uwsgi_that_does_not_read_its_fifo_ends_at_once() {
    let site = site("daemonize = %du.log");
    let Some(service) = alone(site.path()) else { return };
    let _cleaner = Cleaner(&service);
    perform(&service, Goal::Running).unwrap();
    perform(&service, Goal::StaysUp).unwrap();
    let before = state(&service);
    assert!(
        before.cautions[0].starts_with("SIGINT interrupts running requests: there is no FIFO `"),
        "{before:?}"
    );
    perform(&service, Goal::Stopped).unwrap();
    assert!(!alive(&before.pids));
}

#[test]
fn a_vassal_is_stopped_and_started_by_its_file() {
    let Some(program) = server("uwsgi") else { return };
    let site = site("logto = %du.log");
    let vassals = site.path().join("vassals");
    fs::create_dir(&vassals).unwrap();
    let vassal = vassals.join("site.ini");
    let text = fs::read_to_string(site.path().join("site.ini")).unwrap();
    fs::write(&vassal, text.replace("%d", &format!("{}/", site.path().display()))).unwrap();
    let emperor = Command::new(program)
        .args(["--emperor", &vassals.to_string_lossy(), "--emperor-freq", "1"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _emperor = Bystander(emperor);
    let manager =
        Uwsgi { pidfile: site.path().join("u.pid"), vassal: Some(vassal.clone()), ..Uwsgi::default() };
    let service = quick(Service::new("uwsgi", Role::Web, Manager::Uwsgi(manager)));
    let _cleaner = Cleaner(&service);
    eventually("it runs", || state(&service).status == Status::Running);
    perform(&service, Goal::StaysUp).unwrap();
    let before = state(&service);
    assert!(before.logs[0].ends_with("u.log"), "{before:?}");
    perform(&service, Goal::Stopped).unwrap();
    assert!(!alive(&before.pids) && !vassal.exists());
    let stopped = state(&service);
    assert_eq!(stopped.status, Status::Stopped);
    assert_eq!(stopped.logs, before.logs);
    assert!(
        stopped.detail.starts_with("kept stopped: the vassal's file is renamed to `"),
        "{}",
        stopped.detail
    );
    perform(&service, Goal::Running).unwrap();
    perform(&service, Goal::StaysUp).unwrap();
    assert!(vassal.exists());
    eventually("it answers again", || uwsgi_answers(&site.path().join("u.sock"), "/"));
    // One that died is the emperor's to start.
    for process in state(&service).main {
        kill(process);
    }
    eventually("it runs again", || state(&service).status == Status::Running);
}

#[test]
fn a_supervisor_whose_signal_reloads_uwsgi_is_told_of() {
    let Some(program) = server("uwsgi") else { return };
    for (lines, more, expected) in [
        ("", "", Some("SIGTERM reloads uWSGI and does not end it: add `die-on-term = true` to `")),
        ("", "stopsignal = INT\n", None),
        ("die-on-term = true", "", None),
        ("hook-master-start = unix_signal:15 gracefully_kill_them_all", "", None),
    ] {
        let site = site(lines);
        let programs = format!(
            "[program:web]\ncommand = {} --ini site.ini\ndirectory = {}\nautostart = false\nstopwaitsecs = 25\n{more}",
            program.display(),
            site.path().display()
        );
        let Some(supervisord) = Supervisord::start(&programs) else { return };
        let web = supervisord.service("web");
        perform(&web, Goal::Running).unwrap();
        perform(&web, Goal::StaysUp).unwrap();
        let before = state(&web);
        let reloads = before.obstacle.as_deref();
        assert_eq!(reloads.is_some(), expected.is_some(), "{before:?}");
        assert!(reloads.is_none_or(|text| text.starts_with(expected.unwrap())), "{reloads:?}");
        // It is as it was told: the master has the same number, and its workers are others.
        if expected.is_some() {
            for role in [Role::Web, Role::Worker] {
                let services = vec![Service { role, ..web.clone() }];
                let restart = ServiceControl { services, want: Want::Restart };
                let refusal = restart.check(&Host::new()).unwrap_err();
                assert!(matches!(refusal, ServiceError::WouldNotStop { .. }), "{refusal:?}");
            }
            signal(Signal::TERM, before.main[0].pid);
            let workers = |pids: &[ProcessId]| pids.iter().filter(|one| !before.main.contains(one)).count();
            assert_eq!(workers(&before.pids), 2);
            eventually("it was reloaded", || {
                let now = state(&web);
                now.main == before.main && now.pids != before.pids && workers(&now.pids) == 2
            });
            let patient = Service { stop_timeout: Duration::from_secs(30), ..web.clone() };
            let seen = state(&patient);
            assert_eq!(seen.obstacle, None);
            assert!(
                seen.cautions[0].ends_with("; its manager kills it after 25 s (`stopwaitsecs`)"),
                "{seen:?}"
            );
            seen.pids.into_iter().for_each(kill);
            continue;
        }
        let is_graceful = lines.starts_with("hook");
        let cuts_off =
            before.cautions.iter().any(|text| text.ends_with(" interrupts running requests in uWSGI"));
        assert_eq!(cuts_off, !is_graceful, "{before:?}");
        let slow = slow(site.path());
        perform(&web, Goal::Stopped).unwrap();
        assert_eq!(slow.join().unwrap(), is_graceful);
        assert!(!alive(&before.pids));
    }
}

#[test]
fn a_uwsgi_that_is_second_in_its_group_is_seen() {
    let Some(program) = server("uwsgi") else { return };
    let site = site("");
    let programs = format!(
        "[program:first]\ncommand = sleep 600\nautostart = false\n\
         [program:web]\ncommand = {} --ini site.ini\ndirectory = {}\nautostart = false\nstopwaitsecs = 25\n\
         [group:site]\nprograms = first,web\n",
        program.display(),
        site.path().display()
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let group = supervisord.service("site");
    perform(&group, Goal::Running).unwrap();
    perform(&group, Goal::StaysUp).unwrap();
    let before = state(&group);
    assert!(
        before.obstacle.is_some_and(|text| text.starts_with("SIGTERM reloads uWSGI")),
        "{:?}",
        before.pids
    );
    before.pids.into_iter().for_each(kill);
}
