//! Stops: asked for one after another, and waited for together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{ProcessId, Role, ServiceAction, ServiceError, ServiceManager, Status};
use crate::host::Host;
use crate::host::processes::with_descendants;

/// How often it is looked whether processes live on that were told to end: visitors wait for it.
const LOOK: Duration = Duration::from_millis(5);

/// How often the manager is asked meanwhile: processes that end may start others.
const ASK: Duration = Duration::from_millis(50);

/// Stops services: asks for the end of each in the order of the list, then waits until all have ended.
///
/// Whoever relies on another one is told first, and those that need long to finish what they have do so at the same time.
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
}

impl<'a> Stop<'a> {
    /// Asks for the end; `None` when there is nothing to wait for.
    fn begin(action: &'a ServiceAction, host: &'a Host) -> Result<Option<Self>, ServiceError> {
        let since = Instant::now();
        action.socket.close()?;
        let manager = action.service.connect(host)?;
        let left = action.old.iter().copied().collect();
        let mut stop = Stop { action, host, manager, since, looked: since, asked: false, left };
        let ended = stop.look()?;
        Ok((!ended).then_some(stop))
    }

    /// Looks whether it has ended, if that is due while so many are waited for.
    fn look_again(&mut self, many: u32) -> Result<bool, ServiceError> {
        let pause = if self.left.iter().any(ProcessId::is_alive) { ASK } else { LOOK };
        if self.looked.elapsed() < pause * many { Ok(false) } else { self.look() }
    }

    /// Looks whether it has ended, and asks for that if nobody has.
    fn look(&mut self) -> Result<bool, ServiceError> {
        let (service, left) = (&self.action.service, &mut self.left);
        let state = self.manager.state()?;
        // A process that ends may start others meanwhile; those of a dead one are known already.
        left.extend(&state.main);
        left.retain(ProcessId::is_alive);
        left.extend(with_descendants(&left.iter().copied().collect::<Vec<_>>()));
        let at_rest = state.is_at_rest();
        if !at_rest && !self.asked && state.status != Status::Stopping {
            if self.host.is_cancelled() {
                return Err(self.cancelled());
            }
            self.manager.stop(&self.action.socket)?;
            self.asked = true;
        }
        self.looked = Instant::now();
        if at_rest && left.is_empty() {
            return Ok(true);
        }
        if self.since.elapsed() < service.stop_timeout {
            return Ok(false);
        }
        let (name, timeout) = (service.name.clone(), service.stop_timeout);
        let processes: Vec<String> = left.iter().map(ProcessId::describe).collect();
        Err(if processes.is_empty() {
            ServiceError::NotStopped { service: name, detail: state.detail, timeout }
        } else {
            ServiceError::StillRunning { service: name, processes, timeout }
        })
    }

    fn cancelled(&self) -> ServiceError {
        ServiceError::Cancelled { service: self.action.service.name.clone() }
    }
}
