//! Stops: asked for one after another, and waited for together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::leftover::{LEAST, Leftovers};
use super::{ProcessId, Role, ServiceAction, ServiceError, ServiceManager, Status};
use crate::host::Host;
use crate::host::processes::with_descendants;

/// Polling interval while processes end; visitors wait for them.
const LOOK: Duration = Duration::from_millis(5);

/// How often the manager is asked meanwhile: processes that end may start others.
const ASK: Duration = Duration::from_millis(50);

/// Stops services: asks for the end of each in the order of the list, then waits until all have ended.
///
/// A service that relies on another one is told first. Services that need long to finish their work do so at the same time.
/// Each one is waited for, whatever becomes of the others.
///
/// # Errors
///
/// The failure of the only one that failed, or [`ServiceError::Several`].
pub(crate) fn stop_together(actions: &[&ServiceAction], host: &Host) -> Result<(), ServiceError> {
    let mut errors = BTreeMap::new();
    let mut stops = Vec::new();
    for (place, action) in actions.iter().enumerate() {
        // Others rely on it.
        if action.service.role == Role::Required {
            continue;
        }
        match Stop::begin(action, host) {
            Ok(stop) => stops.extend(stop.map(|stop| (place, stop))),
            Err(error) => {
                errors.insert(place, error);
            }
        }
    }
    while !stops.is_empty() {
        let is_cancelled = !host.wait(LOOK);
        // However many there are, their managers are asked no more often than for one.
        let many = u32::try_from(stops.len()).unwrap_or(u32::MAX);
        stops.retain_mut(|(place, stop)| {
            match if is_cancelled { Err(stop.cancelled()) } else { stop.look_again(many) } {
                Ok(ended) => !ended,
                Err(error) => {
                    errors.insert(*place, error);
                    false
                }
            }
        });
    }
    let (interrupted, mut failed): (Vec<_>, Vec<_>) =
        errors.into_values().partition(|error| matches!(error, ServiceError::Cancelled { .. }));
    match failed.len() {
        0 => interrupted.into_iter().next().map_or(Ok(()), Err),
        1 => Err(failed.remove(0)),
        _ => Err(ServiceError::Several { errors: failed }),
    }
}

/// One stop on its way.
struct Stop<'a> {
    action: &'a ServiceAction,
    host: &'a Host,
    manager: Box<dyn ServiceManager + 'a>,
    since: Instant,
    /// When the manager was last asked.
    looked: Instant,
    asked: bool,
    /// What has to end.
    left: BTreeSet<ProcessId>,
    /// Those of them that are known to belong to the service, and may be made to end.
    sure: BTreeSet<ProcessId>,
    leftovers: Leftovers<'a>,
}

impl<'a> Stop<'a> {
    /// Asks for the end; `None` when there is nothing to wait for.
    fn begin(action: &'a ServiceAction, host: &'a Host) -> Result<Option<Self>, ServiceError> {
        let since = Instant::now();
        action.socket.close()?;
        let manager = action.service.connect(host)?;
        let sure: BTreeSet<ProcessId> = action.before.living().collect();
        let left = action.old.iter().copied().chain(sure.iter().copied()).collect();
        let leftovers = Leftovers::new(&action.service, since);
        let mut stop =
            Stop { action, host, manager, since, looked: since, asked: false, left, sure, leftovers };
        let ended = stop.look()?;
        Ok((!ended).then_some(stop))
    }

    /// Checks whether the service has ended, if its polling interval has passed; the interval grows with the number of services.
    fn look_again(&mut self, many: u32) -> Result<bool, ServiceError> {
        let pause = if self.left.iter().any(ProcessId::is_alive) { ASK } else { LOOK };
        if self.looked.elapsed() < pause * many { Ok(false) } else { self.look() }
    }

    /// Checks whether the service has ended, tells it to end if nobody has, and kills what outlives that.
    fn look(&mut self) -> Result<bool, ServiceError> {
        let state = self.manager.state()?;
        // A process that ends may start others meanwhile; those of a dead one are known already.
        self.sure.extend(&state.main);
        self.left.extend(&self.sure);
        self.left.retain(ProcessId::is_alive);
        let is_sure = self.left.iter().all(|process| self.sure.contains(process));
        self.left.extend(with_descendants(&self.left.iter().copied().collect::<Vec<_>>()));
        if is_sure {
            self.sure.extend(&self.left);
        } else {
            self.sure.extend(with_descendants(&self.sure.iter().copied().collect::<Vec<_>>()));
        }
        let at_rest = state.is_at_rest();
        if !at_rest && !self.asked && state.status != Status::Stopping {
            if self.host.is_cancelled() {
                return Err(self.cancelled());
            }
            self.manager.stop(&self.action.socket)?;
            self.asked = true;
        }
        self.looked = Instant::now();
        if at_rest && self.left.is_empty() && state.jobs.is_empty() {
            self.leftovers.report(self.host);
            return Ok(true);
        }
        let is_over = self.since.elapsed() >= self.action.service.stop_timeout;
        if at_rest && self.left.is_empty() {
            let (service, timeout) = (self.action.service.name.clone(), self.action.service.stop_timeout);
            let jobs = state.jobs;
            return if is_over { Err(ServiceError::JobRuns { service, jobs, timeout }) } else { Ok(false) };
        }
        if at_rest || is_over && self.manager.leaves_killing_to_us() {
            let ended = self.leftovers.end(&self.left, &self.sure, self.manager.as_mut());
            return ended.map(|()| false).inspect_err(|_| self.leftovers.report(self.host));
        }
        // It is about to end them by itself, if that is its own limit.
        let timeout = self.action.service.stop_timeout;
        let is_over = self.since.elapsed() >= timeout + timeout.min(LEAST);
        if is_over { Err(self.not_stopped(state.detail)) } else { Ok(false) }
    }

    fn not_stopped(&self, detail: String) -> ServiceError {
        let (service, timeout) = (self.action.service.name.clone(), self.action.service.stop_timeout);
        let processes: Vec<String> = self.left.iter().map(ProcessId::describe).collect();
        if processes.is_empty() {
            ServiceError::NotStopped { service, detail, timeout }
        } else {
            ServiceError::StillRunning { service, processes, timeout }
        }
    }

    fn cancelled(&self) -> ServiceError {
        ServiceError::Cancelled { service: self.action.service.name.clone() }
    }
}
