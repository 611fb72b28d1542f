//! `maintenance`: steps 1 and 12 of the manual as one-liners.

use deploykit::django::StatusFile;
use deploykit::operations::maintenance::Maintenance;
use deploykit::update::{self, Start};

use crate::args::{Global, MaintenanceCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::date_and_time;
use crate::output::json::document;

pub fn run(global: &Global, command: &MaintenanceCommand, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let host = super::host(Some(&site))?;
    let maintenance: Maintenance = match command {
        MaintenanceCommand::On { at, within, now, message, page } => {
            let start = match (at, within, now) {
                (Some(time), _, _) => Start::At(*time),
                (_, Some(duration), _) => Start::In(*duration),
                (_, _, true) => Start::Now,
                _ => Start::AfterNotice,
            };
            update::maintenance_on(&site, &host, start, message.as_deref(), *page)
        }
        MaintenanceCommand::Off | MaintenanceCommand::Status => update::maintenance_off(&site, &host),
    }
    .map_err(|error| Failure::refused(error.as_ref()))?;
    if matches!(command, MaintenanceCommand::On { page: true, .. }) && maintenance.page.is_none() {
        return Err(Failure::message(
            exit_code::USAGE,
            "there is no page to put up",
            "set `page` in [maintenance]",
        ));
    }
    if maintenance.announcement.is_none() && maintenance.page.is_none() {
        return Err(Failure::message(
            exit_code::REFUSED,
            "there is nothing to turn on or off: the project has no maintenance commands, and no page is configured",
            "set `on`, `off` or `page` in [maintenance]",
        ));
    }
    if matches!(command, MaintenanceCommand::Status) {
        return status(&maintenance, ui);
    }
    let done = super::apply(&maintenance, Some(&site), &host, false)?;
    // What a person wants to see is how it is now.
    let now = if done.changed { words(&maintenance)? } else { done.text() };
    ui.result(&done, &now);
    Ok(exit_code::DONE)
}

fn status(maintenance: &Maintenance, ui: Ui) -> Result<u8, Failure> {
    let status = maintenance.status().map_err(|error| Failure::refused(&error))?;
    let answer = serde_json::json!({
        "announced": is_known(maintenance).then_some(status.announced.is_some()),
        "at": status.announced.as_ref().and_then(|file| file.at),
        "page": maintenance.page.as_ref().map(|_| status.page.is_some()),
    });
    ui.answer(&document(answer), &words(maintenance)?)?;
    Ok(exit_code::DONE)
}

/// Tells whether it can be known if maintenance is announced: a site without commands announces nothing.
fn is_known(maintenance: &Maintenance) -> bool {
    maintenance.announcement.as_ref().is_none_or(|announcement| announcement.status_file.is_some())
}

/// Says for a person what is on.
fn words(maintenance: &Maintenance) -> Result<String, Failure> {
    let status = maintenance.status().map_err(|error| Failure::refused(&error))?;
    let announced = if is_known(maintenance) {
        announced(status.announced.as_ref())
    } else {
        "unknown whether it is announced: set `status-file` in [maintenance]".to_owned()
    };
    let page = match (&maintenance.page, &status.page) {
        (None, _) => "",
        (Some(_), Some(_)) => ", the page is up",
        (Some(_), None) => ", the page is down",
    };
    Ok(format!("{announced}{page}\n"))
}

/// Says what the status file says.
fn announced(file: Option<&StatusFile>) -> String {
    match file.map(|file| file.at) {
        Some(Some(at)) => format!("announced for {}", date_and_time(at)),
        Some(None) => "announced".to_owned(),
        None => "not announced".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use deploykit::django::Project;
    use deploykit::operations::maintenance::{Announcement, Goal};

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
        let unknown = "unknown whether it is announced: set `status-file` in [maintenance]\n";
        assert_eq!(words(&with(None)).unwrap(), unknown);
        assert_eq!(words(&with(Some(directory.join("status.json")))).unwrap(), "not announced\n");
    }
}
