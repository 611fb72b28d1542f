//! The rehearsal of a rollback.

use std::time::Duration;

use super::{Facts, copy};
use crate::django::{Project, Session};
use crate::update::error::UpdateError;
use crate::update::prepare::{Candidate, DatabaseRollback, Preparation};
use crate::update::rollback::static_way::StaticWay;
use crate::update::written::Apart;

impl Preparation<'_, '_> {
    /// Rehearses the rollback; returns how long the databases took.
    pub(super) fn rehearse_rollback(
        &mut self,
        facts: &Facts,
        session: &mut Session,
    ) -> Result<Option<Duration>, UpdateError> {
        let done = &facts.done;
        let tree = self.previous();
        let mut check = self.site.smoke_check();
        if let (Some(check), Some(before)) = (&mut check, &done.pages) {
            check.pages.clone_from(&before.pages);
        }
        let rollbacks = facts.databases.iter().rev().filter_map(|database| {
            let reversal = database.reversal(&done.run, &facts.project)?;
            Some(DatabaseRollback {
                reversed: reversal.reversed.len(),
                restore: reversal.restore,
                now: database.done.left.clone(),
                copy: database.done.restore.as_ref().and_then(copy::usable).map(ToOwned::to_owned),
            })
        });
        let rollbacks: Vec<DatabaseRollback> = rollbacks.collect();
        let candidate = Candidate {
            staged: &facts.project,
            project: Project { python: facts.previous_python(), ..facts.project.clone() },
            tree: &tree,
            site: &facts.site,
            static_files: done.static_files.as_ref().and_then(StaticWay::appears),
            baseline: &facts.baseline,
            command: None,
            apart: &Apart::default(),
            states: &facts.states,
            // `check` has booted it, and its pages are asked for before the migrations are reversed.
            is_restarted: false,
            check,
            // A rollback runs none of the site's own steps.
            own: Vec::new(),
            changes: rollbacks.iter().map(|rollback| rollback.restore.before.database.clone()).collect(),
        };
        self.rehearse_back(session, &candidate, &rollbacks, &facts.previous_outputs())
    }
}
