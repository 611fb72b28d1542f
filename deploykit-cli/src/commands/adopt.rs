//! `adopt`: makes the state of a copied, moved or restored site this one's.

use deploykit::site::Adopted;

use crate::args::{AdoptArgs, Global};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

pub fn run(global: &Global, args: &AdoptArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let host = super::host(Some(&site))?;
    let adopted = site.adopt(args.abandon, &host).map_err(|error| Failure::refused(&error))?;
    ui.result(&document(&adopted), &text(&adopted));
    Ok(exit_code::DONE)
}

fn text(adopted: &Adopted) -> String {
    let Some(aside) = &adopted.aside else {
        return "nothing to adopt: the state directory is this site's\n".to_owned();
    };
    let whose = match &adopted.before {
        Some(before) => format!("the runs of `{}`", before.repository.display()),
        None => "the runs of elsewhere".to_owned(),
    };
    let virtualenvs = if adopted.virtualenvs_stay { "" } else { " and its virtualenvs" };
    format!("Adopted: {whose}{virtualenvs} are in {}\n", aside.display())
}
