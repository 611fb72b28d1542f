//! A real supervisord in a temporary directory, a gunicorn, and services that name them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use deploykit::Host;
use deploykit::services::{
    Before, Gunicorn, Manager, ProcessId, Role, Server, Service, ServiceAction, ServiceState, Socket,
    Supervisor,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a process by force, if it still is the same one.
pub fn kill(process: ProcessId) {
    if process.is_alive() {
        signal(Signal::KILL, process.pid);
    }
}

/// Sends a signal; the process may be gone.
pub fn signal(signal: Signal, pid: i32) {
    assert!(pid > 1, "no process of ours: {pid}");
    let _ = kill_process(Pid::from_raw(pid).expect("a process id"), signal);
}

/// A supervisord with its configuration file; ended with all of its programs when it is dropped.
pub struct Supervisord {
    pub directory: TempDir,
    child: Child,
}

impl Supervisord {
    /// Starts one with these programs on the socket `s` in its directory; `%(here)s` is the directory.
    pub fn start(programs: &str) -> Option<Self> {
        Self::start_with("[unix_http_server]\nfile = %(here)s/s\n", programs)
    }

    /// Starts one with this server section.
    pub fn start_with(server: &str, programs: &str) -> Option<Self> {
        let program = super::program("supervisord")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = format!(
            "{server}\n[supervisord]\nnodaemon = true\nlogfile = %(here)s/supervisord.log\n\
             pidfile = %(here)s/supervisord.pid\nchildlogdir = %(here)s\nidentifier = test\nloglevel = debug\n\
             [rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n{programs}\n"
        );
        fs::write(directory.path().join("supervisord.conf"), text).expect("the file is written");
        let child = spawn(&program, directory.path());
        let supervisord = Supervisord { directory, child };
        let log = supervisord.path("supervisord.log");
        eventually("supervisord listens", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("supervisord started"))
        });
        Some(supervisord)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// A service of this supervisord, with short times.
    pub fn service(&self, name: &str) -> Service {
        let server = Server::Config(self.path("supervisord.conf"));
        quick(Service::new(name, Role::Web, Manager::Supervisor(Supervisor { server, program: None })))
    }

    /// Kills supervisord itself, which leaves its socket file and its programs.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        // Its programs lead groups of their own: end them while their parent is known.
        for process in children(self.pid()) {
            signal(Signal::KILL, process);
        }
        self.kill();
    }
}

fn spawn(program: &Path, directory: &Path) -> Child {
    Command::new(program)
        .args(["-n", "-c"])
        .arg(directory.join("supervisord.conf"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("supervisord starts")
}

/// All descendants of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let all = procfs::process::all_processes().expect("/proc is there");
    let stats = all.filter_map(|process| process.ok()?.stat().ok());
    let pairs: Vec<(i32, i32)> = stats.map(|stat| (stat.pid, stat.ppid)).collect();
    let mut found = vec![pid];
    let mut index = 0;
    while index < found.len() {
        let parent = found[index];
        found.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        index += 1;
    }
    found.split_off(1)
}

/// Gives a service times that suit a test on a busy machine.
pub fn quick(service: Service) -> Service {
    Service {
        stop_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_secs(30),
        stay_up: Some(Duration::from_millis(1500)),
        ..service
    }
}

/// Makes an action without old processes.
pub fn action(service: &Service, goal: deploykit::services::Goal) -> ServiceAction {
    ServiceAction {
        service: service.clone(),
        goal,
        old: Vec::new(),
        before: Before::default(),
        socket: Socket::default(),
    }
}

#[track_caller]
pub fn state(service: &Service) -> ServiceState {
    service.state(&Host::new()).expect("the manager answers")
}

/// gunicorn's program; `None` when the tools for it are missing.
pub fn gunicorn() -> Option<PathBuf> {
    server("gunicorn")
}

/// Virtualenvs with servers, and the packages in each, which have the names of their programs.
const SERVERS: [(&str, [&str; 3]); 2] =
    [("servers", ["gunicorn", "uwsgi", "uvicorn"]), ("asgi-servers", ["daphne", "hypercorn", "granian"])];

/// A program of a virtualenv with servers, made once and kept for later runs; `None` when the tools for it are missing.
pub fn server(name: &str) -> Option<PathBuf> {
    static PROGRAMS: [OnceLock<Option<PathBuf>>; SERVERS.len()] = [const { OnceLock::new() }; SERVERS.len()];
    let mut known = SERVERS.iter().zip(&PROGRAMS);
    let ((venv, packages), programs) =
        known.find(|((_, packages), _)| packages.contains(&name)).expect("a server of `SERVERS`");
    programs.get_or_init(|| installed(venv, *packages)).as_ref().map(|programs| programs.join(name))
}

/// Returns the programs of a virtualenv of this name with these packages.
fn installed(name: &str, packages: [&str; 3]) -> Option<PathBuf> {
    let (uv, wheels) = (super::program("uv")?, super::wheels()?);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(directory).expect("a directory below target");
    let lock = File::create(directory.join("servers.lock")).expect("a lock file");
    lock.lock().expect("nobody holds it for long");
    let venv = directory.join(name);
    let (programs, complete) = (venv.join("bin"), venv.join("complete"));
    let made = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if made(&complete).is_some_and(|complete| made(&super::tools().join("stamp")) < Some(complete)) {
        return Some(programs);
    }
    let run = |args: &[&OsStr]| {
        let mut command = Command::new(&uv);
        command.args(args).env("VIRTUAL_ENV", &venv).stdin(Stdio::null());
        let output = command.output().expect("uv runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["venv", "--quiet", "--clear"]
        .map(OsStr::new)
        .into_iter()
        .chain([venv.as_os_str()])
        .collect::<Vec<_>>());
    let install = ["pip", "install", "--quiet", "--offline", "--no-index", "--find-links"];
    run(&install
        .map(OsStr::new)
        .into_iter()
        .chain([wheels.as_os_str()])
        .chain(packages.map(OsStr::new))
        .collect::<Vec<_>>());
    fs::write(complete, "").expect("the mark is written");
    Some(programs)
}

/// A directory with WSGI modules: `mysite`, which answers, for `/slow` after two seconds and with a file `slow`, and
/// `broken`, which cannot be imported.
pub fn wsgi() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let site = "import time\n\ndef app(environ, start):\n    if environ['PATH_INFO'] == '/slow':\n        \
                open('slow', 'w').close()\n        time.sleep(2)\n    \
                start('200 OK', [('Content-Length', '5')])\n    return [b'hello']\n";
    fs::write(directory.path().join("mysite.py"), site).expect("written");
    fs::write(directory.path().join("broken.py"), "raise ImportError('no such thing')\n").expect("written");
    directory
}

/// A gunicorn that daemonizes, with its pidfile `g.pid` and log `g.log` in the directory.
pub fn daemon(directory: &Path, application: &str) -> Option<Service> {
    let program = gunicorn()?;
    let words = [
        &program.to_string_lossy(),
        "--daemon",
        "--pid",
        "g.pid",
        "--error-logfile",
        "g.log",
        "--bind",
        "unix:g.sock",
        "--workers",
        "2",
        "--no-control-socket",
        application,
    ];
    let start = words.iter().map(|word| (*word).to_owned()).collect();
    let gunicorn =
        Gunicorn { pidfile: directory.join("g.pid"), start, directory: Some(directory.to_owned()) };
    Some(quick(Service::new("gunicorn", Role::Web, Manager::Gunicorn(gunicorn))))
}

/// Ends the processes that a pidfile service left, whatever became of the test.
pub struct Cleaner<'a>(pub &'a Service);

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        if let Ok(state) = self.0.state(&Host::new()) {
            state.pids.into_iter().for_each(kill);
        }
    }
}

/// A child of the test that is killed and read when it is dropped.
pub struct Bystander(pub Child);

impl Bystander {
    pub fn start(argv: &[&str]) -> Self {
        let child = Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::null()).spawn();
        Bystander(child.expect("it starts"))
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process id")
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks the site on a Unix socket for its page.
pub fn answers(socket: &Path) -> bool {
    use std::io::Write;
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut text = String::new();
    asked.and_then(|()| stream.read_to_string(&mut text)).is_ok() && text.ends_with("hello")
}

/// Asks the uWSGI on a Unix socket for a page.
pub fn uwsgi_answers(socket: &Path, path: &str) -> bool {
    let check = deploykit::operations::smoke_check::SmokeCheck {
        base: Some("http://site.example/".to_owned()),
        connect: Some(deploykit::operations::smoke_check::Connect::UwsgiUnix(socket.to_owned())),
        pages: vec![deploykit::operations::smoke_check::Page::new(path)],
        ..Default::default()
    };
    check.run(&Host::new()).is_ok_and(|pages| pages.iter().all(|page| page.problems.is_empty()))
}
