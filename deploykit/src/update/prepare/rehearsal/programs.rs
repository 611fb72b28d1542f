//! Programs of the site's own that are run on copies of the databases.

use super::world::Tried;
use super::{Ends, Stage};
use crate::command::Command;
use crate::django::DjangoError;
use crate::error::error_chain;
use crate::site::OwnTask;
use crate::update::error::PreparationError;
use crate::update::prepare::Preparation;
use crate::update::recipe::own_command;

impl Preparation<'_, '_> {
    /// Runs the site's own steps that the pages need, in the order of the window.
    pub(super) fn rehearse_steps(&mut self, tried: &mut Tried, stage: &Stage<'_>) -> Result<(), Ends> {
        let mut own: Vec<_> = self.site.config().steps.iter().filter(|own| own.rehearse).collect();
        own.sort_by_key(|own| &own.after);
        for own in own {
            if let Some(need) = own.memory() {
                // The copies take memory that the window has.
                need.check().map_err(|error| Ends::cannot(format!("step `{}`: {error}", own.name)))?;
            }
            let command = self.command_in_live(&own.task, stage);
            let fails = |source| PreparationError::OwnStepFails { step: own.name.clone(), source };
            if self.run_there(tried, &command, fails)? {
                self.rehearsed().steps.push(own.name.clone());
            } else {
                tried.without.push(own.name.clone());
            }
        }
        Ok(())
    }

    /// Runs the programs that stand for the start of services.
    pub(super) fn rehearse_services(&mut self, tried: &mut Tried, stage: &Stage<'_>) -> Result<(), Ends> {
        for service in self.site.config().services.iter().filter(|service| !service.rehearse.is_empty()) {
            let command = self.command_in_live(&OwnTask::Run(service.rehearse.clone()), stage);
            let (version, name) = (self.version(), service.name.clone());
            let fails = |source| PreparationError::ServiceFails { version, service: name, source };
            if self.run_there(tried, &command, fails)? {
                self.rehearsed().workers.push(format!("`rehearse` of service `{}`", service.name));
            }
        }
        Ok(())
    }

    /// Makes a command as the window would, with the packages of the new version.
    fn command_in_live(&self, task: &OwnTask, stage: &Stage<'_>) -> Command {
        own_command(task, &self.site.config().site.repository, &stage.project, &self.host)
    }

    /// Runs a program; tells whether it succeeded. One that fails and wants the network refuses nothing.
    fn run_there(
        &mut self,
        tried: &mut Tried,
        command: &Command,
        fails: impl FnOnce(DjangoError) -> PreparationError,
    ) -> Result<bool, Ends> {
        // What was tried before is another matter.
        tried.session.network(&self.host)?;
        let Err(error) = tried.session.run_program(&self.host, command) else { return Ok(true) };
        if error.is_cancelled() {
            return Err(error.into());
        }
        let failed = fails(error);
        let why = match (tried.session.network(&self.host)?.is_empty(), tried.without.first()) {
            (false, _) => "it wants the network, which a rehearsal does not have".to_owned(),
            (true, Some(step)) => format!("it may need step `{step}`"),
            (true, None) => return Err(Ends::Fails(failed.into())),
        };
        self.notice(format!("{}; {why}", error_chain(&failed)));
        Ok(false)
    }
}
