//! Where a Django project is and what runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DjangoError;
use crate::command::Command;

/// A Django project with the Python that runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The virtualenv's own Python: `/srv/venv/bin/python`. Links are not followed: a virtualenv is found by this path.
    pub python: PathBuf,
    /// The directory of `manage.py`.
    pub directory: PathBuf,
    /// `DJANGO_SETTINGS_MODULE`; empty: what the site's environment or its `manage.py` says.
    pub settings: String,
    /// How long its database may take to let somebody in, to give a lock, and to show that it lives.
    #[serde(default = "patience")]
    pub database_deadline: Duration,
    /// The databases that are migrated.
    #[serde(default, skip_serializing_if = "Databases::is_usual")]
    pub databases: Databases,
}

/// The alias that Django uses where nothing else is said.
pub(crate) const DEFAULT: &str = "default";

/// The databases of a project that are migrated, copied and restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    /// Their aliases in `DATABASES`, in the order in which they are migrated.
    pub migrate: Vec<String>,
    /// Aliases with the alias through which each is migrated and copied in its place: past a connection pooler.
    #[serde(default)]
    pub direct: BTreeMap<String, String>,
    /// The command of `manage.py` that migrates in place of `migrate`, with its arguments.
    #[serde(default)]
    pub command: Option<Vec<String>>,
}

impl Default for Databases {
    fn default() -> Self {
        Databases { migrate: vec![DEFAULT.to_owned()], direct: BTreeMap::new(), command: None }
    }
}

impl Databases {
    fn is_usual(&self) -> bool {
        *self == Databases::default()
    }

    /// Tells whether messages have to say which database they are about.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.migrate.len() > 1
    }

    /// Names the database in an error, where there are several.
    pub(crate) fn named<T>(&self, alias: &str, result: Result<T, DjangoError>) -> Result<T, DjangoError> {
        let named = |source| DjangoError::InDatabase { database: alias.to_owned(), source: Box::new(source) };
        if self.are_several() { result.map_err(named) } else { result }
    }
}

/// How long a database may take where nothing else is said.
pub(crate) const DATABASE_DEADLINE: Duration = Duration::from_secs(60);

fn patience() -> Duration {
    DATABASE_DEADLINE
}

impl Project {
    /// Makes a project whose database has a minute for each of these.
    #[must_use]
    pub fn new(
        python: impl Into<PathBuf>,
        directory: impl Into<PathBuf>,
        settings: impl Into<String>,
    ) -> Self {
        let (python, directory, settings) = (python.into(), directory.into(), settings.into());
        let databases = Databases::default();
        Project { python, directory, settings, database_deadline: DATABASE_DEADLINE, databases }
    }

    /// Makes a command for `manage.py`, in the site's environment and as in an activated virtualenv.
    ///
    /// Its `PATH` is the virtualenv's programs and then this process's own `PATH`.
    pub fn manage<I: IntoIterator<Item = S>, S: AsRef<Path>>(&self, args: I) -> Command {
        self.python().arg("manage.py").args(args)
    }

    /// Makes a command that starts the site's Python.
    pub(super) fn python(&self) -> Command {
        let mut command = Command::new(&self.python).directory(&self.directory).with_site_variables();
        if !self.settings.is_empty() {
            command = command.env("DJANGO_SETTINGS_MODULE", &self.settings);
        }
        self.activate(command, std::env::var_os("PATH"))
    }

    /// Lets a command run as in the activated virtualenv; `path` is where else its programs are found.
    ///
    /// This is what `bin/activate` does; it drops PYTHONHOME because that would lead to another library.
    pub(crate) fn activate(&self, command: Command, path: Option<OsString>) -> Command {
        let mut command = command.env_remove("PYTHONHOME");
        if let Some(programs) = self.python.parent() {
            command = command.env("PATH", path_with(programs, path));
            if let Some(directory) =
                programs.parent().filter(|directory| directory.join("pyvenv.cfg").exists())
            {
                command = command.env("VIRTUAL_ENV", directory);
            }
        }
        command
    }

    /// Returns the path of `manage.py`.
    #[must_use]
    pub fn manage_py(&self) -> PathBuf {
        self.directory.join("manage.py")
    }
}

pub(super) fn path_with(first: &Path, rest: Option<OsString>) -> OsString {
    let mut path = first.as_os_str().to_owned();
    if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_as_in_an_activated_virtualenv() {
        let project = Project::new("/srv/venv/bin/python", "/srv/site", "config.settings");
        let command = project.manage(["migrate", "--plan"]);
        assert_eq!(command.arguments(), ["manage.py", "migrate", "--plan"]);
        let line = command.to_string();
        assert!(line.starts_with("cd /srv/site && DJANGO_SETTINGS_MODULE=config.settings "), "{line}");
        let path = command.variables()["PATH"].as_deref().unwrap_or_default();
        assert!(path.starts_with("/srv/venv/bin:"), "{path}");
    }

    #[test]
    fn no_settings_means_what_manage_py_says() {
        let project = Project::new("/p/bin/python", "/s", "");
        assert!(!project.manage(["check"]).to_string().contains("DJANGO_SETTINGS_MODULE"));
    }

    #[test]
    fn an_empty_path_stays_without_the_current_directory() {
        assert_eq!(path_with(Path::new("/v/bin"), Some(OsString::new())), "/v/bin");
    }
}
