//! A site that cannot be brought back is kept in maintenance.

use jiff::Timestamp;

use super::{Runner, error_chain};
use crate::action::{Action, executor};
use crate::journal::{Begun, Entry};
use crate::plan::StepKind;

impl Runner<'_, '_> {
    /// Keeps the site in maintenance. Each part is tried, whatever becomes of the others.
    ///
    /// The first `undone` of the steps that were begun are undone already. Those of them that this does again are begun
    /// again in the journal, so that a recovery starts what is stopped here; their names are returned.
    pub(super) fn hold(&mut self, hold: &[Action], begun: &[Begun<'_>], undone: usize) -> Vec<StepKind> {
        // A service that this run never stopped is left alone: nothing would start it again.
        let hold: Vec<&Action> = hold
            .iter()
            .filter(|held| !matches!(held, Action::Service(_)) || begun.iter().any(|step| does(step, held)))
            .collect();
        let mut again = Vec::new();
        for step in begun[..undone].iter().rev().filter(|step| hold.iter().any(|held| does(step, held))) {
            again.push(step.step.clone());
            self.write(&Entry::StepStarted {
                step: step.step.clone(),
                phase: step.phase,
                time: Timestamp::now(),
                actions: step.actions.to_vec(),
                undo: step.undo.to_vec(),
            });
        }
        for error in executor::perform_each(hold, self.context) {
            let text = format!("while holding the site in maintenance: {}", error_chain(&error));
            self.events.notice(&self.context.host, &text);
        }
        again
    }
}

/// Tells whether a step did what is done to hold the site.
fn does(step: &Begun<'_>, held: &Action) -> bool {
    step.actions.iter().any(|action| match (action, held) {
        // The step knows which processes were to end.
        (Action::Service(one), Action::Service(other)) => {
            one.service.name == other.service.name && one.goal == other.goal
        }
        (one, other) => one == other,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::action::Context;
    use crate::command::Command;
    use crate::event::{Event, Outcome, Record};
    use crate::host::{Cancel, Host};
    use crate::journal::{Journal, left_to_undo};
    use crate::plan::{Phase, Step};
    use crate::runner::Events;
    use crate::services::{Before, CommandManager, Goal, Manager, Role, Service, ServiceAction, Socket};

    fn service(directory: &Path, name: &str) -> Service {
        let up = directory.join(name).display().to_string();
        let argv = |words: [&str; 2]| words.map(str::to_owned).to_vec();
        let manager = CommandManager {
            start: argv(["touch", &up]),
            stop: argv(["rm", &up]),
            status: vec!["test".to_owned(), "-e".to_owned(), up.clone()],
            ..CommandManager::default()
        };
        Service { stay_up: Some(Duration::ZERO), ..Service::new(name, Role::Web, Manager::Command(manager)) }
    }

    fn to(goal: Goal, service: &Service) -> Action {
        Action::Service(ServiceAction {
            service: service.clone(),
            goal,
            old: Vec::new(),
            before: Before::default(),
            socket: Socket::default(),
        })
    }

    #[test]
    fn what_it_stops_again_is_started_again_by_a_recovery() {
        held_and_recovered(false);
    }

    #[test]
    fn a_request_to_end_does_not_keep_it_from_holding() {
        held_and_recovered(true);
    }

    fn held_and_recovered(is_cancelled: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("web"), "").unwrap();
        std::fs::write(path("other"), "").unwrap();
        let (web, other) = (service(directory.path(), "web"), service(directory.path(), "other"));
        let run = |words: &[&str]| Action::Run { command: Command::new(words[0]).args(&words[1..]) };
        let there = path("fixed").display().to_string();
        let step =
            |name: &str, phase, action, undo| Step::with_actions(name, phase, "", vec![action], vec![undo]);
        let steps = [
            step("announce", Phase::Announce, run(&["true"]), run(&["test", "-e", &there])),
            step("stop-web", Phase::Window, to(Goal::Stopped, &web), to(Goal::Running, &web)),
            step("code", Phase::Window, run(&["false"]), run(&["true"])),
        ];
        let hold = [to(Goal::Stopped, &web), to(Goal::Stopped, &other)];
        let cancel = Cancel::new().unwrap();
        let mut context = Context::from(Host::new().with_cancel(cancel.clone()));
        let mut watch = |record: &Record| {
            let is_code = matches!(&record.event, Event::StepStarted { step, .. } if *step == StepKind::Code);
            if is_code && is_cancelled {
                cancel.request();
            }
        };
        let mut events = Events::new(&mut watch);
        let mut journal = Journal::open(&path("journal")).unwrap();
        let mut runner =
            Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
        let course = runner.run(&steps, &hold).unwrap();
        assert_eq!(course.outcome, Outcome::Held);
        let undone: Vec<&str> =
            course.steps.iter().filter(|step| step.undone).map(|step| step.step.as_str()).collect();
        assert_eq!(undone, ["code"], "the web is stopped again");
        assert!(!path("web").exists(), "it is held");
        assert!(path("other").exists(), "nobody would start it again");

        let mut recover = || {
            let entries = Journal::read(&path("journal")).unwrap();
            runner.undo(&left_to_undo(&entries), &hold).outcome
        };
        assert_eq!(recover(), Outcome::Held);
        assert!(!path("web").exists(), "it is still held");
        std::fs::write(path("fixed"), "").unwrap();
        assert_eq!(recover(), Outcome::RolledBack);
        assert!(path("web").exists(), "it runs again");
    }
}
