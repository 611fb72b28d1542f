//! A crowd behind nginx, and how it was served: without service, failed, waiting.

use std::time::{Duration, Instant};

use crate::demo_site::HOST;
use crate::demo_site::crowd::{self, Pace, Seen};
use crate::table::median;

/// Visitors under way.
pub struct Crowd(crowd::Crowd);

impl Crowd {
    /// Lets them come for these pages in turn; the empty one is an entry that is written.
    pub fn start(address: &str, beat: Duration, pages: &'static [&'static str]) -> Crowd {
        Crowd(crowd::Crowd::come(&[address], HOST, Pace { beat, pages }))
    }

    /// Returns how many requests were answered well so far.
    pub fn served(&self) -> usize {
        self.0.served()
    }

    /// Ends the stream and waits for the answers that are still due.
    pub fn finish(self) -> Experience {
        let mut seen = self.0.leave();
        seen.sort_by_key(answered);
        Experience { seen }
    }
}

/// How all of them were served, in the order of their answers.
pub struct Experience {
    seen: Vec<Seen>,
}

impl Experience {
    /// Returns what each of them saw.
    pub fn all(&self) -> &[Seen] {
        &self.seen
    }

    /// Returns the seconds without service: each from the last good answer before a failure to the first one after it.
    pub fn without_service(&self) -> f64 {
        let (mut seconds, mut last_good, mut failed) = (0.0, None, false);
        for one in &self.seen {
            if !one.is_good() {
                failed = true;
                continue;
            }
            if let (true, Some(last)) = (failed, last_good) {
                seconds += answered(one).duration_since(last).as_secs_f64();
            }
            (last_good, failed) = (Some(answered(one)), false);
        }
        seconds
    }

    pub fn failed_reads(&self) -> usize {
        self.seen.iter().filter(|one| !one.is_good() && !one.wrote).count()
    }

    pub fn failed_writes(&self) -> usize {
        self.seen.iter().filter(|one| !one.is_good() && one.wrote).count()
    }

    /// Returns the longest time that a request took that was answered, if only with an error, in seconds.
    pub fn longest_wait(&self) -> f64 {
        let answered = self.seen.iter().filter(|one| one.answer.is_ok());
        answered.map(|one| one.waited.as_secs_f64()).fold(0.0, f64::max)
    }

    /// Returns how long the good answers took of what was asked within a time, in seconds; the middle one.
    pub fn median_wait(&self, from: Instant, until: Instant) -> f64 {
        let within = self.seen.iter().filter(|one| one.asked >= from && one.asked < until && one.is_good());
        median(&within.map(|one| one.waited.as_secs_f64()).collect::<Vec<_>>())
    }
}

/// Returns when somebody had the whole answer.
pub fn answered(one: &Seen) -> Instant {
    one.asked + one.waited
}
