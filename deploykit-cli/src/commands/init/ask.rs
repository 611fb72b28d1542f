//! Asks the site's Django and its running pages for what files do not tell.

use std::time::Duration;

use deploykit::internal::django::{DjangoError, Part, Session};
use deploykit::operations::smoke_check::{Page, SmokeCheck};
use deploykit::site::{Config, ConfigError};
use deploykit::{Cancel, Site, error_chain};
use deploykit_init::{Broken, Findings};

use crate::output::Ui;

/// How long Django may take to boot.
const BOOT: Duration = Duration::from_secs(120);

/// Returns the site as the findings configure it, or why they make none, in one line.
pub fn site(findings: &Findings) -> Result<Site, String> {
    let config = Config::parse(&findings.to_toml(), findings.file(), None).and_then(Site::new);
    config.map_err(|error| match error {
        // The question above the key has the rest.
        ConfigError::Invalid(mistakes) => {
            let keys: Vec<String> =
                mistakes.problems.iter().map(|problem| format!("`{}`", problem.key)).collect();
            format!("{} must be known first", keys.join(" and "))
        }
        error => error_chain(&error),
    })
}

/// Boots Django once, and asks for the real settings. Returns why that failed, and which part of the site was the cause.
pub fn django(
    findings: &mut Findings,
    site: &Site,
    cancel: &Cancel,
    ui: Ui,
) -> Result<(), (String, Option<Broken>)> {
    let project = site.project().map_err(|error| (error_chain(&error), None))?;
    if !project.python.exists() {
        let why = format!("there is no `{}`", project.python.display());
        return Err((why, Some(Broken::Virtualenv)));
    }
    ui.say("Booting Django once to read its settings");
    let host = site.host(Some(cancel.clone()));
    let asked = Session::boot_within(&host, &project, BOOT)
        .and_then(|mut session| Ok((session.facts(&host)?, session.login_url(&host)?)));
    match asked {
        Ok((facts, login)) => {
            findings.ask_django(&project.settings, &facts, login);
            Ok(())
        }
        Err(error) => {
            let why = host.redactor().redact(&error_chain(&error)).into_owned();
            let part = match error {
                _ if host.is_cancelled() => None,
                DjangoError::Broken { part: Part::Django, .. } | DjangoError::Start { .. } => {
                    Some(Broken::Virtualenv)
                }
                _ => Some(Broken::Settings),
            };
            Err((why, part))
        }
    }
}

/// Asks the running site for its pages, again where the first answer corrects the address.
pub fn pages(findings: &mut Findings, cancel: &Cancel) {
    for _ in 0..2 {
        let paths = findings.pages_to_ask();
        let Ok(site) = site(findings) else { return };
        if paths.is_empty() {
            return;
        }
        let smoke = &site.config().smoke;
        let check = SmokeCheck {
            base: smoke.base.clone(),
            connect: smoke.connect.clone(),
            pages: paths.iter().map(Page::new).collect(),
            ..SmokeCheck::default()
        };
        let Ok(results) = check.run(&site.host(Some(cancel.clone()))) else { return };
        if !findings.pages_answered(&results) {
            return;
        }
    }
}
