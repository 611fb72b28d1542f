//! Measures how long the site is down, or requests wait.

use std::time::{Duration, Instant};

use crate::action::Action;
use crate::plan::{Phase, Step, StepKind};
use crate::services::Goal;

/// Measures the window: from the stop of the web to its first good page, of the new version or again of the old one.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) opened: Option<Instant>,
    pub(super) length: Option<Duration>,
}

impl Window {
    pub(super) fn before(&mut self, step: &StepKind, now: Instant) {
        if step.opens_window() {
            self.opened = Some(now);
        }
    }

    pub(super) fn after(&mut self, step: &Step) {
        if step.phase == Phase::Window && step.id.closes_window() {
            self.length = self.opened.map(|opened| opened.elapsed());
        }
    }
}

/// Returns how many of the actions that undo the stop of the web are done once the old version serves again: those up to its first
/// good page, or, without pages, up to the last start. The others hand over to the web service, or watch it.
pub(super) fn until_served(undo: &[Action]) -> usize {
    let is_check = |action: &Action| matches!(action, Action::SmokeCheck(_));
    let is_start = |action: &Action| matches!(action, Action::Service(start) if start.goal == Goal::Running);
    let last = undo.iter().position(is_check).or_else(|| undo.iter().rposition(is_start));
    last.map_or(undo.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::services::{Before, CommandManager, Manager, Role, Service, ServiceAction, Socket};
    use crate::smoke::SmokeCheck;

    #[test]
    fn the_old_version_serves_before_the_hand_over_and_before_services_stay_up() {
        let to = |goal| {
            Action::Service(ServiceAction {
                service: Service::new("web", Role::Web, Manager::Command(CommandManager::default())),
                goal,
                old: Vec::new(),
                before: Before::default(),
                socket: Socket::default(),
            })
        };
        // In the place of the gate.
        let other = || Action::Run { command: Command::new("true") };
        let check = || Action::SmokeCheck(SmokeCheck::default().into());
        let (start, stay_up) = (|| to(Goal::Running), || to(Goal::StaysUp));
        assert_eq!(until_served(&[other(), check(), start(), other(), stay_up()]), 2);
        assert_eq!(until_served(&[start(), start(), check(), stay_up()]), 3);
        assert_eq!(until_served(&[start(), start(), stay_up()]), 2);
        assert_eq!(until_served(&[other(), other()]), 2);
        assert_eq!(until_served(&[]), 0);
    }
}
