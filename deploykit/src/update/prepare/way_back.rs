//! Whether the present version would start again, which a failed update depends on.

use super::{Failed, Preparation};
use crate::django::{Booting, DjangoError, Session};
use crate::error::error_chain;

/// The present version, booted once more beside other work.
pub(super) struct PresentVersion(Result<Booting, DjangoError>);

impl Preparation<'_, '_> {
    /// Begins to boot it; `None`: nothing of it would have to start again.
    pub(super) fn begin_present_version(&self) -> Result<Option<PresentVersion>, Failed> {
        if self.site.config().services.is_empty() {
            return Ok(None);
        }
        // Like `check`, beside which it boots: otherwise a busy machine would let it wait to the end.
        let host = self.host.with_low_priority(false);
        Ok(Some(PresentVersion(Session::begin(&host, &self.site.project()?))))
    }

    /// Waits until it is booted, and says so if it does not boot: its settings or its packages are no longer what they were when it
    /// started. Then the update goes on, which may be what mends it.
    pub(super) fn end_present_version(&mut self, version: PresentVersion) -> Result<((), String), Failed> {
        let booted = version.0.and_then(|booting| booting.booted(&self.host));
        match booted {
            Ok(session) => {
                session.close(&self.host);
                Ok(((), "the present version boots as well".to_owned()))
            }
            Err(error) if error.is_cancelled() => Err(error.into()),
            Err(error) => {
                self.notice(format!(
                    "a failed update could not start the present version again: it does not boot any more: {}",
                    error_chain(&error)
                ));
                Ok(((), "the present version does not boot any more".to_owned()))
            }
        }
    }
}
