//! `manage.py`: checks, migrations, static files, or any command.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Change, Check, Operation};
use crate::action::Action;
use crate::django::{
    CheckMessage, Collected, DatabaseState, DjangoError, LateFiles, Migrate, MigrationPlan, Project,
    RestoreDatabase, Session, StaticFiles, When,
};
use crate::git::GitError;
use crate::host::Host;

/// How many names of files a check shows.
const SHOWN: usize = 20;

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
    #[error("the system checks found {}: {}", count(messages.len(), "error"), list(messages))]
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

impl Operation for DjangoManage {
    type Error = DjangoManageError;

    fn name(&self) -> &'static str {
        "django-manage"
    }

    fn check(&self, host: &Host) -> Result<Check, DjangoManageError> {
        if let Task::Command(args) = &self.task {
            return self.command(args);
        }
        let mut session = Session::boot(host, &self.project)?;
        let check = self.check_with(host, &mut session);
        session.close(host);
        check
    }
}

impl DjangoManage {
    /// Says what would change, asking a Django that is booted already.
    ///
    /// Static files are collected beside the live ones, into a hidden folder that the site does not see.
    ///
    /// # Errors
    ///
    /// See [`DjangoManageError`].
    pub fn check_with(&self, host: &Host, session: &mut Session) -> Result<Check, DjangoManageError> {
        match &self.task {
            Task::Command(args) => self.command(args),
            Task::Check => {
                let errors: Vec<CheckMessage> = session.check(host, None)?.errors().cloned().collect();
                match errors.is_empty() {
                    true => Ok(Check::Unchanged { reason: "the system checks found no error".into() }),
                    false => Err(DjangoManageError::Problems { messages: errors }),
                }
            }
            Task::Migrate => {
                let plan = session.migrations(host)?;
                Ok(decide_migrate(&self.project, &plan, session.state(host)?, None))
            }
            Task::CollectStatic { clear } => {
                let root = session.facts(host)?.static_files.root.ok_or(DjangoManageError::NoStaticRoot)?;
                let root = self.project.directory.join(root);
                let tracked = tracked_around(&root)?;
                let files = StaticFiles {
                    root,
                    collect: When::Auto,
                    clear: *clear,
                    record: None,
                    deleted: Vec::new(),
                    tracked,
                    copied: false,
                };
                Ok(decide_static(&files.prepare(host, session)?))
            }
        }
    }

    fn command(&self, args: &[String]) -> Result<Check, DjangoManageError> {
        let Some(name) = args.first() else { return Err(DjangoManageError::NoCommand) };
        let command = self.project.manage(args);
        Ok(Check::Change(Change {
            reason: format!("runs `manage.py {}`", args.join(" ")),
            after: format!("`{name}` has run"),
            details: vec![format!("manage.py {}", args.join(" "))],
            actions: vec![Action::Run { command }],
            irreversible: Some("its effect is unknown".into()),
            ..Change::default()
        }))
    }
}

/// Decides about migrations; `backup` is a copy that is made before and restored in the place of a reversal.
#[must_use]
pub fn decide_migrate(
    project: &Project,
    plan: &MigrationPlan,
    before: DatabaseState,
    backup: Option<PathBuf>,
) -> Check {
    if !plan.is_due() {
        return Check::Unchanged { reason: "no migrations wait".into() };
    }
    let mut actions = Vec::new();
    if let Some(path) = &backup {
        actions.push(Action::BackupDatabase(crate::django::BackupDatabase {
            project: project.clone(),
            path: path.clone(),
            facts: None,
            command: None,
        }));
    }
    actions.push(Action::Migrate(Migrate {
        project: project.clone(),
        before: before.clone(),
        plan: plan.ids(),
    }));
    let mut details = Vec::new();
    for migration in &plan.pending {
        let risk = if migration.is_risky() { " (half of it may stay if it fails)" } else { "" };
        details.push(format!("{}{risk}", migration.id));
        details.extend(migration.operations.iter().map(|operation| format!("    {operation}")));
    }
    details.extend(plan.unrecorded.iter().map(|id| format!("{id}: only recorded")));
    Check::Change(Change {
        reason: match plan.pending.len() {
            0 => format!("{} to record", count(plan.unrecorded.len(), "squashed migration")),
            1 => "1 migration waits".into(),
            count => format!("{count} migrations wait"),
        },
        before: format!("{} applied", count(plan.applied.len(), "migration")),
        after: format!("{} applied", count(plan.applied.len() + plan.pending.len(), "migration")),
        details,
        irreversible: if backup.is_some() { None } else { plan.irreversible() },
        undo: vec![Action::RestoreDatabase(RestoreDatabase::new(project.clone(), before, backup))],
        actions,
    })
}

/// Decides about static files that were collected beside the live ones.
#[must_use]
pub fn decide_static(collected: &Collected) -> Check {
    let Some((actions, undo)) = static_actions(collected) else {
        return Check::Unchanged { reason: "the static files are up to date".into() };
    };
    let mut parts = Vec::new();
    let mut details = Vec::new();
    for (names, word, mark) in [
        (&collected.added, "new", '+'),
        (&collected.changed, "changed", '~'),
        (&collected.removed, "obsolete", '-'),
    ] {
        if !names.is_empty() {
            parts.push(format!("{} {word}", names.len()));
        }
        details.extend(names.iter().take(SHOWN).map(|name| format!("{mark} {name}")));
        if names.len() > SHOWN {
            details.push(format!("{mark} … and {} more", names.len() - SHOWN));
        }
    }
    Check::Change(Change {
        reason: format!("static files: {}", parts.join(", ")),
        before: "static files of before".into(),
        after: "a fresh set of static files".into(),
        details,
        actions,
        undo,
        irreversible: None,
    })
}

/// Returns the names below a directory that git tracks now, where it lies in a checkout.
fn tracked_around(directory: &Path) -> Result<BTreeSet<String>, GitError> {
    let place = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let Some(top) = place.ancestors().find(|path| path.join(".git").exists()) else {
        return Ok(BTreeSet::new());
    };
    let head = crate::git::head(top)?;
    crate::git::tracked_below(top, directory, &[&head.commit])
}

/// Returns what brings collected static files live, and what takes them back; `None`: nothing changes.
pub(crate) fn static_actions(collected: &Collected) -> Option<(Vec<Action>, Vec<Action>)> {
    if let (Some(placed), Some(back)) = (&collected.placed, &collected.placed_back) {
        return Some((vec![Action::PlaceFiles(placed.clone())], vec![Action::PlaceFiles(back.clone())]));
    }
    let (swap, back) = (collected.swap.clone()?, collected.back.clone()?);
    let with = |late: Option<LateFiles>, swap| {
        late.map(Action::LinkLateFiles).into_iter().chain([Action::Swap(swap)]).collect()
    };
    Some((with(collected.late_files(), swap), with(collected.late_back(), back)))
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn list(messages: &[CheckMessage]) -> String {
    messages.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::{Folders, Level, MigrationId, Others, PendingMigration, StaticRecord};
    use crate::host::files::Swap;

    fn project() -> Project {
        Project::new("/v/bin/python", "/s", "s")
    }

    fn state() -> DatabaseState {
        DatabaseState {
            database: "default".into(),
            applied: Vec::new(),
            schema: Vec::new(),
            digest: "d".into(),
        }
    }

    fn pending(name: &str, irreversible: &[&str]) -> PendingMigration {
        PendingMigration {
            transactional: irreversible.is_empty(),
            irreversible: irreversible.iter().map(|why| (*why).to_owned()).collect(),
            operations: vec!["Add field price to item".into()],
            ..PendingMigration::new(MigrationId { app: "shop".into(), name: name.into() }, "default")
        }
    }

    fn plan(pending: Vec<PendingMigration>) -> MigrationPlan {
        MigrationPlan { pending, ..MigrationPlan::default() }
    }

    fn change(check: Check) -> Change {
        let Check::Change(change) = check else { panic!("{check:?}") };
        change
    }

    #[test]
    fn without_migrations_nothing_is_done() {
        let check = decide_migrate(&project(), &plan(vec![]), state(), None);
        assert_eq!(check, Check::Unchanged { reason: "no migrations wait".into() });
    }

    #[test]
    fn migrations_are_applied_and_reversed() {
        let change = change(decide_migrate(&project(), &plan(vec![pending("0002", &[])]), state(), None));
        assert_eq!(change.reason, "1 migration waits");
        assert_eq!(change.details, ["shop.0002", "    Add field price to item"]);
        assert_eq!((change.actions.len(), change.undo.len()), (1, 1));
        assert_eq!(change.irreversible, None);
    }

    #[test]
    fn what_cannot_be_reversed_is_said_unless_there_is_a_backup() {
        let plan = plan(vec![pending("0002", &["RunPython without `reverse_code`"])]);
        let without = change(decide_migrate(&project(), &plan, state(), None));
        assert_eq!(without.irreversible.unwrap(), "`shop.0002`: RunPython without `reverse_code`");
        assert_eq!(without.details[0], "shop.0002 (half of it may stay if it fails)");
        let with = change(decide_migrate(&project(), &plan, state(), Some("/b".into())));
        assert_eq!(with.irreversible, None);
        assert!(matches!(with.actions[0], Action::BackupDatabase(_)));
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
    fn static_files_are_swapped_only_when_something_changes() {
        let swap = Swap { live: "/r".into(), aside: "/.r".into(), wanted: Some(1) };
        let mut collected = Collected {
            swap: Some(swap.clone()),
            back: Some(swap),
            added: (0..30).map(|n| format!("{n:02}.css")).collect(),
            changed: Vec::new(),
            removed: vec!["old.css".into()],
            unchanged: false,
            record: StaticRecord::default(),
            folders: Folders::default(),
            others: Others::default(),
            placed: None,
            placed_back: None,
            copied: false,
            shares: false,
        };
        let found = change(decide_static(&collected));
        assert_eq!(found.reason, "static files: 30 new, 1 obsolete");
        assert_eq!(found.details[20..], ["+ … and 10 more", "- old.css"]);
        collected.swap = None;
        assert!(matches!(decide_static(&collected), Check::Unchanged { .. }));
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
