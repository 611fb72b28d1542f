//! What `hold-socket` does with its server, signals, and addresses that others use.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};
use tempfile::TempDir;

use crate::run::{deploykit, wait_for};
use crate::support::program;
use crate::support::services::{children, gunicorn, server, wsgi};
use crate::support::site::demo_site::Port;

/// A directory of a site, and what serves there.
struct Place {
    directory: TempDir,
    port: Port,
}

/// A running `hold-socket`, ended with this value.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Place {
        let directory = wsgi();
        fs::create_dir_all(directory.path().join(".deploykit/hold")).unwrap();
        Place { directory, port: Port::reserve().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn gate(&self) -> PathBuf {
        self.path(".deploykit/hold/web")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap_or_default()
    }

    fn command(&self, address: &str, flags: &[&str], server: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deploykit"));
        command
            .args(["hold-socket", address, "--gate", ".deploykit/hold/web"])
            .args(flags)
            .arg("--")
            .args(server);
        let said = File::options().create(true).append(true).open(self.path("said")).unwrap();
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        command
    }

    fn start(&self, address: &str, flags: &[&str], server: &[&str]) -> Keeper {
        Keeper(self.command(address, flags, server).spawn().unwrap())
    }

    /// Starts a server at the port, and waits until it serves.
    fn serve(&self, flags: &[&str], server: &[&str]) -> Keeper {
        let keeper = self.start(&self.port.address(), flags, server);
        wait_for("the server", || get(&self.port.address()).is_some());
        keeper
    }
}

impl Keeper {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn server(&self) -> Option<i32> {
        children(self.pid()).first().copied()
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end of the keeper", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

/// Returns the page that is served, or `None` when there is none.
fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains(" 200 ").then_some(text)
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_help_says_what_it_does() {
    assert_data_eq!(
        deploykit("/", &["hold-socket", "--help"]).run().expect(0).text(None),
        str![[r#"
exit code 0
--- stdout
Keep a listening socket open, and a server running that serves there

Usage: deploykit hold-socket [OPTIONS] --gate <FILE> <ADDRESS> -- <COMMAND>...

Arguments:
  <ADDRESS>     Where to listen: 127.0.0.1:8000, [::1]:8000 or unix:/PATH
  <COMMAND>...  The server and its arguments; it gets the socket as descriptor 3, as from systemd

Options:
      --gate <FILE>          The socket gate of the service, /SITE/.deploykit/hold/NAME: the server
                             is stopped while it exists
      --backlog <NUMBER>     Number of connections that may wait; the kernel's limit is
                             net.core.somaxconn [default: 4096]
      --mode <OCTAL>         Permissions of a Unix socket [default: 666]
      --stop-timeout <TIME>  How long the server may take to end, before it is killed [default: 30s]
  -h, --help                 Print help

Global options:
  -c, --config <FILE>       The configuration; default: deploykit.toml here or in a directory above
                            [env: DEPLOYKIT_CONFIG=]
  -e, --environment <NAME>  Override the environment; default: the one in the configuration [env:
                            DEPLOYKIT_ENVIRONMENT=] [possible values: production, staging,
                            development]
      --json                Print one JSON document on the standard output
  -q, --quiet               Print errors only
  -v, --verbose...          Print more; twice: every command
      --color <WHEN>        When to use colour [default: auto] [possible values: auto, always,
                            never]

Exit codes:
  0  ended by SIGTERM, SIGINT or SIGQUIT, after the server
  2  usage error
  4  the address is in use, or the socket gate cannot be seen
127  there is no such server

"#]]
        .raw()
    );
}

#[test]
fn the_server_is_kept_and_stops_at_the_gate() {
    let Some(gunicorn) = gunicorn() else { return };
    let place = Place::new();
    let server = [gunicorn.to_str().unwrap(), "--workers", "2", "--no-control-socket", "mysite:app"];
    let mut keeper = place.serve(&[], &server);
    let first = keeper.server().unwrap();

    // Signals of gunicorn go on to it; SIGUSR2 would start another one.
    keeper.signal(Signal::TTIN);
    wait_for("a third worker", || children(first).len() == 3);
    keeper.signal(Signal::TTOU);
    wait_for("its end", || children(first).len() == 2);
    keeper.signal(Signal::USR2);
    let workers = children(first);
    keeper.signal(Signal::HUP);
    wait_for("other workers", || {
        let now = children(first);
        now.len() == 2 && now.iter().all(|worker| !workers.contains(worker))
    });
    assert_eq!(keeper.server(), Some(first));
    assert_eq!(children(keeper.pid()).len(), 3, "one master");

    // It dies, and so do its workers before the next one starts.
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    let ended = "deploykit: the server ended: signal 9; it starts again in 1 s";
    wait_for("another server", || {
        place.said().split_once(ended).is_some_and(|(_, then)| then.contains("the server runs as process"))
    });
    wait_for("the server", || get(&place.port.address()).is_some());

    // It waits at the gate, and a request with it.
    fs::write(place.gate(), "").unwrap();
    wait_for("the stop", || keeper.server().is_none());
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| get(&place.port.address()));
        std::thread::yield_now();
        assert!(keeper.server().is_none() && !visitor.is_finished());
        fs::remove_file(place.gate()).unwrap();
        assert!(visitor.join().unwrap().is_some());
    });

    // Its end is the end of the server, and the address is free.
    let last = keeper.server().unwrap();
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.code(), Some(0));
    assert!(!is_alive(last));
    TcpListener::bind(place.port.address()).unwrap();
}

#[test]
fn servers_of_asgi_get_the_socket_too() {
    for (name, flags) in [("uvicorn", ["--fd", "3"]), ("hypercorn", ["-b", "fd://3"])] {
        let Some(server) = server(name) else { return };
        let place = Place::new();
        let app = "async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        raise NotImplementedError\n    \
                   await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'5')]})\n    \
                   await send({'type': 'http.response.body', 'body': b'hello'})\n";
        fs::write(place.path("pages.py"), app).unwrap();
        let mut keeper = place.serve(&[], &[server.to_str().unwrap(), flags[0], flags[1], "pages:app"]);
        fs::write(place.gate(), "").unwrap();
        wait_for("the stop", || keeper.server().is_none());
        fs::remove_file(place.gate()).unwrap();
        assert!(get(&place.port.address()).is_some(), "{name}: {}", place.said());
        keeper.signal(Signal::INT);
        assert_eq!(keeper.code(), Some(0));
    }
}

#[test]
fn a_server_that_does_not_end_is_killed() {
    let place = Place::new();
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let mut keeper = place.start(&place.port.address(), &["--stop-timeout", "200ms"], &["sh", "-c", script]);
    wait_for("the server", || place.said().contains("ready"));
    let server = keeper.server().unwrap();
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.code(), Some(0));
    assert!(!is_alive(server));
    assert!(
        place.said().ends_with("deploykit: killed the server: it did not end in time\n"),
        "{}",
        place.said()
    );
}

#[test]
fn a_server_that_dies_starts_again_ever_later() {
    let place = Place::new();
    let keeper = place.start(&place.port.address(), &[], &["sh", "-c", "exit 3"]);
    wait_for("a third start", || place.said().contains("it starts again in 4 s"));
    let said = place.said();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("ended")).collect();
    let expected = ["1", "2", "4"]
        .map(|time| format!("deploykit: the server ended: exit code 3; it starts again in {time} s"));
    assert_eq!(lines, expected);
    drop(keeper);
}

#[test]
fn a_killed_keeper_leaves_nobody_with_the_socket() {
    let Some(gunicorn) = gunicorn() else { return };
    let place = Place::new();
    let server = [gunicorn.to_str().unwrap(), "--no-control-socket", "mysite:app"];
    let keeper = place.serve(&[], &server);
    let pid = keeper.server().unwrap();
    drop(keeper);
    // The next one waits for the last requests of the old one, if it must.
    let next = place.serve(&[], &server);
    wait_for("the end of the old one", || !is_alive(pid));
    assert!(next.server().is_some_and(|server| server != pid));
}

#[test]
fn nobody_loses_an_address_that_is_in_use() {
    let place = Place::new();
    let address = place.port.address();
    let _other = TcpListener::bind(&address).unwrap();
    let refused = |address: &str| {
        let mut keeper = place.start(address, &["--stop-timeout", "100ms"], &["sleep", "600"]);
        assert_eq!(keeper.code(), Some(4));
        place.said()
    };
    let said = refused(&address);
    let me = std::process::id();
    assert!(said.contains(&format!("Error: `{address}` is in use by process {me} (`")), "{said}");

    let socket = place.path("run.sock");
    let unix = format!("unix:{}", socket.display());
    let live = UnixListener::bind(&socket).unwrap();
    assert!(refused(&unix).contains(&format!("Error: `{}` is in use by process {me}", socket.display())));
    // One that nobody listens at is taken over.
    drop(live);
    assert!(UnixStream::connect(&socket).is_err());
    let keeper = place.start(&unix, &["--mode", "600"], &["sleep", "600"]);
    wait_for("the socket", || UnixStream::connect(&socket).is_ok());
    let found = fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket() && found.permissions().mode() & 0o777 == 0o600);
    // Also if the file of a live one was removed, nobody takes its place.
    fs::remove_file(&socket).unwrap();
    assert!(refused(&unix).contains("is in use"));
    drop(keeper);
    wait_for("the lock", || {
        let mut keeper = place.start(&unix, &[], &["sleep", "600"]);
        let listens = std::iter::repeat_with(|| UnixStream::connect(&socket).is_ok()).take(1_000_000);
        let is_there = listens.take_while(|_| keeper.0.try_wait().unwrap().is_none()).any(|found| found);
        drop(keeper);
        is_there
    });
    // What is no socket stays.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "data").unwrap();
    assert!(refused(&unix).contains("exists and is not a socket"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "data");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let place = Place::new();
    let run = |args: &[&str]| deploykit(&place.directory, args).run();
    let address = place.port.address();
    let gate = ".deploykit/hold/web";
    let done = run(&["hold-socket", &address, "--gate", gate, "--", "no-such-server"]).expect(127);
    assert!(done.stderr.starts_with("Error: cannot run `no-such-server`: "), "{}", done.stderr);
    for gate in ["hold/web", "/nowhere/.deploykit/hold/web"] {
        let done = run(&["hold-socket", &address, "--gate", gate, "--", "sleep", "600"]).expect(4);
        assert!(done.stderr.contains("is not the socket gate of a service"), "{}", done.stderr);
        assert!(done.stderr.contains("Hint: name `/SITE/.deploykit/hold/NAME`"), "{}", done.stderr);
    }
    let done = run(&["hold-socket", "localhost:8000", "--gate", gate, "--", "sleep", "600"]).expect(2);
    assert!(
        done.stderr.contains("write it like 127.0.0.1:8000, [::1]:8000 or unix:/run/site.sock"),
        "{}",
        done.stderr
    );
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&place.directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(place.path(".deploykit"), fs::Permissions::from_mode(0o700)).unwrap();
        let args = ["hold-socket", &address, "--gate", gate, "--", "sleep", "600"];
        let done = deploykit(&place.directory, &args).user(65534).run().expect(4);
        assert!(done.stderr.starts_with("Error: cannot see whether the socket gate `"), "{}", done.stderr);
    }
}

/// It would start the server again in the middle of an update.
#[test]
fn a_keeper_that_waits_at_another_gate_is_found() {
    let Some(gunicorn) = gunicorn() else { return };
    let place = Place::new();
    let server = [gunicorn.to_str().unwrap(), "--no-control-socket", "--pid", "g.pid", "mysite:app"];
    let keeper = place.serve(&[], &server);
    let config = "[site]\nproject = \".\"\nsettings = \"x\"\n[python]\nvirtualenv = \"venv\"\nrequirements = [\"r.txt\"]\n\
                  [[services]]\nname = \"api\"\nmanager = \"gunicorn\"\nrole = \"web\"\npidfile = \"g.pid\"\nstart = []\n";
    fs::write(place.path("deploykit.toml"), config).unwrap();
    let done = deploykit(&place.directory, &["services", "stop", "api"]).run().expect(4);
    let expected =
        format!("`hold-socket`, process {}, would start it again, because it waits at `", keeper.pid());
    assert!(done.stderr.contains(&expected), "{}", done.stderr);
    assert!(get(&place.port.address()).is_some());
}

/// What the bridge does where `pidfd_getfd` is forbidden.
#[test]
fn the_socket_is_handed_to_the_same_user() {
    const ASK: &str = "
import socket, struct, sys
keeper = int(sys.argv[1])
control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.connect(b'\\0deploykit-hold-socket-%d' % keeper)
pid, uid, gid = struct.unpack('3i', control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
assert pid == keeper, pid
address, descriptors, flags, _ = socket.recv_fds(control, 256, 1)
print(address.decode(), [socket.socket(fileno=one).getsockname() for one in descriptors])
";
    let Some(python) = program("python3") else { return };
    let place = Place::new();
    let address = place.port.address();
    let keeper = place.start(&address, &[], &["sleep", "600"]);
    wait_for("the server", || keeper.server().is_some());
    let ask = |python: &Path, user: Option<u32>| {
        let mut command = Command::new(python);
        command.args(["-c", ASK, &keeper.pid().to_string()]);
        if let Some(user) = user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(ask(&python, None), format!("{address} [('127.0.0.1', {})]\n", place.port.number()));
    let shared = Path::new("/usr/bin/python3");
    if rustix::process::geteuid().is_root() && shared.exists() {
        assert_eq!(ask(shared, Some(65534)), " []\n");
    }
}
