//! `maintenance`: steps 1 and 12 of the manual as one-liners.

use deploykit::operations::maintenance::Maintenance;
use deploykit::update::{self, Start};

use crate::args::{Global, MaintenanceCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::date_and_time_with_zone;
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
        "announced": status.announced.is_some(),
        "at": status.announced.as_ref().and_then(|file| file.at),
        "page": maintenance.page.as_ref().map(|_| status.page.is_some()),
    });
    ui.answer(&document(answer), &words(maintenance)?)?;
    Ok(exit_code::DONE)
}

/// Says for a person what is on.
fn words(maintenance: &Maintenance) -> Result<String, Failure> {
    let status = maintenance.status().map_err(|error| Failure::refused(&error))?;
    let announced = match &status.announced {
        Some(file) => file
            .at
            .map_or("announced".to_owned(), |at| format!("announced for {}", date_and_time_with_zone(at))),
        None => "not announced".to_owned(),
    };
    let page = match (&maintenance.page, &status.page) {
        (None, _) => "",
        (Some(_), Some(_)) => ", the page is up",
        (Some(_), None) => ", the page is down",
    };
    Ok(format!("{announced}{page}\n"))
}
