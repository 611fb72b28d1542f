//! Visitors in a steady stream, whatever becomes of those before them: a request every 20 ms, four pages and then an entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::demo_site::{Address, HOST, visitor};
use crate::table::median;

/// From one request to the next: 50 a second.
const PACE: Duration = Duration::from_millis(20);

/// How long a visitor waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asked for in turn; the empty one is an entry that is written.
const PAGES: [&str; 5] = ["/", "/about/", "/gallery/", "/shop/", ""];

/// What became of one request.
#[derive(Clone, Copy, Debug)]
struct Request {
    asked: Instant,
    answered: Instant,
    writes: bool,
    is_good: bool,
    /// Somebody said something, if only that there is maintenance.
    has_answer: bool,
}

/// Visitors under way.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    requests: Receiver<Request>,
}

impl Crowd {
    pub fn start(address: &str) -> Crowd {
        let address = Address::from(address);
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sender, requests) = channel();
        let (stop_seen, good_seen) = (Arc::clone(&stop), Arc::clone(&good));
        let thread = thread::spawn(move || come(&address, &stop_seen, &good_seen, &sender));
        Crowd { stop, good, thread, requests }
    }

    /// Returns how many requests were answered well so far.
    pub fn served(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends the stream and waits for the answers that are still due.
    pub fn finish(self) -> Experience {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        let mut requests: Vec<Request> = self.requests.iter().collect();
        requests.sort_by_key(|request| request.answered);
        Experience { requests }
    }
}

fn come(address: &Address, stop: &AtomicBool, good: &Arc<AtomicU64>, sender: &Sender<Request>) {
    let started = Instant::now();
    for (number, page) in (0_u32..).zip(PAGES.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep((PACE * number).saturating_sub(started.elapsed()));
        let (address, good, sender) = (address.clone(), Arc::clone(good), sender.clone());
        thread::spawn(move || {
            let form = page.is_empty().then(|| format!("author=Visitor&text=Line+{number}"));
            let path = if page.is_empty() { "/entries/" } else { page };
            let asked = Instant::now();
            let answer = visitor::request(&address, HOST, path, form.as_deref(), PATIENCE);
            let is_good = answer.as_ref().is_ok_and(|answer| answer.status < 400);
            good.fetch_add(u64::from(is_good), Ordering::Relaxed);
            let (writes, has_answer) = (form.is_some(), answer.is_ok());
            // Nobody reads it any more when the measurement was given up.
            let _ = sender.send(Request { asked, answered: Instant::now(), writes, is_good, has_answer });
        });
    }
}

/// How all of them were served, in the order of their answers.
pub struct Experience {
    requests: Vec<Request>,
}

impl Experience {
    /// Returns the seconds without service: each from the last good answer before a failure to the first one after it.
    pub fn without_service(&self) -> f64 {
        let (mut seconds, mut last_good, mut failed) = (0.0, None, false);
        for request in &self.requests {
            if !request.is_good {
                failed = true;
                continue;
            }
            if let (true, Some(last)) = (failed, last_good) {
                seconds += request.answered.duration_since(last).as_secs_f64();
            }
            (last_good, failed) = (Some(request.answered), false);
        }
        seconds
    }

    pub fn failed_reads(&self) -> usize {
        self.requests.iter().filter(|request| !request.is_good && !request.writes).count()
    }

    pub fn failed_writes(&self) -> usize {
        self.requests.iter().filter(|request| !request.is_good && request.writes).count()
    }

    /// Returns the longest time that a request took which was answered, in seconds.
    pub fn longest_wait(&self) -> f64 {
        let answered = self.requests.iter().filter(|request| request.has_answer);
        answered.map(seconds).fold(0.0, f64::max)
    }

    /// Returns how long the good answers took of what was asked within a time, in seconds; the middle one.
    pub fn median_wait(&self, from: Instant, until: Instant) -> f64 {
        let within = self.requests.iter().filter(|request| request.asked >= from && request.asked < until);
        median(&within.filter(|request| request.is_good).map(seconds).collect::<Vec<_>>())
    }
}

fn seconds(request: &Request) -> f64 {
    request.answered.duration_since(request.asked).as_secs_f64()
}
