//! What a finished update did, read from its journal.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::action::{Action, held_by};
use crate::django::{DatabaseState, Migrate, RestoreDatabase, RowCounts};
use crate::git::{CarryWritten, Checkout, Exclude};
use crate::host::{Swap, files};
use crate::python::Switch;
use crate::smoke::SmokeCheck;
use crate::state::{Kept, KeptDatabase};
use crate::update::error::RollbackError;
use crate::update::inserted::Inserted;
use crate::update::past::{self, Past};

use super::static_way::StaticWay;

/// What a finished update did, and what it kept.
pub(super) struct Done {
    pub(super) run: String,
    pub(super) kept: Kept,
    pub(super) code: Option<Checkout>,
    /// There and back.
    pub(super) environment: Option<(Switch, Switch)>,
    /// Back, and there again.
    pub(super) static_files: Option<StaticWay>,
    /// What the update hid from git.
    pub(super) hidden: Vec<Exclude>,
    /// The same of what the site's own steps made.
    pub(super) outputs: Vec<(Swap, Swap)>,
    /// The databases that it migrates, in their order.
    pub(super) databases: Vec<DoneDatabase>,
    /// The databases that the leader migrated, as they were before.
    pub(super) followed: Vec<DatabaseState>,
    /// The command of the site's own that migrated.
    pub(super) command: Option<Vec<String>>,
    /// What was carried over to the live checkout.
    pub(super) written: Vec<CarryWritten>,
    /// The pages as they were before the update.
    pub(super) pages: Option<SmokeCheck>,
    /// The steps of a tool.
    pub(super) inserted: Inserted,
}

/// What an update did to a database.
pub(super) struct DoneDatabase {
    /// The database as the update left it.
    pub(super) left: DatabaseState,
    /// The rows that it had then, where a copy of it was made.
    pub(super) rows: Option<RowCounts>,
    pub(super) migrate: Option<Migrate>,
    /// What would have restored it if the update had failed.
    pub(super) restore: Option<RestoreDatabase>,
}

impl Done {
    /// Reads what an update did from its journal, and checks that what it kept is still there.
    pub(super) fn of(past: &Past, later_steps: &[[Timestamp; 2]]) -> Result<Done, RollbackError> {
        let run = past.run.name.clone();
        let gone = |what: PathBuf| RollbackError::Gone { run: run.clone(), what };
        let kept = past.run.kept().ok_or_else(|| gone(past.run.kept_file()))?;
        let static_files = match &kept.static_files {
            Some(kept) => {
                Some(StaticWay::of(past, kept, later_steps).ok_or_else(|| gone(kept.directory.clone()))?)
            }
            None => None,
        };
        let mut outputs = Vec::new();
        for (number, back) in past.undo().filter_map(held_by!(SwapOutput)).enumerate() {
            let directory = kept.outputs.as_ref().ok_or_else(|| gone(past.run.kept_file()))?;
            let place = past::kept_output(directory, number);
            if files::inode(&place) != back.wanted {
                return Err(gone(place));
            }
            let back = Swap { aside: place, ..back };
            let there = Swap { wanted: files::inode(&back.live), ..back.clone() };
            outputs.push((back, there));
        }
        let switch = held_by!(SwitchVirtualenv);
        Ok(Done {
            code: past.actions().find_map(held_by!(Checkout)),
            environment: past.actions().find_map(switch).zip(past.undo().find_map(switch)),
            static_files,
            hidden: past.undo().filter_map(held_by!(Exclude)).collect(),
            outputs,
            databases: DoneDatabase::of(past, &kept),
            followed: past
                .actions()
                .filter_map(held_by!(FollowMigrations))
                .map(|follow| follow.migrate.before)
                .collect(),
            command: past.actions().find_map(held_by!(MigrateByCommand)).map(|command| command.argv),
            written: past
                .actions()
                .filter_map(held_by!(CarryWritten))
                .filter_map(|carry| carry.again())
                .collect(),
            pages: past.undo().find_map(held_by!(SmokeCheck)).map(|served| served.check),
            inserted: Inserted::default(),
            run,
            kept,
        })
    }
}

impl DoneDatabase {
    /// Reads what an update did to each database.
    pub(super) fn of(past: &Past, kept: &Kept) -> Vec<DoneDatabase> {
        let first = KeptDatabase { database: kept.database.clone(), rows: kept.rows.clone() };
        let all = [first].into_iter().chain(kept.others.iter().cloned());
        all.map(|KeptDatabase { database: left, rows }| DoneDatabase {
            migrate: past
                .actions()
                .filter_map(held_by!(Migrate))
                .find(|migrate| migrate.before.database == left.database),
            restore: past
                .undo()
                .filter_map(held_by!(RestoreDatabase))
                .find(|restore| restore.before.database == left.database),
            left,
            rows,
        })
        .collect()
    }
}
