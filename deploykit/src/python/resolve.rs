//! Asks the installer which packages the requirements mean today.

mod answer;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::access;
use super::asked::{Needs, Wish, asked, needs_of};
use super::error::PythonError;
use super::installer::{Budget, Tool, isolated, newer_pip, refusal};
use super::packages::{Package, Packages, SEEDS, normal_version, normalise};
use super::requirements::Requirements;
use super::sources::{Copied, Source};
use super::virtualenv::Virtualenv;
use crate::command::Command;
use crate::host::files::{self, FileError};
use crate::host::{CommandError, Host, Output};
use crate::names::TEMPORARY;
use answer::{named_in, needs_in_report};

pub use answer::{read_pip_report, read_uv_output};

/// How far packages move that are installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeStrategy {
    /// What is installed stays where the requirements allow it, as with `pip install -r`.
    Never,
    /// What the requirements name moves to the newest version that they allow, and what that depends on only as far as
    /// needed, as with `pip install -U -r`.
    #[default]
    OnlyIfNeeded,
    /// All that the requirements ask for moves, what they depend on too.
    Eager,
}

/// What an installer resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Everything that is to be installed: what the requirements ask for with what that depends on, and what else is
    /// installed.
    pub packages: Packages,
    /// The normalised names of those that no requirement asks for.
    pub unasked: BTreeSet<String>,
    /// The newer pip that pip told of.
    pub newer_pip: Option<String>,
    /// What a person may want to know.
    pub warnings: Vec<String>,
}

/// A question to an installer. It changes nothing that a site uses.
#[derive(Clone, Copy, Debug)]
pub struct Resolution<'a> {
    /// The installer.
    pub tool: &'a Tool,
    /// The virtualenv whose Python and installer answer.
    pub virtualenv: &'a Virtualenv,
    /// The requirements files.
    pub requirements: &'a [PathBuf],
    /// The directory to run in.
    pub directory: &'a Path,
    /// More arguments for the installer.
    pub extra_args: &'a [String],
    /// The directory of virtualenvs: what is needed for the moment is put there, or beside it, or into the system's
    /// temporary directory where neither is there yet.
    pub virtualenvs: &'a Path,
    /// How far packages move.
    pub upgrade: UpgradeStrategy,
    /// The normalised names of what the requirements asked for at the last update: what they ask for no more goes, unless
    /// something needs it that stays.
    pub formerly: &'a BTreeSet<String>,
    /// The packages of the checkout that the requirements name: they are asked for what they depend on.
    pub sources: &'a [Source],
    /// Another Python than that of the virtualenv, in which nothing is installed yet.
    pub base: Option<&'a Path>,
}

/// pip 22.2 brought `--report`.
const FIRST_PIP_WITH_REPORT: (u32, u32) = (22, 2);

/// pip 22.3 brought `--python`, by which one pip looks at the packages of another virtualenv.
const FIRST_PIP_FOR_OTHERS: (u32, u32) = (22, 3);

/// Arguments that `uv pip install` has, and `uv pip compile` has not.
const ONLY_TO_INSTALL: [&str; 8] = [
    "--require-hashes",
    "--verify-hashes",
    "--no-verify-hashes",
    "--compile-bytecode",
    "--compile",
    "--reinstall",
    "--strict",
    "--exact",
];

impl Resolution<'_> {
    /// Asks; `deadline` is for all programs together.
    ///
    /// # Errors
    ///
    /// When there is no such set of packages, the index cannot be reached, or the time is over.
    pub fn run(&self, host: &Host, deadline: Duration) -> Result<Resolved, PythonError> {
        let budget = Budget::new(deadline);
        let scratch = self.scratch()?;
        let copied = match self.sources.is_empty() {
            true => None,
            false => Some(Copied::make(host, self.directory, scratch.path(), budget)?),
        };
        let directory = copied.as_ref().map_or(self.directory, |copied| &copied.path);
        let fresh = self.base.map(|base| self.fresh(host, budget, scratch.path(), base)).transpose()?;
        let asked = Resolution { directory, virtualenv: fresh.as_ref().unwrap_or(self.virtualenv), ..*self };
        match self.tool {
            Tool::Uv { .. } => asked.ask_uv(host, budget, scratch.path()),
            Tool::Pip => asked.ask_pip(host, budget, scratch.path()),
        }
    }

    /// Makes an empty virtualenv for the moment, which gets its packages from where the live one has its.
    fn fresh(
        &self,
        host: &Host,
        budget: Budget,
        scratch: &Path,
        base: &Path,
    ) -> Result<Virtualenv, PythonError> {
        let path = scratch.join("python");
        let command = match self.tool {
            Tool::Pip => Command::new(base).args(["-m", "venv"]).arg(&path),
            Tool::Uv { program } => Command::new(program).args(["venv", "--python"]).arg(base).arg(&path),
        };
        let make = isolated(command).deadline(budget.left());
        host.run(&make).map_err(|error| self.failed(error))?;
        let settings = self.virtualenv.path.join("pip.conf");
        if settings.is_file() {
            fs::copy(settings, path.join("pip.conf")).map_err(|source| in_scratch(&path, source))?;
        }
        Virtualenv::read(&path)
    }

    fn scratch(&self) -> Result<TempDir, PythonError> {
        let name = format!("{TEMPORARY}resolve-");
        let own = [self.virtualenvs, files::parent(self.virtualenvs)];
        let own = own
            .into_iter()
            .filter(|directory| directory.is_dir() && files::own_directory(directory, None).is_ok());
        for directory in own {
            if let Ok(scratch) = tempfile::Builder::new().prefix(&name).tempdir_in(directory) {
                return Ok(scratch);
            }
        }
        let made = tempfile::Builder::new().prefix(&name).tempdir();
        made.map_err(|source| in_scratch(&std::env::temp_dir(), source))
    }

    /// What pip would change, laid over what is there, is what is to be there.
    fn ask_pip(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<Resolved, PythonError> {
        let answering = self.pip_with_report(host, budget, scratch)?;
        let report = scratch.join("report.json");
        let mut command = Tool::Pip.command(&answering, &[]);
        if answering != self.virtualenv.path {
            command = command.args([Path::new("--python"), &self.virtualenv.path.join("bin/python")]);
        }
        let command = command
            .args(["install", "--dry-run"])
            .args(match self.upgrade {
                UpgradeStrategy::Never => &[][..],
                UpgradeStrategy::OnlyIfNeeded => &["--upgrade", "--upgrade-strategy", "only-if-needed"],
                UpgradeStrategy::Eager => &["--upgrade", "--upgrade-strategy", "eager"],
            })
            // Editable packages are cloned even in a dry run: not into the live virtualenv.
            .args([Path::new("--src"), &scratch.join("src")])
            .args([Path::new("--report"), &report]);
        let output = self.ask(host, budget, scratch, &self.with_requirements(command, budget))?;
        let text = match fs::read(&report) {
            // pip writes no report when there is nothing to install.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            result => result.map_err(|source| in_scratch(&report, source))?,
        };
        let (of_checkout, changes) = self.apart(read_pip_report(&text)?);
        let mut needs = needs_of(&self.virtualenv.path);
        needs.extend(needs_in_report(&text));
        let wishes = Requirements::read(self.requirements, self.directory, self.extra_args)?.wishes;
        let packages = self.laid_over(&changes);
        let unasked = match wishes {
            Some(mut wishes) => {
                wishes.extend(of_checkout);
                let asked = asked(&packages, &wishes, &needs);
                let others = packages
                    .iter()
                    .map(|(name, _)| name)
                    .filter(|name| !asked.contains(*name) && changes.get(name).is_none());
                others.map(str::to_owned).collect()
            }
            None => BTreeSet::new(),
        };
        Ok(self.resolved(packages, unasked, &needs, newer_pip(&output.stderr)))
    }

    /// Returns what is installed with `changes` over it. What is broken is to be whole.
    fn laid_over(&self, changes: &Packages) -> Packages {
        let kept = self.virtualenv.packages.iter().filter(|(name, _)| changes.get(name).is_none());
        let kept = kept.map(|(_, package)| Package { version: package.intended(), ..package.clone() });
        changes.iter().map(|(_, package)| package.clone()).chain(kept).collect()
    }

    /// Returns the packages of the checkout among those that an installer named, and the others.
    fn apart(&self, named: Packages) -> (Vec<Wish>, Packages) {
        let is_source = |package: &Package| {
            !self.sources.is_empty()
                && package.installed_from().is_some_and(|path| path.starts_with(self.directory))
        };
        let (sources, others): (Vec<_>, Vec<_>) = named.iter().partition(|(_, package)| is_source(package));
        let extras = self.sources.iter().flat_map(|source| &source.extras).map(|name| normalise(name));
        let extras: BTreeSet<String> = extras.collect();
        let wishes = sources.iter().map(|(name, _)| Wish { extras: extras.clone(), ..Wish::of(name) });
        (wishes.collect(), others.into_iter().map(|(_, package)| package.clone()).collect())
    }

    fn with_requirements(&self, command: Command, budget: Budget) -> Command {
        let command = self.tool.for_sources(command, self.sources, self.directory);
        self.requirements
            .iter()
            .fold(command, |command, file| command.args([Path::new("-r"), file]))
            .args(self.extra_args)
            .directory(self.directory)
            .deadline(budget.left())
    }

    /// Returns a virtualenv whose pip can write a report: the live one, else one for the moment.
    fn pip_with_report(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<PathBuf, PythonError> {
        let version = self.virtualenv.packages.get("pip").map(|pip| pip.version.as_str()).unwrap_or_default();
        if release(version) >= FIRST_PIP_WITH_REPORT {
            return Ok(self.virtualenv.path.clone());
        }
        let base = self.virtualenv.base()?;
        let staged = scratch.join("pip");
        let make = isolated(Command::new(base).args(["-m", "venv"]).arg(&staged)).deadline(budget.left());
        host.run(&make).map_err(|error| self.failed(error))?;
        let bundled = Virtualenv::read(&staged)?.packages.get("pip").map(|pip| release(&pip.version));
        // Where the live virtualenv has its packages from is where that pip has itself from.
        if self.virtualenv.path.join("pip.conf").is_file() {
            let copied = fs::copy(self.virtualenv.path.join("pip.conf"), staged.join("pip.conf"));
            copied.map_err(|source| in_scratch(&staged, source))?;
        }
        if bundled.unwrap_or_default() < FIRST_PIP_FOR_OTHERS {
            let upgrade = Tool::Pip
                .command(&staged, &["install", "--upgrade", "pip>=22.3"])
                .args(self.extra_args)
                .deadline(budget.left());
            host.run(&upgrade).map_err(|error| self.failed(error))?;
        }
        Ok(staged)
    }

    /// Leaves out what the requirements ask for no more, and pip, setuptools and wheel where nothing asks for them: these
    /// come along by themselves.
    fn resolved(
        &self,
        packages: Packages,
        mut unasked: BTreeSet<String>,
        needs: &Needs,
        newer_pip: Option<String>,
    ) -> Resolved {
        let by_hand = unasked.difference(self.formerly).map(|name| Wish::of(name)).collect::<Vec<_>>();
        let kept = asked(&packages, &by_hand, needs);
        let goes = |name: &str| unasked.contains(name) && (SEEDS.contains(&name) || !kept.contains(name));
        let packages = packages.iter().filter(|(name, _)| !goes(name)).map(|(_, package)| package.clone());
        let packages: Packages = packages.collect();
        unasked.retain(|name| packages.get(name).is_some());
        Resolved { packages, unasked, newer_pip, warnings: Vec::new() }
    }

    /// uv prefers the versions that its output file holds already, but for the packages that it is told to upgrade.
    fn ask_uv(&self, host: &Host, budget: Budget, scratch: &Path) -> Result<Resolved, PythonError> {
        let answer = scratch.join("resolved.txt");
        let installed = self.laid_over(&Packages::new());
        let mut named = Vec::new();
        if self.upgrade != UpgradeStrategy::Eager {
            fs::write(&answer, installed.constraints()).map_err(|source| in_scratch(&answer, source))?;
        }
        if self.upgrade == UpgradeStrategy::OnlyIfNeeded {
            let read = Requirements::read(self.requirements, self.directory, self.extra_args)?;
            named = match read.wishes {
                Some(wishes) => wishes.into_iter().map(|Wish { name, .. }| name).collect(),
                None => named_in(&self.compile(host, budget, &answer, &["--annotation-style", "line"])?),
            };
        }
        let mut args = vec!["--no-annotate"];
        args.extend(named.iter().flat_map(|name| ["--upgrade-package", name.as_str()]));
        let compiled = self.compile(host, budget, &answer, &args)?;
        let is_source = |line: &&str| {
            Source::read(line, false)
                .is_some_and(|read| self.sources.iter().any(|source| source.path == read.path))
        };
        let lines = compiled.lines().filter(|line| !is_source(line)).map(|line| format!("{line}\n"));
        let (_, wanted) = self.apart(read_uv_output(&lines.collect::<String>())?);
        let is_other = |name: &str| wanted.get(name).is_none();
        let unasked = installed.iter().filter(|(name, _)| is_other(name)).map(|(name, _)| name.to_owned());
        let unasked = unasked.collect();
        Ok(self.resolved(self.laid_over(&wanted), unasked, &needs_of(&self.virtualenv.path), None))
    }

    /// Runs an installer that asks an index.
    fn ask(
        &self,
        host: &Host,
        budget: Budget,
        scratch: &Path,
        command: &Command,
    ) -> Result<Output, PythonError> {
        host.run(command).or_else(|error| {
            let error = access::refused(host, self.tool, command, budget, error, scratch)?;
            Err(self.failed(error))
        })
    }

    fn compile(
        &self,
        host: &Host,
        budget: Budget,
        answer: &Path,
        args: &[&str],
    ) -> Result<String, PythonError> {
        let command = self
            .tool
            .command(&self.virtualenv.path, &["compile", "--no-header"])
            .args(args)
            .args([Path::new("--output-file"), answer])
            .args(self.requirements)
            .args(self.extra_args.iter().filter(|argument| !ONLY_TO_INSTALL.contains(&argument.as_str())))
            .directory(self.directory)
            .deadline(budget.left());
        let command = self.tool.for_sources(command, self.sources, self.directory);
        self.ask(host, budget, files::parent(answer), &command)?;
        fs::read_to_string(answer).map_err(|source| in_scratch(answer, source))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_requirement_asks_for_stays_unless_one_did_before() {
        let names = ["pip", "wheel", "six", "ipython", "jedi", "old"];
        let set: Packages = names.into_iter().map(|name| Package::new(name, "1")).collect();
        let needs = Needs::from([("ipython".to_owned(), vec![Wish::of("jedi")])]);
        let resolution = Resolution {
            tool: &Tool::Pip,
            virtualenv: &Virtualenv::default(),
            requirements: &[],
            directory: Path::new("/"),
            extra_args: &[],
            virtualenvs: Path::new("/"),
            upgrade: UpgradeStrategy::OnlyIfNeeded,
            formerly: &["jedi", "old", "six"].map(str::to_owned).into(),
            sources: &[],
            base: None,
        };
        let unasked = ["pip", "ipython", "jedi", "old"].map(str::to_owned).into();
        let found = resolution.resolved(set, unasked, &needs, None);
        let names: Vec<&str> = found.packages.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ipython", "jedi", "six", "wheel"]);
        assert_eq!(found.unasked, ["ipython", "jedi"].map(str::to_owned).into());
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
            let _ = (needs_in_report(&bytes), named_in(&text));
        }
    }
}
