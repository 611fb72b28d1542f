//! The staged virtualenv. It waits for the requirements of the target, and for nothing else: where git alone can tell them,
//! it is prepared beside the staged tree.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, Builder};
use std::time::Instant;

use super::{Failed, Ground, Preparation};
use crate::git::Tree;
use crate::host::{Cancel, Host, files};
use crate::operations::git_update::Move;
use crate::operations::pip_install::{self, PipInstall, Prepared as Packages, Record};
use crate::plan::StepKind;
use crate::python::{PythonError, Requirements, included};
use crate::services::ServiceState;
use crate::site::{ConfigError, Site};
use crate::update::answers::program_of;
use crate::update::error::{PreparationError, UpdateError};
use crate::update::past;

/// What uv reads of the directory that it runs in.
const SETTINGS: [&str; 2] = ["pyproject.toml", "uv.toml"];

/// The requirements files of the target, alone in a directory; removed with this value.
struct Early {
    directory: PathBuf,
    install: PipInstall,
    fingerprint: String,
}

impl Drop for Early {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.directory) {
            log::warn!("{}", crate::error_chain(&error));
        }
    }
}

impl Early {
    /// Takes them from git; `None` where their meaning depends on the tree around them.
    fn new(site: &Site, record: Option<Record>, commit: &str, host: &Host) -> Option<Self> {
        let config = site.config();
        let target = Tree::open(&config.site.repository, commit).ok()?;
        if config.python.requirements.is_empty() || names_a_file(site, &target, host) {
            return None;
        }
        let directory = site.next_requirements();
        files::own_directory(&directory, None).ok()?;
        files::remove_tree(&directory).ok()?;
        DirBuilder::new().mode(0o700).create(&directory).ok()?;
        let install = install_in(site, record, &directory).ok()?;
        let mut early = Early { directory, install, fingerprint: String::new() };
        early.take(site, &target)?;
        let install = &early.install;
        let read = Requirements::read(&install.requirements, &install.directory, &install.extra_args).ok()?;
        early.fingerprint = read.stand_alone().then_some(read.fingerprint)?;
        Some(early)
    }

    /// Copies the files with those that they include. The installer reports missing files.
    fn take(&self, site: &Site, target: &Tree) -> Option<()> {
        let inside =
            |file: &PathBuf| file.strip_prefix(&site.config().site.repository).ok().map(Path::to_owned);
        let mut waiting: Vec<PathBuf> = site.config().python.requirements.iter().filter_map(inside).collect();
        let settings = SETTINGS.map(PathBuf::from);
        for file in &settings {
            self.copy(target, file)?;
        }
        while let Some(file) = waiting.pop() {
            if !self.directory.join(&file).exists() {
                let text = self.copy(target, &file)?;
                waiting.extend(included(&file, &text));
            }
        }
        Some(())
    }

    /// Copies one file, if there is one, and returns its text.
    fn copy(&self, target: &Tree, file: &Path) -> Option<String> {
        let Some(contents) = target.bytes(file).ok()? else { return Some(String::new()) };
        let place = self.directory.join(file);
        fs::create_dir_all(files::parent(&place)).ok()?;
        fs::write(place, &contents).ok()?;
        Some(String::from_utf8_lossy(&contents).into_owned())
    }

    /// Tells whether the tree asks for the same: filters, local changes and the site's own steps may have changed it.
    fn fits(&self, site: &Site, tree: &Path) -> bool {
        let Ok(there) = install_in(site, None, tree) else { return false };
        let read = Requirements::read(&there.requirements, &there.directory, &there.extra_args);
        let same = |file: &str| fs::read(tree.join(file)).ok() == fs::read(self.directory.join(file)).ok();
        read.is_ok_and(|read| read.fingerprint == self.fingerprint) && SETTINGS.into_iter().all(same)
    }
}

/// Tells whether arguments or variables for the installer name something of the tree by a path relative to it.
fn names_a_file(site: &Site, target: &Tree, host: &Host) -> bool {
    let is_its_own = |name: &str| name.starts_with("PIP_") || name.starts_with("UV_");
    let ours = std::env::vars_os()
        .filter_map(|(name, value)| name.to_str().is_some_and(is_its_own).then_some(value));
    let ours = ours.map(|value| value.to_string_lossy().into_owned());
    let sites =
        host.variables().iter().filter(|(name, _)| is_its_own(name)).map(|(_, value)| value.to_owned());
    let texts: Vec<String> =
        ours.chain(sites).chain(site.config().python.extra_args.iter().cloned()).collect();
    let is_there = |word: &str| {
        let path = Path::new(word.strip_prefix("-f").unwrap_or(word));
        !word.is_empty()
            && path.is_relative()
            && (target.holds(path) || site.config().site.repository.join(path).exists())
    };
    texts.iter().any(|text| text.split(|c: char| c.is_whitespace() || c == '=').any(is_there))
}

/// Returns the installation for a tree of the project.
fn install_in(site: &Site, record: Option<Record>, tree: &Path) -> Result<PipInstall, ConfigError> {
    let requirements = site.config().python.requirements.iter();
    Ok(PipInstall {
        requirements: requirements.map(|file| site.in_tree(file, tree)).collect(),
        directory: tree.to_owned(),
        ..site.pip_install_after(record)?
    })
}

impl Preparation<'_, '_> {
    /// Makes the staged tree and the staged virtualenv, beside each other where that can be.
    pub(super) fn ground_and_packages(
        &mut self,
        moved: Option<&Move>,
        states: &[ServiceState],
    ) -> Result<(Ground, Packages), UpdateError> {
        let early = Early::new(self.site, self.last.packages.clone(), &self.to, &self.host);
        let early = early.and_then(|early| Some((early, self.host.with_part().ok()?)));
        let Some((early, (host, cancel))) = early else {
            let ground = self.ground(moved)?;
            let packages = self.step(StepKind::StagedVirtualenv, |this| {
                this.can_be_reached(&this.install_in(&ground.tree.path)?, states)?;
                let packages = this.packages(&ground)?;
                this.look_at(packages, states)
            })?;
            return Ok((ground, packages));
        };
        let mut running = self.begin_step(StepKind::StagedVirtualenv);
        if let Err(source) = self.can_be_reached(&early.install, states) {
            return Err(self.fail(running.step, source.into()));
        }
        let (ground, packages) = self.beside(&early, &host, &cancel, moved);
        let ground = ground?;
        let packages = match packages {
            Some((packages, until)) => {
                running.until = Some(until);
                packages.map_err(Failed::from)
            }
            None => self.packages(&ground),
        };
        let packages = packages.and_then(|packages| self.look_at(packages, states));
        Ok((ground, self.end_step(running, packages)?))
    }

    /// Prepares the virtualenv in a thread while the tree is made; it is ended when the tree fails or asks for something
    /// else.
    #[expect(clippy::type_complexity, reason = "two results, one of which says when it came")]
    fn beside(
        &mut self,
        early: &Early,
        host: &Host,
        cancel: &Cancel,
        moved: Option<&Move>,
    ) -> (Result<Ground, UpdateError>, Option<(Result<Packages, PythonError>, Instant)>) {
        thread::scope(|scope| {
            let prepare = || (early.install.build(host), Instant::now());
            let thread = Builder::new().spawn_scoped(scope, prepare);
            let ground = self.ground(moved);
            let fits = ground.as_ref().is_ok_and(|ground| early.fits(self.site, &ground.tree.path));
            if !fits {
                cancel.request();
            }
            let packages =
                thread.ok().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (ground, packages.filter(|_| fits))
        })
    }

    fn install_in(&self, tree: &Path) -> Result<PipInstall, ConfigError> {
        install_in(self.site, self.last.packages.clone(), tree)
    }

    /// Builds the staged virtualenv from the staged tree, unless the live one is the right one.
    fn packages(&self, ground: &Ground) -> Result<Packages, Failed> {
        if self.site.config().python.requirements.is_empty() {
            let reason = "no requirements are configured".to_owned();
            return Ok(Packages::Unchanged { reason, record: Record::default() });
        }
        Ok(self.install_in(&ground.tree.path)?.build(&self.host)?)
    }

    /// Checks that the services can use the staged virtualenv.
    fn look_at(&mut self, packages: Packages, states: &[ServiceState]) -> Result<(Packages, String), Failed> {
        let config = self.site.config();
        let text = match &packages {
            Packages::Unchanged { reason, .. } => reason.clone(),
            Packages::Upgrade(upgrade) => pip_install::summary(&upgrade.changes),
            Packages::Ready(ready) => {
                let virtualenv = self.site.virtualenv()?;
                self.try_to_move(virtualenv)?;
                ready.warnings.iter().for_each(|warning| self.notice(warning.clone()));
                past::prune_built(self.site, &self.state, ready.staged.clone())?;
                let bin = virtualenv.join("bin");
                if let Some((service, program)) =
                    program_of(&config.services, states, &bin, &ready.missing_scripts)
                {
                    return Err(
                        PreparationError::ProgramMissing { service, program: bin.join(program) }.into()
                    );
                }
                if !ready.missing_scripts.is_empty() {
                    let scripts = ready.missing_scripts.join("`, `");
                    self.notice(format!(
                        "the staged virtualenv has no `bin/{scripts}`, which the live one has"
                    ));
                }
                pip_install::summary(&ready.changes)
            }
        };
        Ok((packages, text))
    }
}
