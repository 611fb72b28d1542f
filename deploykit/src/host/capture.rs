//! The output of a running program.

use std::io::{self, Read};
use std::os::fd::AsFd;

/// How much is read before lines are handed over and the clock is looked at, so that a flood ends at its deadline. A pipe
/// holds no more, so nothing is left in it after the program's end.
const MOST_AT_ONCE: usize = 1 << 20;

/// One of the two streams, read without waiting and handed over in lines.
#[derive(Debug)]
pub(super) struct Capture<R> {
    /// `None` at its end.
    pub(super) source: Option<R>,
    text: Vec<u8>,
    /// Up to here `text` was handed over in lines.
    seen: usize,
    /// Up to here there is no further line end.
    searched: usize,
    /// Whether `text` stays when it was handed over.
    pub(super) kept: bool,
}

impl<R: Read + AsFd> Capture<R> {
    pub(super) fn new(source: Option<R>) -> io::Result<Self> {
        if let Some(source) = &source {
            let flags = rustix::fs::fcntl_getfl(source)?;
            rustix::fs::fcntl_setfl(source, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(Capture { source, text: Vec::new(), seen: 0, searched: 0, kept: true })
    }

    /// Reads what is there without waiting, and of a flood only a part.
    pub(super) fn fill(&mut self) {
        let Some(source) = &mut self.source else { return };
        let mut buffer = [0; 65536];
        let mut read = 0;
        while read < MOST_AT_ONCE {
            match source.read(&mut buffer) {
                Ok(0) => {
                    self.source = None;
                    return;
                }
                Ok(count) => {
                    self.text.extend_from_slice(&buffer[..count]);
                    read += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.source = None;
                    return;
                }
            }
        }
    }

    /// Returns the next whole line, or what is left when nothing more will come.
    pub(super) fn next_line(&mut self, at_end: bool) -> Option<String> {
        let end = self.text[self.searched..].iter().position(|byte| *byte == b'\n');
        let (end, next) = match end.map(|end| self.searched + end) {
            Some(end) => (end, end + 1),
            None if at_end && self.seen < self.text.len() => (self.text.len(), self.text.len()),
            None => {
                self.searched = self.text.len();
                self.forget();
                return None;
            }
        };
        let line = String::from_utf8_lossy(&self.text[self.seen..end]).trim_end_matches('\r').to_owned();
        (self.seen, self.searched) = (next, next);
        Some(line)
    }

    /// Drops what was handed over, unless it is kept.
    pub(super) fn forget(&mut self) {
        if !self.kept {
            self.text.drain(..self.seen);
            (self.seen, self.searched) = (0, self.text.len());
        }
    }

    /// Returns what was kept where it is not UTF-8.
    pub(super) fn other_bytes(&self) -> Option<Vec<u8>> {
        (self.kept && std::str::from_utf8(&self.text).is_err()).then(|| self.text.clone())
    }

    /// Returns what was kept, without a second copy of it.
    pub(super) fn take_text(&mut self) -> String {
        if !self.kept {
            return String::new();
        }
        String::from_utf8(std::mem::take(&mut self.text))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn no_flood_is_read_to_its_end_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(3 * u64::try_from(MOST_AT_ONCE).unwrap()).unwrap();
        file.rewind().unwrap();
        let mut capture = Capture::new(Some(file)).unwrap();
        capture.fill();
        assert_eq!(capture.text.len(), MOST_AT_ONCE);
        while capture.source.is_some() {
            capture.fill();
        }
        assert_eq!(capture.text.len(), 3 * MOST_AT_ONCE);
    }
}
