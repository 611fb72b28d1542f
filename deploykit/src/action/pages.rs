//! The check of pages, which ends early if a service that serves them has failed for good.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::services::{Service, Status};
use crate::smoke::{SmokeCheck, SmokeError};

/// Minimum interval between queries of the service managers while a page does not answer.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Pages that must be as expected, with the services that serve them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedPages {
    /// The pages.
    #[serde(flatten)]
    pub check: SmokeCheck,
    /// The services. Once the manager of one has given it up, pages that do not answer are not requested again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
}

impl From<SmokeCheck> for ServedPages {
    fn from(check: SmokeCheck) -> Self {
        ServedPages { check, services: Vec::new() }
    }
}

impl ServedPages {
    /// Requests the pages, then runs the commands, as [`SmokeCheck::perform`] does.
    ///
    /// # Errors
    ///
    /// When a page is not as expected in time, a service has been given up, or a command fails.
    pub fn perform(&self, host: &Host) -> Result<(), SmokeError> {
        let asked = Mutex::new(Instant::now());
        // Pages are requested concurrently; one of their threads queries the managers for all.
        let given_up = || {
            let mut asked = asked.try_lock().ok().filter(|asked| asked.elapsed() >= INTERVAL)?;
            *asked = Instant::now();
            self.given_up(host)
        };
        self.check.perform_unless(host, &given_up)
    }

    /// Returns the name of a service that its manager has given up, if there is one.
    pub(crate) fn given_up(&self, host: &Host) -> Option<String> {
        self.services.iter().find(|service| is_given_up(service, host)).map(|service| service.name.clone())
    }
}

/// Tells whether a service does not run and its manager will not start it again. `false` if the manager fails: then only the
/// pages count.
fn is_given_up(service: &Service, host: &Host) -> bool {
    let has_failed = || {
        let state = service.connect(host).and_then(|mut manager| manager.state());
        state.is_ok_and(|state| state.status == Status::Failed && state.main.is_empty())
    };
    // Twice: supervisord answers requests that wait between the end of a program and the restart of it.
    has_failed() && has_failed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::services::{CommandManager, Manager, Role};
    use crate::smoke::Page;

    #[test]
    fn a_check_without_services_keeps_its_format() {
        let check = SmokeCheck { pages: vec![Page::new("/")], ..SmokeCheck::default() };
        let mut expected = serde_json::to_value(&check).unwrap();
        expected["action"] = "smoke_check".into();
        let mut action = Action::SmokeCheck(check.into());
        assert_eq!(serde_json::to_value(&action).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Action>(expected).unwrap(), action);
        let Action::SmokeCheck(served) = &mut action else { unreachable!() };
        served.services.push(Service::new("web", Role::Web, Manager::Command(CommandManager::default())));
        let text = serde_json::to_string(&action).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
    }
}
