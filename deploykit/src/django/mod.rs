//! Django: one booted process that answers everything and waits for the window, migrations, static files, maintenance.
//!
//! A start of a site's Django takes half a second to thirteen seconds. So a [`Session`] is booted once, beforehand, from
//! the staged tree and the staged virtualenv. It says what the site is and whether it works, what
//! migrations are pending and which of them cannot be reversed, collects static files beside the live ones, and then waits without
//! a database connection until the window, where it migrates at once.

mod announce;
mod backup;
mod context;
mod error;
mod facts;
mod follow;
mod fork;
mod migrations;
mod on_copy;
mod orphans;
mod probe;
mod project;
pub(crate) mod protocol;
pub(crate) mod reasons;
mod rows;
mod sandbox;
mod session;
mod static_files;
mod static_rules;
mod step_view;
mod time_zone;
mod twin;

pub use announce::{Announce, Expected, StatusFile, read_status};
pub use backup::{
    BACKUP_VARIABLE, BackupDatabase, BackupFacts, BackupRecord, DATABASE_VARIABLE, PutBack, RestoreDatabase,
};
pub(crate) use backup::{backup_file, remove_half_copy};
pub use context::Context;
pub use error::{Conflict, DjangoError, Irreversible, Part, Raised};
pub use facts::{CheckMessage, CheckReport, Database, Level, SiteFacts, StaticFacts};
pub use follow::FollowMigrations;
pub use fork::Places;
pub(crate) use migrations::with_session;
pub use migrations::{
    DatabaseState, LackingMigration, Migrate, MigrateByCommand, MigrationId, MigrationPlan, OtherDatabase,
    PendingMigration, ReversedMigration,
};
pub use on_copy::{MigrationOnCopy, MigrationStatement, TableLock};
pub(crate) use orphans::orphans;
pub(crate) use probe::{LOADER, PROGRAM};
pub(crate) use project::{DATABASE_DEADLINE, DEFAULT};
pub use project::{Databases, Project};
pub use protocol::{MigrationProgress, Phase};
pub use rows::{RowCounts, RowDigests};
pub use sandbox::{
    CopiedDatabase, Copies, Mounted, NoCopy, NoRedis, PageException, PageRecord, PageServer, Sandbox,
    WorkerFault, Workers,
};
pub use session::{Booting, OnDatabase, Pooling, Session};
pub use static_files::{Collected, Collecting, Directories, LateFiles, Others, PlacedFiles, StaticFiles};
pub(crate) use static_rules::originals;
pub use static_rules::{StaticRecord, StaticSources, When};
pub(crate) use step_view::in_view;
pub(crate) use time_zone::spelled_time_zone;
