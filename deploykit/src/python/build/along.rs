//! What the staged virtualenv has from the live one, packages and their bytecode, and what is done where that cannot be.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Build, Built, failed, private_file};
use crate::command::Command;
use crate::host::files::{self, FileError};
use crate::host::{CommandError, Host, Output};
use crate::python::access;
use crate::python::bytecode;
use crate::python::error::PythonError;
use crate::python::installer::{Budget, Tool, isolated};
use crate::python::managed::{CONDA, managed};
use crate::python::packages::{Package, Packages, normalise};
use crate::python::share::{Sharing, Taken};
use crate::python::virtualenv::Virtualenv;

/// How many files one process compiles in less time than several take to start.
const MOST_ALONE: usize = 200;

impl Build {
    /// Takes along what stays as it is, and what the site has and its requirements do not mention: gunicorn may use
    /// `pkg_resources` without a word. The installer is left with what changes.
    pub(super) fn take_along(&self, host: &Host, built: &mut Built) -> Result<(), PythonError> {
        if self.interpreter.is_some() {
            return Ok(());
        }
        let live = Virtualenv::read(&self.virtualenv)?;
        let there = Virtualenv::read(&self.staged)?.packages;
        let (beside, seeds): (Vec<_>, Vec<_>) =
            self.seeds.iter().partition(|(name, _)| there.get(name).is_some());
        let not_taken = |name: &str, version: &str| format!("`{name}` {version} could not be taken along");
        // A virtualenv that stays in its place has its own.
        let is_missed = self.place.is_none();
        for (name, version) in beside {
            // Two versions side by side would be a broken installation.
            if is_missed && there.get(name).is_some_and(|there| there.version != *version) {
                built.warnings.push(not_taken(name, version));
            }
        }
        // With the system's packages in view pip is told to install whatever is there.
        let is_alike = !self.system_site_packages && live.python == self.python;
        let stays = self.packages.iter().filter(|(name, wanted)| {
            let is_as_wanted = |live: &Package| {
                // What no requirement asks for is wanted as it is, wherever it came from.
                live.is(wanted) && (self.unasked.contains(*name) || (is_alike && live.is_of_index()))
            };
            there.get(name).is_none() && live.packages.get(name).is_some_and(is_as_wanted)
        });
        let names: Vec<&str> =
            seeds.iter().map(|(name, _)| name.as_str()).chain(stays.map(|(name, _)| name)).collect();
        let at = |source| FileError { what: "take packages along to", path: self.staged.clone(), source };
        let sharing = Sharing::new(&self.virtualenv, &self.staged);
        let conda = self.of_conda(names.iter().copied())?;
        let take = |name: &&str| {
            let of_conda = live.packages.get(name).filter(|_| conda.contains(*name));
            sharing.as_ref().map_or(Ok(Taken::NotKnown), |sharing| sharing.take(name, of_conda))
        };
        for (name, taken) in names.iter().zip(host.on_all_cores(&names, take)) {
            match (taken.map_err(at)?, self.seeds.get(*name), self.packages.get(name)) {
                (Taken::Whole, ..) => {}
                (_, Some(version), _) if is_missed => built.warnings.push(not_taken(name, version)),
                (Taken::Changed(file), _, Some(wanted)) => built.warnings.push(format!(
                    "`{file}` of {} {} was changed since it was installed; the staged virtualenv has it as its authors made it",
                    wanted.name, wanted.version
                )),
                _ => {}
            }
        }
        // pip itself is among them, and starts sooner with its bytecode; that of the others comes when all is installed.
        if self.tool == Tool::Pip {
            bytecode::take_along(host, &self.virtualenv, &self.staged).map_err(at)?;
        }
        Ok(())
    }

    /// Installs what no requirement asks for and what could not be taken along as it is.
    pub(super) fn install_unasked(
        &self,
        host: &Host,
        budget: Budget,
        options: &[String],
    ) -> Result<(), PythonError> {
        let there = Virtualenv::read(&self.staged)?.packages;
        let missing = self.packages.iter().filter(|(name, _)| self.unasked.contains(*name));
        let missing: Packages = missing
            .filter(|(name, _)| there.get(name).is_none())
            .map(|(_, package)| package.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some((_, package)) = missing.iter().find(|(_, package)| !package.is_of_index()) {
            let Package { name, version, .. } = package.clone();
            let of_conda = !self.of_conda([normalise(&name).as_str()])?.is_empty();
            return Err(PythonError::CannotTakeAlong { name, version, of_conda });
        }
        let text = options.join("\n") + "\n" + &missing.constraints();
        let file = private_file(files::parent(&self.staged), &text)?;
        let command = self.installer(&["install", "--no-deps"], budget);
        let command = command.args([Path::new("-r"), file.path()]).args(&self.extra_args);
        let step = "installing the packages that no requirement asks for";
        self.ask(host, budget, &command, step).map(|_| ())
    }

    /// Runs an installer that asks an index.
    pub(super) fn ask(
        &self,
        host: &Host,
        budget: Budget,
        command: &Command,
        step: &'static str,
    ) -> Result<Output, PythonError> {
        host.run(command).or_else(|error| {
            let directory = files::parent(&self.staged);
            let error = access::refused(host, &self.tool, command, budget, error, directory)?;
            Err(failed(step, error))
        })
    }

    /// Returns those of some packages that conda installed; only a virtualenv that stays in its place has such.
    fn of_conda<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeSet<String>, PythonError> {
        if self.place.is_none() {
            return Ok(BTreeSet::new());
        }
        let names = names.into_iter().map(str::to_owned).collect();
        let managed = managed(&self.virtualenv, &names)?.into_iter();
        Ok(managed.filter(|(_, by)| *by == CONDA).map(|(name, _)| name).collect())
    }

    /// Unpacks the pip that comes with Python where that of the live virtualenv could not be taken along.
    pub(super) fn ensure_pip(
        &self,
        host: &Host,
        budget: Budget,
        built: &mut Built,
    ) -> Result<(), PythonError> {
        let has_pip =
            |path: &Path| Ok::<_, PythonError>(Virtualenv::read(path)?.packages.get("pip").is_some());
        let is_needed = self.tool == Tool::Pip;
        if has_pip(&self.staged)? || !is_needed && (self.interpreter.is_none() || !has_pip(&self.virtualenv)?)
        {
            return Ok(());
        }
        let python = self.staged.join("bin/python");
        let command = isolated(Command::new(python).args(["-m", "ensurepip"])).deadline(budget.left());
        match host.run(&command) {
            Ok(_) => Ok(()),
            Err(CommandError::Failed { .. }) if !is_needed => {
                built
                    .warnings
                    .push("the staged virtualenv has no pip: its Python comes without one".to_owned());
                Ok(())
            }
            Err(error) => Err(failed("unpacking pip", error)),
        }
    }

    /// Compiles beforehand what the first start would compile, in the maintenance window.
    pub(super) fn compile(&self, host: &Host, budget: Budget) -> Result<(), PythonError> {
        // Some packages carry files that are not for this Python: templates, tests. They do not matter.
        let python = self.staged.join("bin/python");
        let command = isolated(Command::new(python).args(["-m", "compileall", "-q"]));
        let at = |source| FileError { what: "look at", path: self.staged.clone(), source };
        let from = if self.interpreter.is_some() { &self.staged } else { &self.virtualenv };
        let missing = bytecode::take_along(host, from, &self.staged).map_err(at)?;
        let command = match missing.len() {
            0 => return Ok(()),
            1..=MOST_ALONE => {
                // A name that is no line of text is left to the first start.
                let names =
                    missing.iter().filter_map(|path| path.to_str()).filter(|name| !name.contains('\n'));
                let list: String = names.map(|name| format!("{name}\n")).collect();
                command.args(["-i", "-"]).input(list)
            }
            // Several at once only goes for whole directories.
            _ => command.args(["-j", "0"]).arg(self.staged.join("lib")),
        };
        let command = command.accept([1]).deadline(budget.left());
        host.run(&command).map(|_| ()).map_err(|error| failed("compiling the packages", error))
    }
}
