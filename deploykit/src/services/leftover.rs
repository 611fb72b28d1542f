//! What outlives its manager's stop is told to end, and killed when it does not.
//!
//! supervisor kills gunicorn's master after `stopwaitsecs`, and a worker in a slow request lives on with the listening
//! socket; systemd leaves processes alone with `KillMode=process`. Nothing could be started in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::uwsgi_options::is_process;
use super::{Kill, ProcessId, Service, ServiceError, ServiceManager};
use crate::host::Host;
use crate::host::processes::own_line;

/// How long processes may live on after their manager's last word before they are told to end: most are about to.
const ABOUT_TO: Duration = Duration::from_millis(500);

/// How long a process has at least between the request to end and its death, unless `stop-timeout` is shorter.
pub(super) const LEAST: Duration = Duration::from_secs(5);

/// How long a killed process may take to go: it may be inside a system call that cannot be interrupted.
const DEATH: Duration = Duration::from_secs(5);

/// Returns the signal that tells a process to end: SIGTERM reloads a uWSGI.
fn polite(process: ProcessId) -> Signal {
    let words = process.words();
    if words.first().is_some_and(|word| is_process(word)) { Signal::INT } else { Signal::TERM }
}

/// The way of one service's leftover processes to their end.
pub(super) struct Leftovers<'a> {
    service: &'a Service,
    /// When the service was told to stop.
    since: Instant,
    found: Option<Instant>,
    told: Option<Instant>,
    killed: Option<Instant>,
    sent: BTreeSet<(ProcessId, bool)>,
    names: BTreeMap<ProcessId, String>,
    refused: Option<(ProcessId, Errno)>,
    /// deploykit and the processes that started it: a job of the service may run deploykit.
    spared: BTreeSet<i32>,
}

impl<'a> Leftovers<'a> {
    pub(super) fn new(service: &'a Service, since: Instant) -> Self {
        Leftovers {
            service,
            since,
            found: None,
            told: None,
            killed: None,
            sent: BTreeSet::new(),
            names: BTreeMap::new(),
            refused: None,
            spared: own_line(),
        }
    }

    /// Does what is due about the processes that are left; of those not among `sure` their end is only awaited.
    ///
    /// # Errors
    ///
    /// When they live on and nothing more will be done about them.
    pub(super) fn end(
        &mut self,
        left: &BTreeSet<ProcessId>,
        sure: &BTreeSet<ProcessId>,
        manager: &mut dyn ServiceManager,
    ) -> Result<(), ServiceError> {
        let now = Instant::now();
        let ours: Vec<ProcessId> = left
            .iter()
            .filter(|one| sure.contains(one) && !self.spared.contains(&one.pid))
            .copied()
            .collect();
        if now < *self.found.get_or_insert(now) + ABOUT_TO {
            return Ok(());
        }
        let told = *self.told.get_or_insert(now);
        self.send(&ours, false, manager)?;
        let timeout = self.service.stop_timeout;
        if now < (self.since + timeout).max(told + timeout.min(LEAST)) {
            return Ok(());
        }
        if self.service.kill == Kill::Never {
            return Err(self.still_running(left));
        }
        let killed = *self.killed.get_or_insert(now);
        self.send(&ours, true, manager)?;
        if now < killed + DEATH { Ok(()) } else { Err(self.still_running(left)) }
    }

    /// Sends a signal to those that did not get it yet.
    fn send(
        &mut self,
        processes: &[ProcessId],
        kill: bool,
        manager: &mut dyn ServiceManager,
    ) -> Result<(), ServiceError> {
        let mut refused = None;
        for process in processes {
            if !self.sent.insert((*process, kill)) {
                continue;
            }
            self.names.insert(*process, process.describe());
            let signal = if kill { Signal::KILL } else { polite(*process) };
            if let Err(error) = process.signal(signal) {
                self.refused = Some((*process, error));
                refused = Some(signal);
            }
        }
        // Who may not signal another user's processes may be allowed to ask their manager for that.
        if let Some(signal) = refused
            && manager.signal_rest(signal)?
        {
            self.refused = None;
        }
        Ok(())
    }

    fn still_running(&self, left: &BTreeSet<ProcessId>) -> ServiceError {
        let service = self.service.name.clone();
        if let Some((process, error)) = self.refused.filter(|(process, _)| left.contains(process)) {
            return ServiceError::Signal { service, pid: process.pid, source: error.into() };
        }
        let processes = left.iter().map(ProcessId::describe).collect();
        ServiceError::StillRunning { service, processes, timeout: self.service.stop_timeout }
    }

    /// Writes down what was done.
    pub(super) fn report(&self, host: &Host) {
        let list = |kill: bool| {
            let names = self.sent.iter().filter(|(_, killed)| *killed == kill);
            names.filter_map(|(process, _)| self.names.get(process).cloned()).collect::<Vec<_>>().join(", ")
        };
        let (name, told, killed) = (&self.service.name, list(false), list(true));
        if !told.is_empty() {
            host.note(&format!("service `{name}`: told to end what outlived the stop: {told}"));
        }
        if !killed.is_empty() {
            let text = format!("service `{name}`: killed what outlived the stop and did not end: {killed}");
            host.note(&text);
            log::warn!("{text}");
        }
    }
}
