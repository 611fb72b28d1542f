//! What the new version's pages answer on copies of the databases.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::live::Live;
use super::sandbox::{Scratch, Trial};
use super::{Candidate, RehearsalError};
use crate::django::{DjangoError, PageRecord, PageServer, Raised, Session};
use crate::git::counted;
use crate::host::files::InPath;
use crate::host::processes::ProcessId;
use crate::operations::smoke_check::{PageResult, Problem, SmokeCheck};
use crate::update::error::PreparationError;
use crate::update::prepare::Preparation;
use crate::update::rehearsal::{answered, fits, judge, note_exceptions};
use crate::update::services::BACKGROUND;

/// How long a path of a Unix socket may be, in bytes. Source: `unix(7)`.
const LONGEST_SOCKET: usize = 107;

/// The check of pages in a rehearsal.
pub(super) struct PageCheck {
    check: SmokeCheck,
    socket: PathBuf,
    /// The directory through which a socket with a long path is reached.
    _directory: Option<File>,
}

/// What a version answered in a rehearsal.
pub(super) struct Asked {
    pub results: Vec<PageResult>,
    pub records: Vec<PageRecord>,
    /// Why its process ended, if a page ended it.
    pub ended: Option<Box<Raised>>,
}

impl Preparation<'_, '_> {
    /// Asks the new version for the pages of the smoke check. `live`: what the live version does there, if that is known; it is
    /// taken once it was compared.
    pub(super) fn rehearse_pages(
        &mut self,
        session: &mut Session,
        mut trial: Trial,
        candidate: &Candidate<'_>,
        live: &mut Option<Live>,
        scratch: &Scratch,
    ) -> Result<String, RehearsalError> {
        let Some(check) = self.page_check(candidate.check.clone(), scratch)? else {
            return Ok("no pages are configured".to_owned());
        };
        let Asked { mut results, records, ended } = self.ask(&mut trial, candidate, &check)?;
        note_exceptions(&mut results, &records);
        let pages = answered(&results, &records);
        let seen = self.rehearsed();
        seen.reached(pages.iter().flat_map(|page| page.network.iter().cloned()));
        seen.pages = pages;
        let (is_whole, in_scratch) = (trial.copies.skipped.is_empty(), trial.copies.use_scratch());
        let own: Vec<&str> =
            candidate.own.iter().copied().chain(trial.without.iter().map(String::as_str)).collect();
        // Before the live version is tried in the same directory.
        trial.session.close(&self.host);
        if let Some(raised) = ended {
            let failing = results.into_iter().filter(|page| !page.problems.is_empty()).collect();
            let raised = Some(raised);
            return Err(RehearsalError::Failed(
                PreparationError::PagesFail { version: self.version(), failing, raised }.into(),
            ));
        }
        let (mut failing, mut unsure) = judge(&results, &records, &own, in_scratch);
        if !failing.is_empty() && is_whole {
            // Pages that the live version does not answer here either say nothing about the new one.
            let asked;
            let there = match &*live {
                Some(there) => there,
                None => {
                    asked = self.live_there(session, candidate, scratch)?;
                    &asked
                }
            };
            failing.retain(|page| match there.is_no_evidence(page, candidate.baseline) {
                Some(text) => {
                    unsure.push(text);
                    false
                }
                None => true,
            });
        }
        if let (true, Some(live)) = (failing.is_empty(), live.take()) {
            unsure.extend(live.open_point(candidate.baseline, &results, self.what()));
        }
        for text in unsure {
            self.notice(text);
        }
        if failing.is_empty() {
            let good = results.iter().filter(|page| page.problems.is_empty()).count();
            return Ok(format!("{good} of {} as expected on a copy", counted(results.len(), "page")));
        }
        let raised = records.iter().filter(|record| failing.iter().any(|page| fits(&record.path, page)));
        let raised =
            raised.flat_map(|record| &record.exceptions).next().map(|exception| Box::new(exception.raised()));
        Err(RehearsalError::Failed(
            PreparationError::PagesFail { version: self.version(), failing, raised }.into(),
        ))
    }

    /// Loads what the workers that run will load when they start again.
    pub(super) fn rehearse_workers(
        &mut self,
        trial: &mut Trial,
        candidate: &Candidate<'_>,
    ) -> Result<Option<String>, RehearsalError> {
        let services = self.site.config().services.iter().zip(candidate.states);
        let workers =
            services.filter(|(service, _)| BACKGROUND.contains(&service.role) && service.rehearse.is_empty());
        let commands = workers.filter_map(|(service, state)| {
            let runs = state.pids.first().map(ProcessId::words).filter(|words| !words.is_empty());
            runs.or_else(|| Some(service.manager.commands()[0].to_vec())).filter(|words| !words.is_empty())
        });
        let commands: Vec<Vec<String>> = commands.collect();
        self.rehearse_services(trial, candidate)?;
        if commands.is_empty() {
            return Ok(None);
        }
        let workers = trial.session.load_workers(&self.host, &commands)?;
        self.rehearsed().workers.extend(workers.loaded.iter().cloned());
        for fault in workers.failed {
            self.rehearsed().reached(fault.network.iter().cloned());
            let raised = Box::new(fault.exception.raised());
            match fault.network.first() {
                Some(place) => self.notice(format!(
                    "worker `{}` tries to connect to {place} when it starts, which a rehearsal cannot reach: {raised}",
                    fault.command
                )),
                None => {
                    return Err(RehearsalError::Failed(
                        PreparationError::WorkerFails {
                            version: self.version(),
                            command: fault.command,
                            raised,
                        }
                        .into(),
                    ));
                }
            }
        }
        Ok((!workers.loaded.is_empty()).then(|| workers.loaded.join(", ")))
    }

    /// Returns the check of pages in the rehearsal; `None`: there are none.
    pub(super) fn page_check(
        &self,
        check: Option<SmokeCheck>,
        scratch: &Scratch,
    ) -> Result<Option<PageCheck>, RehearsalError> {
        let socket = scratch.path.join("pages.sock");
        let Some(check) = check.filter(|check| !check.pages.is_empty()) else { return Ok(None) };
        let (mut directory, mut near) = (None, socket.clone());
        if socket.as_os_str().len() > LONGEST_SOCKET {
            let opened = File::open(&scratch.path).at("open the directory", &scratch.path);
            let opened = opened.map_err(|error| RehearsalError::Failed(error.into()))?;
            near = PathBuf::from(format!("/proc/self/fd/{}/pages.sock", opened.as_raw_fd()));
            directory = Some(opened);
        }
        let check = check.through(near).map_err(|error| RehearsalError::Failed(error.into()))?;
        Ok(Some(PageCheck { check, socket, _directory: directory }))
    }

    /// Lets a version answer these pages.
    pub(super) fn ask(
        &self,
        trial: &mut Trial,
        candidate: &Candidate<'_>,
        PageCheck { check, socket, .. }: &PageCheck,
    ) -> Result<Asked, RehearsalError> {
        let root = candidate.site.static_files.root.as_ref().map(|root| self.in_live(candidate, root));
        let url = candidate.site.static_files.url.as_ref().filter(|url| url.starts_with('/'));
        let files: Vec<(String, PathBuf)> = url.cloned().zip(root).into_iter().collect();
        let server = PageServer { socket, scheme: check.scheme(), application: None, files: &files };
        // `check` has loaded it beside the site: what it lacks here is something of the machine.
        trial
            .session
            .begin_pages(&self.host, &server)
            .map_err(|error| RehearsalError::because("the application does not load on the copy", error))?;
        let mut results = check.run(&self.host).map_err(|error| RehearsalError::Failed(error.into()))?;
        // The rehearsal's own socket tells a person nothing.
        let address = format!("`unix:{}`", socket.display());
        for problem in results.iter_mut().flat_map(|page| &mut page.problems) {
            if let Problem::NoAnswer { reason, .. } = problem {
                *reason = reason.replace(&address, "the application");
            }
        }
        match trial.session.end_pages(&self.host) {
            Err(DjangoError::Broken { raised, .. }) => {
                Ok(Asked { results, records: Vec::new(), ended: Some(raised) })
            }
            records => Ok(Asked { results, records: records?, ended: None }),
        }
    }
}
