//! Boots the new version's web server beside the live one, where its socket is held.

use std::path::{Path, PathBuf};

use super::Preparation;
use crate::bridge::{Boot, Booted, Bridges, Unfit, Web};
use crate::django::Mounted;
use crate::event::Event;
use crate::git::{StagedTree, counted};
use crate::host::Swap;
use crate::keys::Size;
use crate::operations::pip_install::Prepared as Packages;
use crate::operations::smoke_check::PageResult;
use crate::plan::{Phase, StepKind};
use crate::python::{Target, in_place};
use crate::services::{Role, Service, ServiceState};
use crate::site::Site;
use crate::update::error::{PreparationError, UpdateError};

/// What a bridge is made of.
pub(in crate::update) struct Beforehand<'b> {
    /// The Python of the version that is to go live.
    pub python: &'b Path,
    /// Its tree, beside the live one.
    pub tree: &'b StagedTree,
    pub packages: &'b Packages,
    /// Its static files, where the directory is exchanged whole.
    pub static_files: Option<Mounted>,
    /// Its static files are placed one by one.
    pub places_files: bool,
    pub states: &'b [ServiceState],
    /// The pages of the live version.
    pub baseline: &'b [PageResult],
}

impl Preparation<'_, '_> {
    /// Boots the web servers, and returns them at their gates. If the new version's cannot be booted, the plan says why, and the web
    /// boots in the window. If only the old version's cannot be booted, the web boots in an undo, as without a held socket. If no
    /// socket is held, nothing is said.
    pub(in crate::update) fn boot_bridges(&mut self, new: &Beforehand<'_>) -> Result<Bridges, UpdateError> {
        let services = self.site.config().services.iter().zip(new.states);
        let web: Vec<_> = services.filter(|(service, _)| service.role == Role::Web).collect();
        if !web.iter().any(|(_, state)| state.socket.holder.is_some()) {
            return Ok(Bridges::default());
        }
        match self.bridge_step(StepKind::BootBridge, |this| this.try_bridge(&web, new))? {
            Ok(booted) => {
                let old = self.bridge_step(StepKind::BootOldBridge, |this| this.try_old_bridge(&web, new))?;
                Ok(Bridges { new: Some(booted), old: old.ok() })
            }
            Err(Unfit(reason)) => {
                self.notice(format!(
                    "the web is not started beforehand, so requests wait for its boot: {reason}"
                ));
                Ok(Bridges::default())
            }
        }
    }

    fn bridge_step(
        &mut self,
        kind: StepKind,
        boot: impl FnOnce(&Self) -> Result<Booted, Unfit>,
    ) -> Result<Result<Booted, Unfit>, UpdateError> {
        let step = self.begin_step(kind.clone());
        match boot(self) {
            Ok(booted) => {
                let workers = counted(booted.workers, "worker");
                let said = format!("{workers} ready and waiting, {}", Size(booted.memory));
                self.end_step(step, Ok((Ok(booted), said)))
            }
            Err(_) if self.host.is_cancelled() => {
                self.end_step(step, Err(PreparationError::Interrupted.into()))
            }
            Err(Unfit(reason)) => {
                let (phase, reason_told) = (Phase::Prepare, reason.clone());
                self.events.send(Event::StepSkipped { phase, step: kind, reason: reason_told });
                Ok(Err(Unfit(reason)))
            }
        }
    }

    fn try_bridge(&self, web: &[(&Service, &ServiceState)], new: &Beforehand<'_>) -> Result<Booted, Unfit> {
        let (service, web) = can_be_started(self.site, web)?;
        if new.places_files {
            return Err(Unfit::new("the static files are placed one by one"));
        }
        let packages = Shown::of(new)?;
        let state = self.state.directory().to_owned();
        let own = Mounted { live: state.clone(), staged: state };
        let live = self.site.config().site.repository.clone();
        Boot {
            web: &web,
            python: packages.python,
            virtualenv: packages.virtualenv,
            directory: &self.state.bridge(),
            log: self.directory().join("bridge.log"),
            tree: Some(Mounted { live, staged: new.tree.path.clone() }),
            show: new.static_files.iter().cloned().chain(packages.directories).chain([own]).collect(),
            limit: service.start_timeout,
            stop_timeout: service.stop_timeout,
        }
        .perform(&self.host)
    }

    fn try_old_bridge(
        &self,
        web: &[(&Service, &ServiceState)],
        new: &Beforehand<'_>,
    ) -> Result<Booted, Unfit> {
        let (service, state) = only(web)?;
        if self.site.smoke_check().is_none_or(|check| check.like(new.baseline).pages.is_empty()) {
            return Err(Unfit::new("no page responds, so nothing tells when the old web serves"));
        }
        let web = Web::of(state, service.manager.commands()[0])?;
        has_room(&web)?;
        Boot {
            web: &web,
            python: self.site.project().map_err(|error| Unfit::of(&error))?.python,
            virtualenv: None,
            directory: &self.state.old_bridge(),
            log: self.directory().join("old-bridge.log"),
            tree: None,
            show: Vec::new(),
            limit: service.start_timeout,
            stop_timeout: service.stop_timeout,
        }
        .perform(&self.host)
    }
}

/// Looks at what tells beforehand whether a second web server can be started beside the live one.
pub(crate) fn can_be_started<'w>(
    site: &Site,
    web: &[(&'w Service, &ServiceState)],
) -> Result<(&'w Service, Web), Unfit> {
    let (service, state) = only(web)?;
    if site.smoke_check().is_none_or(|check| check.pages.is_empty()) {
        return Err(Unfit::new("`smoke.pages` is empty, so nothing tells when the web serves"));
    }
    let web = Web::of(state, service.manager.commands()[0])?;
    has_room(&web)?;
    Ok((service, web))
}

/// Returns the only web service.
fn only<'w, 's>(web: &[(&'w Service, &'s ServiceState)]) -> Result<(&'w Service, &'s ServiceState), Unfit> {
    let [one] = web else { return Err(Unfit::new("there are several web services")) };
    Ok(*one)
}

/// Which packages the view shows at the paths where they will be.
struct Shown {
    python: PathBuf,
    /// A virtualenv that a rollback moves back to its path.
    virtualenv: Option<Mounted>,
    /// Directories of packages in a virtualenv that stays.
    directories: Vec<Mounted>,
}

impl Shown {
    fn of(new: &Beforehand<'_>) -> Result<Self, Unfit> {
        // A virtualenv that deploykit built, and one that a link led to, stay where they are.
        let mut shown = Shown { python: new.python.to_owned(), virtualenv: None, directories: Vec::new() };
        let Some(switch) = new.packages.goes_live().map(|ready| &ready.switch) else { return Ok(shown) };
        let live = &switch.virtualenv;
        match &switch.target {
            Target::Virtualenv(_) | Target::Link(_) => return Ok(shown),
            Target::Directory => {
                shown.virtualenv = Some(Mounted { live: live.clone(), staged: switch.kept.clone() });
            }
            Target::InPlace { place, .. } => {
                if let Some(file) = in_place::replaced_elsewhere(place) {
                    let path = live.join(file);
                    return Err(Unfit::new(format!("`{}` is replaced in place", path.display())));
                }
                let directories = in_place::exchanged(place).map_err(|error| Unfit::of(&error))?;
                let mounted = |Swap { live, aside, .. }| Mounted { live, staged: aside };
                shown.directories = directories.into_iter().map(mounted).collect();
            }
        }
        shown.python = live.join("bin/python");
        Ok(shown)
    }
}

/// Refuses a second web server beside the live one where there is too little memory for it.
fn has_room(web: &Web) -> Result<(), Unfit> {
    if web.memory == 0 {
        return Err(Unfit::new("the memory that the web takes is not known"));
    }
    // Twice: the live one and this one may grow. The web service and the workers that boot later take the place of those that run now.
    let needed = Size(web.memory.saturating_mul(2));
    match crate::host::available_memory() {
        Some((available, _)) if available < needed => Err(Unfit::new(format!(
            "another web server needs {needed} of memory (twice that of the running one), and {available} is available"
        ))),
        _ => Ok(()),
    }
}
