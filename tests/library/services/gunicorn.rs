//! gunicorn, under supervisor and alone.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn gunicorn_under_supervisor_is_stopped_with_its_workers() {
    let Some(gunicorn) = gunicorn() else { return };
    let site = wsgi();
    let programs = format!(
        "[program:gunicorn]\ncommand = {} --workers 2 --no-control-socket --bind unix:%(here)s/g.sock mysite:app\n\
         directory = {}\nautostart = false\n",
        gunicorn.display(),
        site.path().display()
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let service = supervisord.service("gunicorn");
    perform(&service, Goal::Running).unwrap();
    let socket = supervisord.path("g.sock");
    eventually("it answers", || answers(&socket));
    perform(&service, Goal::StaysUp).unwrap();
    eventually("both workers are there", || state(&service).pids.len() >= 3);
    let old = state(&service).pids;
    let stop = ServiceAction { old: old.clone(), ..action(&service, Goal::Stopped) };
    stop.perform(&Host::new()).unwrap();
    assert!(!alive(&old) && !answers(&socket));
    ServiceAction { goal: Goal::Running, ..stop }.perform(&Host::new()).unwrap();
    eventually("it answers again", || answers(&socket));
}

/// All gunicorns of a user make their control socket at the same path: the last one has it.
#[test]
fn the_control_socket_of_another_gunicorn_is_not_in_the_way() {
    let Some(gunicorn) = gunicorn() else { return };
    let site = wsgi();
    let program = |name: &str| {
        format!(
            "[program:{name}]\ncommand = {} --bind unix:%(here)s/{name}.sock mysite:app\ndirectory = {}\n\
             environment = HOME=\"%(here)s\",XDG_RUNTIME_DIR=\"%(here)s/none\"\nautostart = false\n",
            gunicorn.display(),
            site.path().display()
        )
    };
    let Some(supervisord) = Supervisord::start(&(program("one") + &program("two"))) else { return };
    let [one, two] = ["one", "two"].map(|name| supervisord.service(name));
    let control = supervisord.path(".gunicorn/gunicorn.ctl");
    let pages = supervisord.path("one.sock");
    perform(&one, Goal::Running).unwrap();
    eventually("it answers, and makes its control socket", || answers(&pages) && control.exists());
    let socket = state(&one).socket;
    let listens: Vec<_> = socket.listens.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(listens, [pages.display().to_string()]);

    let inode = || fs::metadata(&control).map(|found| found.ino()).ok();
    let first = inode();
    perform(&two, Goal::Running).unwrap();
    eventually("the other one takes it over", || inode().is_some_and(|now| Some(now) != first));
    let stop = ServiceAction { socket, ..action(&one, Goal::Stopped) };
    stop.perform(&Host::new()).unwrap();
    ServiceAction { goal: Goal::Running, ..stop }.perform(&Host::new()).unwrap();
    eventually("it answers again", || answers(&pages));
}

#[test]
fn workers_of_a_killed_gunicorn_are_waited_for() {
    let Some(gunicorn) = gunicorn() else { return };
    let site = wsgi();
    let programs = format!(
        "[program:gunicorn]\ncommand = {} --no-control-socket --bind unix:%(here)s/g.sock mysite:app\n\
         directory = {}\nautostart = false\nautorestart = false\n",
        gunicorn.display(),
        site.path().display()
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let service = Service { stop_timeout: Duration::from_secs(60), ..supervisord.service("gunicorn") };
    perform(&service, Goal::Running).unwrap();
    eventually("it answers", || answers(&supervisord.path("g.sock")));
    // One that ends within its start-up time is started again, whatever `autorestart` says.
    perform(&service, Goal::StaysUp).unwrap();
    let before = state(&service);
    signal(Signal::KILL, before.main[0].pid);
    eventually("supervisor notices", || state(&service).is_at_rest());
    ServiceAction { old: before.pids.clone(), ..action(&service, Goal::Stopped) }
        .perform(&Host::new())
        .unwrap();
    assert!(!alive(&before.pids));
}

#[test]
fn an_application_that_cannot_be_imported_is_found_under_supervisor() {
    let Some(gunicorn) = gunicorn() else { return };
    let site = wsgi();
    let programs = format!(
        "[program:gunicorn]\ncommand = {} --no-control-socket --bind unix:%(here)s/g.sock broken:app\n\
         directory = {}\nautostart = false\nstartsecs = 5\n",
        gunicorn.display(),
        site.path().display()
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let service = supervisord.service("gunicorn");
    let result = perform(&service, Goal::Running).and_then(|()| perform(&service, Goal::StaysUp));
    let error = result.unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    assert!(error.tail().iter().any(|line| line.contains("no such thing")), "{:?}", error.tail());
}

#[test]
fn a_gunicorn_daemon_is_started_and_stopped_by_its_pidfile() {
    let site = wsgi();
    let Some(service) = daemon(site.path(), "mysite:app") else { return };
    let _cleaner = Cleaner(&service);
    assert_eq!(state(&service).status, Status::Stopped);
    perform(&service, Goal::Stopped).unwrap();
    perform(&service, Goal::Running).unwrap();
    let socket = site.path().join("g.sock");
    eventually("it answers", || answers(&socket));
    perform(&service, Goal::StaysUp).unwrap();
    perform(&service, Goal::Running).unwrap();
    let before = state(&service);
    assert_eq!(before.main.len(), 1, "it was not started twice");
    assert!(before.pids.len() >= 3, "a master and two workers: {:?}", before.pids);
    perform(&service, Goal::Stopped).unwrap();
    assert!(!alive(&before.pids) && !answers(&socket));
    assert_eq!(state(&service).status, Status::Stopped);
}

#[test]
fn a_gunicorn_daemon_that_cannot_import_its_application_is_found() {
    let site = wsgi();
    let Some(service) = daemon(site.path(), "broken:app") else { return };
    let _cleaner = Cleaner(&service);
    let error = perform(&service, Goal::Running).and_then(|()| perform(&service, Goal::StaysUp)).unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    assert!(error.tail().iter().any(|line| line.contains("no such thing")), "{:?}", error.tail());
}

#[test]
fn a_gunicorn_daemon_that_dies_before_its_pidfile_is_found() {
    let site = wsgi();
    let Some(mut service) = daemon(site.path(), "broken:app") else { return };
    if let Manager::Gunicorn(gunicorn) = &mut service.manager {
        gunicorn.start.push("--preload".to_owned());
    }
    let error = perform(&service, Goal::Running).unwrap_err();
    assert!(matches!(error, ServiceError::Died { .. }), "{error:?}");
    let said = format!("{error} {}", error.tail().join("\n"));
    assert!(said.contains("left nothing running") && said.contains("without `--daemon`"), "{said}");
}

#[test]
fn a_stale_pidfile_never_costs_another_process_its_life() {
    let site = wsgi();
    let Some(service) = daemon(site.path(), "mysite:app") else { return };
    let _cleaner = Cleaner(&service);
    let mut bystander = Bystander::start(&["sleep", "600"]);
    let pidfile = site.path().join("g.pid");
    fs::write(&pidfile, format!("{}\n", bystander.pid())).unwrap();
    let seen = state(&service);
    assert_eq!((seen.status, seen.main.len()), (Status::Failed, 0));
    assert!(seen.detail.ends_with("which is now `sleep`"), "{}", seen.detail);
    perform(&service, Goal::Stopped).unwrap();
    assert!(bystander.is_running());
    perform(&service, Goal::Running).unwrap();
    eventually("it answers", || answers(&site.path().join("g.sock")));
    assert!(bystander.is_running());
    perform(&service, Goal::Stopped).unwrap();

    fs::write(&pidfile, "soon\n").unwrap();
    let error = service.state(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` holds no process id", pidfile.display()));
}
