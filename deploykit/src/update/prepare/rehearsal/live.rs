//! What the live version does when it is started again: on copies of the databases, with the settings and packages as they are now.
//! The undo of a failed update starts it.

use super::pages::Asked;
use super::sandbox::{Scratch, Trial};
use super::{Candidate, RehearsalError};
use crate::django::{Copies, PageException, PageRecord, Raised, Session};
use crate::git::counted;
use crate::operations::smoke_check::{PageResult, Problem};
use crate::plan::StepKind;
use crate::update::error::UpdateError;
use crate::update::prepare::{Failed, Preparation};
use crate::update::rehearsal::{answered, fits};

/// What the live version did on the copies.
#[derive(Debug, Default)]
pub(super) struct Live {
    results: Vec<PageResult>,
    records: Vec<PageRecord>,
    /// Why it answers nothing, as a fragment.
    fault: Option<String>,
}

impl Preparation<'_, '_> {
    /// Checks whether the live version boots: on copies of the databases, where it is also asked for its pages, or else beside the
    /// site. Returns the copies.
    pub(super) fn check_live(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        scratch: &Scratch,
    ) -> Result<(Result<Copies, RehearsalError>, Option<Live>), UpdateError> {
        self.step(StepKind::LiveCheck, |this| {
            let trial = this.copies(session, candidate, scratch).and_then(|copies| {
                Ok((copies.clone(), this.try_boot_on(&this.host, copies, candidate, None, scratch)?))
            });
            let (copies, booted) = match trial {
                Err(RehearsalError::Failed(error)) => return Err(error),
                Err(cannot) => {
                    let ((), text) = this.boot_live()?;
                    return Ok(((Err(cannot), None), text));
                }
                Ok(trial) => trial,
            };
            let mut trial = match booted {
                Ok(trial) => trial,
                Err(error) => {
                    // What it lacks may be something of the machine.
                    let ((), text) = this.boot_live()?;
                    let text = if this.live_fault.is_some() {
                        text
                    } else {
                        format!("{text}; not on a copy: {error}")
                    };
                    return Ok(((Ok(copies), None), text));
                }
            };
            let live = match this.ask_live(&mut trial, candidate, scratch) {
                Err(RehearsalError::Failed(error)) => return Err(error),
                live => live.ok(),
            };
            let stopped = trial.session.stop_servers(&this.host);
            trial.session.close(&this.host);
            let copies = stopped.map(|()| copies).map_err(RehearsalError::from);
            let text = live.as_ref().map_or_else(String::new, |live| live.text(candidate.baseline));
            Ok(((copies, live), format!("the live version boots, too{text}")))
        })
    }

    /// Boots the live version beside the site.
    fn boot_live(&mut self) -> Result<((), String), Failed> {
        let version = self.begin_live_check(&self.site.project()?);
        self.end_live_check(version)
    }

    /// Boots the live version on new copies, and asks it for its pages.
    pub(super) fn live_there(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        scratch: &Scratch,
    ) -> Result<Live, RehearsalError> {
        let asked = self.boot_on_new_copies(session, candidate, None, scratch).and_then(|mut trial| {
            trial.session.lower_priority(&self.host)?;
            let live = self.ask_live(&mut trial, candidate, scratch)?;
            trial.session.close(&self.host);
            Ok(live)
        });
        match asked {
            // Then nothing speaks for the new version.
            Err(RehearsalError::Unavailable(_)) => {
                Ok(Live { results: candidate.baseline.to_vec(), ..Live::default() })
            }
            live => live,
        }
    }

    /// Asks the live version for its pages.
    pub(super) fn ask_live(
        &mut self,
        trial: &mut Trial,
        candidate: &Candidate<'_>,
        scratch: &Scratch,
    ) -> Result<Live, RehearsalError> {
        // Of a database that is missing, the live site has everything.
        let check = self.site.smoke_check().filter(|_| trial.copies.skipped.is_empty());
        let Some(check) = self.page_check(check, scratch)? else { return Ok(Live::default()) };
        match self.ask(trial, candidate, &check) {
            // Then nothing speaks for the new version.
            Err(RehearsalError::Unavailable(cannot)) => Ok(Live {
                results: candidate.baseline.to_vec(),
                fault: Some(cannot.reason),
                ..Live::default()
            }),
            Err(fails) => Err(fails),
            // Then this is no place to tell one version from another.
            Ok(Asked { ended: Some(raised), .. }) => {
                Ok(Live { fault: Some(format!("a page ends its process: {raised}")), ..Live::default() })
            }
            Ok(Asked { results, records, .. }) => {
                self.rehearsed().live = answered(&results, &records);
                Ok(Live { results, records, fault: None })
            }
        }
    }
}

impl Live {
    /// Says how many pages were answered as the live site answers them.
    fn text(&self, baseline: &[PageResult]) -> String {
        let asked: Vec<_> =
            self.results.iter().filter_map(|page| Some((page, before(page, baseline)?))).collect();
        let same = asked.iter().filter(|(page, before)| is_like(page, before)).count();
        match asked.len() {
            _ if self.fault.is_some() => String::new(),
            0 => String::new(),
            all => format!("; {same} of {} as now on a copy", counted(all, "page")),
        }
    }

    /// Says why a page that the other version fails to answer is no evidence; `None`: it is, for the live version answers it here.
    pub(super) fn is_no_evidence(&self, page: &PageResult, baseline: &[PageResult]) -> Option<String> {
        let status =
            |results: &[PageResult]| results.iter().find(|one| one.path == page.path).map(|one| one.status);
        let is_error_page = |problem: &Problem| matches!(problem, Problem::ErrorPage { .. });
        if page.problems.iter().any(is_error_page) && self.records_of(page).any(|record| record.unhandled) {
            let raised = self.raised(page).map(|raised| format!(": {raised}")).unwrap_or_default();
            return Some(format!(
                "{page}, on a copy of the site; so it is in the live version there{raised}"
            ));
        }
        if status(&self.results) == status(baseline) {
            return None;
        }
        let here = self.results.iter().find(|one| one.path == page.path);
        let why = here.map(|here| format!(": {}", self.said(here))).unwrap_or_default();
        Some(format!(
            "`{}` is not rehearsed: the live version, too, does not answer it on a copy as the live site does{why}",
            page.path
        ))
    }

    /// Says what the live version would not do any more once it is started again; `None`: nothing that is known. `other` is what
    /// the other version answered.
    pub(super) fn open_point(
        &self,
        baseline: &[PageResult],
        other: &[PageResult],
        what: &str,
    ) -> Option<String> {
        let lost = self.results.iter().filter(|page| self.is_lost(page, baseline, other));
        let lost: Vec<&PageResult> = lost.collect();
        let why = match (&self.fault, lost.first()) {
            (Some(fault), _) => fault.clone(),
            (None, None) => return None,
            (None, Some(first)) => {
                let all: Vec<String> = lost.iter().map(ToString::to_string).collect();
                let raised = self.raised(first).map(|raised| format!(": {raised}"));
                all.join("; ") + &raised.unwrap_or_default()
            }
        };
        Some(format!(
            "started again with the current configuration, variables and packages, the live version fails on a copy of the site: \
             {why}; restore what it needs: otherwise, if this {what} fails, the site may be held in maintenance"
        ))
    }

    /// Tells whether an undo would not be content with this page.
    fn is_lost(&self, page: &PageResult, baseline: &[PageResult], other: &[PageResult]) -> bool {
        let before = before(page, baseline).filter(|before| !is_like(page, before));
        let Some(before) = before else { return false };
        // The live site has what a rehearsal cannot reach.
        if self.records_of(page).any(|record| !record.network.is_empty() || record.read_only.is_some()) {
            return false;
        }
        match other.iter().find(|other| other.path == page.path) {
            // If both fail, the rehearsal may be the reason.
            Some(other) if !other.problems.is_empty() => false,
            Some(other) => other.status == before.status || self.raised(page).is_some(),
            None => self.raised(page).is_some(),
        }
    }

    fn said(&self, page: &PageResult) -> String {
        match self.raised(page) {
            Some(raised) => format!("{page}: {raised}"),
            None => page.to_string(),
        }
    }

    fn raised(&self, page: &PageResult) -> Option<Raised> {
        self.records_of(page).find_map(|record| record.exceptions.first()).map(PageException::raised)
    }

    fn records_of<'l>(&'l self, page: &'l PageResult) -> impl Iterator<Item = &'l PageRecord> {
        self.records.iter().filter(|record| fits(&record.path, page))
    }
}

/// Returns what the live site answered, where an undo expects that again.
fn before<'b>(page: &PageResult, baseline: &'b [PageResult]) -> Option<&'b PageResult> {
    let before = baseline.iter().find(|before| before.path == page.path)?;
    before.status.is_some_and(|status| status < 500).then_some(before)
}

/// Tells whether an undo would be content with this answer.
fn is_like(page: &PageResult, before: &PageResult) -> bool {
    page.status == before.status && (page.problems.is_empty() || !before.problems.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_page_of_both_versions_is_no_evidence() {
        let page = PageResult {
            path: "/a/".to_owned(),
            url: "https://example.org/a/".to_owned(),
            status: Some(200),
            ..PageResult::default()
        };
        let record = PageRecord { path: "/a/".to_owned(), ..PageRecord::default() };
        let exception = PageException { exception: "ValueError".to_owned(), ..PageException::default() };
        let error = PageRecord { unhandled: true, exceptions: vec![exception], ..record.clone() };
        let failing = PageResult { problems: vec![Problem::ErrorPage { status: 200 }], ..page.clone() };
        let baseline = [page.clone()];
        let said = |record: PageRecord| {
            let live = Live { results: vec![page.clone()], records: vec![record], fault: None };
            live.is_no_evidence(&failing, &baseline)
        };
        assert_eq!(said(record), None);
        assert_eq!(
            said(error).as_deref(),
            Some(
                "`/a/`: an exception was raised, and the error page has status 200, on a copy of the site; so it is in \
                 the live version there: ValueError"
            )
        );
    }
}
