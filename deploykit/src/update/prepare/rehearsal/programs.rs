//! Programs of the site's own that are run on copies of the databases.

use super::world::Tried;
use super::{Ends, Stage};
use crate::command::Command;
use crate::django::DjangoError;
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
            self.run_there(tried, &command, |source| PreparationError::OwnStepFails {
                step: own.name.clone(),
                source,
            })?;
            self.rehearsed().steps.push(own.name.clone());
        }
        Ok(())
    }

    /// Runs the programs that stand for the start of services.
    pub(super) fn rehearse_services(&mut self, tried: &mut Tried, stage: &Stage<'_>) -> Result<(), Ends> {
        for service in self.site.config().services.iter().filter(|service| !service.rehearse.is_empty()) {
            let command = self.command_in_live(&OwnTask::Run(service.rehearse.clone()), stage);
            self.run_there(tried, &command, |source| PreparationError::ServiceFails {
                version: self.version(),
                service: service.name.clone(),
                source,
            })?;
            self.rehearsed().workers.push(format!("`rehearse` of service `{}`", service.name));
        }
        Ok(())
    }

    /// Makes a command as the window would, with the packages of the new version.
    fn command_in_live(&self, task: &OwnTask, stage: &Stage<'_>) -> Command {
        own_command(task, &self.site.config().site.repository, &stage.project, &self.host)
    }

    fn run_there(
        &self,
        tried: &mut Tried,
        command: &Command,
        fails: impl FnOnce(DjangoError) -> PreparationError,
    ) -> Result<(), Ends> {
        match tried.session.run_program(&self.host, command) {
            Err(error) if error.is_cancelled() => Err(error.into()),
            Err(error) => Err(Ends::Fails(fails(error).into())),
            Ok(()) => Ok(()),
        }
    }
}
