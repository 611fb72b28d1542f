//! `rollback`: rolls back the last finished update.

use deploykit::update::{self, Prepared, Request};

use crate::args::{Global, RollbackArgs};
use crate::commands::update::{Words, go};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &RollbackArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let words = Words { not_done: "not rolled back", look_first: "confirm with `-y`" };
    go(&site, &args.run, words, ui, |request, cancel, watch| {
        let request = Request { from_copy: args.from_copy, ..request };
        let rollback = update::rollback(&site, args.target.as_deref(), &request, Some(cancel), watch)?;
        Ok(Prepared::Ready(rollback))
    })
}
