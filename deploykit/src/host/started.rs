//! Which processes a run has started as which services.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Host;
use super::processes::ProcessId;

/// The main processes of services, and when they were seen to have started.
#[derive(Debug, Default)]
pub(super) struct Started(Mutex<BTreeMap<String, (Instant, Vec<ProcessId>)>>);

impl Host {
    /// Remembers the main processes of a service that was just started.
    pub(crate) fn was_started(&self, service: &str, main: &[ProcessId]) {
        let mut started = self.started.0.lock().unwrap_or_else(PoisonError::into_inner);
        started.insert(service.to_owned(), (Instant::now(), main.to_vec()));
    }

    /// Returns how long ago a service was started, if one of its main processes from then is not among `main`.
    pub(crate) fn replaced_since(&self, service: &str, main: &[ProcessId]) -> Option<Duration> {
        let started = self.started.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, former) = started.get(service)?;
        former.iter().any(|process| !main.contains(process)).then(|| when.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_replaced_the_started_one_is_noticed() {
        let [first, second] = [1, 2].map(|pid| ProcessId { pid, started: 7 });
        let host = Host::new();
        assert_eq!(host.replaced_since("worker", &[first]), None, "nobody knows when it was started");
        host.was_started("worker", &[first]);
        assert_eq!(host.clone().replaced_since("worker", &[first, second]), None);
        assert!(host.clone().replaced_since("worker", &[second]).is_some());
        host.was_started("worker", &[second]);
        assert_eq!(host.replaced_since("worker", &[second]), None);
    }
}
