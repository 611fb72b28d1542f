//! The check of the site as an operation; [`smoke`](crate::smoke) asks for the pages and judges the answers.

pub use crate::smoke::{AT_ONCE, Page, PageResult, Problem, SmokeCheck, SmokeError};

use super::{Check, Operation};
use crate::host::Host;

/// Its check asks for every page once, runs no command, and never answers with a change: pages are as expected, or it fails.
impl Operation for SmokeCheck {
    type Error = SmokeError;

    fn name(&self) -> &'static str {
        "smoke-check"
    }

    fn check(&self, host: &Host) -> Result<Check, SmokeError> {
        self.judge(self.run(host)?)?;
        let reason = match self.pages.len() {
            0 => "no pages to ask for".to_owned(),
            1 => "1 page answers as expected".to_owned(),
            count => format!("{count} pages answer as expected"),
        };
        Ok(Check::Unchanged { reason })
    }
}
