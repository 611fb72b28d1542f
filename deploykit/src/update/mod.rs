//! The whole update: everything that can be done beforehand is, and the window holds the rest.
//!
//! `docs/how-it-works.md` shows the steps in their order.
//!
//! [`prepare`] does the first half and returns the [plan](crate::plan::Plan); [`Update::run`] does the second half. Whoever only wants the
//! plan drops the update: nothing that the site uses was touched.

mod announcement;
mod answers;
pub(crate) mod backup;
mod beside;
mod error;
mod finish;
pub(crate) mod forecast;
mod history;
mod inserted;
mod jobs;
mod migrate_command;
mod past;
mod pause;
pub(crate) mod prepare;
mod recipe;
mod recover;
mod rehearsal;
mod rollback;
pub(crate) mod secrets;
mod services;
mod written;

use std::time::Duration;

use jiff::civil::Time;

pub use announcement::{maintenance_off, maintenance_on};
pub use error::{PreparationError, RollbackError, UpdateError};
pub use finish::Update;
pub use inserted::InsertError;
pub use jobs::{JobError, begin_job};
pub use pause::{GoOnError, go_back, go_on};
pub use recover::{recover, recover_forward, report_of};
pub use secrets::{check_secrets, check_secrets_of};

use crate::django::When;
use crate::event::Observer;
use crate::host::Cancel;
pub use crate::pause::{PausePoint, Paused};
use crate::report::Report;
use crate::site::Site;

/// What is asked of an update.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A commit, tag or branch; `None`: the tip of the configured branch.
    pub revision: Option<String>,
    /// When the maintenance starts.
    pub start: Start,
    /// What users are told; `None`: what the configuration says.
    pub message: Option<String>,
    /// How long to wait for another run to end; default: not at all.
    pub lock_wait: Duration,
    /// The pages are broken now, and the update is to fix them: it does not refuse because none is as expected.
    pub broken: bool,
    /// Static files are collected anew, and everything else in `STATIC_ROOT` is removed, whatever the configuration says.
    pub clear: bool,
    /// Everything is looked at, also where a cheap comparison finds nothing new.
    pub look: bool,
    /// A rollback restores the copy of the database that the update made, instead of reversing its migrations.
    pub from_copy: bool,
    /// Whether to rehearse on copies of the databases; overrides `rehearsal.when`.
    pub rehearsal: Option<When>,
    /// Where the run pauses first, until [`go_on`] lets it go further; `None`: it does not pause.
    pub until: Option<PausePoint>,
    /// It will not be run: it leaves no trace in the history.
    pub only_plan: bool,
}

/// When the maintenance starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// As soon as the configured notice allows.
    #[default]
    AfterNotice,
    /// At the next time that the site's clock shows this.
    At(Time),
    /// In this long.
    In(Duration),
    /// At once, without the notice.
    Now,
}

/// What a preparation comes to.
#[derive(Debug)]
pub enum Prepared<'o> {
    /// There is nothing to do.
    Unchanged(Box<Report>),
    /// Everything is ready to go live.
    Ready(Box<Update<'o>>),
}

/// Prepares an update: the site serves as before, and nothing that it uses is touched.
///
/// # Errors
///
/// When another run has the lock or is unfinished, and when anything about the new version is not as it must be.
///
/// # Examples
///
/// ```no_run
/// use deploykit::event::Record;
/// use deploykit::update::{self, Prepared, Request};
/// use deploykit::Site;
///
/// let site = Site::load("/srv/site/deploykit.toml".as_ref(), None)?;
/// let mut watch = |record: &Record| println!("{:?}", record.event);
/// match update::prepare(&site, &Request::default(), None, &mut watch)? {
///     Prepared::Unchanged(report) => println!("{}", report.notices.join("\n")),
///     Prepared::Ready(update) => {
///         println!("{} steps", update.plan().steps.len());
///         println!("{:?}", update.run()?.outcome);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prepare<'o>(
    site: &Site,
    request: &Request,
    cancel: Option<Cancel>,
    observer: impl Observer + 'o,
) -> Result<Prepared<'o>, UpdateError> {
    let purpose = if request.only_plan { "plan" } else { "prepare an update" };
    prepare::Preparation::begin(site, request, cancel, purpose, observer)?.go()
}

/// Prepares to roll back the last finished update; `run` names it, to be sure. Call it again to roll back the one before.
///
/// A checkout and renames restore the code, the virtualenv and the static files. The migrations are reversed with the code
/// that brought them. A rollback runs like an update, and is undone like one: if it fails, the new version serves again.
///
/// # Errors
///
/// When another run has the lock or is unfinished; and [`UpdateError::Prepare`] when there is no such update, when
/// something it kept is missing, when the site was changed by hand since, or when a migration cannot be reversed and
/// [`Request::from_copy`] does not ask for the copy.
pub fn rollback<'o>(
    site: &Site,
    run: Option<&str>,
    request: &Request,
    cancel: Option<Cancel>,
    observer: impl Observer + 'o,
) -> Result<Box<Update<'o>>, UpdateError> {
    prepare::Preparation::begin(site, request, cancel, "prepare a rollback", observer)?.roll_back(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_that_lacks_required_keys_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deploykit.toml");
        std::fs::write(&file, "[site]\nsettings = \"config.settings\"\n").unwrap();
        let site = Site::load_partial(&file, None).unwrap();
        let refused = |error: UpdateError| match error {
            UpdateError::Config(error) => error.to_string().contains("`python.virtualenv`: is missing"),
            _ => false,
        };
        let watch = |_: &crate::event::Record| ();
        assert!(refused(prepare(&site, &Request::default(), None, watch).unwrap_err()));
        assert!(refused(rollback(&site, None, &Request::default(), None, watch).unwrap_err()));
        assert!(refused(recover(&site, None, watch).unwrap_err()));
    }

    fn is_sent_and_owned<T: Send + 'static>() {}

    #[test]
    fn an_update_goes_to_another_thread() {
        is_sent_and_owned::<Update<'static>>();
        is_sent_and_owned::<Prepared<'static>>();
        is_sent_and_owned::<Site>();
        is_sent_and_owned::<UpdateError>();
        is_sent_and_owned::<Report>();
        is_sent_and_owned::<Box<dyn crate::operations::AnyOperation>>();
    }
}
