//! Where a Django project is and what runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
        Project { python, directory, settings, database_deadline: DATABASE_DEADLINE }
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
