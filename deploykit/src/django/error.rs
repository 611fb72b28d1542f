//! What can be wrong with a Django site.

mod parts;

use std::path::PathBuf;

use thiserror::Error;

use super::MigrationId;
use super::reasons::{grouped, reasons};
use crate::host::CommandError;
use crate::host::files::FileError;
pub use parts::{Conflict, Irreversible, Part, Raised};

/// Why Django did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DjangoError {
    /// The project's directory has no `manage.py`.
    #[error("there is no `{}`", path.display())]
    NoManage {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// `manage.py` ended without calling Django.
    #[error("`{}` does not call `execute_from_command_line`", path.display())]
    NotCalled {
        /// The file.
        path: PathBuf,
    },
    /// The namespaces of a [`Sandbox`](super::Sandbox) cannot be made.
    #[error("a process cannot be separated from the live site: {reason}")]
    NoSandbox {
        /// Why, and what would allow it: "the kernel does not let ordinary users create namespaces (…)".
        reason: String,
    },
    /// In a [`Sandbox`](super::Sandbox), an alias connects to another database than its copy.
    #[error("alias `{database}` does not connect to the copy of its database: {reason}")]
    NotTheCopy {
        /// The alias.
        database: String,
        /// What shows that: "its file is `/srv/other.sqlite3` and was `/srv/db.sqlite3`".
        reason: String,
    },
    /// The site's Python could not be started.
    #[error("cannot start the site's Python")]
    Start {
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The site's Python ended, was ended, or did not answer in time.
    #[error("the site's Python did not finish: {during}")]
    Ended {
        /// What it was doing.
        during: &'static str,
        /// How it ended.
        #[source]
        source: CommandError,
    },
    /// The site's Python ended without an answer and without an error.
    #[error("the site's Python ended without an answer: {during}")]
    Silent {
        /// What it was doing.
        during: &'static str,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// An answer that is not one.
    #[error("the answer of the site's Python cannot be understood: {during}: `{line}`")]
    Garbled {
        /// What it was doing.
        during: &'static str,
        /// What came, shortened.
        line: String,
    },
    /// There is no such settings module.
    #[error("there is no settings module `{module}`")]
    NoSettings {
        /// Its name; empty when none is named at all.
        module: String,
        /// What Python says.
        #[source]
        raised: Box<Raised>,
    },
    /// A part of the site raises an exception when it is loaded.
    #[error("cannot load {part}")]
    Broken {
        /// The part.
        part: Part,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// A database cannot be read.
    #[error("cannot read the database `{database}`")]
    Database {
        /// Its alias in `DATABASES`.
        database: String,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// A database accepts no connections any more; what waited for it was ended.
    #[error("the database `{database}` does not answer: {during}")]
    Mute {
        /// Its alias in `DATABASES`.
        database: String,
        /// What was being done.
        during: &'static str,
    },
    /// What a killed process left running in a database does not end.
    #[error(
        "an interrupted schema change is still running in the database `{database}`: session {}",
        sessions.join(", ")
    )]
    Busy {
        /// Its alias in `DATABASES`.
        database: String,
        /// The server's numbers of its sessions.
        sessions: Vec<String>,
    },
    /// The recorded migrations contradict the code: one is applied before another one that it needs.
    #[error("the history of migrations is inconsistent: {}", raised.message)]
    Inconsistent {
        /// The exception.
        raised: Box<Raised>,
    },
    /// Migrations create what is there already: `migrate` would fail.
    #[error("the database already has what the migrations create: {}", things.join(", "))]
    Existing {
        /// Each with its migration: "`shop.0001_initial` creates the table `shop_item`".
        things: Vec<String>,
    },
    /// Apps with more than one last migration.
    #[error("conflicting migrations: {}", conflicts(apps))]
    Conflicts {
        /// The apps.
        apps: Vec<Conflict>,
    },
    /// The database is not in the state that was planned from.
    #[error(
        "the migrations of the database are not those that were planned with: {}",
        moved(unexpected, missing)
    )]
    StateMoved {
        /// Applied (or waiting) and not expected so.
        unexpected: Vec<MigrationId>,
        /// Expected and not there.
        missing: Vec<MigrationId>,
    },
    /// The leader did not apply or undo the migrations in time.
    #[error(
        "the leader has not {} the migrations within {limit}: {}",
        if *undone { "undone" } else { "applied" },
        differences.join("; ")
    )]
    NotFollowed {
        /// How long it was waited for.
        limit: String,
        /// Whether they were to be undone.
        undone: bool,
        /// How the database differs from what it must be.
        differences: Vec<String>,
    },
    /// A migration failed. Earlier ones of the same run stay applied until the database is restored.
    #[error("{} failed", migration.as_ref().map_or_else(|| "`migrate`".to_owned(), |id| format!("migration `{id}`")))]
    MigrationFailed {
        /// Which; `None` when it happened before, between or after them.
        migration: Option<MigrationId>,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// The project has no such command.
    #[error("`manage.py` has no command `{command}`")]
    NoCommand {
        /// The command.
        command: String,
    },
    /// The site's own command that migrates failed.
    #[error("`manage.py {command}` failed")]
    MigrateCommand {
        /// The command.
        command: String,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// A migration could not be reversed.
    #[error("reversing {} failed", migration.as_ref().map_or_else(|| "the migrations".to_owned(), |id| format!("`{id}`")))]
    ReversalFailed {
        /// Which, if known.
        migration: Option<MigrationId>,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// Migrations were applied that cannot be reversed without losing something.
    #[error("the migrations cannot be reversed: {}", irreversible(migrations))]
    Irreversible {
        /// Which, and why.
        migrations: Vec<Irreversible>,
    },
    /// The migrations are reversed, and yet the schema is not what it was.
    #[error("the schema of the database is not what it was: {}", lines.join("; "))]
    SchemaDiffers {
        /// `+` for what is there and was not, `-` for what was there and is not.
        lines: Vec<String>,
    },
    /// Not possible with this kind of database.
    #[error("{what} is not possible with a database of the kind `{engine}`")]
    Unsupported {
        /// `backup` or `restore`.
        what: String,
        /// Django's word for it: `postgresql`.
        engine: String,
    },
    /// The copy of a database failed.
    #[error("cannot copy the database")]
    Backup {
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// A program of the database failed.
    #[error("`{program}` exited with code {code}{}", complaint(tail))]
    Tool {
        /// `pg_dump`, `mariadb`, ….
        program: String,
        /// Its exit code; negative: the signal that ended it.
        code: i32,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// A program that copies the database, or restores the copy, is missing.
    #[error("`{program}` is not installed, and the database cannot be copied and restored without it")]
    ToolMissing {
        /// Its name.
        program: String,
    },
    /// A program that copies the database is older than the server.
    #[error("`{program}` {version} cannot copy a database of {server}")]
    ToolTooOld {
        /// Its name.
        program: String,
        /// Its version.
        version: String,
        /// The server and its version.
        server: String,
    },
    /// A program that copies the database belongs to another kind of server.
    #[error("`{program}` belongs to {maker}, but the database server is {server}")]
    ToolForeign {
        /// Its name.
        program: String,
        /// Whose program it is: `MariaDB` or `MySQL`.
        maker: String,
        /// Whose server it is.
        server: String,
    },
    /// The site's database user may not replace all that is in the database, so that a copy could not be restored.
    #[error("the site's database user does not own {}, so a copy could not be restored", some(names))]
    NotOwned {
        /// Tables, views and sequences.
        names: Vec<String>,
    },
    /// The site's database user may not recreate what is in the database, so that a copy could not be restored.
    #[error("the site's database user lacks {}, so a copy could not be restored", rights.join(", "))]
    RightsMissing {
        /// As `GRANT` names them: `DROP`.
        rights: Vec<String>,
    },
    /// The site's own command succeeded, and there is no copy.
    #[error("the backup command wrote nothing to `{}`", path.display())]
    NoBackup {
        /// Where the copy was to be.
        path: PathBuf,
    },
    /// The database could not be brought back although there is a copy.
    #[error("the database is not what it was; its copy from before the migrations is `{}`", backup.display())]
    NotRestored {
        /// The copy.
        backup: PathBuf,
        /// Why.
        #[source]
        source: Box<DjangoError>,
    },
    /// What failed concerns one of several databases.
    #[error("database `{database}`")]
    InDatabase {
        /// Its alias in `DATABASES`.
        database: String,
        /// What failed.
        #[source]
        source: Box<DjangoError>,
    },
    /// `django.contrib.staticfiles` is not installed.
    #[error("`django.contrib.staticfiles` is not among the installed apps")]
    NoStaticFiles,
    /// The storage of the static files does not follow `STATIC_ROOT`.
    #[error("the static files' storage `{storage}` cannot collect into another directory")]
    NotRelocatable {
        /// Its class.
        storage: String,
        /// Where it would have written, if it is on this machine.
        location: Option<PathBuf>,
    },
    /// `collectstatic` failed.
    #[error("cannot collect the static files")]
    Collect {
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// The directory of the static files cannot be replaced as a whole.
    #[error("cannot prepare static files beside `{}`", root.display())]
    NoRoomBeside {
        /// `STATIC_ROOT`.
        root: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Any other exception.
    #[error("the site's Python failed: {during}")]
    Raised {
        /// What it was doing.
        during: &'static str,
        /// The exception.
        #[source]
        raised: Box<Raised>,
    },
    /// A file or directory could not be read or changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A management command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A maintenance command said that it succeeded, and it did not.
    #[error("`{command}` did not turn maintenance {}: {why}", if *on { "on" } else { "off" })]
    NotAnnounced {
        /// The command's arguments.
        command: String,
        /// What was wanted.
        on: bool,
        /// What is there instead, as a fragment.
        why: String,
        /// The command's last lines.
        tail: Vec<String>,
    },
}

impl DjangoError {
    /// Returns the site's exception, if there was one.
    #[must_use]
    pub fn raised(&self) -> Option<&Raised> {
        match self {
            DjangoError::NoSettings { raised, .. }
            | DjangoError::Broken { raised, .. }
            | DjangoError::Database { raised, .. }
            | DjangoError::Inconsistent { raised }
            | DjangoError::MigrationFailed { raised, .. }
            | DjangoError::MigrateCommand { raised, .. }
            | DjangoError::ReversalFailed { raised, .. }
            | DjangoError::Backup { raised }
            | DjangoError::Collect { raised }
            | DjangoError::Raised { raised, .. } => Some(raised),
            DjangoError::InDatabase { source, .. } => source.raised(),
            _ => None,
        }
    }

    /// Returns the last lines that explain it: a traceback, or what the program said. Oldest first.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            DjangoError::Start { source }
            | DjangoError::Ended { source, .. }
            | DjangoError::Command(source) => source.tail(),
            DjangoError::Silent { tail, .. }
            | DjangoError::NotAnnounced { tail, .. }
            | DjangoError::Tool { tail, .. } => tail,
            DjangoError::NotRestored { source, .. } | DjangoError::InDatabase { source, .. } => source.tail(),
            _ => self.raised().map_or(&[], |raised| &raised.traceback),
        }
    }

    /// Tells whether a request to stop was the reason.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            DjangoError::Ended { source: CommandError::Cancelled { .. }, .. }
                | DjangoError::Command(CommandError::Cancelled { .. })
        )
    }
}

/// Returns the first line that is about an error, or else the last one.
fn complaint(tail: &[String]) -> String {
    let first = tail.iter().find(|line| line.to_ascii_lowercase().contains("error"));
    first.or(tail.last()).map(|line| format!(": {line}")).unwrap_or_default()
}

/// Names a few of many.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

fn conflicts(apps: &[Conflict]) -> String {
    let one = |conflict: &Conflict| format!("{} in `{}`", conflict.names.join(" and "), conflict.app);
    apps.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn moved(unexpected: &[MigrationId], missing: &[MigrationId]) -> String {
    let unexpected = unexpected.iter().map(|id| format!("`{id}` was not expected"));
    unexpected.chain(missing.iter().map(|id| format!("`{id}` is missing"))).collect::<Vec<_>>().join(", ")
}

fn irreversible(migrations: &[Irreversible]) -> String {
    let all = migrations.iter().flat_map(|found| reasons(&found.migration, &found.reasons));
    grouped(&all.collect::<Vec<_>>()).join("; ")
}
