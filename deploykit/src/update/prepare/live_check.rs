//! Whether the live version would start again, which a failed update depends on.

use super::{Failed, Preparation};
use crate::django::{Booting, DjangoError, Project, Session};
use crate::error::error_chain;
use crate::plan::{Plan, StepKind};
use crate::services::{Role, ServiceState};
use crate::update::error::PreparationError;

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

    /// Waits until it is booted. If it does not boot, the plan decides whether the update goes on.
    pub(super) fn end_live_check(&mut self, version: LiveVersion) -> Result<((), String), Failed> {
        match version.0.and_then(|booting| booting.booted(&self.host)) {
            Ok(_) => Ok(((), "the live version boots, too".to_owned())),
            Err(error) if error.is_cancelled() => Err(error.into()),
            Err(error) => {
                self.live_fault = Some(error);
                Ok(((), "the live version does not boot".to_owned()))
            }
        }
    }

    /// Refuses a live version that does not boot where its command is to tell users. Otherwise only warns: the update may
    /// be the fix.
    pub(super) fn mind_live_fault(&mut self, plan: Option<&Plan>) -> Result<(), Failed> {
        let Some(source) = self.live_fault.take() else { return Ok(()) };
        let mut steps = plan.iter().flat_map(|plan| &plan.steps);
        if steps.any(|step| step.id == StepKind::Announce && step.is_needed()) {
            return Err(PreparationError::LiveVersionDown { source }.into());
        }
        self.notice(format!(
            "the live version does not boot with the current configuration, variables and packages \
             (`deploykit manage -- check` shows why); restore what it needs: otherwise, if this update fails, its services may \
             not start again, and a later rollback fails: {}",
            error_chain(&source)
        ));
        Ok(())
    }
}
