//! What outlives its manager's stop, and who has the socket meanwhile.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use super::*;

/// An application that answers `/slow` when it is let go.
const APPLICATION: &str = "
import os, time

def app(environ, start):
    if environ['PATH_INFO'] == '/slow':
        open('reached', 'w').close()
        while not os.path.exists('go-on'):
            time.sleep(0.02)
    start('200 OK', [('Content-Length', '5')])
    return [b'hello']
";

/// A directory with the application, and a free port.
struct Slow {
    directory: tempfile::TempDir,
    port: u16,
}

impl Slow {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mysite.py"), APPLICATION).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Slow { directory, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn program(&self, gunicorn: &Path) -> String {
        let (gunicorn, directory) = (gunicorn.display(), self.directory.path().display());
        let bind = self.address();
        format!(
            "[program:web]\ncommand = {gunicorn} --no-control-socket --bind {bind} --graceful-timeout 600 mysite:app\n\
             directory = {directory}\nautostart = false\nstartsecs = 0\nstopwaitsecs = 1\n"
        )
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()) else { return false };
        let mut text = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        asked.and_then(|()| std::io::Read::read_to_string(&mut stream, &mut text)).is_ok()
            && text.ends_with("hello")
    }

    /// Asks for the slow page, and returns once a worker is at it.
    fn ask(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(b"GET /slow HTTP/1.0\r\n\r\n").unwrap();
        eventually("a worker is busy", || self.path("reached").exists());
        stream
    }
}

/// The actions that an operation would make for what is seen now.
fn actions(service: &Service) -> (ServiceAction, ServiceAction) {
    let control = ServiceControl { services: vec![service.clone()], want: Want::Restart };
    let mut restart = control.restart(&control.observe(&Host::new()).unwrap());
    (restart.stop.remove(0), restart.undo.remove(0))
}

#[test]
fn a_worker_that_supervisor_leaves_behind_is_ended_before_anything_is_started() {
    let Some(gunicorn) = gunicorn() else { return };
    let slow = Slow::new();
    let Some(supervisord) = Supervisord::start(&slow.program(&gunicorn)) else { return };
    let web = Service { stop_timeout: Duration::from_secs(2), ..supervisord.service("web") };
    perform(&web, Goal::Running).unwrap();
    eventually("it answers", || slow.answers());
    let _client = slow.ask();
    let seen = state(&web);
    assert_eq!(seen.socket.listens.len(), 1, "{:?}", seen.socket);
    let kept = "its manager kills gunicorn's master after 1 s (`stopwaitsecs`) and nothing else (`killasgroup = false`)";
    assert!(seen.cautions.len() == 1 && seen.cautions[0].starts_with(kept), "{:?}", seen.cautions);
    let (stop, start) = actions(&web);

    // With `kill = "never"` the stop fails, and the way back does not start anything into the taken port.
    let never = |action: &ServiceAction| ServiceAction {
        service: Service { kill: Kill::Never, start_timeout: Duration::from_secs(1), ..web.clone() },
        ..action.clone()
    };
    let error = never(&stop).perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    let now = state(&web);
    assert_eq!((now.status, now.main.len()), (Status::Stopped, 0), "that is what supervisor says");
    assert!(alive(&seen.pids), "its worker is at the slow page");
    let error = never(&start).perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::SocketTaken { old: true, .. }), "{error:?}");
    let address = slow.address();
    assert!(error.to_string().contains(&format!("`{address}` is in use by process ")), "{error}");
    assert_eq!(state(&web).status, Status::Stopped, "nothing was started");

    // By default what outlived the stop is ended, also on the way back.
    start.perform(&Host::new()).unwrap();
    assert!(!alive(&seen.pids));
    eventually("it answers again", || slow.answers());

    fs::remove_file(slow.path("reached")).unwrap();
    let _client = slow.ask();
    let old = state(&web).pids;
    let (stop, start) = actions(&web);
    stop.perform(&Host::new()).unwrap();
    assert!(!alive(&old));
    stop.perform(&Host::new()).unwrap();

    // Somebody else's process on the port is not ours to end.
    let taken = TcpListener::bind(&address).unwrap();
    let error = start.perform(&Host::new()).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, ServiceError::SocketTaken { old: false, .. }), "{error:?}");
    let told = format!("service `web` is not started: `{address}` is in use by process {me} (`");
    assert!(error.to_string().starts_with(&told), "{error}");
    assert!(error.to_string().ends_with("`), which does not belong to it"), "{error}");
    assert_eq!(state(&web).status, Status::Stopped);
    drop(taken);
    start.perform(&Host::new()).unwrap();
    eventually("it answers once more", || slow.answers());
    perform(&web, Goal::Stopped).unwrap();
}

#[test]
fn a_gunicorn_with_a_pidfile_that_does_not_end_is_killed_after_its_time() {
    let slow = Slow::new();
    let Some(mut service) = daemon(slow.directory.path(), "mysite:app") else { return };
    let _cleaner = Cleaner(&service.clone());
    service.stop_timeout = Duration::from_secs(1);
    if let Manager::Gunicorn(gunicorn) = &mut service.manager {
        let bind = gunicorn.start.iter().position(|word| word == "unix:g.sock").unwrap();
        gunicorn.start[bind] = slow.address();
        gunicorn.start.insert(bind, "--graceful-timeout=600".to_owned());
        gunicorn.start.swap(bind - 1, bind);
    }
    perform(&service, Goal::Running).unwrap();
    eventually("it answers", || slow.answers());
    let _client = slow.ask();
    let old = state(&service).pids;
    let never = Service { kill: Kill::Never, ..service.clone() };
    let error = perform(&never, Goal::Stopped).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    assert!(alive(&old));
    perform(&service, Goal::Stopped).unwrap();
    assert!(!alive(&old));
    perform(&service, Goal::Running).unwrap();
    eventually("it answers again", || slow.answers());
    perform(&service, Goal::Stopped).unwrap();
}

#[test]
fn processes_of_another_boot_or_of_nobody_are_left_alone() {
    let Some(supervisord) = Supervisord::start(SLEEPER) else { return };
    let web = Service { stop_timeout: Duration::from_millis(200), ..supervisord.service("web") };
    let mut bystander = Bystander::start(&["sleep", "600"]);
    let process = ProcessId::of(bystander.pid()).unwrap();
    let before = |boot: &str, process| Before { boot: boot.to_owned(), processes: vec![process] };
    let boot = Before::of(vec![process]).boot;
    let later = ProcessId { started: process.started + 1, ..process };
    for before in [before("another", process), before("", process), before(&boot, later)] {
        ServiceAction { before, ..action(&web, Goal::Stopped) }.perform(&Host::new()).unwrap();
        assert!(bystander.is_running());
    }
    ServiceAction { before: before(&boot, process), ..action(&web, Goal::Stopped) }
        .perform(&Host::new())
        .unwrap();
    eventually("it is told to end", || !bystander.is_running());
}

#[test]
fn what_a_unit_leaves_behind_is_ended() {
    if !crate::support::systemd::inside(&what_a_unit_leaves_behind_is_ended) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("stubborn.sh");
    let child = directory.path().join("child");
    let text = format!(
        "sh -c \"trap '' TERM; echo \\$\\$ > {}; while :; do sleep 0.1; done\" &\nwait\n",
        child.display()
    );
    fs::write(&script, text).unwrap();
    let unit = format!("[Service]\nExecStart=/bin/sh {}\nKillMode=process\n", script.display());
    crate::support::systemd::unit("stubborn.service", &unit);
    let systemd = deploykit::services::Systemd { unit: Some("stubborn".to_owned()), user: false };
    let service = quick(Service::new("web", Role::Web, Manager::Systemd(systemd)));
    let service = Service { stop_timeout: Duration::from_secs(1), ..service };
    perform(&service, Goal::Running).unwrap();
    eventually("the child runs", || fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')));
    let old = state(&service).pids;
    let (stop, start) = actions(&service);
    let never = Service { kill: Kill::Never, ..service.clone() };
    let error = ServiceAction { service: never, ..stop.clone() }.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, ServiceError::StillRunning { .. }), "{error:?}");
    assert!(alive(&old) && state(&service).status == Status::Stopped);
    stop.perform(&Host::new()).unwrap();
    assert!(!alive(&old));
    start.perform(&Host::new()).unwrap();
    perform(&service, Goal::Stopped).unwrap();
}

#[test]
fn a_stop_command_that_leaves_a_worker_behind_is_made_up_for() {
    let Some(gunicorn) = gunicorn() else { return };
    let slow = Slow::new();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let start = format!(
        "setsid {} --no-control-socket --pid m.pid --bind {} mysite:app >out 2>&1 & touch up",
        gunicorn.display(),
        slow.address()
    );
    let manager = CommandManager {
        start: words(&["sh", "-c", &start]),
        stop: words(&["sh", "-c", "kill -9 $(cat m.pid); rm -f up m.pid"]),
        status: words(&["test", "-e", "up"]),
        held: false,
        directory: Some(slow.directory.path().to_owned()),
    };
    let virtualenv = gunicorn.parent().unwrap().parent().unwrap().to_owned();
    let address = deploykit::services::Address::Tcp(slow.address().parse().unwrap());
    let service = quick(Service::new("web", Role::Web, Manager::Command(manager)));
    let service = Service {
        stop_timeout: Duration::from_secs(2),
        serves: Some(Serves { address, virtualenv, checkout: "/no/such/checkout".into() }),
        ..service
    };
    assert_eq!((state(&service).status, state(&service).pids.len()), (Status::Stopped, 0));
    perform(&service, Goal::Running).unwrap();
    let _cleaner = Cleaner(&service);
    eventually("it answers", || slow.answers());
    let _client = slow.ask();
    let (stop, start) = actions(&service);
    let old = stop.before.processes.clone();
    assert_eq!(old.len(), 2, "a master and a worker: {old:?}");
    stop.perform(&Host::new()).unwrap();
    assert!(!alive(&old));
    start.perform(&Host::new()).unwrap();
    eventually("it answers again", || slow.answers());

    // What is in front of it, or of somebody else, is none of its processes.
    let other = Serves { virtualenv: "/srv/venv".into(), ..service.serves.clone().unwrap() };
    let other = Service { serves: Some(other), ..service.clone() };
    assert_eq!(state(&other).pids, []);
    let (stop, _) = actions(&service);
    stop.perform(&Host::new()).unwrap();
}
