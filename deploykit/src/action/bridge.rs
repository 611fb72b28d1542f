//! What a run does with a web server that was started beforehand.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pages::INTERVAL;
use super::{ActionError, ServedPages};
use crate::bridge::{Bridge, BridgeError};
use crate::error::error_chain;
use crate::host::Host;
use crate::services::{Goal, ProcessId, STAY_UP, Service, ServiceAction};

/// The shortest and the longest pause between two looks at which web server responds; in between, it is the [`PART`]th part of the
/// time that has passed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
const PART: u32 = 20;

/// Lets a web server that was started beforehand serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenGate {
    /// The web server, at its gate.
    pub bridge: Bridge,
    /// Starts the web service in its place if it has ended.
    pub start: Vec<ServiceAction>,
    /// Whether it is the old version's, in an undo. The check of the pages that follows notices by itself if a web service that was
    /// started instead ends.
    #[serde(default)]
    pub is_undo: bool,
}

/// Waits until the web service serves beside a bridge, ends the bridge, and checks the pages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    /// The web server that was started beforehand.
    pub bridge: Bridge,
    /// The pages, and the services that serve them from now on.
    pub pages: ServedPages,
}

impl OpenGate {
    pub(crate) fn perform(&self, host: &Host) -> Result<(), ActionError> {
        let Err(error) = self.bridge.open() else { return Ok(()) };
        // In a recovery, an old bridge has ended with its run: that is no news.
        if !self.is_undo || self.bridge.is_ours() {
            host.notice(&format!("{}; the web service is started instead", error_chain(&error)));
        }
        self.bridge.end()?;
        for start in &self.start {
            start.perform(host)?;
            if !self.is_undo {
                // Behind a bridge, the check of the pages asks no manager whether the web service runs.
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

    /// Checks that each service runs for a moment after it has responded: one that restarts repeatedly responds now and then, too.
    fn lives_on(&self, host: &Host) -> Result<(), ActionError> {
        for service in &self.pages.services {
            let main = service.state(host)?.main;
            let age = main.iter().filter_map(ProcessId::age).min().unwrap_or_default();
            let service = Service { stay_up: Some(age + STAY_UP), ..service.clone() };
            ServiceAction::of(service, Goal::StaysUp).perform(host)?;
        }
        Ok(())
    }

    /// Waits until another web server than the bridge answers a page. If none does in time, a cache may answer in its place: then the
    /// check of the pages decides.
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
                    "no response of the web service was seen within {seconds} s (a cache may respond in its place); the web server that \
                     was started beforehand ends, and the check of the pages decides"
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
