//! Copies of the database: made before the migrations, restored where these cannot be reversed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::migrations::with_session;
use super::project::DEFAULT;
use super::{Context, DatabaseState, DjangoError, Project, Session};
use crate::command::Command;
use crate::host::Host;
use crate::host::files::{self, FileError, Found, InPath};

/// The variable that names the copy to a site's own commands.
pub const BACKUP_VARIABLE: &str = "DEPLOYKIT_BACKUP";

/// What the mark of a copy that was restored is called, behind the copy's name.
const RESTORED: &str = ".restored";

/// The variable that names the database to a site's own commands, by its alias.
pub const DATABASE_VARIABLE: &str = "DEPLOYKIT_DATABASE";

/// What the name of a copy ends with until it is whole.
const HALF: &str = ".part";

/// What a copy of the database has to reckon with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Django's word for the engine: `sqlite`, `postgresql`, `mysql`.
    pub vendor: String,
    /// The size of the database, as the database itself says.
    pub size_bytes: u64,
}

/// The record of a copy: `backup.json` or `backup.ALIAS.json` beside the copy. The record stays when the copy is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// What was copied.
    #[serde(flatten)]
    pub facts: BackupFacts,
    /// The size of the copy.
    pub file_bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl BackupRecord {
    /// Reads the record of a database in a run's directory, if there is one.
    #[must_use]
    pub fn read(directory: &Path, alias: &str) -> Option<BackupRecord> {
        let text = std::fs::read_to_string(directory.join(backup_file(alias, "json"))).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// Names a file of a database's copy; an own command's has no ending.
pub(crate) fn backup_file(alias: &str, ending: &str) -> String {
    match (alias, ending) {
        (DEFAULT, "") => "backup".to_owned(),
        (DEFAULT, ending) => format!("backup.{ending}"),
        (alias, "") => format!("backup.{alias}.copy"),
        (alias, ending) => format!("backup.{alias}.{ending}"),
    }
}

/// Copies the database into a file, once: a copy that is there is kept, since it was made before the migrations began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupDatabase {
    /// The project whose settings name the database.
    pub project: Project,
    /// The file; its directory exists.
    pub path: PathBuf,
    /// The alias of the database.
    #[serde(default = "default_alias")]
    pub database: String,
    /// What is copied, as far as it is known.
    #[serde(default)]
    pub facts: Option<BackupFacts>,
    /// The site's own command, which writes the file that [`BACKUP_VARIABLE`] names.
    #[serde(default)]
    pub command: Option<Command>,
}

fn default_alias() -> String {
    DEFAULT.to_owned()
}

impl BackupDatabase {
    /// Makes one that copies the default database with its own programs.
    #[must_use]
    pub fn new(project: Project, path: PathBuf) -> Self {
        BackupDatabase { project, path, database: default_alias(), facts: None, command: None }
    }

    /// Makes the copy.
    ///
    /// # Errors
    ///
    /// See [`Session::backup`]; of a command, when it fails or writes nothing.
    pub fn perform(&self, context: &mut Context) -> Result<(), DjangoError> {
        let copied = self.copy(context);
        self.project.databases.named(&self.database, copied)
    }

    fn copy(&self, context: &mut Context) -> Result<(), DjangoError> {
        if files::look(&self.path) != Found::Nothing {
            return Ok(());
        }
        let started = Instant::now();
        match &self.command {
            Some(command) => self.by_command(command, &context.host)?,
            None => {
                let copied = with_session(context, &self.project, |session, host| {
                    session.on(&self.database).backup(host, &self.path)
                });
                if copied.is_err() {
                    // One that was killed leaves half of it.
                    files::remove_tree(&beside(&self.path, HALF))?;
                }
                copied?;
            }
        }
        let Some(facts) = self.facts.clone() else { return Ok(()) };
        let file_bytes = std::fs::metadata(&self.path).at("look at", &self.path)?.len();
        let duration_ms = crate::millis::of(started.elapsed());
        let text =
            serde_json::to_string(&BackupRecord { facts, file_bytes, duration_ms }).unwrap_or_default();
        let record = self.path.with_file_name(backup_file(&self.database, "json"));
        Ok(files::write_whole(&record, text.as_bytes(), 0o600)?)
    }

    fn by_command(&self, command: &Command, host: &Host) -> Result<(), DjangoError> {
        let part = beside(&self.path, HALF);
        files::remove_tree(&part)?;
        let command = command.clone().env(BACKUP_VARIABLE, &part).env(DATABASE_VARIABLE, &self.database);
        if let Err(error) = host.run_unread(&command) {
            files::remove_tree(&part)?;
            return Err(error.into());
        }
        let mode = match files::look(&part) {
            Found::Nothing => return Err(DjangoError::NoBackup { path: part }),
            Found::Directory => 0o700,
            _ => 0o600,
        };
        std::fs::set_permissions(&part, Permissions::from_mode(mode)).at("make private", &part)?;
        Ok(files::rename(&part, &self.path)?)
    }
}

/// How a copy is restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutBack {
    /// By the programs of the database.
    #[default]
    Itself,
    /// By the site's own command, which reads the file that [`BACKUP_VARIABLE`] names.
    Command(Command),
    /// By a person: the site's own command made it, and no command restores it.
    ByHand,
}

/// Restores the database to its previous state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreDatabase {
    /// The project that has the migrations which were applied: the new code.
    pub project: Project,
    /// The previous state.
    pub before: DatabaseState,
    /// A copy that was made just before the migrations; without one, they are reversed.
    pub backup: Option<PathBuf>,
    /// How the copy is restored.
    #[serde(default)]
    pub put_back: PutBack,
    /// The migrations are reversed although there is a copy, which is restored only if that fails. What was written since
    /// the copy then stays.
    #[serde(default)]
    pub reverse_first: bool,
    /// Nothing but the copy undoes what was done: a command of the site's own did it. Without one, the database must be as it was.
    #[serde(default)]
    pub only_copy: bool,
}

impl RestoreDatabase {
    /// Makes one that restores this copy with the programs of the database, or reverses the migrations where there is no copy.
    #[must_use]
    pub fn new(project: Project, before: DatabaseState, backup: Option<PathBuf>) -> Self {
        let (put_back, reverse_first, only_copy) = (PutBack::Itself, false, false);
        RestoreDatabase { project, before, backup, put_back, reverse_first, only_copy }
    }

    /// Restores it, unless it is as it was.
    ///
    /// A copy is restored even where schema and migrations are unchanged, since a migration that failed may have changed
    /// rows (unless they are [reversed first](Self::reverse_first)); but only once, so that a second undo does not
    /// overwrite what the site has written meanwhile.
    ///
    /// # Errors
    ///
    /// See [`Session::restore`] and [`Session::restore_backup`]; [`DjangoError::NotRestored`] where there is a copy.
    pub fn perform(&self, context: &mut Context) -> Result<(), DjangoError> {
        let restored = with_session(context, &self.project, |session, host| {
            let settled = session.on(&self.before.database).settle(host);
            match &self.backup {
                Some(backup) if files::look(backup) != Found::Nothing => {
                    let result = settled.and_then(|()| self.put_back(backup, session, host));
                    result.map_err(|source| {
                        let (backup, source) = (backup.clone(), Box::new(source));
                        DjangoError::NotRestored { backup, source }
                    })
                }
                // The copy comes before the first migration: without it, none was begun.
                _ => settled.and_then(|()| self.reverse(session, host)),
            }
        });
        self.project.databases.named(&self.before.database, restored)
    }

    /// Forgets that the copy was restored: what follows may change the database again before it is undone.
    ///
    /// # Errors
    ///
    /// When the mark cannot be removed.
    pub(crate) fn forget(&self) -> Result<(), FileError> {
        self.backup.as_deref().map_or(Ok(()), |backup| files::remove_file(&beside(backup, RESTORED)))
    }

    fn reverse(&self, session: &mut Session, host: &Host) -> Result<(), DjangoError> {
        if self.only_copy { session.compare(host, &self.before) } else { session.restore(host, &self.before) }
    }

    fn put_back(&self, backup: &Path, session: &mut Session, host: &Host) -> Result<(), DjangoError> {
        let mark = beside(backup, RESTORED);
        if self.reverse_first && files::look(&mark) == Found::Nothing {
            match session.restore(host, &self.before) {
                Ok(()) => return Ok(()),
                Err(error) => host.note(&format!("the copy is restored: {}", crate::error_chain(&error))),
            }
        }
        if files::look(&mark) != Found::Nothing
            && session.on(&self.before.database).state(host)? == self.before
        {
            return Ok(());
        }
        match &self.put_back {
            PutBack::Itself => session.restore_backup(host, &self.before, backup)?,
            PutBack::Command(command) => {
                let command = command.clone().env(DATABASE_VARIABLE, &self.before.database);
                host.run_unread(&command.env(BACKUP_VARIABLE, backup))?;
                session.compare(host, &self.before)?;
            }
            PutBack::ByHand => return self.reverse(session, host),
        }
        Ok(files::write_whole(&mark, b"", 0o600)?)
    }
}

/// Removes what a copy that was killed has left in a run's directory.
pub(crate) fn remove_half_copy(directory: &Path) -> Result<(), FileError> {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("backup") && name.ends_with(HALF) {
            files::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Returns a neighbour of a copy, whose name it begins with.
fn beside(backup: &Path, end: &str) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(end);
    name.into()
}
