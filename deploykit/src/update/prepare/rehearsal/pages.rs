//! What the new version's pages answer on copies of the databases.

use std::path::{Path, PathBuf};

use super::world::{Scratch, Tried};
use super::{Ends, Stage};
use crate::django::{DjangoError, PageRecord, PageServer, Session};
use crate::git::counted;
use crate::host::processes::ProcessId;
use crate::operations::smoke_check::{PageResult, SmokeCheck};
use crate::update::error::PreparationError;
use crate::update::prepare::Preparation;
use crate::update::rehearsal::{fits, judge};
use crate::update::services::BACKGROUND;

/// How long a path of a Unix socket may be, in bytes. Source: `unix(7)`.
const LONGEST_SOCKET: usize = 107;

impl Preparation<'_, '_> {
    /// Asks the new version for the pages of the smoke check.
    pub(super) fn rehearse_pages(
        &mut self,
        session: &mut Session,
        tried: Tried,
        stage: &Stage<'_>,
        scratch: &Scratch,
    ) -> Result<String, Ends> {
        let socket = scratch.0.join("pages.sock");
        let Some(check) = stage.check.as_ref().filter(|check| !check.pages.is_empty()) else {
            return Ok("no pages are configured".to_owned());
        };
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(Ends::cannot(format!("`{}` is too long for a Unix socket", socket.display())));
        }
        let check = check.through(socket.clone()).map_err(|error| Ends::Fails(error.into()))?;
        let is_whole = tried.copies.skipped.is_empty();
        let (results, records) = self.ask(tried, stage, &check, &socket)?;
        let (mut failing, mut unsure) = judge(&results, &records, &stage.own);
        if !failing.is_empty() && is_whole {
            // Pages that the live version does not answer here either say nothing about the new one.
            let there = match self.live_pages(session, stage, &check, &socket, scratch) {
                // Then nothing speaks for the new version.
                Err(Ends::Cannot(_)) => stage.baseline.to_vec(),
                // Then this is no place to tell one version from another.
                Err(Ends::Fails(error)) if error.is::<PreparationError>() => Vec::new(),
                there => there?,
            };
            failing.retain(|page| {
                let status = |results: &[PageResult]| {
                    results.iter().find(|one| one.path == page.path).map(|one| one.status)
                };
                let is_faithful = status(&there) == status(stage.baseline);
                if !is_faithful {
                    unsure.push(format!(
                        "`{}` is not rehearsed: Django alone does not answer it as the live site does",
                        page.path
                    ));
                }
                is_faithful
            });
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
        Err(Ends::Fails(PreparationError::PagesFail { version: self.version(), failing, raised }.into()))
    }

    /// Loads what the workers that run will load when they start again.
    pub(super) fn rehearse_workers(
        &mut self,
        tried: &mut Tried,
        stage: &Stage<'_>,
    ) -> Result<Option<String>, Ends> {
        let services = self.site.config().services.iter().zip(stage.states);
        let workers =
            services.filter(|(service, _)| BACKGROUND.contains(&service.role) && service.rehearse.is_empty());
        let commands = workers.filter_map(|(service, state)| {
            let runs = state.pids.first().map(ProcessId::words).filter(|words| !words.is_empty());
            runs.or_else(|| Some(service.manager.commands()[0].to_vec())).filter(|words| !words.is_empty())
        });
        let commands: Vec<Vec<String>> = commands.collect();
        self.rehearse_services(tried, stage)?;
        if commands.is_empty() {
            return Ok(None);
        }
        let workers = tried.session.load_workers(&self.host, &commands)?;
        for fault in workers.failed {
            let raised = Box::new(fault.exception.raised());
            match fault.network.first() {
                Some(place) => self.notice(format!(
                    "worker `{}` tries to connect to {place} when it starts, which a rehearsal cannot reach: {raised}",
                    fault.command
                )),
                None => {
                    return Err(Ends::Fails(
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

    /// Returns what the live version answers on copies.
    fn live_pages(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        check: &SmokeCheck,
        socket: &Path,
        scratch: &Scratch,
    ) -> Result<Vec<PageResult>, Ends> {
        let live = self.try_out(session, stage, None, scratch)?;
        self.ask(live, stage, check, socket).map(|(results, _)| results)
    }

    /// Lets a version answer these pages, and ends its world.
    fn ask(
        &self,
        mut tried: Tried,
        stage: &Stage<'_>,
        check: &SmokeCheck,
        socket: &Path,
    ) -> Result<(Vec<PageResult>, Vec<PageRecord>), Ends> {
        let root = stage.site.static_files.root.as_ref().map(|root| self.in_live(stage, root));
        let url = stage.site.static_files.url.as_ref().filter(|url| url.starts_with('/'));
        let files: Vec<(String, PathBuf)> = url.cloned().zip(root).into_iter().collect();
        let server = PageServer { socket, scheme: check.scheme(), application: None, files: &files };
        // `check` has loaded it beside the site: what it lacks here is something of the machine.
        tried
            .session
            .begin_pages(&self.host, &server)
            .map_err(|error| Ends::because("the application does not load on the copy", error))?;
        let results = check.run(&self.host).map_err(|error| Ends::Fails(error.into()))?;
        let records = match tried.session.end_pages(&self.host) {
            // A page has ended the process.
            Err(DjangoError::Broken { raised, .. }) => {
                let failing = results.into_iter().filter(|page| !page.problems.is_empty()).collect();
                return Err(Ends::Fails(
                    PreparationError::PagesFail { version: self.version(), failing, raised: Some(raised) }
                        .into(),
                ));
            }
            records => records?,
        };
        tried.session.close(&self.host);
        Ok((results, records))
    }
}
