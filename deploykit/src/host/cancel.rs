//! A request to stop, which wakes whoever waits.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A request to end the run. Clones share it; it cannot be taken back.
///
/// The first request ends a preparation at once and turns a window back; the second one stops at the next safe point.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: AtomicUsize,
    /// Readable from the first request on: one byte is written and never read.
    readable: OwnedFd,
    writable: std::fs::File,
}

impl Cancel {
    /// Makes a cancellation that nobody has requested yet.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let (readable, writable) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?;
        Ok(Cancel(Arc::new(Inner { requests: AtomicUsize::new(0), readable, writable: writable.into() })))
    }

    /// Asks for the end of the run.
    pub fn request(&self) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        // A full pipe is as readable as one with a byte in it.
        let _ = (&self.0.writable).write(&[1]);
    }

    /// Returns how often it was requested.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Tells whether it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requests() > 0
    }

    /// Waits for `duration`, or less when it is requested; returns `false` when it was requested.
    #[must_use]
    pub fn wait(&self, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        loop {
            if self.is_requested() {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let mut fds = [PollFd::new(&self.0.readable, PollFlags::IN)];
            // An interrupted poll looks again.
            let _ = poll(&mut fds, Some(&timespec(left)));
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_from_another_thread_ends_a_wait() {
        let cancel = Cancel::new().unwrap();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || other.request());
        assert!(!cancel.wait(Duration::from_secs(60)));
        thread.join().unwrap();
        assert_eq!(cancel.requests(), 1);
    }

    #[test]
    fn a_wait_without_a_request_runs_out() {
        assert!(Cancel::new().unwrap().wait(Duration::from_millis(1)));
    }
}
