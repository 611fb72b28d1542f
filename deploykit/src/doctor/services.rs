//! The services and the pages as they are now.

use super::findings::Findings;
use super::look::Look;
use crate::operations::smoke_check::PageResult;
use crate::services::{Manager, Role, Service, ServiceError, ServiceState, Status};
use crate::update::PreparationError;
use crate::update::prepare::{can_be_judged, web_is_known};

pub(super) fn services(look: &mut Look<'_>, findings: &mut Findings) {
    for error in std::mem::take(&mut look.service_faults) {
        findings.error(error, "correct `manager` and its keys in the `[[services]]` table");
    }
    let services = &look.site.config().services;
    let mut fine = Vec::new();
    for (service, state) in services.iter().zip(&look.states) {
        // The recovery starts what the run has stopped.
        let is_left = |state: &&ServiceState| look.is_unfinished() && state.status == Status::Stopped;
        if let Some(state) = state.as_ref().filter(|state| !is_left(state)) {
            fine.extend(judge_service(service, state, findings));
        }
    }
    let states: Option<Vec<ServiceState>> = look.states.iter().cloned().collect();
    if let Some(states) = states {
        match web_is_known(look.site, &states) {
            // What is said about the configuration.
            Ok(()) | Err(PreparationError::NoWeb) => {}
            Err(error) => findings.error(error, "set `role = \"web\"` in the `[[services]]` table"),
        }
    }
    if !findings.is_empty() {
        return;
    }
    match (services.is_empty(), look.has_visitors()) {
        (true, true) => findings.good("none is configured"),
        (true, false) => findings.good("none is managed in development"),
        _ if fine.is_empty() => {}
        _ => findings.good(fine.join(", ")),
    }
}

/// Returns what a service does, if that is fine.
fn judge_service(service: &Service, state: &ServiceState, findings: &mut Findings) -> Option<String> {
    let (name, status) = (&service.name, state.status);
    if let Some(reason) = state.obstacle.clone() {
        let error = ServiceError::WouldNotStop { service: name.clone(), reason };
        findings.error(error, format!("make this change and restart `{name}` yourself"));
    }
    for caution in &state.cautions {
        findings.advice(
            format!("stop of `{name}`: {caution}"),
            format!("change that, then {}`deploykit services restart {name}`", reads_again(&service.manager)),
        );
    }
    let start = format!("deploykit services start {name}");
    let detail = if state.detail.is_empty() { String::new() } else { format!(" ({})", state.detail) };
    match (status, service.role) {
        (Status::Failed | Status::Retrying, _) => {
            findings.problem(
                format!("`{name}` is {status}{detail}"),
                format!("`deploykit logs {name}` shows why; then `{start}`"),
            );
        }
        (Status::Stopped, Role::Web) => {
            findings.problem(
                format!("`{name}` is stopped, and an update does not start it"),
                format!("`{start}`"),
            );
        }
        (Status::Stopped, Role::Worker | Role::Timer) => {
            findings.advice(
                format!("`{name}` is stopped, and an update does not start it"),
                format!("`{start}`"),
            );
        }
        (Status::Stopped, Role::Required) => {
            return Some(format!("{name} stopped, and started by an update"));
        }
        _ => return Some(format!("{name} {status}")),
    }
    None
}

/// Returns what lets the manager read its files again, before a restart.
fn reads_again(manager: &Manager) -> &'static str {
    match manager {
        Manager::Supervisor(_) => "`supervisorctl update` and ",
        Manager::Systemd(_) => "`systemctl daemon-reload` and ",
        _ => "",
    }
}

pub(super) fn pages(look: &mut Look<'_>, findings: &mut Findings) {
    let Some(check) = look.site.smoke_check().filter(|_| !look.is_unfinished()) else { return };
    let commands = match check.commands.len() {
        0 => "",
        _ => "; `smoke.commands` were not run: `deploykit smoke-check` runs them",
    };
    if check.pages.is_empty() {
        findings.good(format!("none is configured{commands}"));
        return;
    }
    let starts = look.web().iter().any(|(_, state)| state.status == Status::Starting);
    let results = if starts { check.wait(&look.host) } else { check.run(&look.host) };
    match results {
        Err(error) => findings.error(error, "`deploykit smoke-check` requests the pages again"),
        Ok(results) => judge_pages(&results, commands, findings),
    }
}

fn judge_pages(results: &[PageResult], commands: &str, findings: &mut Findings) {
    if let Err(error) = can_be_judged(results, false) {
        findings.error(error, "`deploykit smoke-check` requests the pages again");
        return;
    }
    for page in results.iter().filter(|page| !page.problems.is_empty()) {
        findings.problem(
            format!("{page}; an update fails unless it fixes that"),
            "fix the page, or correct what `smoke.pages` expects of it",
        );
    }
    if findings.is_empty() {
        findings.good(format!("{0} of {0} answer as expected{commands}", results.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::findings::testing::found;
    use crate::services::CommandManager;
    use crate::smoke::Problem;

    fn judged(role: Role, status: Status) -> (Option<String>, Vec<Level>) {
        let service = Service::new("one", role, Manager::Command(CommandManager::default()));
        let mut fine = None;
        let all = found(|findings| {
            fine = judge_service(&service, &ServiceState::new("one", status), findings);
        });
        assert!(all.iter().all(|(_, _, way_out)| way_out.is_some()));
        (fine, all.into_iter().map(|(level, ..)| level).collect())
    }

    #[test]
    fn a_service_that_does_not_run_is_worse_the_more_depends_on_it() {
        assert_eq!(judged(Role::Web, Status::Running), (Some("one running".to_owned()), vec![]));
        assert_eq!(judged(Role::Web, Status::Stopped), (None, vec![Level::Problem]));
        assert_eq!(judged(Role::Worker, Status::Stopped), (None, vec![Level::Advice]));
        assert_eq!(judged(Role::Worker, Status::Failed), (None, vec![Level::Problem]));
        assert_eq!(judged(Role::Required, Status::Stopped).1, vec![]);
    }

    #[test]
    fn a_service_that_would_not_stop_is_a_problem_and_a_slow_one_is_not() {
        let service = Service::new("one", Role::Web, Manager::Command(CommandManager::default()));
        let state = ServiceState {
            obstacle: Some("SIGTERM reloads it".into()),
            cautions: vec!["it may take 60 s to end".into()],
            ..ServiceState::new("one", Status::Running)
        };
        let all = found(|findings| drop(judge_service(&service, &state, findings)));
        let levels: Vec<Level> = all.iter().map(|(level, ..)| *level).collect();
        assert_eq!(levels, [Level::Problem, Level::Advice]);
    }

    #[test]
    fn each_page_that_is_not_as_expected_is_named() {
        let page = |path: &str, status| PageResult {
            path: path.into(),
            status: Some(status),
            problems: if status == 200 {
                vec![]
            } else {
                vec![Problem::Status { expected: Some(200), found: status }]
            },
            ..PageResult::default()
        };
        let judged = |pages: &[PageResult]| found(|findings| judge_pages(pages, "", findings));
        let good = judged(&[page("/", 200), page("/a/", 200)]);
        assert_eq!(good, [(Level::Good, "2 of 2 answer as expected".to_owned(), None)]);
        let one = judged(&[page("/", 200), page("/a/", 500)]);
        assert!(one.len() == 1 && one[0].1.starts_with("`/a/`: expected status 200, got 500; "), "{one:?}");
        let all = judged(&[page("/", 404), page("/a/", 500)]);
        assert!(all.len() == 1 && all[0].1.starts_with("no page is as expected"), "{all:?}");
    }
}
