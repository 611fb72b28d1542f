//! The fork of the waiting Django that migrates in the window and runs the site's own commands there.

use std::fs;

use procfs::process::Process;

use super::{Failed, Preparation};
use crate::django::{Places, Project, Session, SiteFacts};
use crate::git::{self, CarryWritten, StagedTree};
use crate::keys::Size;
use crate::site::Environment;
use crate::update::answers::follows;
use crate::update::written;

impl Preparation<'_, '_> {
    /// Begins to make it beside other work, if the update `migrates` or anything else would run in it; returns why it cannot be made.
    pub(super) fn begin_twin(
        &self,
        session: &mut Session,
        site: &SiteFacts,
        project: &Project,
        tree: &StagedTree,
        migrates: bool,
    ) -> Result<Option<String>, Failed> {
        let config = self.site.config();
        let announces =
            config.environment == Environment::Production && self.site.maintenance_commands(site)?.is_some();
        let migrates = migrates && !follows(self.site);
        if !migrates && !announces && !config.steps.iter().any(|step| step.may_be_forked()) {
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
        if let Some(reason) = has_no_room(session) {
            return Ok(Some(reason));
        }
        let [changes, aside] = CarryWritten::changes(&self.directory().join(written::MIGRATE));
        let places = Places {
            live: &live,
            tree: [&tree.path, &tree.repository],
            virtualenv: [&staged, &virtualenv],
            changes: [&changes, &aside],
        };
        let (repository, commit) = (tree.repository.clone(), self.to.clone());
        let is_live = {
            let (staged, virtualenv) = (staged.clone(), virtualenv.clone());
            move || {
                let is_at = git::head(&repository).is_ok_and(|head| head.commit == commit);
                let real = |path| fs::canonicalize(path).ok();
                is_at && (staged == virtualenv || real(&staged) == real(&virtualenv))
            }
        };
        Ok(session.begin_twin(&self.host, &places, migrates, is_live)?)
    }

    /// Waits until it is ready; returns why the site's own commands run in processes of their own, and migrations in the waiting Django.
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

/// Says that there is too little memory for another Django: a fork that changes all its objects shares hardly any with the other one.
fn has_no_room(session: &Session) -> Option<String> {
    let process = Process::new(i32::try_from(session.id()?).ok()?).ok()?;
    let kilobytes = process.status().ok()?.vmrss?;
    // Twice: it forks what migrates.
    let needed = Size(kilobytes.saturating_mul(2 * 1024));
    let (available, _) = crate::host::available_memory()?;
    (available < needed).then(|| {
        format!("a fork of the waiting Django needs {needed} of memory (twice its own), and {available} is available")
    })
}
