//! What a run does with a web that boots while the migrations run, behind the page.

use serde::{Deserialize, Serialize};

use super::{ActionError, ServedPages};
use crate::error::error_chain;
use crate::host::Host;
use crate::services::{ServiceAction, ServiceError, stop_together};
use crate::smoke::SmokeCheck;

/// Starts the web before the migrations if the server in front shows the maintenance page to everybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartEarly {
    /// The maintenance page, requested as visitors do.
    pub page: SmokeCheck,
    /// Starts the services with `role = "required"`, and the web.
    pub start: Vec<ServiceAction>,
}

/// Stops a web that was started before the migrations, unless it serves as expected after them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepEarly {
    /// The pages that it must serve.
    pub pages: ServedPages,
    /// Stops it.
    pub stop: Vec<ServiceAction>,
}

impl StartEarly {
    pub(crate) fn perform(&self, host: &Host) -> Result<(), ActionError> {
        let start = || self.start.iter().try_for_each(|start| start.perform(host));
        let started = self.page.perform(host).map_err(ActionError::from).and_then(|()| Ok(start()?));
        if let Err(error) = started {
            host.notice(&format!("the web is started after the migrations: {}", error_chain(&error)));
            // Part of it may run, whoever started it: it must not stay on the old schema.
            stop_all(&self.start.iter().map(ServiceAction::stop).collect::<Vec<_>>(), host)?;
        }
        Ok(())
    }
}

impl KeepEarly {
    pub(crate) fn perform(&self, host: &Host) -> Result<(), ActionError> {
        let is_up = |stop: &ServiceAction| stop.service.state(host).is_ok_and(|state| state.status.is_up());
        let ended = self.stop.iter().find(|stop| !is_up(stop));
        let why = match ended {
            Some(ended) => format!("`{}` does not run", ended.service.name),
            None => match self.pages.perform(host) {
                Ok(()) => return Ok(()),
                Err(error) => error_chain(&error),
            },
        };
        host.notice(&format!("the web is started again after the migrations: {why}"));
        Ok(stop_all(&self.stop, host)?)
    }
}

fn stop_all(stops: &[ServiceAction], host: &Host) -> Result<(), ServiceError> {
    stop_together(&stops.iter().collect::<Vec<_>>(), host)
}
