//! A request to stop, which wakes the threads that wait.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A request to end the run. Clones share it; it cannot be withdrawn.
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
    /// What is requested with this one.
    parts: Mutex<Vec<Weak<Inner>>>,
}

impl Cancel {
    /// Makes a cancellation that is not requested yet.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let (readable, writable) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?;
        let (requests, parts) = (AtomicUsize::new(0), Mutex::default());
        Ok(Cancel(Arc::new(Inner { requests, readable, writable: writable.into(), parts })))
    }

    /// Makes one for a part of the run: it is requested with this one, and can be requested alone.
    ///
    /// # Errors
    ///
    /// Like [`new`](Cancel::new).
    pub(crate) fn part(&self) -> io::Result<Self> {
        let part = Cancel::new()?;
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&part.0));
        if self.is_requested() {
            part.request();
        }
        Ok(part)
    }

    /// Asks for the end of the run.
    pub fn request(&self) {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        // A full pipe is as readable as one with a byte in it.
        let _ = (&self.0.writable).write(&[1]);
        let parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.iter().filter_map(Weak::upgrade).for_each(|part| Cancel(part).request());
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
    fn a_part_is_requested_with_the_whole_and_alone() {
        let cancel = Cancel::new().unwrap();
        let (one, other) = (cancel.part().unwrap(), cancel.part().unwrap());
        one.request();
        assert!(one.is_requested() && !other.is_requested() && !cancel.is_requested());
        cancel.request();
        assert!(!other.wait(Duration::from_secs(60)));
        assert!(cancel.part().unwrap().is_requested());
    }

    #[test]
    fn a_wait_without_a_request_runs_out() {
        assert!(Cancel::new().unwrap().wait(Duration::from_millis(1)));
    }
}
