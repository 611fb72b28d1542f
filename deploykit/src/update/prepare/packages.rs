//! The staged virtualenv.

use super::{Failed, Preparation};
use crate::git::StagedTree;
use crate::operations::pip_install::{self, PipInstall, Prepared as Packages, Record};
use crate::services::ServiceState;
use crate::update::answers::program_of;
use crate::update::error::PreparationError;
use crate::update::past::{self, Past};

impl Preparation<'_, '_> {
    /// Builds the staged virtualenv from the staged tree, unless the live one is the right one.
    pub(super) fn packages(
        &mut self,
        tree: &StagedTree,
        states: &[ServiceState],
    ) -> Result<(Packages, String), Failed> {
        let install = PipInstall {
            wanted: self.site.wanted_in(&tree.path),
            directory: tree.path.clone(),
            ..self.site.pip_install_after(self.last.packages.clone())?
        };
        self.can_be_reached(&install, states)?;
        if install.wanted.is_empty() {
            let reason = "no requirements are configured".to_owned();
            let record = Record::default();
            return Ok((Packages::Unchanged { reason: reason.clone(), record }, reason));
        }
        let standing = past::standing(&self.state, self.site.config().keep)?;
        past::prune_places(self.site, &standing)?;
        let packages = install.build(&self.host)?;
        let looked = self.look_at(packages, states, &standing);
        let pruned = match self.request.only_plan {
            true => past::prune_places(self.site, &standing),
            false => Ok(()),
        };
        // A refusal comes before what went wrong afterwards.
        let looked = looked?;
        pruned?;
        Ok(looked)
    }

    /// Checks that the services can use the staged virtualenv; `standing` are the updates that can be rolled back.
    fn look_at(
        &mut self,
        packages: Packages,
        states: &[ServiceState],
        standing: &[Past],
    ) -> Result<(Packages, String), Failed> {
        let config = self.site.config();
        let Some(ready) = packages.goes_live() else {
            let reason = packages.change().into_change().reason;
            return Ok((packages, reason));
        };
        let virtualenv = self.site.virtualenv()?;
        for path in ready.switch.replaces() {
            self.try_to_move(&path)?;
        }
        ready.warnings.iter().for_each(|warning| self.notice(warning.clone()));
        past::prune_built(self.site, &self.state, ready, standing)?;
        let bin = virtualenv.join("bin");
        if let Some((service, program)) = program_of(&config.services, states, &bin, &ready.missing_scripts) {
            return Err(PreparationError::ProgramMissing { service, program: bin.join(program) }.into());
        }
        if !ready.missing_scripts.is_empty() {
            let scripts = ready.missing_scripts.join("`, `");
            self.notice(format!("the staged virtualenv has no `bin/{scripts}`, which the live one has"));
        }
        let text = pip_install::summary(&ready.changes);
        Ok((packages, text))
    }
}
