//! HTTP over a Unix socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Connects every request to one Unix socket, whatever host its address names.
///
/// The resolver still has to answer: give the agent one that needs no network, or an address such as
/// `http://127.0.0.1/`.
#[derive(Clone, Debug)]
pub(crate) struct UnixConnector {
    /// The socket.
    pub(crate) path: PathBuf,
}

impl<In: Transport> Connector<In> for UnixConnector {
    type Out = UnixTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<In>) -> Result<Option<Self::Out>, Error> {
        let stream = Arc::new(connect(self.path.clone(), details.timeout)?);
        let handle = Arc::new(Handle(Arc::downgrade(&stream)));
        (details.register_shutdown)(Arc::downgrade(&handle) as Weak<dyn ShutdownHandle>)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers, _handle: handle }))
    }
}

/// Connects within the time limit. The system itself has none: a server that accepts nothing while its queue is full
/// blocks for ever, so the attempt goes to a thread that may be left behind.
fn connect(path: PathBuf, timeout: NextTimeout) -> Result<UnixStream, Error> {
    let Some(limit) = limit(timeout)? else { return Ok(UnixStream::connect(path)?) };
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("unix-connect".to_owned()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(UnixStream::connect(path));
    })?;
    match receiver.recv_timeout(limit) {
        Ok(stream) => Ok(stream?),
        Err(_) => Err(Error::Timeout(timeout.reason)),
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct UnixTransport {
    stream: Arc<UnixStream>,
    buffers: LazyBuffers,
    /// The agent keeps a weak reference to it only.
    _handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(Weak<UnixStream>);

impl ShutdownHandle for Handle {
    fn shutdown(&self) {
        if let Some(stream) = self.0.upgrade() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(limit(timeout)?)?;
        let output = &self.buffers.output()[..amount];
        (&*self.stream).write_all(output).map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(limit(timeout)?)?;
        let amount = loop {
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(|error| timed_out(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Bytes that nobody asked for, an end and an error all mean: do not use it again.
        let quiet = self.stream.set_nonblocking(true).is_ok()
            && matches!((&*self.stream).read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        quiet && self.stream.set_nonblocking(false).is_ok()
    }
}

/// Returns what is left of a time limit; the system knows no limit of zero.
fn limit(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_not_happening() {
        Ok(None)
    } else if timeout.after.is_zero() {
        Err(Error::Timeout(timeout.reason))
    } else {
        Ok(Some(*timeout.after))
    }
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use ureq::Agent;
    use ureq::unversioned::resolver::DefaultResolver;

    use super::*;

    fn agent(path: PathBuf, timeout: Duration) -> Agent {
        let config = Agent::config_builder().timeout_global(Some(timeout)).build();
        Agent::with_parts(config, UnixConnector { path }, DefaultResolver::default())
    }

    fn socket() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        (directory, path, listener)
    }

    #[test]
    fn a_page_comes_through_the_socket_with_the_host_of_its_address() {
        let (_directory, path, listener) = socket();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .collect();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            lines
        });
        let agent = agent(path, Duration::from_secs(30));
        let request = agent.get("http://127.0.0.1/page").header("Host", "site.example");
        assert_eq!(request.call().unwrap().body_mut().read_to_string().unwrap(), "hello");
        let lines = server.join().unwrap();
        assert_eq!(lines[0], "GET /page HTTP/1.1");
        assert!(lines.iter().any(|line| line.eq_ignore_ascii_case("host: site.example")), "{lines:?}");
    }

    #[test]
    fn a_server_that_says_nothing_is_left_after_the_deadline() {
        let (_directory, path, _listener) = socket();
        let error = agent(path, Duration::from_millis(100)).get("http://127.0.0.1/").call().unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    }

    #[test]
    fn a_socket_without_a_server_refuses() {
        let (_directory, path, listener) = socket();
        drop(listener);
        let error = agent(path, Duration::from_secs(30)).get("http://127.0.0.1/").call().unwrap_err();
        assert!(
            matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
    }
}
