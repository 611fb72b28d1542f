//! Boots the previous version's web server beside the live one, where its socket is held.

use std::path::PathBuf;

use super::{Facts, static_way::StaticWay};
use crate::git::StagedTree;
use crate::host::Swap;
use crate::operations::pip_install::Prepared as Packages;
use crate::plan::StepKind;
use crate::update::beside::Beside;
use crate::update::error::UpdateError;
use crate::update::prepare::{Beforehand, Preparation};

impl Preparation<'_, '_> {
    /// Boots the previous version's web server. Returns what it needs beside the live site until the run is over.
    pub(super) fn boot_previous(&mut self, facts: &mut Facts) -> Result<Beside, UpdateError> {
        if facts.states.iter().all(|state| state.socket.holder.is_none()) {
            return Ok(Beside::default());
        }
        let beside = Beside::new(self.previous(), self.state.staged_tree());
        let tree = self.previous_tree(&self.previous(), &facts.previous_outputs());
        let tree = self.or_fail(StepKind::BootBridge, tree)?;
        let static_files = facts.done.static_files.as_ref();
        let previous = Beforehand {
            python: &facts.previous_python(),
            tree: &tree,
            packages: &facts.packages,
            static_files: static_files.and_then(StaticWay::appears),
            places_files: static_files.is_some_and(|way| way.moves().is_none()),
            states: &facts.states,
            baseline: &facts.baseline,
        };
        facts.bridges = self.boot_bridges(&previous)?;
        Ok(beside)
    }

    /// Names the tree of the previous version.
    pub(super) fn previous(&self) -> StagedTree {
        StagedTree {
            repository: self.site.config().site.repository.clone(),
            path: self.site.staged_tree(),
            commit: self.to.clone(),
        }
    }
}

impl Facts {
    /// Returns the Python of the previous version.
    pub(super) fn previous_python(&self) -> PathBuf {
        let environment = Packages::goes_live(&self.packages).map(|ready| ready.staged.join("bin/python"));
        environment.unwrap_or_else(|| self.project.python.clone())
    }

    /// Returns what brings the previous outputs of the site's own steps back.
    pub(super) fn previous_outputs(&self) -> Vec<Swap> {
        self.done.outputs.iter().map(|(back, _)| back.clone()).collect()
    }
}
