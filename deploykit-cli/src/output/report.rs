//! The end of an update: what came of it, and when it failed everything that helps to mend it.

use std::fmt::Write;

use deploykit::event::Outcome;
use deploykit::report::{Failure, Report};

use super::human::{BAD, BOLD, DIM, GOOD, WARN, milliseconds, paint, short};

/// Writes a report for a person.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    if let Some(failure) = &report.failure {
        describe(&mut text, failure);
    }
    let run = report.run.as_deref().unwrap_or_default();
    match report.outcome {
        Outcome::Updated => {
            let window = report.window_ms.map_or(String::new(), |ms| {
                let forecast = report.forecast.map_or(String::new(), |forecast| {
                    format!(", {} expected", milliseconds(forecast.window_ms))
                });
                format!("; the window was {} long{forecast}", milliseconds(ms))
            });
            let line =
                format!("Updated to {} in {}{window}.", short(&report.to), milliseconds(report.duration_ms));
            let _ = writeln!(text, "{}", paint(GOOD, &line));
        }
        Outcome::Unchanged => {
            let _ = writeln!(text, "Nothing to do.");
        }
        Outcome::Refused => {
            let _ = writeln!(
                text,
                "{}",
                paint(WARN, "Refused before the window: the site serves the old version as before.")
            );
        }
        Outcome::RolledBack => {
            let undone: Vec<&str> =
                report.steps.iter().rev().filter(|step| step.undone).map(|step| step.step.as_str()).collect();
            let line = format!("Rolled back: {} serves again.", short(&report.from));
            let _ = writeln!(text, "{} Undone: {}.", paint(WARN, &line), undone.join(", "));
        }
        Outcome::Held => {
            let line = "Held: the site is in maintenance and its services are stopped. A person is needed.";
            let _ = writeln!(text, "{}", paint(BAD, line));
            if let Some((step, error)) = report.failure.as_ref().and_then(|failure| failure.undo.as_ref()) {
                let _ = writeln!(text, "`{step}` could not be undone: {error}");
            }
            let undone: Vec<&str> =
                report.steps.iter().filter(|step| step.undone).map(|step| step.step.as_str()).collect();
            let left: Vec<&str> =
                report.steps.iter().filter(|step| !step.undone).map(|step| step.step.as_str()).collect();
            let undone = if undone.is_empty() { "nothing".to_owned() } else { undone.join(", ") };
            let _ = writeln!(text, "Undone: {undone}. Still done: {}.", left.join(", "));
            let _ = writeln!(
                text,
                "{} mend what stands in the way (see the journal in .deploykit/runs/{run}/), then run `deploykit recover`.",
                paint(BOLD, "Hint:")
            );
        }
        _ => {
            let line = format!("Interrupted while going back; run {run} is unfinished.");
            let _ =
                writeln!(text, "{}\n{} run `deploykit recover`.", paint(BAD, &line), paint(BOLD, "Hint:"));
        }
    }
    text
}

fn describe(text: &mut String, failure: &Failure) {
    if failure.interrupted {
        let _ = writeln!(text, "{} during step `{}`", paint(BAD, "Interrupted"), failure.step);
        return;
    }
    let _ = writeln!(text, "{} step `{}` failed: {}", paint(BAD, "Error:"), failure.step, failure.error);
    if !failure.tail.is_empty() {
        let _ = writeln!(text, "{}", paint(DIM, &format!("--- its last {} lines", failure.tail.len())));
        for line in &failure.tail {
            let _ = writeln!(text, "{line}");
        }
    }
    for log in &failure.logs {
        let title = format!("--- new in the log of {} ({})", log.name, log.path.display());
        let _ = writeln!(text, "{}", paint(DIM, &title));
        for line in &log.lines {
            let _ = writeln!(text, "{line}");
        }
    }
    if !failure.tail.is_empty() || !failure.logs.is_empty() {
        let _ = writeln!(text, "{}", paint(DIM, "---"));
    }
    if let Some(path) = &failure.transcript {
        let _ = writeln!(text, "{}", paint(DIM, &format!("All output of the run: {}", path.display())));
    }
}
