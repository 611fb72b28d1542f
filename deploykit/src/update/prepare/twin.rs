//! The fork of the waiting Django that runs the site's own commands in the window.

use std::fs;

use super::{Failed, Preparation};
use crate::django::{Places, Project, Session, SiteFacts};
use crate::git::{self, StagedTree};
use crate::site::Environment;

impl Preparation<'_, '_> {
    /// Begins to make it beside other work, if anything would run in it; returns why it cannot be made.
    pub(super) fn begin_twin(
        &self,
        session: &mut Session,
        site: &SiteFacts,
        project: &Project,
        tree: &StagedTree,
    ) -> Result<Option<String>, Failed> {
        let config = self.site.config();
        let announces =
            config.environment == Environment::Production && self.site.maintenance_commands(site)?.is_some();
        if !announces && !config.steps.iter().any(|step| step.may_be_forked()) {
            return Ok(None);
        }
        let live = self.site.project()?;
        let top = |project: &Project| {
            project.python.parent().and_then(|bin| bin.parent()).unwrap_or(&project.python).to_owned()
        };
        let (staged, virtualenv) = (top(project), top(&live));
        if config.python.in_place && staged != virtualenv {
            // Its modules are at other paths than the live ones will be.
            return Ok(Some("the packages are changed in place".to_owned()));
        }
        let places =
            Places { live: &live, tree: [&tree.path, &tree.repository], virtualenv: [&staged, &virtualenv] };
        let (repository, commit) = (tree.repository.clone(), self.to.clone());
        let is_live = {
            let (staged, virtualenv) = (staged.clone(), virtualenv.clone());
            move || {
                let is_at = git::head(&repository).is_ok_and(|head| head.commit == commit);
                let real = |path| fs::canonicalize(path).ok();
                is_at && (staged == virtualenv || real(&staged) == real(&virtualenv))
            }
        };
        Ok(session.begin_twin(&self.host, &places, is_live)?)
    }

    /// Waits until it is ready; returns why the site's own commands run in processes of their own.
    pub(super) fn end_twin(
        &self,
        session: &mut Session,
        cannot: Option<String>,
    ) -> Result<Option<String>, Failed> {
        match cannot {
            Some(reason) => Ok(Some(reason)),
            None => Ok(session.end_twin(&self.host)?),
        }
    }
}
