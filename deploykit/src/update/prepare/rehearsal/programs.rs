//! Programs of the site's own that are run on copies of the databases.

use super::sandbox::Trial;
use super::{Candidate, RehearsalError};
use crate::command::Command;
use crate::django::DjangoError;
use crate::error::error_chain;
use crate::site::OwnTask;
use crate::update::error::PreparationError;
use crate::update::prepare::Preparation;
use crate::update::recipe::own_command;

impl Preparation<'_, '_> {
    /// Runs the site's own steps that the pages need, in the order of the window.
    pub(super) fn rehearse_steps(
        &mut self,
        trial: &mut Trial,
        candidate: &Candidate<'_>,
    ) -> Result<(), RehearsalError> {
        let mut own: Vec<_> = self.site.config().steps.iter().filter(|own| own.rehearse).collect();
        own.sort_by_key(|own| &own.after);
        for own in own {
            if let Some(need) = own.memory() {
                // The copies take memory that the window has.
                need.check()
                    .map_err(|error| RehearsalError::unavailable(format!("step `{}`: {error}", own.name)))?;
            }
            let command = self.command_in_live(&own.task, candidate);
            let fails = |source| PreparationError::OwnStepFails { step: own.name.clone(), source };
            if self.run_there(trial, &command, fails)? {
                self.rehearsed().steps.push(own.name.clone());
            } else {
                trial.without.push(own.name.clone());
            }
        }
        Ok(())
    }

    /// Runs the programs that stand for the start of services.
    pub(super) fn rehearse_services(
        &mut self,
        trial: &mut Trial,
        candidate: &Candidate<'_>,
    ) -> Result<(), RehearsalError> {
        for service in self.site.config().services.iter().filter(|service| !service.rehearse.is_empty()) {
            let command = self.command_in_live(&OwnTask::Run(service.rehearse.clone()), candidate);
            let (version, name) = (self.version(), service.name.clone());
            let fails = |source| PreparationError::ServiceFails { version, service: name, source };
            if self.run_there(trial, &command, fails)? {
                self.rehearsed().workers.push(format!("`rehearse` of service `{}`", service.name));
            }
        }
        Ok(())
    }

    /// Makes a command as the window would, with the packages of the new version.
    fn command_in_live(&self, task: &OwnTask, candidate: &Candidate<'_>) -> Command {
        own_command(task, &self.site.config().site.repository, &candidate.project, &self.host)
    }

    /// Runs a program; tells whether it succeeded. One that fails and wants the network refuses nothing.
    fn run_there(
        &mut self,
        trial: &mut Trial,
        command: &Command,
        fails: impl FnOnce(DjangoError) -> PreparationError,
    ) -> Result<bool, RehearsalError> {
        // What was tried before is another matter.
        trial.session.network(&self.host)?;
        let Err(error) = trial.session.run_program(&self.host, command) else { return Ok(true) };
        if error.is_cancelled() {
            return Err(error.into());
        }
        let failed = fails(error);
        let why = match (trial.session.network(&self.host)?.is_empty(), trial.without.first()) {
            (false, _) => "it wants the network, which a rehearsal does not have".to_owned(),
            (true, Some(step)) => format!("it may need step `{step}`"),
            (true, None) => return Err(RehearsalError::Failed(failed.into())),
        };
        self.notice(format!("{}; {why}", error_chain(&failed)));
        Ok(false)
    }
}
