//! `init --check`: compares the configuration with the site as it is now.

use std::fmt::Write;

use deploykit::internal::lock::{Lock, LockError};
use deploykit::update::UpdateError;
use deploykit::{Cancel, Host, Site, error_chain};
use deploykit_init::{Difference, Request, open_questions};

use super::ask;
use crate::args::{Global, InitArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{BOLD, WARN, paint};
use crate::output::json::document;

pub fn run(global: &Global, args: &InitArgs, ui: Ui) -> Result<u8, Failure> {
    let site = site(global, args)?;
    let config = site.config();
    let cancel = crate::commands::cancel()?;
    let host = Host::new().with_cancel(cancel.clone());
    let request = Request {
        directory: config.site.repository.clone(),
        file: Some(config.path.clone()),
        environment: Some(config.environment.as_str().to_owned()).filter(|_| global.environment.is_some()),
    };
    refuse_in_the_middle(&site)?;
    let mut findings = deploykit_init::look(&request, &host).map_err(|error| Failure::refused(&error))?;
    let mut unasked = Vec::new();
    if args.files_only {
        unasked.push("Django, the services and the pages were not asked: `--files-only`".to_owned());
    } else {
        if let Err((why, _)) = ask::django(&mut findings, &site, &cancel, ui) {
            // The configured values are the cause: what was found is as certain as before.
            findings.django_failed(&why, None);
        }
        unasked.extend_from_slice(findings.unasked());
        // Pages that do not answer are differences.
        ask::pages(&mut findings, &cancel);
    }
    let mut differences = findings.differences(config)?;
    if !args.files_only {
        differences.extend(services(&site, &cancel));
        differences.extend(pages(&site, &cancel));
    }
    if host.is_cancelled() {
        return Err(Failure::message(exit_code::REFUSED, "interrupted", None));
    }
    let questions = open_questions(&config.text);
    let mut text = String::new();
    for one in &differences {
        let _ = writeln!(text, "{}", line(one));
    }
    for question in &questions {
        let _ = writeln!(text, "{}", crate::commands::plan::open_question(question, &config.path));
    }
    for why in &unasked {
        let _ = writeln!(text, "{} {why}", paint(WARN, "Note:"));
    }
    if differences.is_empty() {
        let end = if unasked.is_empty() { "" } else { "; what was not asked was not compared" };
        let _ =
            writeln!(text, "{}: no differences from what was found on the site{end}.", config.path.display());
    }
    let answer = serde_json::json!({
        "path": config.path, "differences": differences, "questions": questions, "unasked": unasked,
    });
    ui.answer(&document(answer), &text)?;
    let differs = args.exit_code && !differences.is_empty();
    Ok(if differs { exit_code::WAITING } else { exit_code::DONE })
}

/// Refuses a site that is neither the old version nor the new one.
fn refuse_in_the_middle(site: &Site) -> Result<(), Failure> {
    let state = crate::commands::state(site)?;
    let Some((run, entries)) = state.unfinished().map_err(|error| Failure::refused(&error))? else {
        return Ok(());
    };
    Err(match Lock::holder(&state.lock()) {
        Some(holder) => Failure::refused(&LockError::Held { holder: Some(holder) }),
        None => Failure::refused(&UpdateError::unfinished(run.name, &entries)),
    })
}

/// Returns the site of the configuration: the one of `--config`, or that of the directory.
fn site(global: &Global, args: &InitArgs) -> Result<Site, Failure> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => deploykit::site::find(&crate::commands::absolute(&args.directory))?,
    };
    Ok(Site::load_partial(&path, global.environment.as_deref())?)
}

/// Returns the services that their managers do not know, or cannot be asked about.
fn services(site: &Site, cancel: &Cancel) -> Vec<Difference> {
    let host = site.host(Some(cancel.clone()));
    let unknown = site.config().services.iter().filter_map(|service| {
        let error = service.state(&host).err()?;
        Some(Difference {
            key: format!("services.{}", service.name),
            configured: Some(format!("{} of {}", service.role, service.manager.kind().as_str())),
            found: None,
            source: error_chain(&error),
        })
    });
    unknown.collect()
}

/// Returns the pages that do not answer as configured.
fn pages(site: &Site, cancel: &Cancel) -> Vec<Difference> {
    let Some(check) = site.smoke_check() else { return Vec::new() };
    let host = site.host(Some(cancel.clone()));
    let results = match check.run(&host) {
        Ok(results) => results,
        Err(error) => {
            let source = error_chain(&error);
            return vec![Difference { key: "smoke".to_owned(), configured: None, found: None, source }];
        }
    };
    let wrong = results.iter().filter(|result| !result.problems.is_empty());
    let told = wrong.map(|result| Difference {
        key: "smoke.pages".to_owned(),
        configured: Some(result.path.clone()),
        found: None,
        source: result.to_string().trim_start_matches(&format!("`{}`: ", result.path)).to_owned(),
    });
    told.collect()
}

/// Writes a difference for a person.
fn line(one: &Difference) -> String {
    let key = paint(BOLD, &format!("{}:", one.key));
    let source = if one.source.is_empty() { String::new() } else { format!(" ({})", one.source) };
    match (&one.configured, &one.found) {
        (Some(configured), Some(found)) => {
            format!("{key} the file has `{configured}`, found `{found}`{source}")
        }
        (None, Some(found)) if one.key.starts_with("services.") => {
            format!("{key} the file lacks this service: {found}{source}")
        }
        (None, Some(found)) => format!("{key} the file lacks `{found}`{source}"),
        (Some(configured), None) => format!("{key} the file has `{configured}`: {}", one.source),
        (None, None) => format!("{key} {}", one.source),
    }
}
