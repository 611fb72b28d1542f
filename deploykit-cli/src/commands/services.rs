//! `services`: steps 4 and 10 of the manual as one-liners.

mod hold;
mod named;

use deploykit::operations::Operation;
use deploykit::operations::service_control::{ServiceControl, Want};
use deploykit::services::{Role, Service, ServiceState};
use deploykit::{Host, Site};
use serde::Serialize;

use crate::args::{CheckArgs, Global, ServicesCommand};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::table;
use crate::output::json::{Done, document};

pub fn run(global: &Global, command: &ServicesCommand, ui: Ui) -> Result<u8, Failure> {
    let (want, check, args) = match command {
        ServicesCommand::Stop(args) => (Some(Want::Stop), args.check, &args.services),
        ServicesCommand::Start(args) => (Some(Want::Start), args.check, &args.services),
        ServicesCommand::Restart(args) => (Some(Want::Restart), args.check, &args.services),
        ServicesCommand::Status(services) => (None, CheckArgs::default(), services),
        ServicesCommand::Hold(args) => return hold::run(global, args, ui),
    };
    let (site, services) = match args.manager {
        Some(kind) => named::services(global, args, kind, want)?,
        None => {
            let site = super::site_or(global, "`--manager MANAGER`")?;
            let services = chosen(&site, &args.names)?;
            (Some(site), services)
        }
    };
    let Some(want) = want else {
        let rows = rows(site.as_ref(), &services)?;
        ui.answer(&document(serde_json::json!({ "services": rows })), &text(&rows))?;
        return Ok(exit_code::DONE);
    };
    let control = ServiceControl { services, want };
    let host = super::host(site.as_ref())?;
    if check.check {
        return super::say(&super::apply(&control, site.as_ref(), &host, true)?, check, ui);
    }
    let done = perform(&control, site.as_ref(), &host, ui)?;
    // What a person wants to see is how they are now.
    let rows = rows(site.as_ref(), &control.services)?;
    ui.result(&done, &if done.changed { text(&rows) } else { done.text() });
    Ok(exit_code::DONE)
}

/// Stops or starts services, and records under the lock that they have read the present settings.
fn perform(control: &ServiceControl, site: Option<&Site>, host: &Host, ui: Ui) -> Result<Done, Failure> {
    let _lock = super::lock(site, host, control.name())?;
    let started = match site.filter(|_| control.want != Want::Stop) {
        Some(site) => Some((site, started_and_others(site, control, host)?)),
        None => None,
    };
    let done = super::apply_locked(control, host, false)?;
    if let Some((site, (started, others))) = started
        && !started.is_empty()
        && let Err(error) = site.state().services_started(&started, &others)
    {
        ui.say(&deploykit::error_chain(&error));
    }
    Ok(done)
}

/// Returns the services that this starts, and those of the site that run on.
fn started_and_others(
    site: &Site,
    control: &ServiceControl,
    host: &Host,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let all = site.service_control(&[Role::Web, Role::Worker, Role::Timer], control.want);
    let states = all.observe(host).map_err(|error| Failure::refused(&error))?;
    let runs = states.iter().filter(|state| !state.is_at_rest() || !state.pids.is_empty());
    let mut others: Vec<String> = runs.map(|state| state.service.clone()).collect();
    let mut started: Vec<String> = control.services.iter().map(|service| service.name.clone()).collect();
    match control.want {
        Want::Restart => others.retain(|name| !started.contains(name)),
        // Those that run already do not start again.
        _ => started.retain(|name| !others.contains(name)),
    }
    Ok((started, others))
}

/// Returns the services of the site that have these names, or all.
fn chosen(site: &Site, names: &[String]) -> Result<Vec<Service>, Failure> {
    let mut services = site.service_control(Role::ALL, Want::Start).services;
    if let Some(unknown) = names.iter().find(|name| !services.iter().any(|known| known.name == **name)) {
        let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("there is no service `{unknown}` in the configuration; it has: {known}");
        return Err(Failure::message(exit_code::USAGE, message, None));
    }
    if !names.is_empty() {
        services.retain(|service| names.contains(&service.name));
    }
    Ok(services)
}

/// One service, as `--json` shows it.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    /// `None` when the service is not configured.
    role: Option<Role>,
    status: deploykit::services::Status,
    detail: String,
    pids: Vec<i32>,
}

/// Asks the managers for the status of services.
pub fn rows(site: Option<&Site>, services: &[Service]) -> Result<Vec<Row>, Failure> {
    let host = site.map_or_else(Host::new, |site| site.host(None));
    let configured = site.map(|site| site.config().services.as_slice()).unwrap_or_default();
    let row = |service: &Service| -> Result<Row, Failure> {
        let state: ServiceState = service.state(&host).map_err(|error| Failure::refused(&error))?;
        Ok(Row {
            name: service.name.clone(),
            role: configured.contains(service).then_some(service.role),
            status: state.status,
            detail: state.detail,
            pids: state.pids.iter().map(|process| process.pid).collect(),
        })
    };
    services.iter().map(row).collect()
}

/// Writes services for a person.
pub fn text(rows: &[Row]) -> String {
    let has_roles = rows.iter().any(|row| row.role.is_some());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![row.name.clone(), row.status.to_string(), row.detail.clone()];
            if has_roles {
                cells.insert(1, row.role.map(|role| role.to_string()).unwrap_or_default());
            }
            cells
        })
        .collect();
    table(&cells, "  ")
}
