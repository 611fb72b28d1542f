//! `smoke-check`: step 11 of the manual as a one-liner.

use deploykit::internal::http::Connect;
use deploykit::operations::smoke_check::{Page, PageResult, SmokeCheck, SmokeError};

use crate::args::{Global, SmokeCheckArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::{Document, document};

pub fn run(global: &Global, args: &SmokeCheckArgs, ui: Ui) -> Result<u8, Failure> {
    let absolute = args.urls.iter().all(|url| url.starts_with("http://") || url.starts_with("https://"));
    let is_complete = args.base.is_some() || (absolute && !args.urls.is_empty());
    let site = if is_complete {
        super::site_if_any(global)?
    } else {
        Some(super::site_or(global, "addresses, or `--base URL` and paths")?)
    };
    let configured = site.as_ref().and_then(deploykit::Site::smoke_check);
    let mut check = match configured {
        // Addresses of their own have nothing to do with where gunicorn listens.
        Some(check) if !is_complete => check,
        _ => SmokeCheck { base: args.base.clone(), ..SmokeCheck::default() },
    };
    if !args.urls.is_empty() {
        check.pages = args.urls.iter().map(Page::new).collect();
        check.commands.clear();
    }
    if check.pages.is_empty() && check.commands.is_empty() {
        return Err(Failure::message(
            exit_code::USAGE,
            "there is nothing to check",
            "name an address, or set `smoke.pages` in the configuration",
        ));
    }
    for page in &mut check.pages {
        page.contains.extend(args.contains.iter().cloned());
        page.lacks.extend(args.lacks.iter().cloned());
        page.status = args.status.or(page.status);
        page.redirect = args.redirect.clone().or(page.redirect.take());
        page.within = args.within.or(page.within);
    }
    if let Some(connect) = &args.connect {
        let parsed: Connect =
            connect.parse().map_err(|error| Failure::with_code(exit_code::USAGE, &error))?;
        check.connect = Some(parsed);
    }
    check.ca = args.ca.clone().or(check.ca.take());
    check.deadline = args.deadline.unwrap_or(check.deadline);
    let host = super::host(site.as_ref())?;
    let results = match check.verify(&host) {
        Ok(results) => results,
        Err(error) => {
            let failure = Failure::refused(&error).hiding(host.redactor());
            return Err(match &error {
                SmokeError::Pages { failing, .. } => failure.with_result(&pages(failing)),
                _ => failure,
            });
        }
    };
    let text: String = results
        .iter()
        .map(|page| {
            format!(
                "{} answered {} in {} ms\n",
                page.url,
                page.status.unwrap_or_default(),
                page.duration.as_millis()
            )
        })
        .collect();
    ui.result(&pages(&results), &text);
    Ok(exit_code::DONE)
}

fn pages(results: &[PageResult]) -> Document<serde_json::Value> {
    document(serde_json::json!({ "pages": results }))
}
