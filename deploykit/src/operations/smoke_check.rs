//! The check of the site as an operation; `smoke` asks for the pages and judges the answers.

pub use crate::http::Connect;
pub use crate::smoke::{AT_ONCE, Page, PageResult, Problem, SmokeCheck, SmokeError};

use super::{Change, Check, Operation};
use crate::action::{Action, Context};
use crate::git::counted;

/// Its preparation requests every page once. If all are as expected and no command is configured, nothing is to do.
/// Otherwise its action repeats the requests until the deadline, and runs the commands.
impl Operation for SmokeCheck {
    type Prepared = Vec<PageResult>;
    type Error = SmokeError;

    fn name(&self) -> &'static str {
        "smoke-check"
    }

    fn prepare(&self, context: &mut Context) -> Result<Vec<PageResult>, SmokeError> {
        self.run(&context.host)
    }

    fn change(&self, pages: &Vec<PageResult>) -> Check {
        let wrong = pages.iter().filter(|page| !page.problems.is_empty());
        let details: Vec<String> = wrong.map(ToString::to_string).collect();
        if details.is_empty() && self.commands.is_empty() {
            let reason = match pages.len() {
                0 => "no pages to ask for".to_owned(),
                1 => "1 page answers as expected".to_owned(),
                count => format!("{count} pages answer as expected"),
            };
            return Check::Unchanged { reason };
        }
        let parts = [(self.pages.len(), "page"), (self.commands.len(), "command")];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let reason = parts.map(|(count, what)| counted(count, what)).collect::<Vec<_>>().join(", ");
        Check::Change(Change {
            reason,
            details,
            actions: vec![Action::SmokeCheck(self.clone().into())],
            ..Change::default()
        })
    }
}
