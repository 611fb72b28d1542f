//! Whether a site is ready for an update, and what would make its windows shorter.
//!
//! An update stops at the first thing that is wrong; [`examine`] names all of them at once. It only reads: it asks the remote, the
//! managers of the services, the databases and the pages, and boots Django once from the live checkout. Each check is independent of
//! the others, and asks the same code as an update.

mod code;
mod databases;
mod disk;
mod findings;
mod look;
mod rehearsal;
mod services;
mod site;
mod web;
mod window;
mod windows;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use findings::{Finding, Level, Topic};
pub use windows::Windows;

use crate::host::Cancel;
use crate::site::Site;
use findings::Findings;
use look::Look;

/// Looks at one topic, and adds what it finds.
type Check = fn(&mut Look<'_>, &mut Findings);

/// The checks, in the order of their findings.
const CHECKS: [(Topic, Check); 17] = [
    (Topic::Configuration, site::configuration),
    (Topic::User, site::user),
    (Topic::Runs, site::runs),
    (Topic::Git, code::git),
    (Topic::Python, code::python),
    (Topic::Secrets, code::secrets),
    (Topic::Django, code::django),
    (Topic::Database, databases::databases),
    (Topic::Services, services::services),
    (Topic::Pages, services::pages),
    (Topic::Disk, disk::disk),
    (Topic::Socket, web::socket),
    (Topic::Page, web::page),
    (Topic::Maintenance, web::maintenance),
    (Topic::Boot, web::boot),
    (Topic::Window, window::window),
    (Topic::Rehearsal, rehearsal::rehearsal),
];

/// What was found about a site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Examination {
    /// The findings, in the order of their topics. A topic that does not apply to the site has none.
    pub findings: Vec<Finding>,
    /// The windows of the last updates; `None`: none was measured.
    pub windows: Option<Windows>,
}

/// Why a site was not examined to the end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The end was requested.
    #[error("interrupted")]
    Interrupted,
}

/// Examines a site. Nothing is fetched, written, started or stopped, so this is safe at any time, also while an update runs.
///
/// What is wrong with the site is a [`Finding`]. It takes as long as the remote, the services, the databases and the pages take to
/// answer one after another, while Django boots. To try whether the kernel lets updates be rehearsed, it makes a directory, and
/// removes it again.
///
/// # Errors
///
/// [`ExamineError::Interrupted`] when `cancel` is requested.
///
/// # Examples
///
/// ```no_run
/// use deploykit::Site;
/// use deploykit::doctor::{self, Level};
///
/// let site = Site::load("/srv/site/deploykit.toml".as_ref(), None)?;
/// let examination = doctor::examine(&site, None)?;
/// for finding in examination.findings.iter().filter(|finding| finding.level == Level::Problem) {
///     println!("{}: {}", finding.topic, finding.text);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn examine(site: &Site, cancel: Option<Cancel>) -> Result<Examination, ExamineError> {
    let mut look = Look::at(site, site.host(cancel));
    let mut findings = Findings::default();
    for (topic, check) in CHECKS {
        findings.begin(topic);
        check(&mut look, &mut findings);
        if look.host.is_cancelled() {
            return Err(ExamineError::Interrupted);
        }
    }
    Ok(Examination { findings: findings.hiding(look.host.redactor()), windows: look.windows() })
}

impl Examination {
    /// Tells whether an update can run: there is advice at most.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.count(Level::Problem) == 0
    }

    /// Returns how many findings have this level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Adds what the caller found, in the place of what was found good about the same topic.
    pub fn add(&mut self, finding: Finding) {
        let same = |other: &Finding| other.topic == finding.topic;
        self.findings.retain(|other| !same(other) || other.level != Level::Good);
        let place = self.findings.iter().position(|other| other.topic > finding.topic);
        self.findings.insert(place.unwrap_or(self.findings.len()), finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_are_in_their_order_and_each_has_a_check() {
        assert!(CHECKS.is_sorted_by(|(one, _), (other, _)| one < other));
        assert_eq!(CHECKS.map(|(topic, _)| topic), *Topic::ALL);
    }

    #[test]
    fn what_the_caller_adds_replaces_what_was_good() {
        let mut found = Examination::default();
        for topic in [Topic::Configuration, Topic::Git] {
            found.add(Finding::new(topic, Level::Good, "good"));
        }
        assert!(found.is_ready());
        for text in ["one", "two"] {
            found.add(Finding {
                way_out: Some("do".into()),
                ..Finding::new(Topic::Configuration, Level::Problem, text)
            });
        }
        let texts: Vec<&str> = found.findings.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "good"]);
        assert_eq!((found.is_ready(), found.count(Level::Problem)), (false, 2));
    }
}
