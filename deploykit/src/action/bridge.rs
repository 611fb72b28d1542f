//! What a run does with a web server that was booted beforehand.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pages::INTERVAL;
use super::{ActionError, ServedPages};
use crate::bridge::{Bridge, BridgeError};
use crate::error::error_chain;
use crate::host::Host;
use crate::services::{Goal, ProcessId, STAY_UP, Service, ServiceAction};

/// The shortest and the longest pause between two questions who answers, and which part of the time that has passed it is.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
const PART: u32 = 20;

/// Lets a web server serve that was booted beforehand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenGate {
    /// The web server, at its gate.
    pub bridge: Bridge,
    /// Starts the manager's own web in its place, should it have ended.
    pub start: Vec<ServiceAction>,
    /// It is the old version's: the pages are asked for as if the web had been started.
    #[serde(default)]
    pub is_undo: bool,
}

/// Waits until the manager's own web serves beside a bridge, ends the bridge, and checks the pages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    /// The web server that was booted beforehand.
    pub bridge: Bridge,
    /// The pages, and the services that serve them from now on.
    pub pages: ServedPages,
}

impl OpenGate {
    pub(crate) fn perform(&self, host: &Host) -> Result<(), ActionError> {
        let Err(error) = self.bridge.open() else { return Ok(()) };
        // In a recovery, it has ended with its run.
        if !self.is_undo || self.bridge.is_ours() {
            host.notice(&format!("{}; the web service is started instead", error_chain(&error)));
        }
        self.bridge.end()?;
        for start in &self.start {
            start.perform(host)?;
            if !self.is_undo {
                // The check of the pages asks no manager whether the web lives.
                ServiceAction { goal: Goal::StaysUp, ..start.clone() }.perform(host)?;
            }
        }
        Ok(())
    }
}

impl HandOver {
    pub(crate) fn perform(&self, host: &Host) -> Result<(), ActionError> {
        if self.bridge.is_alive() {
            self.await_successor(host)?;
        }
        self.bridge.end()?;
        self.pages.perform(host)?;
        self.lives_on(host)
    }

    /// Sees to it that what has responded to the pages does not end a moment later, as a service does that its manager starts again
    /// and again.
    fn lives_on(&self, host: &Host) -> Result<(), ActionError> {
        for service in &self.pages.services {
            let main = service.state(host)?.main;
            let age = main.iter().filter_map(ProcessId::age).min().unwrap_or_default();
            let service = Service { stay_up: Some(age + STAY_UP), ..service.clone() };
            ServiceAction::of(service, Goal::StaysUp).perform(host)?;
        }
        Ok(())
    }

    /// Waits until a page is answered by another web server than the bridge. If none is seen to be in time, a cache may answer: then
    /// the check of the pages decides.
    fn await_successor(&self, host: &Host) -> Result<(), ActionError> {
        let services = &self.pages.services;
        let boot = services.iter().map(|service| service.start_timeout).max().unwrap_or_default();
        let limit = self.pages.check.deadline + boot;
        let since = Instant::now();
        let mut asked = since;
        while !self.pages.check.is_handed_over()? {
            if asked.elapsed() >= INTERVAL {
                asked = Instant::now();
                if let Some(service) = self.pages.given_up(host) {
                    return Err(BridgeError::Died { service }.into());
                }
            }
            let passed = since.elapsed();
            if passed > limit {
                let seconds = limit.as_secs();
                host.notice(&format!(
                    "the web service itself was not seen to respond within {seconds} s (a cache may respond); the web server that was \
                     started beforehand ends, and the pages decide"
                ));
                return Ok(());
            }
            if !host.wait((passed / PART).clamp(PAUSES.0, PAUSES.1)) {
                return Err(ActionError::Interrupted);
            }
        }
        Ok(())
    }
}
