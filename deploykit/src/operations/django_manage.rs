//! `manage.py`: checks, migrations, static files, or any command.

mod static_set;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Change, Check, Operation, of_databases};
use crate::action::{Action, Context};
use crate::command::Command;
use crate::django::{
    CheckMessage, DatabaseState, DjangoError, Migrate, MigrationPlan, PutBack, RestoreDatabase,
    ReversedMigration, Session, StaticFiles, with_session,
};
use crate::git::{GitError, counted};
use crate::host::Host;

pub use crate::django::{Databases, Project, SiteFacts, When};
pub(crate) use static_set::static_summary;
pub use static_set::{Aside, StaticSet};
use static_set::{place, tracked_around};

/// Works on a Django project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DjangoManage {
    /// The project.
    pub project: Project,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done with a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// Runs a management command with these arguments.
    Command(Vec<String>),
    /// Runs the system checks and loads the URL configuration and the application.
    Check,
    /// Applies the migrations that wait.
    Migrate,
    /// Collects the static files.
    CollectStatic {
        /// Whether obsolete files go.
        clear: When,
    },
}

/// Why nothing can be said about a project, or why it is not fit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DjangoManageError {
    /// Django.
    #[error(transparent)]
    Django(#[from] DjangoError),
    /// The checkout in which the static files are collected.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The system checks found errors.
    #[error("the system checks found {}: {}", counted(messages.len(), "error"), list(messages))]
    Problems {
        /// The errors.
        messages: Vec<CheckMessage>,
    },
    /// The command's list of arguments is empty.
    #[error("no management command is given")]
    NoCommand,
    /// `STATIC_ROOT` is not set.
    #[error("`STATIC_ROOT` is not set")]
    NoStaticRoot,
}

/// What is known of a task, and what was built for it beside the live site.
#[derive(Debug)]
#[non_exhaustive]
pub enum Prepared {
    /// A command: nothing is known about it beforehand.
    Command {
        /// The command.
        command: Box<Command>,
        /// Its arguments, beginning with the name of the management command.
        args: Vec<String>,
    },
    /// The system checks found no error.
    Checked,
    /// The migrations of each database, in their order.
    Migrations(Vec<Migrations>),
    /// Applied migrations that are reversed, of each database in their order.
    Reversal(Vec<Reversal>),
    /// Static files that go live.
    Static(Box<StaticSet>),
}

/// The pending migrations of a database, and their undo.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrations {
    /// What is pending.
    pub plan: MigrationPlan,
    /// Applies it.
    pub migrate: Migrate,
    /// Restores the database to its previous state.
    pub restore: RestoreDatabase,
    /// There is no database yet that could be restored.
    pub is_new: bool,
}

impl Migrations {
    /// Pairs pending migrations with the reverse migration; both run in this project.
    #[must_use]
    pub fn new(plan: MigrationPlan, before: DatabaseState, project: Project) -> Self {
        let migrate = Migrate { project: project.clone(), before: before.clone(), plan: plan.ids() };
        Migrations { plan, migrate, restore: RestoreDatabase::new(project, before, None), is_new: false }
    }

    /// Returns the alias of the database.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.migrate.before.database
    }

    /// Tells whether deploykit itself can restore a copy of the database.
    #[must_use]
    pub fn has_copy(&self) -> bool {
        self.restore.backup.is_some() && self.restore.put_back != PutBack::ByHand
    }
}

/// Applied migrations that are reversed, or a copy of the database that is restored instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Reversal {
    /// Why, as a fragment: "3 migrations to reverse".
    pub reason: String,
    /// The migrations, newest first.
    pub reversed: Vec<ReversedMigration>,
    /// Restores the database to its state before them.
    pub restore: RestoreDatabase,
    /// Restores the database to its present state.
    pub undo: Action,
}

impl Operation for DjangoManage {
    type Prepared = Prepared;
    type Error = DjangoManageError;

    fn name(&self) -> &'static str {
        "django-manage"
    }

    /// Uses the Django of the context if it is booted for this project, and boots one otherwise. Static files are collected beside
    /// the live ones, into a hidden directory that the site does not see.
    fn prepare(&self, context: &mut Context) -> Result<Prepared, DjangoManageError> {
        match &self.task {
            Task::Command(args) if args.is_empty() => Err(DjangoManageError::NoCommand),
            Task::Command(args) => {
                let command = Box::new(self.project.manage(args));
                Ok(Prepared::Command { command, args: args.clone() })
            }
            Task::Check => with_session(context, &self.project, system_checks),
            Task::Migrate => with_session(context, &self.project, |session, host| {
                let look = |alias: &String| {
                    let (plan, before) =
                        (session.on(alias).migrations(host)?, session.on(alias).state(host)?);
                    Ok(Migrations::new(plan, before, self.project.clone()))
                };
                self.project
                    .databases
                    .migrate
                    .iter()
                    .map(look)
                    .collect::<Result<_, _>>()
                    .map(Prepared::Migrations)
            }),
            Task::CollectStatic { clear } => {
                with_session(context, &self.project, |session, host| self.collect(*clear, session, host))
            }
        }
    }

    fn change(&self, prepared: &Prepared) -> Check {
        prepared.change()
    }

    fn keep(&self, prepared: Prepared) {
        if let Prepared::Static(mut set) = prepared
            && let Some(aside) = set.aside.take()
        {
            aside.keep();
        }
    }
}

impl DjangoManage {
    /// Makes the operation for a task.
    #[must_use]
    pub fn new(project: Project, task: Task) -> Self {
        DjangoManage { project, task }
    }

    fn collect(
        &self,
        clear: When,
        session: &mut Session,
        host: &Host,
    ) -> Result<Prepared, DjangoManageError> {
        let root = session.facts(host)?.static_files.root.ok_or(DjangoManageError::NoStaticRoot)?;
        let root = self.project.directory.join(root);
        let tracked = tracked_around(&root)?;
        let (collect, record, deleted, copied) = (When::Auto, None, Vec::new(), false);
        let keep_old = std::time::Duration::ZERO;
        let files = StaticFiles { root, collect, clear, keep_old, record, deleted, tracked, copied };
        let collected = files.prepare(host, session)?;
        let aside = (!collected.is_unchanged()).then(|| Aside(files.aside()));
        Ok(Prepared::Static(Box::new(StaticSet { aside, ..StaticSet::of(&collected) })))
    }
}

fn system_checks(session: &mut Session, host: &Host) -> Result<Prepared, DjangoManageError> {
    let messages: Vec<CheckMessage> = session.check(host, None)?.errors().cloned().collect();
    match messages.is_empty() {
        true => Ok(Prepared::Checked),
        false => Err(DjangoManageError::Problems { messages }),
    }
}

impl Prepared {
    /// Says what doing it changes.
    #[must_use]
    pub fn change(&self) -> Check {
        match self {
            Prepared::Command { command, args } => run(command, args),
            Prepared::Checked => Check::unchanged("the system checks found no error"),
            Prepared::Migrations(migrations) => migrate(migrations),
            Prepared::Reversal(reversal) => reverse(reversal),
            Prepared::Static(set) => place(set),
        }
    }
}

fn run(command: &Command, args: &[String]) -> Check {
    let name = args.first().map_or("", String::as_str);
    let words = format!("manage.py {}", args.join(" "));
    Check::Change(Change {
        reason: format!("runs `{words}`"),
        after: format!("`{name}` has run"),
        details: vec![words],
        actions: vec![Action::Run { command: command.clone() }],
        irreversible: Some("its effect is unknown".into()),
        ..Change::default()
    })
}

fn migrate(migrations: &[Migrations]) -> Check {
    let is_due = |one: &&Migrations| one.plan.is_due();
    let changes = migrations.iter().filter(is_due).map(|one| (one.alias(), migrate_one(one))).collect();
    let databases = if migrations.len() > 1 { "any of the databases" } else { "the database" };
    let unchanged = || Check::unchanged(format!("no migrations are pending in {databases}"));
    of_databases(migrations.len() > 1, changes).map_or_else(unchanged, Check::Change)
}

fn migrate_one(migrations: &Migrations) -> Change {
    let Migrations { plan, migrate, restore, is_new } = migrations;
    let pending = plan.pending.iter().map(|migration| {
        let mut line = migration.id.to_string();
        if !migration.operations.is_empty() {
            line += &format!(": {}", migration.operations.join(", "));
        }
        migration.on_copy.iter().for_each(|seen| line += &format!(" ({seen})"));
        line
    });
    let unrecorded = plan.unrecorded.iter().map(|id| format!("{id}: only recorded"));
    let applied = |count| format!("{} applied", counted(count, "migration"));
    Change {
        reason: match plan.pending.len() {
            0 => format!("{} to record", counted(plan.unrecorded.len(), "squashed migration")),
            count => counted(count, "migration"),
        },
        before: applied(plan.applied.len()),
        after: applied(plan.applied.len() + plan.pending.len()),
        details: pending.chain(unrecorded).collect(),
        migrations: plan.pending.iter().filter_map(|migration| migration.on_copy.clone()).collect(),
        actions: vec![Action::Migrate(migrate.clone())],
        undo: if *is_new { Vec::new() } else { vec![Action::RestoreDatabase(restore.clone())] },
        irreversible: if migrations.has_copy() || *is_new { None } else { plan.irreversible() },
        ..Change::default()
    }
}

fn reverse(reversals: &[Reversal]) -> Check {
    let change = |reversal: &Reversal| Change {
        reason: reversal.reason.clone(),
        details: reversal.reversed.iter().map(|one| one.id.to_string()).collect(),
        actions: vec![Action::RestoreDatabase(reversal.restore.clone())],
        undo: vec![reversal.undo.clone()],
        ..Change::default()
    };
    let changes = reversals.iter().map(|one| (one.restore.before.database.as_str(), change(one))).collect();
    let several = reversals.iter().any(|one| one.restore.project.databases.are_several());
    let unchanged = || Check::unchanged("the update applied no migrations");
    of_databases(several || reversals.len() > 1, changes).map_or_else(unchanged, Check::Change)
}

fn list(messages: &[CheckMessage]) -> String {
    messages.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::MigrationOnCopy;
    use std::path::PathBuf;

    use crate::django::{DatabaseState, Level, MigrationId, PendingMigration};
    use crate::host::Host;

    fn project() -> Project {
        Project::new("/v/bin/python", "/s", "s")
    }

    fn state(alias: &str) -> DatabaseState {
        DatabaseState { database: alias.into(), applied: Vec::new(), schema: Vec::new(), digest: "d".into() }
    }

    fn pending(name: &str, irreversible: &[&str]) -> PendingMigration {
        PendingMigration {
            transactional: irreversible.is_empty(),
            irreversible: irreversible.iter().map(|why| (*why).to_owned()).collect(),
            operations: vec!["Add field price to item".into()],
            ..PendingMigration::new(MigrationId { app: "shop".into(), name: name.into() }, "default")
        }
    }

    fn change(check: Check) -> Change {
        let Check::Change(change) = check else { panic!("{check:?}") };
        change
    }

    fn migrations(pending: Vec<PendingMigration>, backup: Option<PathBuf>) -> Check {
        let plan = MigrationPlan { pending, ..MigrationPlan::default() };
        let restore = RestoreDatabase::new(project(), state("default"), backup);
        let migrations = Migrations { restore, ..Migrations::new(plan, state("default"), project()) };
        DjangoManage::new(project(), Task::Migrate).change(&Prepared::Migrations(vec![migrations]))
    }

    #[test]
    fn each_of_several_databases_is_named_and_undone_in_the_reverse_order() {
        let of = |alias, pending| {
            let plan = MigrationPlan { pending, ..MigrationPlan::default() };
            Migrations::new(plan, state(alias), project())
        };
        let all = |events| vec![of("default", vec![pending("0002", &[])]), of("events", events)];
        let check =
            Prepared::Migrations(all(vec![pending("0002", &["RunSQL"]), pending("0003", &[])])).change();
        let both = change(check);
        assert_eq!(both.reason, "`default`: 1 migration; `events`: 2 migrations");
        assert_eq!(both.details[1], "`events`: shop.0002: Add field price to item");
        assert_eq!(both.irreversible.unwrap(), "`events`: `shop.0002`: RunSQL");
        let restored = both.undo.iter().map(|action| match action {
            Action::RestoreDatabase(restore) => restore.before.database.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(restored.collect::<Vec<_>>(), ["events", "default"]);
        let one = change(Prepared::Migrations(all(Vec::new())).change());
        assert_eq!((one.reason.as_str(), one.actions.len()), ("`default`: 1 migration", 1));
    }

    #[test]
    fn without_migrations_nothing_is_done() {
        assert_eq!(migrations(vec![], None), Check::unchanged("no migrations are pending in the database"));
    }

    #[test]
    fn migrations_are_applied_and_reversed() {
        let change = change(migrations(vec![pending("0002", &[])], None));
        assert_eq!(change.reason, "1 migration");
        assert_eq!(change.details, ["shop.0002: Add field price to item"]);
        assert_eq!((change.actions.len(), change.undo.len()), (1, 1));
        assert_eq!((change.irreversible, change.migrations), (None, Vec::new()));
    }

    #[test]
    fn the_plan_has_what_the_rehearsal_recorded_of_each_migration() {
        let mut one = pending("0002", &[]);
        let (id, database) = (one.id.clone(), one.database.clone());
        let (locks, statements) = (Vec::new(), Vec::new());
        one.on_copy = Some(MigrationOnCopy { id, database, duration_ms: 120, rows: true, locks, statements });
        let change = change(migrations(vec![one.clone(), pending("0003", &[])], None));
        let seen = "shop.0002: Add field price to item (0.12 s on a copy)";
        assert_eq!(change.details, [seen, "shop.0003: Add field price to item"]);
        assert_eq!(change.migrations, Vec::from_iter(one.on_copy));
    }

    #[test]
    fn what_cannot_be_reversed_is_said_unless_there_is_a_copy() {
        let without_reverse = || vec![pending("0002", &["RunPython without `reverse_code`"])];
        let without = change(migrations(without_reverse(), None));
        assert_eq!(without.irreversible.unwrap(), "`shop.0002`: RunPython without `reverse_code`");
        assert_eq!(change(migrations(without_reverse(), Some("/b".into()))).irreversible, None);
    }

    #[test]
    fn a_command_runs_and_cannot_be_taken_back() {
        let manage = |args: &[&str]| DjangoManage {
            project: project(),
            task: Task::Command(args.iter().map(|arg| (*arg).to_owned()).collect()),
        };
        let change = change(manage(&["compress", "-f"]).check(&Host::new()).unwrap());
        assert_eq!(change.reason, "runs `manage.py compress -f`");
        assert_eq!(change.irreversible.as_deref(), Some("its effect is unknown"));
        assert!(change.undo.is_empty());
        assert!(matches!(manage(&[]).check(&Host::new()), Err(DjangoManageError::NoCommand)));
    }

    #[test]
    fn errors_of_the_system_checks_are_listed() {
        let message = CheckMessage {
            level: Level::Error,
            id: Some("models.E004".into()),
            message: "no pk".into(),
            hint: None,
            object: Some("shop.Item".into()),
        };
        assert_eq!(
            DjangoManageError::Problems { messages: vec![message] }.to_string(),
            "the system checks found 1 error: shop.Item: (models.E004) no pk"
        );
    }
}
