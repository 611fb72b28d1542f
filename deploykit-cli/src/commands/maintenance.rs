//! `maintenance`: steps 1 and 12 of the manual as one-liners.

use std::path::Path;
use std::time::Duration;

use deploykit::internal::django::{StatusFile, read_status};
use deploykit::operations::maintenance::{Goal, Maintenance, Page};
use deploykit::update::{self, Start};
use deploykit::{Host, Site};
use jiff::Timestamp;
use serde::Serialize;

use crate::args::{Global, MaintenanceCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::date_and_time;
use crate::output::json::document;

pub fn run(global: &Global, command: &MaintenanceCommand, ui: Ui) -> Result<u8, Failure> {
    let (site, host, maintenance) = match command.page_file() {
        Some(file) => {
            let (site, maintenance) = of_page(global, command, &super::absolute(file))?;
            let host = super::host(site.as_ref())?;
            (site, host, maintenance)
        }
        None => {
            let site = super::site_or(global, "`--page FILE`")?;
            site.require_all()?;
            let host = super::host(Some(&site))?;
            let maintenance = of_site(&site, &host, command)?;
            (Some(site), host, maintenance)
        }
    };
    let check = match command {
        MaintenanceCommand::On { check, .. } | MaintenanceCommand::Off { check, .. } => *check,
        MaintenanceCommand::Status { .. } => return status(&maintenance, command, ui),
    };
    let done = super::apply(&maintenance, site.as_ref(), &host, check.check)?;
    if check.check {
        return super::say(&done, check, ui);
    }
    // A person wants to see the present state.
    let now = if done.changed {
        let (announced, page) = look(&maintenance, command)?;
        format!("{}\n", text(&announced, page))
    } else {
        done.text()
    };
    ui.result(&done, &now);
    Ok(exit_code::DONE)
}

/// Returns the announcement and the page of a site.
fn of_site(site: &Site, host: &Host, command: &MaintenanceCommand) -> Result<Maintenance, Failure> {
    let maintenance: Maintenance = match command {
        MaintenanceCommand::On { at, within, now, message, page, .. } => {
            let start = match (at, within, now) {
                (Some(time), _, _) => Start::At(*time),
                (_, Some(duration), _) => Start::In(*duration),
                (_, _, true) => Start::Now,
                _ => Start::AfterNotice,
            };
            update::maintenance_on(site, host, start, message.as_deref(), page.is_some())
        }
        MaintenanceCommand::Off { .. } | MaintenanceCommand::Status { .. } => {
            update::maintenance_off(site, host)
        }
    }
    .map_err(|error| Failure::refused(error.as_ref()))?;
    if matches!(command, MaintenanceCommand::On { page: Some(_), .. }) && maintenance.page.is_none() {
        return Err(Failure::message(
            exit_code::USAGE,
            "there is no page to put up",
            "set `page` in [maintenance], or name it: `--page FILE`",
        ));
    }
    if maintenance.announcement.is_none() && maintenance.page.is_none() {
        return Err(Failure::message(
            exit_code::REFUSED,
            "there is nothing to turn on or off: the project has no maintenance commands, and no page is configured",
            "set `on`, `off` or `page` in [maintenance]",
        ));
    }
    Ok(maintenance)
}

/// Returns only the page that a flag names, and its site: the one that has this page, or that of the configuration above the
/// page or here.
fn of_page(
    global: &Global,
    command: &MaintenanceCommand,
    file: &Path,
) -> Result<(Option<Site>, Maintenance), Failure> {
    let site = super::site_of_or_here(global, |environment| match Site::of_page(file, environment)? {
        None => {
            deploykit::site::find(file).ok().map(|path| Site::load_partial(&path, environment)).transpose()
        }
        found => Ok(found),
    })?;
    let page = match &site {
        Some(site) => configured(global, site, file)?,
        None => Page { path: file.to_owned(), html: None },
    };
    let goal = match command {
        MaintenanceCommand::On { at: Some(_), .. } | MaintenanceCommand::On { within: Some(_), .. } => {
            return Err(Failure::message(
                exit_code::USAGE,
                "a page that `--page FILE` names is put up at once",
                "leave out `--at` and `--in`",
            ));
        }
        MaintenanceCommand::On { message, .. } => {
            let configured = site.as_ref().map(|site| &site.config().maintenance.message);
            let (start, notice) = (Timestamp::now(), Duration::ZERO);
            Goal::On { start, message: message.as_ref().or(configured).cloned(), notice }
        }
        MaintenanceCommand::Off { .. } | MaintenanceCommand::Status { .. } => Goal::Off,
    };
    Ok((site, Maintenance { goal, announcement: None, page: Some(page) }))
}

/// Returns the page as the site configures it, or without a template when the site has no page.
fn configured(global: &Global, site: &Site, file: &Path) -> Result<Page, Failure> {
    match site.maintenance_page().map_err(|error| Failure::refused(&error))? {
        Some(page) if super::is_same(&page.path, file) => Ok(page),
        Some(page) => Err(super::contradiction(site, "--page", format!("`{}`", page.path.display()))),
        None => {
            let what = format!("the page `{}`", file.display());
            super::not_of_another(global, site, &what, |environment| Site::of_page(file, environment))?;
            Ok(Page { path: file.to_owned(), html: None })
        }
    }
}

/// Whether maintenance is announced. By default, there is nothing to announce it.
#[derive(Debug, Default, Serialize)]
pub struct Announced {
    /// `None`: there is nothing to announce it, or it is unknown.
    #[serde(rename = "announced")]
    is: Option<bool>,
    /// For when.
    #[serde(rename = "announced_for")]
    at: Option<Timestamp>,
    /// Why it is unknown.
    #[serde(rename = "announced_error")]
    unknown: Option<String>,
}

impl Announced {
    /// Takes it from a status file, which exists while maintenance is announced.
    pub fn in_file(path: &Path) -> Announced {
        match read_status(path) {
            Ok(found) => Announced::of_file(found.as_ref()),
            Err(error) => Announced { unknown: Some(deploykit::error_chain(&error)), ..Announced::default() },
        }
    }

    fn of_file(file: Option<&StatusFile>) -> Announced {
        Announced { is: Some(file.is_some()), at: file.and_then(|file| file.at), unknown: None }
    }

    /// Says that there is no status file to take it from.
    pub fn without_file() -> Announced {
        let unknown = Some("set `status-file` in [maintenance]".to_owned());
        Announced { unknown, ..Announced::default() }
    }

    fn of(maintenance: &Maintenance, command: &MaintenanceCommand, file: Option<&StatusFile>) -> Announced {
        match &maintenance.announcement {
            _ if command.page_file().is_some() => Announced::default(),
            Some(announcement) if announcement.status_file.is_none() => Announced::without_file(),
            _ => Announced::of_file(file),
        }
    }

    fn text(&self) -> Option<String> {
        match (self.is, self.at, &self.unknown) {
            (Some(true), Some(at), _) => Some(format!("announced for {}", date_and_time(at))),
            (Some(true), None, _) => Some("announced".to_owned()),
            (Some(false), ..) => Some("not announced".to_owned()),
            (None, _, Some(why)) => Some(format!("unknown whether it is announced: {why}")),
            (None, _, None) => None,
        }
    }
}

/// Says for a person whether maintenance is announced, and whether the page is up if there is one.
pub fn text(announced: &Announced, page_is_up: Option<bool>) -> String {
    let page = page_is_up.map(|up| format!("the page is {}", if up { "up" } else { "down" }));
    announced.text().into_iter().chain(page).collect::<Vec<_>>().join(", ")
}

fn status(maintenance: &Maintenance, command: &MaintenanceCommand, ui: Ui) -> Result<u8, Failure> {
    let (announced, page) = look(maintenance, command)?;
    let answer = serde_json::json!({ "announced": announced.is, "at": announced.at, "page": page });
    ui.answer(&document(answer), &format!("{}\n", text(&announced, page)))?;
    Ok(exit_code::DONE)
}

/// Finds out whether maintenance is announced, and whether the page is up if there is one.
fn look(
    maintenance: &Maintenance,
    command: &MaintenanceCommand,
) -> Result<(Announced, Option<bool>), Failure> {
    let status = maintenance.status().map_err(|error| Failure::refused(&error))?;
    let page = maintenance.page.as_ref().map(|_| status.page.is_some());
    Ok((Announced::of(maintenance, command, status.announced.as_ref()), page))
}

#[cfg(test)]
mod tests {
    use deploykit::internal::django::Project;
    use deploykit::operations::maintenance::Announcement;

    use super::*;

    #[test]
    fn what_is_not_known_is_called_unknown() {
        let directory = std::env::temp_dir().join("deploykit-no-such-directory");
        let with = |status_file| Maintenance {
            goal: Goal::Off,
            announcement: Some(Announcement {
                project: Project::new("python3", &directory, "config.settings"),
                on: vec!["on".to_owned()],
                off: vec!["off".to_owned()],
                time_zone: "UTC".to_owned(),
                status_file,
            }),
            page: None,
        };
        let unknown = "unknown whether it is announced: set `status-file` in [maintenance]";
        let said = |maintenance: &Maintenance| {
            let (announced, page) = look(maintenance, &MaintenanceCommand::Status { page: None }).unwrap();
            text(&announced, page)
        };
        assert_eq!(said(&with(None)), unknown);
        assert_eq!(said(&with(Some(directory.join("status.json")))), "not announced");
    }
}
