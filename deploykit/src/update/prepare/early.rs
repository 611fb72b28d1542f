//! What is refused before anything is built: it can be known at once.

use std::path::{Path, PathBuf};

use super::Preparation;
use crate::host::users::{barred, shown_user};
use crate::http::{Address, Connect};
use crate::operations::pip_install::{PipInstall, Prepared};
use crate::services::{Role, ServiceState, listeners};
use crate::site::{Environment, Site};
use crate::update::error::PreparationError;

impl Preparation<'_, '_> {
    /// Refuses a new virtualenv that a service could not reach, where one is needed.
    pub(super) fn can_be_reached(
        &self,
        install: &PipInstall,
        states: &[ServiceState],
    ) -> Result<(), PreparationError> {
        let Some((service, user, directory)) = shut_out(states, &install.virtualenvs, &install.virtualenv)
        else {
            return Ok(());
        };
        // The later build reports why it cannot be planned.
        match install.plan(&self.host) {
            Ok(Prepared::Upgrade(_) | Prepared::Ready(_)) => {
                Err(PreparationError::VirtualenvShut { service, user, directory })
            }
            Ok(Prepared::Unchanged { .. }) | Err(_) => Ok(()),
        }
    }
}

/// Refuses a configuration whose pages are answered by what an update does not stop as the web: they would show the
/// old version, or nothing, when the new one is to be checked.
pub(crate) fn web_is_known(site: &Site, states: &[ServiceState]) -> Result<(), PreparationError> {
    let config = site.config();
    let Some(check) = site.smoke_check().filter(|check| !check.pages.is_empty()) else {
        return Ok(());
    };
    if config.environment == Environment::Development || config.services.is_empty() {
        return Ok(());
    }
    let address = check.address();
    let listeners = address.as_ref().map(listeners).unwrap_or_default();
    let serves = |state: &ServiceState| listeners.iter().any(|listener| state.pids.contains(listener));
    let has_web = config.services.iter().any(|service| service.role == Role::Web);
    let mut pairs = config.services.iter().zip(states);
    // What others rely on may be the server in front of the web.
    let wrong = pairs.find(|(service, state)| match service.role {
        Role::Web => false,
        Role::Worker | Role::Timer => serves(state),
        Role::Required => !has_web && serves(state),
    });
    match (wrong, address) {
        (Some((service, _)), Some(address)) => Err(PreparationError::PagesOfNoWeb {
            service: service.name.clone(),
            role: service.role,
            address: address.to_string(),
        }),
        _ if !has_web => Err(PreparationError::NoWeb),
        (None, Some(address)) if config.maintenance.page.is_some() && !listeners.is_empty() => {
            let pairs = config.services.iter().zip(states);
            let web: Vec<&ServiceState> =
                pairs.filter(|(service, _)| service.role == Role::Web).map(|(_, state)| state).collect();
            // Of one that does not run, or whose processes its manager does not know, nothing can be told.
            if web.iter().any(|state| state.pids.is_empty() || serves(state)) {
                return Ok(());
            }
            let mut listens = web.iter().flat_map(|state| &state.socket.listens);
            Err(PreparationError::PagesInFront {
                address: address.to_string(),
                web: listens.next().map(|listening| match &listening.address {
                    Address::Tcp(address) => Connect::Tcp { tls: None, target: address.to_string() },
                    Address::Unix(path) => Connect::Unix(path.clone()),
                }),
            })
        }
        _ => Ok(()),
    }
}

/// Finds a service whose user cannot reach the new virtualenvs, but the live one; with the user and what shuts it out.
pub(crate) fn shut_out(
    states: &[ServiceState],
    environments: &Path,
    live: &Path,
) -> Option<(String, String, PathBuf)> {
    let own = rustix::process::geteuid().as_raw();
    states.iter().find_map(|state| {
        state.pids.iter().find_map(|process| {
            let user = process.user().filter(|user| *user != own && *user != 0)?;
            let directory = barred(*process, environments)?;
            let is_blind = barred(*process, live).is_some();
            (!is_blind).then(|| (state.service.clone(), shown_user(user), directory))
        })
    })
}
