//! Visitors of a site: they ask for pages all the time and remember how they were served.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where a web server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address with a port.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Reads `unix:/path` and `127.0.0.1:8000`.
impl From<&str> for Address {
    fn from(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(PathBuf::from(path)),
            None => Address::Tcp(text.to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Asks for a page on a connection of its own. `form` makes it a POST.
///
/// # Errors
///
/// When there is no connection, no whole answer within the time limit, or one that is not HTTP.
pub fn request(
    address: &Address,
    host: &str,
    path: &str,
    form: Option<&str>,
    limit: Duration,
) -> io::Result<Answer> {
    let message = match form {
        None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        Some(form) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    };
    let deadline = Instant::now() + limit;
    let bytes = match address {
        Address::Tcp(address) => {
            let address: SocketAddr = address
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an IP address"))?;
            let mut stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_write_timeout(Some(limit))?;
            stream.write_all(message.as_bytes())?;
            read_to_end(&mut stream, |stream, left| stream.set_read_timeout(Some(left)), deadline)?
        }
        Address::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(limit))?;
            stream.write_all(message.as_bytes())?;
            read_to_end(&mut stream, |stream, left| stream.set_read_timeout(Some(left)), deadline)?
        }
    };
    parse(&bytes)
}

fn read_to_end<S: Read>(
    stream: &mut S,
    set_limit: impl Fn(&S, Duration) -> io::Result<()>,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        set_limit(stream, left)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let bad = || io::Error::new(io::ErrorKind::UnexpectedEof, "no whole HTTP answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(bad)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(bad)?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let body = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        join_chunks(rest).ok_or_else(bad)?
    } else {
        let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| rest.len() < length) {
            return Err(bad());
        }
        rest.to_vec()
    };
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// What a visitor does.
#[derive(Clone, Debug)]
pub struct Visit {
    pub address: Address,
    /// The `Host` header.
    pub host: String,
    /// Asked for in turn.
    pub pages: Vec<String>,
    /// Also writes an entry after every round of pages.
    pub writes: bool,
    /// How long to wait for one answer; default: 30 s.
    pub patience: Duration,
    /// The rest between two requests; default: 10 ms.
    pub rest: Duration,
}

impl Visit {
    /// A visit to the pages of the demo site.
    pub fn new(address: Address) -> Visit {
        Visit {
            address,
            host: "demo.example".to_owned(),
            pages: vec!["/".to_owned(), "/about/".to_owned()],
            writes: false,
            patience: Duration::from_secs(30),
            rest: Duration::from_millis(10),
        }
    }

    /// Lets the visitor write into the guestbook, too.
    #[must_use]
    pub fn writing(mut self) -> Visit {
        self.writes = true;
        self
    }

    /// Starts visiting, in a thread of its own, and makes one request at least.
    pub fn start(self) -> Visitor {
        let stop = Arc::new(AtomicBool::new(false));
        let good = Arc::new(AtomicU64::new(0));
        let (stop_seen, good_seen) = (Arc::clone(&stop), Arc::clone(&good));
        let thread = std::thread::spawn(move || self.go(&stop_seen, &good_seen));
        Visitor { stop, good, thread: Some(thread) }
    }

    fn go(&self, stop: &AtomicBool, good: &AtomicU64) -> Experience {
        let mut seen = Experience::default();
        let started = Instant::now();
        let mut last_good = started;
        let mut number = 0_u64;
        'visit: loop {
            let reads = self.pages.iter().map(|page| (page.as_str(), None));
            let write = self.writes.then(|| {
                number += 1;
                ("/entries/", Some(format!("author=Visitor&text=Line+{number}")))
            });
            for (page, form) in reads.chain(write) {
                if seen.requests > 0 && stop.load(Ordering::Relaxed) {
                    break 'visit;
                }
                let asked = Instant::now();
                let answer = request(&self.address, &self.host, page, form.as_deref(), self.patience);
                seen.longest_wait = seen.longest_wait.max(asked.elapsed());
                seen.requests += 1;
                let outcome = match answer {
                    Ok(answer) => answer.status.to_string(),
                    Err(error) => error.kind().to_string(),
                };
                if outcome.starts_with('2') || outcome.starts_with('3') {
                    good.fetch_add(1, Ordering::Relaxed);
                    seen.writes += u64::from(form.is_some());
                    seen.served_again(last_good.elapsed());
                    last_good = Instant::now();
                } else {
                    seen.failures += 1;
                    seen.failed_since_good = true;
                    let asked_for = if form.is_some() { "POST" } else { "GET" };
                    *seen.failed.entry(format!("{asked_for} {page}: {outcome}")).or_default() += 1;
                }
                *seen.outcomes.entry(outcome).or_default() += 1;
                std::thread::sleep(self.rest);
            }
        }
        seen.served_again(last_good.elapsed());
        seen.duration = started.elapsed();
        seen
    }
}

/// A visitor under way.
#[derive(Debug)]
pub struct Visitor {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    thread: Option<JoinHandle<Experience>>,
}

impl Visitor {
    /// Returns how many requests were answered well so far.
    pub fn served(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends the visit after the request that is under way.
    pub fn finish(mut self) -> Experience {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How a visitor was served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Experience {
    pub requests: u64,
    /// Requests without an answer, or with a status that is neither 2xx nor 3xx.
    pub failures: u64,
    /// Entries that were written.
    pub writes: u64,
    /// From the last good answer before a failure to the first one after it; the longest such time.
    pub longest_gap: Duration,
    /// All such times together.
    pub without_answer: Duration,
    /// The longest time that a single request took, good or not.
    pub longest_wait: Duration,
    /// How long the visit was.
    pub duration: Duration,
    /// Status codes and kinds of errors, with how often each was seen.
    pub outcomes: BTreeMap<String, u64>,
    /// What failed and how, with how often: `POST /entries/: 500`.
    pub failed: BTreeMap<String, u64>,
    failed_since_good: bool,
}

impl Experience {
    /// Ends a time without an answer, if one is under way.
    fn served_again(&mut self, gap: Duration) {
        if self.failed_since_good {
            self.longest_gap = self.longest_gap.max(gap);
            self.without_answer += gap;
            self.failed_since_good = false;
        }
    }
}

impl fmt::Display for Experience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Experience { requests, failures, writes, .. } = self;
        write!(
            f,
            "{requests} requests ({writes} writes), {failures} failed; {:.2} s without an answer, longest wait {:.2} s",
            self.without_answer.as_secs_f64(),
            self.longest_wait.as_secs_f64()
        )?;
        for (what, count) in &self.failed {
            write!(f, "; {count} x {what}")?;
        }
        Ok(())
    }
}
