//! `logs`: the last lines of the services' logs and journals, and of the files in `[logs]`.

use std::path::PathBuf;

use deploykit::Site;
use deploykit::services::{JournalUnit, NewLines, Service, ServiceError, last_lines_of, last_lines_of_unit};

use crate::args::{Global, LogsArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{DIM, paint};
use crate::output::json::document;

pub fn run(global: &Global, args: &LogsArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    let host = site.host(None);
    let (mut sources, mut failed) = sources(&site, args.name.as_deref());
    if let Some(name) = &args.name {
        let mut known: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
        known.dedup();
        if !known.contains(&name.as_str()) {
            let is_service = site.config().services.iter().any(|one| one.name == *name);
            if let Some(error) = failed.pop().filter(|_| is_service) {
                return Err(Failure::refused(&error));
            }
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("there are no logs named `{name}`; there are: {known}");
            return Err(Failure::message(
                exit_code::USAGE,
                message,
                "add the file to [logs] in the configuration",
            ));
        }
        sources.retain(|(known, _)| known == name);
    }
    // A manager that does not answer is when logs are wanted most.
    for error in failed {
        log::warn!("{}", deploykit::error_chain(&error));
    }
    let read = |(name, source)| match source {
        Source::File(path) => NewLines { name, lines: last_lines_of(&host, &path, args.lines), source: path },
        Source::Journal(unit) => NewLines {
            name,
            source: unit.command().into(),
            lines: last_lines_of_unit(&host, &unit, args.lines),
        },
    };
    let logs: Vec<NewLines> = sources.into_iter().map(read).collect();
    let mut text = String::new();
    for log in &logs {
        text.push_str(&paint(DIM, &format!("--- {} ({})", log.name, log.source.display())));
        text.push('\n');
        if log.lines.is_empty() {
            let why = match log.source.is_absolute() {
                true if log.source.exists() => "empty",
                true => "there is no such file",
                false => "nothing, or no permission: the groups `systemd-journal` and `adm` may read it",
            };
            text.push_str(&format!("({why})\n"));
        }
        for line in &log.lines {
            text.push_str(line);
            text.push('\n');
        }
    }
    if logs.is_empty() {
        text.push_str("no logs are known: the managers name none, and the configuration has no [logs]\n");
    }
    ui.answer(&document(serde_json::json!({ "logs": logs })), &text)?;
    Ok(exit_code::DONE)
}

/// Where lines are.
#[derive(PartialEq)]
enum Source {
    File(PathBuf),
    Journal(JournalUnit),
}

/// Returns what the managers and the configuration name, and why managers did not answer. If `only` is a service, the managers of others
/// are not asked.
fn sources(site: &Site, only: Option<&str>) -> (Vec<(String, Source)>, Vec<ServiceError>) {
    let mut services: Vec<&Service> = site.config().services.iter().collect();
    if services.iter().any(|service| Some(service.name.as_str()) == only) {
        services.retain(|service| Some(service.name.as_str()) == only);
    }
    let host = site.host(None);
    let (mut sources, mut failed): (Vec<(String, Source)>, _) = (Vec::new(), Vec::new());
    for service in services {
        let state = match service.state(&host) {
            Ok(state) => state,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        let files = state.logs.into_iter().map(Source::File);
        for source in files.chain(state.journal.map(Source::Journal)) {
            sources.push((state.service.clone(), source));
        }
    }
    for (name, path) in &site.config().logs {
        let source = Source::File(path.clone());
        if !sources.iter().any(|(_, known)| *known == source) {
            sources.push((name.clone(), source));
        }
    }
    (sources, failed)
}
