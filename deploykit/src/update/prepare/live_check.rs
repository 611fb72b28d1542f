//! Whether the live version would start again, which a failed update depends on.

use super::{Failed, Preparation};
use crate::django::{Booting, DjangoError, Project, Session};
use crate::error::error_chain;
use crate::services::{Role, ServiceState};

/// The live version, booted once more beside other work.
pub(super) struct LiveVersion(Result<Booting, DjangoError>);

impl Preparation<'_, '_> {
    /// Tells whether an undo would start a service.
    pub(super) fn may_start_again(&self, states: &[ServiceState]) -> bool {
        let services = self.site.config().services.iter().zip(states);
        services.into_iter().any(|(service, state)| service.role != Role::Required && !state.is_at_rest())
    }

    /// Begins to boot it; its process ends as soon as it is booted.
    pub(super) fn begin_live_check(&self, live: &Project) -> LiveVersion {
        // Like `check`, beside which it boots: otherwise a busy machine would let it wait to the end.
        let host = self.host.with_low_priority(false);
        LiveVersion(Session::begin(&host, live).map(Booting::only))
    }

    /// Waits until it is booted, and says so if it does not boot. Then the update goes on: it may be the fix.
    pub(super) fn end_live_check(&mut self, version: LiveVersion) -> Result<((), String), Failed> {
        match version.0.and_then(|booting| booting.booted(&self.host)) {
            Ok(_) => Ok(((), "the live version boots, too".to_owned())),
            Err(error) if error.is_cancelled() => Err(error.into()),
            Err(error) => {
                self.notice(format!(
                    "the live version does not boot with the current configuration, variables and packages; if this update fails, its \
                     services may not start again: {}",
                    error_chain(&error)
                ));
                Ok(((), "the live version does not boot".to_owned()))
            }
        }
    }
}
