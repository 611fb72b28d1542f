//! `services`: steps 4 and 10 of the manual as one-liners.

use deploykit::Site;
use deploykit::operations::service_control::{ServiceControl, Want};
use deploykit::services::{Role, ServiceState};
use serde::Serialize;

use crate::args::{Global, ServiceNames, ServicesCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::table;
use crate::output::json::document;

const ROLES: [Role; 3] = [Role::Required, Role::Web, Role::Worker];

pub fn run(global: &Global, command: &ServicesCommand, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let (names, want) = match command {
        ServicesCommand::Stop(names) => (names, Want::Stop),
        ServicesCommand::Start(names) => (names, Want::Start),
        ServicesCommand::Restart(names) => (names, Want::Restart),
        ServicesCommand::Status(names) => return status(&site, names, ui),
    };
    let control = chosen(&site, names, want)?;
    let host = super::host(Some(&site))?;
    let done = super::apply(&control, Some(&site), &host, false)?;
    let is_whole = names.names.is_empty() || covers_all(&site, &control);
    if matches!(want, Want::Restart)
        && is_whole
        && let Err(error) = site.state().services_started()
    {
        ui.say(&deploykit::error_chain(&error));
    }
    // What a person wants to see is how they are now.
    let rows = rows(&site, names)?;
    ui.result(&done, &if done.changed { text(&rows) } else { done.text() });
    Ok(exit_code::DONE)
}

/// Tells whether all services of the site are among these, but for those that no update restarts either.
fn covers_all(site: &Site, control: &ServiceControl) -> bool {
    let all = site.service_control(&[Role::Web, Role::Worker], Want::Restart).services;
    all.iter().all(|service| control.services.iter().any(|chosen| chosen.name == service.name))
}

fn chosen(site: &Site, names: &ServiceNames, want: Want) -> Result<ServiceControl, Failure> {
    let mut control = site.service_control(&ROLES, want);
    if let Some(unknown) =
        names.names.iter().find(|name| !control.services.iter().any(|known| known.name == **name))
    {
        let known: Vec<&str> = control.services.iter().map(|service| service.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("there is no service `{unknown}` in the configuration; it has: {known}");
        return Err(Failure::message(exit_code::USAGE, message, None));
    }
    if !names.names.is_empty() {
        control.services.retain(|service| names.names.contains(&service.name));
    }
    Ok(control)
}

/// One service, as `--json` shows it.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    role: Role,
    status: deploykit::services::Status,
    detail: String,
    pids: Vec<i32>,
}

/// Asks the managers for all services of the site.
pub fn rows(site: &Site, names: &ServiceNames) -> Result<Vec<Row>, Failure> {
    let control = chosen(site, names, Want::Start)?;
    let states: Vec<ServiceState> =
        control.observe(&site.host(None)).map_err(|error| Failure::refused(&error))?;
    Ok(control
        .services
        .iter()
        .zip(states)
        .map(|(service, state)| Row {
            name: service.name.clone(),
            role: service.role,
            status: state.status,
            detail: state.detail,
            pids: state.pids.iter().map(|process| process.pid).collect(),
        })
        .collect())
}

fn status(site: &Site, names: &ServiceNames, ui: Ui) -> Result<u8, Failure> {
    let rows = rows(site, names)?;
    ui.answer(&document(serde_json::json!({ "services": rows })), &text(&rows))?;
    Ok(exit_code::DONE)
}

/// Writes services for a person.
pub fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                format!("{:?}", row.role).to_lowercase(),
                row.status.to_string(),
                row.detail.clone(),
            ]
        })
        .collect();
    table(&cells, "  ")
}
