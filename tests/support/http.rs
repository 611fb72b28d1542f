//! Web servers for the tests: scripted ones on real sockets, and real programs in temporary directories.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a scripted server was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path with its query.
    pub path: String,
    /// Header lines, names in lower case: `host: example.org`.
    pub headers: Vec<String>,
    /// Which request this is, from 1.
    pub number: usize,
}

/// What a scripted server does about it.
pub enum Reply {
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Says nothing until the client goes.
    Silence,
}

impl Reply {
    /// An HTML page.
    pub fn page(status: u16, body: &str) -> Reply {
        Reply::with(status, "Content-Type: text/html", body)
    }

    /// A page with one more header.
    pub fn with(status: u16, header: &str, body: &str) -> Reply {
        let length = body.len();
        Reply::Bytes(
            format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}").into(),
        )
    }
}

/// A scripted server: a thread per connection, all gone with it.
pub struct Server {
    address: Address,
    asked: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Server {
    /// Starts one at a free port.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Server::serve(Address::Tcp(port), script, move || {
            listener.accept().ok().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
        })
    }

    /// Starts one at a Unix socket.
    pub fn at(path: &Path, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = UnixListener::bind(path).unwrap();
        Server::serve(Address::Unix(path.to_owned()), script, move || {
            listener.accept().ok().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn serve(
        address: Address,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        accept: impl Fn() -> Option<Box<dyn Stream>> + Send + 'static,
    ) -> Server {
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let server = Server { address, asked: asked.clone(), stop: stop.clone() };
        let script = Arc::new(script);
        std::thread::spawn(move || {
            while let Some(stream) = accept() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (asked, script) = (asked.clone(), script.clone());
                std::thread::spawn(move || answer(stream, &asked, &*script));
            }
        });
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self.address {
            Address::Tcp(port) => port,
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    /// Its URL, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port())
    }

    /// What it was asked for so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        match &self.address {
            Address::Tcp(port) => drop(TcpStream::connect(("127.0.0.1", *port))),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

fn answer(stream: Box<dyn Stream>, asked: &Mutex<Vec<Request>>, script: &dyn Fn(&Request) -> Reply) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            // What is no text is answered, too, as servers do.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                lines = vec!["? garbage".to_owned()];
                break;
            }
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => break,
            Ok(_) => lines.push(line.trim().to_owned()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines[1..].iter().map(|line| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
        None => line.clone(),
    });
    let request = {
        let mut asked = asked.lock().unwrap();
        let request = Request { path, headers: headers.collect(), number: asked.len() + 1 };
        asked.push(request.clone());
        request
    };
    match script(&request) {
        // The client may have gone.
        Reply::Bytes(bytes) => drop(reader.get_mut().write_all(&bytes)),
        Reply::Silence => drop(reader.read(&mut [0; 1])),
    }
}

/// A program that is killed, with its children, when the test ends.
pub struct Running(Child);

impl Running {
    /// Starts it in a process group of its own.
    pub fn start(command: &mut Command) -> Running {
        use std::os::unix::process::CommandExt;
        Running(command.stdin(Stdio::null()).process_group(0).spawn().unwrap())
    }

    /// Its standard output, which must be piped.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Runs a program to its end, which must be a good one.
pub fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
