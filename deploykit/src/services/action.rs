//! What is wanted of a service, waited for until it is true.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ProcessId;
use super::logs::{LogMark, recent_lines};
use super::stop::stop_together;
use super::{Kill, STAY_UP, Service, ServiceError, ServiceManager, ServiceState, Socket, Status, listen};
use crate::error::error_chain;
use crate::host::processes::{boot, with_descendants};
use crate::host::{Host, TAIL_LINES};

/// How often a state is asked for while it changes: often at first, while requests wait for a gunicorn that starts.
const STEPS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// How long that is at first.
const FIRST: Duration = Duration::from_secs(2);

/// The longest pause between two looks at what must stay up.
const WATCH: Duration = Duration::from_millis(250);

/// How long an unknown process may have the service's socket before the start fails.
const STRANGER: Duration = Duration::from_secs(2);

/// How far back a log's last line may lie to be shown for a death that was found late.
const RECENT: Duration = Duration::from_secs(60);

/// Brings one service into a state and proves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAction {
    /// The service.
    pub service: Service,
    /// The state.
    pub goal: Goal,
    /// Processes from before: a stop waits for their end, and a start that leaves one of them in charge has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<ProcessId>,
    /// What was known to belong to it before: those that outlive its stop are told to end, and killed after its time.
    #[serde(default, skip_serializing_if = "Before::is_empty")]
    pub before: Before,
    /// Who keeps its listening socket meanwhile, and what keeps it from being started.
    #[serde(default)]
    pub socket: Socket,
}

/// The processes of a service at some time, safe to come back to after a crash or a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The boot of the machine that they belong to.
    pub boot: String,
    /// They.
    pub processes: Vec<ProcessId>,
}

impl Before {
    /// Takes down the processes of this moment.
    #[must_use]
    pub fn of(processes: Vec<ProcessId>) -> Self {
        if processes.is_empty() { Before::default() } else { Before { boot: boot(), processes } }
    }

    /// Returns those that live; after another boot none does, whatever has their number.
    pub(super) fn living(&self) -> impl Iterator<Item = ProcessId> {
        let now = if self.processes.is_empty() { String::new() } else { boot() };
        let all = if self.boot == now { self.processes.as_slice() } else { &[] };
        // One that is not shown to us could be any other by now.
        all.iter().filter(|process| process.started > 0 && process.is_alive()).copied()
    }

    fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }
}

/// A state to bring a service into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Goal {
    /// It does not run, and every process of it has ended. Nothing is done about a
    /// [`Role::Required`](super::Role::Required) service.
    Stopped,
    /// It was started and has processes. Whether it lives on is not waited for: [`Goal::StaysUp`] says that.
    Running,
    /// The same processes run for as long as they must to be believed; nothing is started.
    StaysUp,
}

impl ServiceAction {
    /// Makes one for a service of whose past nothing is known.
    pub(crate) fn of(service: Service, goal: Goal) -> Self {
        let (old, before, socket) = (Vec::new(), Before::default(), Socket::default());
        ServiceAction { service, goal, old, before, socket }
    }

    /// Returns the stop of the same service, whatever runs as it by then.
    #[must_use]
    pub(crate) fn stop(&self) -> Self {
        ServiceAction { goal: Goal::Stopped, old: Vec::new(), ..self.clone() }
    }

    /// Reaches the goal and waits until it is true.
    ///
    /// What its manager does by force, such as supervisor after `stopwaitsecs`, is waited for. What outlives that is told
    /// to end, and killed after the service's `stop_timeout` unless [`Service::kill`] says otherwise. Nothing is started
    /// while somebody has its listening socket.
    ///
    /// # Errors
    ///
    /// When the manager cannot be asked or refuses, and when the goal is not reached in time.
    pub fn perform(&self, host: &Host) -> Result<(), ServiceError> {
        match self.goal {
            Goal::Stopped => stop_together(&[self], host),
            Goal::Running => self.start(host),
            Goal::StaysUp => self.watch(host),
        }
    }

    fn start(&self, host: &Host) -> Result<(), ServiceError> {
        let service = &self.service;
        let since = Instant::now();
        let mut manager = service.connect(host)?;
        let mut state = manager.state()?;
        let started_meanwhile = !self.old.is_empty() && !state.main.is_empty() && self.is_new(&state).is_ok();
        if started_meanwhile {
            // What was started since the stop runs with a mixture of both versions.
            stop_together(&[self], host)?;
        }
        let leftover = !state.status.is_up() && self.before.living().next().is_some();
        if leftover
            && service.kill == Kill::Auto
            && let Err(error) = stop_together(&[self], host)
        {
            if let ServiceError::Cancelled { .. } = error {
                return Err(error);
            }
            // It may live on without being in the way.
            log::warn!("{}", error_chain(&error));
        }
        self.socket.open()?;
        // Each may have changed the state. Otherwise nothing is asked twice, because the site is down meanwhile.
        if started_meanwhile || leftover || self.socket.hold.is_some() {
            state = manager.state()?;
        }
        let mark = LogMark::of_states(std::slice::from_ref(&state));
        let mut asked = false;
        if manager.is_idle(&state) {
            // Somebody else would start it for the first request, and we want to see it start.
            manager.start(&self.socket)?;
            asked = true;
            state = manager.state()?;
        }
        loop {
            // It has a process; that it is still called starting is a matter of time, which the watch waits for.
            let is_starting = state.status == Status::Starting && !state.main.is_empty();
            if state.status == Status::Running || is_starting {
                host.was_started(&service.name, &state.main);
                return self.is_new(&state);
            }
            match state.status {
                Status::Running | Status::Starting | Status::Stopping => {}
                Status::Stopped | Status::Retrying | Status::Failed if asked => {
                    return Err(self.failed(None, host, manager.as_mut(), state, &mark));
                }
                Status::Stopped | Status::Retrying | Status::Failed => {
                    self.wait_for_socket(&state, host)?;
                    manager.start(&self.socket)?;
                    asked = true;
                }
            }
            if since.elapsed() >= service.start_timeout {
                return Err(self.failed(Some(service.start_timeout), host, manager.as_mut(), state, &mark));
            }
            self.pause(host, step(since))?;
            state = manager.state()?;
        }
    }

    /// Waits until no process has the socket that the service is to listen at: it would fail, or serve beside another one.
    fn wait_for_socket(&self, state: &ServiceState, host: &Host) -> Result<(), ServiceError> {
        let since = Instant::now();
        loop {
            let mut known = with_descendants(&self.before.living().collect::<Vec<_>>());
            known.extend(with_descendants(&state.main));
            let Some(taken) = listen::taken(&self.socket.listens, &known) else { return Ok(()) };
            // A service that its manager restarts repeatedly ends with the start.
            let is_its_own = listen::taken(&self.socket.listens, &with_descendants(&state.main))
                .is_some_and(|taken| taken.is_known);
            if is_its_own && state.status == Status::Retrying {
                return Ok(());
            }
            let patience = if taken.is_known { self.service.start_timeout } else { STRANGER };
            if since.elapsed() >= patience {
                let (address, holders) = (taken.address.to_string(), taken.holders);
                let service = self.service.name.clone();
                return Err(ServiceError::SocketTaken { service, address, holders, old: taken.is_known });
            }
            self.pause(host, step(since))?;
        }
    }

    fn is_new(&self, state: &ServiceState) -> Result<(), ServiceError> {
        match state.main.iter().find(|process| self.old.contains(process)) {
            Some(process) => {
                Err(ServiceError::OldProcess { service: self.service.name.clone(), pid: process.pid })
            }
            None => Ok(()),
        }
    }

    fn watch(&self, host: &Host) -> Result<(), ServiceError> {
        let service = &self.service;
        let since = Instant::now();
        let mut manager = service.connect(host)?;
        let mut state = manager.state()?;
        let mark = LogMark::of_states(std::slice::from_ref(&state));
        let first = state.main.clone();
        self.is_new(&state)?;
        let mut needed = service.stay_up.unwrap_or(STAY_UP).max(manager.startsecs()?);
        // A process that replaced an ended one may end as that did: it has to run for longer, unless that one ran for long.
        if let Some(time) = host.replaced_since(&service.name, &first) {
            needed = needed.max(time.min(service.start_timeout) + STAY_UP);
        }
        loop {
            if !state.status.is_up() {
                return Err(self.failed(None, host, manager.as_mut(), state, &mark));
            }
            if state.main != first {
                state.detail = format!("its process ended and another one took its place; {}", state.detail);
                return Err(self.failed(None, host, manager.as_mut(), state, &mark));
            }
            // A manager that knows no processes leaves nothing to ask for an age.
            let age = first.iter().filter_map(ProcessId::age).min().unwrap_or_default().max(since.elapsed());
            if state.status == Status::Running && age >= needed {
                return Ok(());
            }
            if since.elapsed() >= needed + service.start_timeout {
                return Err(self.failed(Some(service.start_timeout), host, manager.as_mut(), state, &mark));
            }
            // Nobody waits for it but us: what dies meanwhile is found soon enough.
            self.pause(host, needed.saturating_sub(age).clamp(step(since), WATCH))?;
            state = manager.state()?;
        }
    }

    fn pause(&self, host: &Host, time: Duration) -> Result<(), ServiceError> {
        if host.wait(time) {
            Ok(())
        } else {
            Err(ServiceError::Cancelled { service: self.service.name.clone() })
        }
    }

    /// Says that it ended, or that it did not start within a time, with what it wrote.
    fn failed(
        &self,
        within: Option<Duration>,
        host: &Host,
        manager: &mut dyn ServiceManager,
        state: ServiceState,
        mark: &LogMark,
    ) -> ServiceError {
        let lines = last_words(host, manager, &state, mark);
        let (service, detail) = (self.service.name.clone(), state.detail);
        match within {
            None => ServiceError::Died { service, detail, lines },
            Some(timeout) => ServiceError::NotStarted { service, detail, timeout, lines },
        }
    }
}

/// Returns what a service wrote since the mark, or shortly before it.
fn last_words(
    host: &Host,
    manager: &mut dyn ServiceManager,
    state: &ServiceState,
    mark: &LogMark,
) -> Vec<String> {
    let new: Vec<String> = mark.new_lines(host, TAIL_LINES).into_iter().flat_map(|log| log.lines).collect();
    if !new.is_empty() {
        return new;
    }
    let recent = recent_lines(host, &state.logs, RECENT, TAIL_LINES);
    if recent.is_empty() { manager.last_words() } else { recent }
}

/// Returns the pause between two looks, so long after the first one.
fn step(since: Instant) -> Duration {
    STEPS[usize::from(since.elapsed() > FIRST)]
}
