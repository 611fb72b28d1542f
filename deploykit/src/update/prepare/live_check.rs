//! Whether the live version still boots: the undo of a failed update starts it again.

use super::{Failed, Preparation};
use crate::django::{Booting, DjangoError, Project, Session};
use crate::error::error_chain;
use crate::plan::{Plan, StepKind};
use crate::services::{Role, ServiceState};
use crate::update::error::PreparationError;

/// The live version, booting once more.
pub(super) struct LiveVersion(Result<Booting, DjangoError>);

impl Preparation<'_, '_> {
    /// Tells whether an undo would start a service.
    pub(super) fn may_start_again(&self, states: &[ServiceState]) -> bool {
        let services = self.site.config().services.iter().zip(states);
        services.into_iter().any(|(service, state)| service.role != Role::Required && !state.is_at_rest())
    }

    /// Begins to boot the live version; its process ends once it is booted.
    pub(super) fn begin_live_check(&self, live: &Project) -> LiveVersion {
        // The priority of `check`, which runs at the same time: with a lower one, this boot would end last on a busy machine.
        let host = self.host.with_low_priority(false);
        LiveVersion(Session::begin(&host, live, None).map(Booting::only))
    }

    /// Waits until the live version is booted. If it does not boot, the plan decides whether the update goes on.
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

    /// Refuses the update if the live version does not boot and its command is to announce the update. Otherwise only warns: the
    /// update may be the fix.
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
