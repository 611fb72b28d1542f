//! `manage`: any manage.py command in the site's environment.

use std::path::Path;

use deploykit::internal::django::Project;
use deploykit::{Host, Site, Umask};

use crate::args::{Global, ManageArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

/// The commands of Django that change nothing of the site, or are a person's own way in: they run beside an update. Whatever
/// else a project has may change something.
const LOOKING: [&str; 18] = [
    "--version",
    "check",
    "dbshell",
    "diffsettings",
    "dumpdata",
    "findstatic",
    "help",
    "inspectdb",
    "runserver",
    "sendtestemail",
    "shell",
    "shell_plus",
    "showmigrations",
    "sqlflush",
    "sqlmigrate",
    "sqlsequencereset",
    "test",
    "version",
];

/// The command's own streams and terminal are handed on, and its exit code is ours.
pub fn run(global: &Global, args: &ManageArgs, ui: Ui) -> Result<u8, Failure> {
    let (site, project) = match (&args.project.project, &args.project.virtualenv) {
        (Some(directory), Some(virtualenv)) => {
            let settings = args.project.settings.as_deref();
            named(global, &super::absolute(directory), &super::absolute(virtualenv), settings)?
        }
        _ => {
            let site = super::site_or(global, "`--project DIRECTORY --virtualenv DIRECTORY`")?;
            let project = site.project()?;
            (Some(site), project)
        }
    };
    let command = project.manage(args.args.iter().map(String::as_str));
    let name = args.args.first().map_or("", String::as_str);
    let lock = |host: &Host| match LOOKING.contains(&name) {
        true => Ok(None),
        false => super::lock(site.as_ref(), host, &format!("manage {name}")),
    };
    if ui.json {
        let host = super::host(site.as_ref())?;
        let _lock = lock(&host)?;
        return captured(&host, &command, ui);
    }
    let host = site.as_ref().map_or_else(Host::new, |site| site.host(None));
    let _lock = lock(&host)?;
    let code = host.hand_over(&command).map_err(|error| Failure::refused(&error))?;
    Ok(u8::try_from(code).unwrap_or(exit_code::UNEXPECTED))
}

/// Returns the project that flags name, and the site that it belongs to.
fn named(
    global: &Global,
    directory: &Path,
    virtualenv: &Path,
    settings: Option<&str>,
) -> Result<(Option<Site>, Project), Failure> {
    for path in [directory, virtualenv] {
        super::not_root_over_others(path)?;
    }
    let site = super::site_of(global, |environment| match Site::of_virtualenv(virtualenv, environment)? {
        None => Site::of_directory(directory, environment),
        found => Ok(found),
    })?;
    let Some(site) = site else {
        super::take(Umask::of_files(directory, Some("py")));
        let python = virtualenv.join("bin/python");
        return Ok((None, Project::new(python, directory, settings.unwrap_or_default())));
    };
    let project = site.project()?;
    super::agrees(&site, "--project", directory, &project.directory)?;
    super::agrees(&site, "--virtualenv", virtualenv, site.virtualenv()?)?;
    if settings.is_some_and(|settings| settings != project.settings) {
        return Err(super::contradiction(&site, "--settings", format!("`{}`", project.settings)));
    }
    Ok((Some(site), project))
}

/// Its answer is the document, whatever its exit code.
fn captured(host: &deploykit::Host, command: &deploykit::Command, ui: Ui) -> Result<u8, Failure> {
    let output = host.run(&command.clone().accept(0..=255)).map_err(|error| Failure::refused(&error))?;
    let answer = serde_json::json!({
        "command": command.to_string(),
        "exit_code": output.code,
        "stdout": output.stdout,
        "stderr": output.stderr,
    });
    ui.answer(&document(answer), "")?;
    Ok(u8::try_from(output.code).unwrap_or(exit_code::UNEXPECTED))
}
