//! Asks the installer which packages the requirements mean today.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::error::PythonError;
use super::installer::{Budget, Tool, isolated, newer_pip, refusal};
use super::packages::{Package, Packages, clean_url, normal_version, origin_of};
use super::virtualenv::Virtualenv;
use crate::command::Command;
use crate::host::files::{self, FileError, TEMPORARY};
use crate::host::{CommandError, Host, Output};

/// What an installer resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Everything that is to be installed, what others depend on too.
    pub packages: Packages,
    /// The newer pip that pip told of.
    pub newer_pip: Option<String>,
}

/// A question to an installer. It changes nothing that a site uses.
#[derive(Clone, Copy, Debug)]
pub struct Resolution<'a> {
    /// The installer.
    pub tool: &'a Tool,
    /// The environment whose Python and installer answer.
    pub virtualenv: &'a Virtualenv,
    /// The requirements files.
    pub requirements: &'a [PathBuf],
    /// The folder to run in.
    pub directory: &'a Path,
    /// More arguments for the installer.
    pub extra_args: &'a [String],
    /// The folder of environments: what is needed for the moment is put there, or beside it, or into the system's
    /// temporary folder where neither is there yet.
    pub environments: &'a Path,
    /// Whether to take the newest versions that are allowed; else what is installed stays where it is allowed.
    pub upgrade: bool,
}

/// pip 22.2 brought `--report`.
const FIRST_PIP_WITH_REPORT: (u32, u32) = (22, 2);

impl Resolution<'_> {
    /// Asks; `deadline` is for all programs together.
    ///
    /// # Errors
    ///
    /// When there is no such set of packages, the index cannot be reached, or the time is over.
    pub fn run(&self, host: &Host, deadline: Duration) -> Result<Resolved, PythonError> {
        let budget = Budget::new(deadline);
        let scratch = self.scratch()?;
        match self.tool {
            Tool::Uv { .. } => self.ask_uv(host, budget, scratch.path()),
            Tool::Pip => self.ask_pip(host, budget, scratch.path()),
        }
    }

    fn scratch(&self) -> Result<TempDir, PythonError> {
        let name = format!("{TEMPORARY}resolve-");
        let own = [self.environments, files::parent(self.environments)];
        let own = own.into_iter().filter(|folder| folder.is_dir() && files::own_folder(folder, None).is_ok());
        for folder in own {
            if let Ok(scratch) = tempfile::Builder::new().prefix(&name).tempdir_in(folder) {
                return Ok(scratch);
            }
        }
        let made = tempfile::Builder::new().prefix(&name).tempdir();
        made.map_err(|source| in_scratch(&std::env::temp_dir(), source))
    }

    fn ask_pip(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<Resolved, PythonError> {
        let answering = self.pip_with_report(host, budget, scratch)?;
        let mut constraints = None;
        if !self.upgrade {
            // What pip would change without `-U`, laid over what is there, is what is to be there.
            let report = scratch.join("changes.json");
            self.pip(host, &answering, &["--report".as_ref(), report.as_path()], scratch, budget)?;
            let changes = read_report(&report)?;
            let kept = self.virtualenv.packages.iter().filter(|(name, _)| changes.get(name).is_none());
            let wanted: Packages = changes.iter().chain(kept).map(|(_, package)| package.clone()).collect();
            let file = scratch.join("constraints.txt");
            fs::write(&file, wanted.constraints()).map_err(|source| in_scratch(&file, source))?;
            constraints = Some(file);
        }
        let report = scratch.join("report.json");
        let mut args: Vec<&Path> = vec!["--ignore-installed".as_ref(), "--report".as_ref(), &report];
        if let Some(constraints) = &constraints {
            args.extend(["-c".as_ref(), constraints.as_path()]);
        }
        let output = self.pip(host, &answering, &args, scratch, budget)?;
        Ok(Resolved { packages: read_report(&report)?, newer_pip: newer_pip(&output.stderr) })
    }

    fn pip(
        &self,
        host: &Host,
        environment: &Path,
        args: &[&Path],
        scratch: &Path,
        budget: Budget,
    ) -> Result<Output, PythonError> {
        let command = Tool::Pip
            .command(environment, &["install", "--dry-run"])
            // Editable packages are cloned even in a dry run: not into the live environment.
            .args([Path::new("--src"), &scratch.join("src")])
            .args(args);
        host.run(&self.with_requirements(command, budget)).map_err(|error| self.failed(error))
    }

    fn with_requirements(&self, command: Command, budget: Budget) -> Command {
        self.requirements
            .iter()
            .fold(command, |command, file| command.args([Path::new("-r"), file]))
            .args(self.extra_args)
            .directory(self.directory)
            .deadline(budget.left())
    }

    /// Returns an environment whose pip can write a report: the live one, else one for the moment.
    fn pip_with_report(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<PathBuf, PythonError> {
        let version = self.virtualenv.packages.get("pip").map(|pip| pip.version.as_str()).unwrap_or_default();
        if release(version) >= FIRST_PIP_WITH_REPORT {
            return Ok(self.virtualenv.path.clone());
        }
        let Some(base) = &self.virtualenv.base else {
            return Err(PythonError::BasePythonGone {
                virtualenv: self.virtualenv.path.clone(),
                home: self.virtualenv.home.clone(),
                python: self.virtualenv.python.clone(),
            });
        };
        let environment = scratch.join("pip");
        let make =
            isolated(Command::new(base).args(["-m", "venv"]).arg(&environment)).deadline(budget.left());
        host.run(&make).map_err(|error| self.failed(error))?;
        let bundled = Virtualenv::read(&environment)?.packages.get("pip").map(|pip| release(&pip.version));
        if bundled.unwrap_or_default() < FIRST_PIP_WITH_REPORT {
            let upgrade = Tool::Pip
                .command(&environment, &["install", "--upgrade", "pip>=22.2"])
                .args(self.extra_args)
                .deadline(budget.left());
            host.run(&upgrade).map_err(|error| self.failed(error))?;
        }
        Ok(environment)
    }

    fn ask_uv(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<Resolved, PythonError> {
        let answer = scratch.join("resolved.txt");
        if !self.upgrade {
            // uv prefers the versions that its output file holds already.
            let installed = self.virtualenv.packages.constraints();
            fs::write(&answer, installed).map_err(|source| in_scratch(&answer, source))?;
        }
        let command = self
            .tool
            .command(&self.virtualenv.path, &["compile", "--no-header", "--no-annotate"])
            .args([Path::new("--output-file"), &answer])
            .args(self.requirements)
            .args(self.extra_args)
            .directory(self.directory)
            .deadline(budget.left());
        host.run(&command).map_err(|error| self.failed(error))?;
        let text = fs::read_to_string(&answer).map_err(|source| in_scratch(&answer, source))?;
        Ok(Resolved { packages: read_uv_output(&text)?, newer_pip: None })
    }

    fn failed(&self, error: CommandError) -> PythonError {
        if !matches!(error, CommandError::Failed { .. } | CommandError::Killed { .. }) {
            return PythonError::Command(error);
        }
        let refusal = refusal(&error.tail().join("\n"));
        PythonError::ResolutionFailed {
            requirement: refusal.requirement,
            python: self.virtualenv.python.clone(),
            needs_python: refusal.needs_python,
            source: Box::new(error),
        }
    }
}

/// Returns the first two numbers of a version.
pub(crate) fn release(version: &str) -> (u32, u32) {
    let normal = normal_version(version);
    let mut numbers = normal.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn in_scratch(path: &Path, source: io::Error) -> PythonError {
    FileError { what: "use", path: path.to_owned(), source }.into()
}

/// pip writes no report when there is nothing to install.
fn read_report(path: &Path) -> Result<Packages, PythonError> {
    match fs::read(path) {
        Ok(text) => read_pip_report(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Packages::new()),
        Err(source) => Err(in_scratch(path, source)),
    }
}

/// Reads the packages of pip's installation report.
///
/// Source: <https://pip.pypa.io/en/stable/reference/installation-report/>, version 1.
///
/// # Errors
///
/// When it is no such report.
pub fn read_pip_report(text: &[u8]) -> Result<Packages, PythonError> {
    let unreadable =
        |problem: &str| PythonError::UnreadableResolution { installer: "pip", problem: problem.to_owned() };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Packages::new());
    }
    let report: Value = serde_json::from_slice(text).map_err(|error| unreadable(&error.to_string()))?;
    // "0" is that of pip 22.2, which has the same fields.
    let version = report.get("version").and_then(Value::as_str).unwrap_or_default();
    if !["0", "1"].contains(&version) {
        return Err(unreadable(&format!("its version is `{version}`, not `1`")));
    }
    let items =
        report.get("install").and_then(Value::as_array).ok_or_else(|| unreadable("it has no `install`"))?;
    items
        .iter()
        .map(|item| {
            let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
            let (Some(name), Some(version)) = (text("/metadata/name"), text("/metadata/version")) else {
                return Err(unreadable("a package has no name or version"));
            };
            let direct = item.get("is_direct").and_then(Value::as_bool).unwrap_or_default();
            let origin = if direct { item.get("download_info").and_then(origin_of) } else { None };
            Ok(Package { name: name.to_owned(), version: version.to_owned(), origin })
        })
        .collect()
}

/// Reads the packages that `uv pip compile` wrote: a requirements file of exact versions and URLs.
///
/// Source: <https://docs.astral.sh/uv/pip/compile/>
///
/// # Errors
///
/// When a line is neither.
pub fn read_uv_output(text: &str) -> Result<Packages, PythonError> {
    text.lines()
        .map(|line| line.trim().trim_end_matches('\\').trim())
        // Hashes follow on lines of their own; comments say where a package comes from.
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '-']))
        .map(|line| {
            let line = line.split(" ;").next().unwrap_or(line).split(" #").next().unwrap_or(line).trim();
            let package = match line.split_once(" @ ") {
                Some((name, url)) => Some(Package {
                    name: name.to_owned(),
                    version: String::new(),
                    origin: Some(clean_url(url.trim())),
                }),
                None => {
                    line.split_once("==").map(|(name, version)| Package::new(name.trim(), version.trim()))
                }
            };
            let package = package.map(|mut package| {
                if let Some((name, _)) = package.name.split_once('[') {
                    package.name = name.trim().to_owned();
                }
                package
            });
            package.filter(|package| !package.name.is_empty()).ok_or_else(|| {
                PythonError::UnreadableResolution {
                    installer: "uv",
                    problem: format!("`{}` is no exact version", clean_url(line)),
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_is_read() {
        let report = r#"{"version": "1", "pip_version": "23.2.1", "install": [
            {"download_info": {"url": "https://host/a.whl", "archive_info": {}}, "is_direct": false, "metadata": {"name": "A", "version": "1"}},
            {"download_info": {"url": "https://me:pw@host/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "is_direct": true, "metadata": {"name": "b", "version": "2"}}
        ]}"#;
        let packages = read_pip_report(report.as_bytes()).unwrap();
        assert_eq!(packages.get("a"), Some(&Package::new("A", "1")));
        assert_eq!(packages.get("b").unwrap().origin.as_deref(), Some("git+https://host/b.git@c0ffee"));
        assert!(read_pip_report(b" \n").unwrap().is_empty());
        for bad in ["{}", "[]", r#"{"version":"2","install":[]}"#, r#"{"version":"1","install":[{}]}"#, "no"]
        {
            let error = read_pip_report(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, PythonError::UnreadableResolution { installer: "pip", .. }), "{error:?}");
        }
    }

    #[test]
    fn what_uv_compiled_is_read() {
        let text = "# made by uv\n--index-url https://host\ndjango[argon2]==5.2 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n    # via -r x\nsix==1.16 ; python_version < '4'\nb @ git+https://me:pw@host/b.git@c0ffee\n";
        let packages = read_uv_output(text).unwrap();
        assert_eq!(packages.len(), 3);
        assert_eq!(packages.get("django"), Some(&Package::new("django", "5.2")));
        assert_eq!(packages.get("six"), Some(&Package::new("six", "1.16")));
        let report = r#"{"version": "1", "install": [{"download_info": {"url": "https://host/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "is_direct": true, "metadata": {"name": "b", "version": "2"}}]}"#;
        let of_pip = read_pip_report(report.as_bytes()).unwrap();
        let of_uv: Packages = packages.get("b").cloned().into_iter().collect();
        assert_eq!(of_pip.key("3.11", false), of_uv.key("3.11", false), "both mean the same environment");
        assert!(of_pip.changes_to(&of_uv).is_empty());
        assert!(read_uv_output("django>=5\n").is_err());
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(release("22.10") > FIRST_PIP_WITH_REPORT && release("9.0.3") < FIRST_PIP_WITH_REPORT);
        assert_eq!(release("26.3.dev1"), (26, 3));
        assert_eq!(release(""), (0, 0));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in any::<Vec<u8>>(), text in "(?s).*") {
            let _ = (read_pip_report(&bytes), read_uv_output(&text), release(&text));
        }
    }
}
