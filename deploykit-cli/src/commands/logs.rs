//! `logs`: the last lines of the services' logs and of the files in `[logs]`.

use std::path::PathBuf;

use deploykit::Site;
use deploykit::operations::service_control::Want;
use deploykit::services::{NewLines, Role, last_lines_of};

use crate::args::{Global, LogsArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::human::{DIM, paint};
use crate::output::json::document;

pub fn run(global: &Global, args: &LogsArgs, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    let host = site.host(None);
    let mut files = files(&site)?;
    if let Some(name) = &args.name {
        let mut known: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        known.dedup();
        if !known.contains(&name.as_str()) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("there are no logs named `{name}`; there are: {known}");
            return Err(Failure::message(
                exit_code::USAGE,
                message,
                "add the file to [logs] in the configuration",
            ));
        }
        files.retain(|(known, _)| known == name);
    }
    let logs: Vec<NewLines> = files
        .into_iter()
        .map(|(name, path)| NewLines { name, lines: last_lines_of(&host, &path, args.lines), path })
        .collect();
    let mut text = String::new();
    for log in &logs {
        text.push_str(&paint(DIM, &format!("--- {} ({})", log.name, log.path.display())));
        text.push('\n');
        if log.lines.is_empty() {
            let why = if log.path.exists() { "empty" } else { "there is no such file" };
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

/// Returns what the managers and the configuration name.
fn files(site: &Site) -> Result<Vec<(String, PathBuf)>, Failure> {
    let control = site.service_control(Role::ALL, Want::Start);
    let states = match control.observe(&site.host(None)) {
        Ok(states) => states,
        // A manager that does not answer is when logs are wanted most.
        Err(error) => {
            log::warn!("{}", deploykit::error_chain(&error));
            Vec::new()
        }
    };
    let mut files: Vec<(String, PathBuf)> = states
        .into_iter()
        .flat_map(|state| state.logs.into_iter().map(move |path| (state.service.clone(), path)))
        .collect();
    for (name, path) in &site.config().logs {
        if !files.iter().any(|(_, known)| known == path) {
            files.push((name.clone(), path.clone()));
        }
    }
    Ok(files)
}
