//! Heads in forms that the HTTP library neither writes nor takes: requests in the uwsgi protocol, and answers with very many
//! headers. The library takes 128 at most, browsers and servers far more.

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::uwsgi;

/// With how many headers an answer is handed over as it is.
const MANY: usize = 100;

/// The longest head that is waited for, in bytes; a longer one is handed over as it is, and refused.
const LONGEST: usize = 1 << 20;

/// What of an answer with more headers is handed over.
const KEPT: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "location",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Wraps every connection.
#[derive(Debug)]
pub(super) struct Heads {
    /// Requests are made in the uwsgi protocol.
    pub(super) uwsgi: bool,
}

impl<In: Transport> Connector<In> for Heads {
    type Out = Adapted<In>;

    fn connect(&self, details: &ConnectionDetails, inner: Option<In>) -> Result<Option<Self::Out>, Error> {
        let config = details.config;
        let buffers = || LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(inner.map(|inner| Adapted {
            inner,
            buffers: buffers(),
            request: self.uwsgi.then(Vec::new),
            head: Some(Vec::new()),
            ready: Vec::new(),
        }))
    }
}

/// A connection whose requests are in its protocol, and whose answers have few headers.
#[derive(Debug)]
pub(super) struct Adapted<T> {
    inner: T,
    buffers: LazyBuffers,
    /// What there is of the head of a request that becomes a uwsgi packet.
    request: Option<Vec<u8>>,
    /// What came of the head so far; `None` in the body.
    head: Option<Vec<u8>>,
    /// What is to be handed over.
    ready: Vec<u8>,
}

impl<T: Transport> Adapted<T> {
    fn take(&mut self, input: &[u8], more: bool) {
        let Some(head) = &mut self.head else {
            self.ready.extend_from_slice(input);
            return;
        };
        head.extend_from_slice(input);
        while let Some(head) = self.head.take() {
            match end_of(&head) {
                Some(end) => {
                    self.ready.extend(shortened(&head[..end]));
                    // What is provisional is followed by another head.
                    if is_provisional(&head) {
                        self.head = Some(head[end..].to_vec());
                    } else {
                        self.ready.extend_from_slice(&head[end..]);
                    }
                }
                None if more && head.len() <= LONGEST => {
                    self.head = Some(head);
                    break;
                }
                None => self.ready.extend(head),
            }
        }
    }
}

impl<T: Transport> Transport for Adapted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let packet;
        let mut rest = &self.buffers.output()[..amount];
        if let Some(head) = &mut self.request {
            head.extend_from_slice(rest);
            if !head.ends_with(b"\r\n\r\n") {
                return Ok(());
            }
            packet = uwsgi::packet(&String::from_utf8_lossy(&std::mem::take(head)))?;
            rest = &packet;
        }
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let length = rest.len().min(output.len());
            output[..length].copy_from_slice(&rest[..length]);
            self.inner.transmit_output(length, timeout)?;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let mut progress = true;
        if self.ready.is_empty() {
            progress = self.inner.await_input(timeout)?;
            let buffers = self.inner.buffers();
            let input = buffers.input().to_vec();
            buffers.input_consume(input.len());
            self.take(&input, progress);
        }
        let free = self.buffers.input_append_buf();
        let length = free.len().min(self.ready.len());
        free[..length].copy_from_slice(&self.ready[..length]);
        self.buffers.input_appended(length);
        self.ready.drain(..length);
        // Half a head is progress, too; the time limit is the caller's.
        Ok(progress || length > 0)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Returns where a head ends, behind its blank line.
fn end_of(head: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let length = head[start..].iter().position(|byte| *byte == b'\n')?;
        if start > 0 && matches!(&head[start..start + length], b"" | b"\r") {
            return Some(start + length + 1);
        }
        start += length + 1;
    }
}

fn is_provisional(head: &[u8]) -> bool {
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    status.first() == Some(&b'1') && !status.starts_with(b"101")
}

/// Removes the unneeded headers, if there are very many.
pub(super) fn shortened(head: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        match headers.last_mut() {
            // An old way of writing a long header in several lines.
            Some(header) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                let header: &mut Vec<u8> = header;
                header.extend_from_slice(line);
            }
            _ => headers.push(line.to_vec()),
        }
    }
    if headers.len() <= MANY {
        return head.to_vec();
    }
    let last = headers.len() - 1;
    let is_kept = |header: &[u8]| {
        let name = header.split(|byte| *byte == b':').next().unwrap_or_default();
        KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
    };
    let kept =
        headers.iter().enumerate().filter(|(index, header)| [0, last].contains(index) || is_kept(header));
    kept.flat_map(|(_, header)| header.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_left_of_very_many_headers() {
        let few = "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(shortened(few.as_bytes()), few.as_bytes());
        let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n folded\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\n{many}CONTENT-length: 5\r\nLocation: /\r\n\r\n");
        let short = "HTTP/1.1 200 OK\r\nCONTENT-length: 5\r\nLocation: /\r\n\r\n";
        assert_eq!(String::from_utf8(shortened(head.as_bytes())).unwrap(), short);
        assert_eq!(end_of(head.as_bytes()), Some(head.len()));
        assert_eq!(end_of(b"HTTP/1.1 200 OK\nX: 1\n\nbody"), Some(22));
        assert_eq!(end_of(b"HTTP/1.1 200 OK\r\nX: 1\r\n"), None);
        assert!(is_provisional(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
        assert!(
            !is_provisional(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") && !is_provisional(few.as_bytes())
        );
    }
}
