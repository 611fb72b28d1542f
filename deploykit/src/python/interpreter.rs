//! Which Python a virtualenv is made with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::PythonError;
use super::installer::{Budget, isolated, variable};
use super::lock::allows;
use super::virtualenv::names_in;
use crate::command::Command;
use crate::host::{CommandError, Host};

/// A Python as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its program, outside of any virtualenv.
    pub(crate) program: PathBuf,
    /// As the directories of virtualenvs are named: `3.11`, `pypy3.10`.
    pub(crate) name: String,
    /// With the patch level: `3.11.7`.
    pub(crate) version: String,
}

/// How long a program may take to say which Python it is. The shims of version managers may refuse to run, or wait.
const PATIENCE: Duration = Duration::from_secs(20);

const PROGRAM: &str = r#"
import os, platform, sys
kind = sys.implementation.name
print("" if kind == "cpython" else kind, end="")
print("%d.%d" % sys.version_info[:2], end="")
print("t" if "t" in getattr(sys, "abiflags", "") else "")
print(platform.python_version())
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
"#;

impl Interpreter {
    /// Asks a Python; `pyvenv.cfg` may say something that was true once.
    pub(crate) fn ask(host: &Host, program: &Path, deadline: Duration) -> Result<Self, PythonError> {
        let command = isolated(Command::new(program).args(["-I", "-S", "-c", PROGRAM])).deadline(deadline);
        let output = host.run(&command)?;
        let mut lines = output.stdout.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        let found = Interpreter { name: next(), version: next(), program: next().into() };
        if !found.version.starts_with(|c: char| c.is_ascii_digit()) || !found.program.is_absolute() {
            let answer = found.name.trim().to_owned();
            return Err(PythonError::NotAPython { path: program.to_owned(), answer });
        }
        Ok(found)
    }

    /// Finds the Python that `wanted` names: a path, or a version such as `3.12`. The virtualenv's `own` comes first.
    pub(crate) fn find(
        host: &Host,
        wanted: &str,
        own: Option<&Interpreter>,
        deadline: Duration,
    ) -> Result<Self, PythonError> {
        if wanted.contains('/') {
            return Interpreter::ask(host, Path::new(wanted), deadline).map_err(|error| match error {
                PythonError::Command(error) if !matches!(error, CommandError::Cancelled { .. }) => {
                    PythonError::PythonNotUsable { path: wanted.into(), source: Box::new(error) }
                }
                error => error,
            });
        }
        if let Some(own) = own.filter(|own| is_version(&own.version, wanted)) {
            return Ok(own.clone());
        }
        let budget = Budget::new(deadline);
        Interpreter::first(host, wanted, &candidates(host, wanted), PATIENCE, budget)
    }

    /// Returns the first of some programs that is a Python of a version; each has `patience` to answer.
    fn first(
        host: &Host,
        wanted: &str,
        programs: &[PathBuf],
        patience: Duration,
        budget: Budget,
    ) -> Result<Self, PythonError> {
        for program in programs.iter().filter(|program| program.is_file()) {
            let left = budget.left();
            match Interpreter::ask(host, program, left.min(patience)) {
                Ok(found) if is_version(&found.version, wanted) => return Ok(found),
                Err(error @ PythonError::Command(CommandError::Cancelled { .. })) => return Err(error),
                Err(error @ PythonError::Command(CommandError::DeadlinePassed { .. }))
                    if left <= patience =>
                {
                    return Err(error);
                }
                Err(error) => log::info!("`{}` is passed over: {error}", program.display()),
                Ok(_) => {}
            }
        }
        Err(PythonError::PythonNotFound { wanted: wanted.to_owned() })
    }
}

/// Returns where a Python of a version may be: in the site's `PATH`, and where pyenv and uv install them.
fn candidates(host: &Host, wanted: &str) -> Vec<PathBuf> {
    let short: Vec<&str> = wanted.split('.').take(2).collect();
    let name = format!("python{}", short.join("."));
    let path = variable(host, "PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let home = variable(host, "HOME").unwrap_or_default();
    let of_pyenv = variable(host, "PYENV_ROOT").unwrap_or_else(|| home.join(".pyenv")).join("versions");
    let of_uv =
        variable(host, "UV_PYTHON_INSTALL_DIR").unwrap_or_else(|| home.join(".local/share/uv/python"));
    for versions in [of_pyenv, of_uv] {
        let mut installed: Vec<PathBuf> =
            names_in(&versions).map(|name| versions.join(name).join("bin")).collect();
        // Links of uv's have no patch level, and come first.
        installed.sort();
        directories.extend(installed);
    }
    directories.into_iter().map(|directory| directory.join(&name)).collect()
}

/// Tells whether a full version is the one that is wanted, or one of those: `3.12`.
pub(crate) fn is_version(version: &str, wanted: &str) -> bool {
    version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What a project says of the Python that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Required {
    /// The file that names it.
    file: PathBuf,
    /// `requires-python`; empty without it.
    versions: String,
    /// What `.python-version` names; empty without it.
    preferred: String,
}

impl Required {
    /// Reads `pyproject.toml` and `.python-version` of a directory.
    pub(crate) fn read(project: &Path) -> Self {
        let file = project.join("pyproject.toml");
        let manifest = fs::read_to_string(&file).unwrap_or_default();
        let manifest: serde_json::Value = toml::from_str(&manifest).unwrap_or_default();
        let versions = ["/project/requires-python", "/tool/poetry/dependencies/python"];
        let versions = versions.iter().find_map(|key| manifest.pointer(key)?.as_str()).unwrap_or_default();
        let preferred = fs::read_to_string(project.join(".python-version")).unwrap_or_default();
        let preferred =
            preferred.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        Required { file, versions: versions.to_owned(), preferred: preferred.unwrap_or_default().to_owned() }
    }

    /// Returns what it says.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        [self.versions.as_str(), self.preferred.as_str()].into_iter().filter(|word| !word.is_empty())
    }

    /// Fails when the project is for other Pythons. Returns a warning when it prefers another one.
    pub(crate) fn check(&self, python: &Interpreter) -> Result<Option<String>, PythonError> {
        let Interpreter { version, program, .. } = python;
        if allows(&self.versions, version) == Some(false) {
            return Err(PythonError::OtherPython {
                file: self.file.clone(),
                required: self.versions.clone(),
                python: version.clone(),
                program: program.clone(),
            });
        }
        let is_number = self.preferred.starts_with(|c: char| c.is_ascii_digit());
        let is_other = is_number && !is_version(version, &self.preferred);
        Ok(is_other.then(|| {
            format!("`.python-version` names Python {}; the virtualenv has {version}", self.preferred)
        }))
    }
}

/// Says which Python the project in a directory is for, when this version is another one. The patch level of
/// `.python-version` does not count: with another one a virtualenv works on.
#[must_use]
pub fn unfit(project: &Path, version: &str) -> Option<String> {
    let python = Interpreter { version: version.to_owned(), ..Interpreter::default() };
    let mut required = Required::read(project);
    required.preferred = required.preferred.split('.').take(2).collect::<Vec<_>>().join(".");
    match required.check(&python) {
        Ok(other) => other,
        Err(PythonError::OtherPython { required, .. }) => {
            Some(format!("`pyproject.toml` requires Python {required}; the virtualenv has {version}"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_that_hangs_is_passed_over_and_an_interruption_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = directory.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let programs = [
            program("hangs", "exec sleep 100"),
            program("refuses", "exit 127"),
            program("another", "echo hello"),
            program("older", "printf '3.11\\n3.11.9\\n/older\\n'"),
            program("right", "printf '3.12\\n3.12.1\\n/right\\n'"),
            "/bin/true".into(),
        ];
        let [patience, long] = [Duration::from_secs(1), Duration::from_secs(60)];
        let first = |host: &Host, programs: &[PathBuf], budget: Duration| {
            Interpreter::first(host, "3.12", programs, patience, Budget::new(budget))
        };
        let host = Host::new();
        for (number, answer) in [(2, "`hello`".to_owned()), (5, "nothing".to_owned())] {
            let program = programs[number].to_str().unwrap();
            let error = Interpreter::find(&host, program, None, long).unwrap_err().to_string();
            let expected = format!(
                "`{program}` is not a Python interpreter: asked for its version, it answered {answer}"
            );
            assert_eq!(error, expected);
        }
        assert_eq!(first(&host, &programs, long).unwrap().program, Path::new("/right"));
        let error = first(&host, &programs[..4], long).unwrap_err();
        assert!(matches!(error, PythonError::PythonNotFound { .. }), "{error}");
        let error = first(&host, &programs, patience / 2).unwrap_err();
        assert!(matches!(error, PythonError::Command(CommandError::DeadlinePassed { .. })), "{error}");
        let cancel = crate::Cancel::new().unwrap();
        cancel.request();
        let host = host.with_cancel(cancel);
        let error = first(&host, &programs, long).unwrap_err();
        assert!(matches!(error, PythonError::Command(CommandError::Cancelled { .. })), "{error}");
        let error = Interpreter::find(&host, programs[4].to_str().unwrap(), None, long).unwrap_err();
        assert!(matches!(error, PythonError::Command(CommandError::Cancelled { .. })), "{error}");
    }

    #[test]
    fn versions_are_compared_part_by_part() {
        for (version, wanted, expected) in [
            ("3.12.1", "3.12", true),
            ("3.12.1", "3.12.1", true),
            ("3.12.1", "3.1", false),
            ("3.1.2", "3.12", false),
        ] {
            assert_eq!(is_version(version, wanted), expected, "{version} {wanted}");
        }
    }

    #[test]
    fn what_a_project_requires_is_held_against_the_python() {
        let directory = tempfile::tempdir().unwrap();
        let python = Interpreter {
            program: "/usr/bin/python3.11".into(),
            name: "3.11".into(),
            version: "3.11.7".into(),
        };
        let check = |manifest: &str, preferred: &str| {
            fs::write(directory.path().join("pyproject.toml"), manifest).unwrap();
            fs::write(directory.path().join(".python-version"), preferred).unwrap();
            let required = Required::read(directory.path());
            required
                .check(&python)
                .map_err(|error| error.to_string().replace(directory.path().to_str().unwrap(), ""))
        };
        assert_eq!(check("", ""), Ok(None));
        assert_eq!(Required::read(Path::new("/nowhere")).words().count(), 0);
        assert_eq!(check("[project]\nrequires-python = \">=3.10,<3.12\"\n", "# of pyenv\n3.11\n"), Ok(None));
        let refused =
            "`/pyproject.toml` requires Python >=3.12, and `/usr/bin/python3.11` is Python 3.11.7".to_owned();
        assert_eq!(check("[project]\nrequires-python = \">=3.12\"\n", ""), Err(refused.clone()));
        let poetry = check("[tool.poetry.dependencies]\npython = \"^3.12\"\n", "");
        assert!(poetry.unwrap_err().contains("requires Python ^3.12"));
        let warned = "`.python-version` names Python 3.12.1; the virtualenv has 3.11.7".to_owned();
        assert_eq!(check("", "3.12.1\n"), Ok(Some(warned)));
        assert_eq!(check("", "pypy3.10\n"), Ok(None));
        assert_eq!(unfit(directory.path(), "3.11.7"), None);
        assert!(check("", "3.12.1\n").unwrap().is_some());
        assert_eq!(unfit(directory.path(), "3.12.3"), None);
        let named = "`.python-version` names Python 3.12; the virtualenv has 3.11.7";
        assert_eq!(unfit(directory.path(), "3.11.7").as_deref(), Some(named));
        assert_eq!(check("[project]\nrequires-python = \">=3.12\"\n", "").unwrap_err(), refused);
        let unfit = unfit(directory.path(), "3.11.7").unwrap();
        assert_eq!(unfit, "`pyproject.toml` requires Python >=3.12; the virtualenv has 3.11.7");
    }
}
