//! Migrations that the leader of several hosts applies to the database that they share.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::migrations::with_session;
use super::{Context, DjangoError, Migrate};
use crate::keys::written;

/// Polling interval.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until the leader has applied migrations, or has undone them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowMigrations {
    /// What the leader does.
    pub migrate: Migrate,
    /// Whether to wait until the database is as it was before.
    pub undone: bool,
    /// How long to wait.
    pub limit: Duration,
}

impl FollowMigrations {
    /// Waits.
    ///
    /// # Errors
    ///
    /// [`DjangoError::NotFollowed`] when the database is not as it must be in time.
    pub fn perform(&self, context: &mut Context) -> Result<(), DjangoError> {
        let (since, alias) = (Instant::now(), &self.migrate.before.database);
        loop {
            let state =
                with_session(context, &self.migrate.project, |session, host| session.on(alias).state(host));
            let state = self.migrate.project.databases.named(alias, state);
            let is_over = since.elapsed() >= self.limit;
            let differences = match (state, self.undone) {
                (Err(error), _) if is_unreachable(&error) && !is_over && context.host.wait(LOOK) => continue,
                (state, true) => self.migrate.before.differences(&state?),
                (state, false) => {
                    let applied = state?.applied;
                    let missing = self.migrate.plan.iter().filter(|id| !applied.contains(id));
                    missing.map(|id| format!("`{id}` is not applied")).collect()
                }
            };
            if differences.is_empty() {
                return Ok(());
            }
            if is_over || !context.host.wait(LOOK) {
                return Err(DjangoError::NotFollowed {
                    limit: written(self.limit),
                    undone: self.undone,
                    differences,
                });
            }
        }
    }
}

/// Tells whether a database could not be reached or read, which may succeed later.
fn is_unreachable(error: &DjangoError) -> bool {
    match error {
        DjangoError::Database { .. } | DjangoError::Mute { .. } => true,
        DjangoError::InDatabase { source, .. } => is_unreachable(source),
        _ => false,
    }
}
