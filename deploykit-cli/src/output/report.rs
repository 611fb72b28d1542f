//! The end of an update: its result, and after a failure everything that helps to fix it.

use std::fmt::Write;

use deploykit::event::Outcome;
use deploykit::internal::git::short;
use deploykit::plan::{RollbackWay, StepKind};
use deploykit::report::{Failure, Report, StepReport};

use super::human::{
    BAD, BOLD, DIM, GOOD, WARN, date_and_time, expected, milliseconds, paint, unwind, with_times,
};
use super::plan::rollback;
use super::visible::indented;

/// Writes a report for a person, without its hints.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    if let Some(failure) = &report.failure {
        describe(&mut text, failure);
    }
    text + &ending(report)
}

/// Writes the report of a run of long ago: what it was, how long each step took, and how it ended.
pub fn render_past(report: &Report) -> String {
    let run = report.run.as_deref().unwrap_or_default();
    let what = match &report.rolls_back {
        Some(undone) => format!("Rollback {run} (of {undone})"),
        None => format!("Update {run}"),
    };
    let (from, to) = (short(&report.from), short(&report.to));
    let started = date_and_time(report.started);
    let mut text = format!("{}: {from} → {to} ({}), {started}\n", paint(BOLD, &what), report.environment);
    for step in &report.steps {
        let mark = if step.undone && !step.leaves_nothing { paint(WARN, "↩") } else { paint(GOOD, "✓") };
        let failed = report.failure.as_ref().is_some_and(|failure| failure.step == step.step);
        let mark = if failed { paint(BAD, "✗") } else { mark };
        let _ = writeln!(text, "  {mark} {:<18} {:>9}", step.step, milliseconds(step.duration_ms));
    }
    for notice in &report.notices {
        let _ = writeln!(text, "  {} {}", paint(WARN, "note:"), indented(&with_times(notice)));
    }
    text + &render(report)
}

/// Writes the report of a recovery: what had gone wrong before was shown when it did.
pub fn render_recovery(report: &Report) -> String {
    let failed = report.failure.as_ref().filter(|failure| !failure.interrupted && !is_of_undo(failure));
    let cause = failed.map(|failure| {
        let error = unwind(&indented(&failure.error));
        let what = if report.rolls_back.is_some() { "rollback" } else { "update" };
        format!("The {what} had failed at step `{}`: {error}\n", failure.step)
    });
    cause.unwrap_or_default() + &ending(report)
}

/// Says how it ended, and what was undone.
fn ending(report: &Report) -> String {
    let mut text = String::new();
    let line = summary(report);
    let style = match report.outcome {
        Outcome::Updated if report.failure.is_some() => WARN,
        Outcome::Updated | Outcome::Unchanged => GOOD,
        Outcome::Held | Outcome::Interrupted => BAD,
        _ => WARN,
    };
    let _ = writeln!(text, "{}", paint(style, &line));
    let names = |undone: bool| -> Vec<&str> {
        let steps = report.steps.iter().filter(|step| step.undone == undone && !step.leaves_nothing);
        steps.map(|step| step.step.as_str()).collect()
    };
    match report.outcome {
        Outcome::Updated => {
            if report.failure.is_some() {
                text.push_str("  nothing is undone: the step runs after the end of the update\n");
            }
            if let Some(later) = report.rollback.as_ref().filter(|later| later.way != RollbackWay::Possible) {
                let _ = writeln!(text, "{}", rollback(later));
            }
        }
        Outcome::RolledBack if !report.steps.is_empty() => {
            let undone: Vec<&str> = names(true).into_iter().rev().collect();
            let _ = writeln!(text, "  undone: {}", undone.join(", "));
            let stays = names(false);
            if !stays.is_empty() {
                let _ = writeln!(text, "  cannot be undone: {}", stays.join(", "));
            }
        }
        Outcome::Held | Outcome::Interrupted => {
            if let Some((step, error)) = report.failure.as_ref().and_then(|failure| failure.undo.as_ref()) {
                let _ = writeln!(text, "  `{step}` could not be undone: {}", unwind(&indented(error)));
            }
            for (title, undone) in [("undone", true), ("still done", false)] {
                let names = names(undone);
                let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
                let _ = writeln!(text, "  {title}: {names}");
            }
        }
        _ => {}
    }
    text
}

/// Says in one line how it ended.
fn summary(report: &Report) -> String {
    let took = milliseconds(report.duration_ms);
    let served = |step: &StepReport| step.undone && step.step.closes_window();
    let what = match report.requests_wait {
        false => "the site was down for",
        // They may have met what failed the check.
        true if report.steps.iter().any(served) => "requests waited, or met the version that failed, for",
        true => "requests waited for",
    };
    let down = report.window_ms.map(|length| format!("{what} {}", milliseconds(length)));
    match report.outcome {
        Outcome::Updated => {
            let what = match &report.rolls_back {
                Some(run) => {
                    format!("Rolled back the update of run {run}: {} serves again, after", short(&report.to))
                }
                None => format!("Updated to {} in", short(&report.to)),
            };
            let mut text = format!("{what} {took}");
            if let Some(down) = down {
                let _ = write!(text, "; {down}");
                if let Some(forecast) = report.forecast {
                    let _ = write!(text, ", {} expected", expected(forecast));
                }
            }
            text.push('.');
            text
        }
        Outcome::Unchanged => "Nothing to do.".to_owned(),
        Outcome::Refused if report.from.is_empty() => "Nothing was changed on the site.".to_owned(),
        Outcome::Refused => {
            format!("Nothing was changed: {} is still the live version.", short(&report.from))
        }
        Outcome::RolledBack => {
            let down = down.map_or(String::new(), |down| format!("; {down}"));
            let what = match report.rolls_back {
                None => "Rolled back",
                Some(_) if was_interrupted(report) => "The rollback was interrupted and is undone",
                Some(_) => "The rollback failed and is undone",
            };
            format!("{what}: {} serves again{down}.", short(&report.from))
        }
        Outcome::Held if report.steps.iter().any(|step| step.step == StepKind::PageUp) => {
            "Held: the site is in maintenance and its services are stopped. A person is needed.".to_owned()
        }
        Outcome::Held => {
            "Held: the site's services are stopped, and no page is configured to say so. A person is needed."
                .to_owned()
        }
        _ => "Interrupted while rolling back: neither version is complete.".to_owned(),
    }
}

/// Tells whether a run was interrupted or killed, and no step failed.
pub fn was_interrupted(report: &Report) -> bool {
    report.failure.as_ref().is_none_or(|failure| failure.interrupted)
}

fn describe(text: &mut String, failure: &Failure) {
    if failure.interrupted {
        let _ = writeln!(text, "{} during step `{}`", paint(BAD, "Interrupted"), failure.step);
    } else if !is_of_undo(failure) {
        let error = unwind(&indented(&failure.error));
        let _ = writeln!(text, "{} step `{}` failed: {error}", paint(BAD, "Error:"), failure.step);
        // A service that did not stay up ends with the same lines as its log.
        let in_log = failure.logs.iter().any(|log| failure.tail.iter().all(|line| log.lines.contains(line)));
        if !failure.tail.is_empty() && !in_log {
            match own_frames(&failure.tail) {
                Some(own) => lines(text, "its traceback without installed packages", &own),
                None => lines(text, &format!("its last {}", counted(failure.tail.len())), &failure.tail),
            }
        }
    }
    for log in &failure.logs {
        lines(text, &format!("new in the log of {} ({})", log.name, log.source.display()), &log.lines);
    }
}

/// Returns a Python traceback with the frames of the site's own code only; `None`: it is none, or has no such frame, or no other.
fn own_frames(tail: &[String]) -> Option<Vec<String>> {
    const INSTALLED: [&str; 4] = ["/site-packages/", "/dist-packages/", "/lib/python3", "\"<frozen "];
    let (mut own, mut others) = (false, false);
    // It may begin in the middle of a frame.
    let mut is_shown = false;
    let shown = tail.iter().filter(|line| {
        if line.starts_with("  File \"") {
            is_shown = !INSTALLED.iter().any(|place| line.contains(place));
            own |= is_shown;
            others |= !is_shown;
        } else if !line.starts_with("    ") {
            is_shown = true;
        }
        is_shown
    });
    let shown: Vec<String> = shown.cloned().collect();
    (own && others).then_some(shown)
}

/// Tells whether it was an undo that failed, of a run that was interrupted: the ending says so.
fn is_of_undo(failure: &Failure) -> bool {
    failure.undo.as_ref().is_some_and(|(step, error)| *step == failure.step && *error == failure.error)
}

/// Writes what a program said, set off from what we say.
pub fn lines(text: &mut String, title: &str, lines: &[String]) {
    let _ = writeln!(text, "{}", paint(DIM, &format!("--- {title}")));
    for line in lines {
        let _ = writeln!(text, "{}", format!("  {line}").trim_end());
    }
}

/// Returns the ways out of what a report tells.
pub fn hints(report: &Report) -> Vec<String> {
    let cause = report.failure.as_ref().and_then(|failure| failure.cause.error());
    let mut hints = cause.map(crate::hints::hints).unwrap_or_default();
    let interrupted = report.failure.as_ref().is_some_and(|failure| failure.interrupted);
    match report.outcome {
        Outcome::RolledBack if !interrupted => {
            let what = match report.failure.as_ref().map(|failure| &failure.step) {
                Some(StepKind::Migrate) => "the migration",
                Some(StepKind::StartWeb | StepKind::SmokeCheck | StepKind::StayUp) => "what these lines say",
                _ => "the cause",
            };
            hints.push(match report.rolls_back {
                Some(_) => "fix the cause, and run `deploykit rollback` again".to_owned(),
                None => format!("fix {what}, push it, and run `deploykit update` again"),
            });
        }
        Outcome::Held => {
            let undo = report.failure.as_ref().and_then(|failure| failure.undo.as_ref());
            let way = match undo.map(|(step, _)| step) {
                Some(StepKind::Migrate) => "restore the database to its state before these migrations",
                _ => "fix the cause",
            };
            hints.push(format!("{way}, then run `deploykit recover`"));
        }
        Outcome::Updated if report.failure.is_some() => {
            hints.push(
                "fix the cause and run the step yourself: \
                 an update that finds nothing to do does not run the step"
                    .to_owned(),
            );
        }
        Outcome::Interrupted => {
            hints.push("continue the rollback with `deploykit recover`".to_owned());
        }
        _ => {}
    }
    // What a preparation refuses says it all, unless it is a program that failed.
    let failure = report.failure.as_ref().filter(|_| !interrupted);
    let refused = matches!(report.outcome, Outcome::Updated | Outcome::Unchanged | Outcome::Refused);
    if let Some(failure) = failure.filter(|failure| !refused || !failure.tail.is_empty())
        && let Some(path) = &failure.transcript
    {
        hints.push(format!("every command with all its output is in {}", path.display()));
    }
    hints
}

pub fn counted(lines: usize) -> String {
    if lines == 1 { "line".to_owned() } else { format!("{lines} lines") }
}

/// Writes hints, each on its line.
pub fn render_hints(hints: &[String]) -> String {
    hints.iter().map(|hint| format!("{} {hint}\n", paint(BOLD, "Hint:"))).collect()
}

#[cfg(test)]
mod tests {
    use deploykit::plan::Phase;
    use deploykit::report::StepReport;

    use super::*;

    #[test]
    fn a_traceback_is_shown_without_installed_packages() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let own = "  File \"/srv/site/shop/models.py\", line 4, in change\n    raise ValueError(\"no\")\nValueError: no";
        let django =
            "  File \"/srv/venv/lib/python3.11/site-packages/django/x.py\", line 1, in run\n    run()";
        let tail = format!("    ^^^^^\n{django}\n{own}");
        assert_eq!(own_frames(&lines(&tail)), Some(lines(own)));
        assert_eq!(own_frames(&lines(own)), None);
        assert_eq!(own_frames(&lines("it is busy")), None);
        assert_eq!(own_frames(&lines(&tail.replace("/srv/site/", "/usr/lib/python3/"))), None);
    }

    #[test]
    fn a_rollback_that_was_killed_and_undone_did_not_fail() {
        let killed = serde_json::json!({
            "version": 1, "run": "2", "environment": "production", "from": "aaaaaaaaaa", "to": "bbbbbbbbbb", "rolls_back": "1",
            "outcome": "rolled_back", "started": "2026-11-22T17:41:00Z", "duration_ms": 9000, "window_ms": 8000,
            "forecast": null, "steps": [], "failure": null, "notices": [],
        });
        let mut report: Report = serde_json::from_value(killed).unwrap();
        let down = "aaaaaaa serves again; the site was down for 8.0 s.";
        assert_eq!(summary(&report), format!("The rollback was interrupted and is undone: {down}"));
        assert!(!render_recovery(&report).contains("failed"), "{}", render_recovery(&report));
        let failure = serde_json::json!({
            "step": "code", "phase": "window", "error": "no", "tail": [], "interrupted": false, "undo": null, "logs": [],
            "transcript": null,
        });
        report.failure = Some(serde_json::from_value(failure).unwrap());
        assert_eq!(summary(&report), format!("The rollback failed and is undone: {down}"));
        report.rolls_back = None;
        assert_eq!(summary(&report), format!("Rolled back: {down}"));
    }

    #[test]
    fn what_was_logged_in_an_undo_that_failed_is_shown_after_an_interruption() {
        let failure = serde_json::json!({
            "step": "code", "phase": "window", "error": "interrupted", "tail": [], "interrupted": true,
            "undo": ["stop-web", "1 page is not as expected"], "transcript": null,
            "logs": [{"name": "web", "path": "/srv/log/web.log", "lines": ["RuntimeError: broken"]}],
        });
        let failure = Some(serde_json::from_value(failure).unwrap());
        let report = Report { failure, outcome: Outcome::Held, ..Report::default() };
        let text = render(&report);
        assert!(text.contains("new in the log of web (/srv/log/web.log)"), "{text}");
        assert!(text.contains("\n  RuntimeError: broken\n"), "{text}");
    }

    #[test]
    fn only_what_was_undone_is_listed() {
        let step = |step: &str, undone, leaves_nothing| StepReport {
            step: step.into(),
            phase: Phase::Window,
            duration_ms: 1,
            undone,
            leaves_nothing,
        };
        let steps = vec![step("jobs", true, true), step("stop-web", true, false), step("own", false, false)];
        let mut report = Report { steps, outcome: Outcome::RolledBack, ..Report::default() };
        assert!(ending(&report).contains("\n  undone: stop-web\n  cannot be undone: own\n"));
        report.steps[0].undone = false;
        report.outcome = Outcome::Held;
        assert!(ending(&report).contains("\n  undone: stop-web\n  still done: own\n"));
        let jobs = render_past(&report).lines().find(|line| line.contains("jobs")).map(ToOwned::to_owned);
        assert!(jobs.is_some_and(|line| line.contains('✓')));
    }
}
