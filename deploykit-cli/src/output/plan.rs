//! A plan that a person reads in ten seconds: what, why, for how long.

use std::fmt::Write;

use deploykit::internal::git::short;
use deploykit::plan::{LaterRollback, Phase, Plan, RollbackWay, Step, StepKind};

use super::human::{BOLD, DIM, WARN, WIDTH, clip, date_and_time, expected, paint, with_times};
use super::visible::{indented, line, visible};

/// How many details of one step are shown.
const DETAILS: usize = 6;

/// Writes a plan; `verbose` adds the details of every step. Lines are clipped for a `terminal` alone, and not when `verbose`.
pub fn render(plan: &Plan, verbose: bool, terminal: bool) -> String {
    let mut text = String::new();
    let what = if let Some(run) = &plan.rolls_back {
        format!("Rollback of {run}: {} → {}", short(&plan.from), short(&plan.to))
    } else if plan.from == plan.to {
        format!("Fix {}: its commit stays", short(&plan.from))
    } else {
        format!("Update {} → {}", short(&plan.from), short(&plan.to))
    };
    let _ = writeln!(text, "{} ({})", paint(BOLD, &what), plan.environment);
    let width = plan.steps.iter().map(|step| step.id.as_str().chars().count()).max().unwrap_or(0);
    let lines = Lines { width, verbose, clipped: terminal && !verbose };
    for phase in [Phase::Announce, Phase::Window, Phase::Finish, Phase::After] {
        let steps: Vec<&Step> =
            plan.steps.iter().filter(|step| step.phase == phase && step.is_needed()).collect();
        if !steps.is_empty() {
            let _ = writeln!(text, "\n{}", heading(phase, plan));
        }
        for step in steps {
            lines.step(&mut text, step);
        }
    }
    let skipped: Vec<&Step> = plan.steps.iter().filter(|step| !step.is_needed()).collect();
    if !skipped.is_empty() {
        let _ = writeln!(text, "\n{}", paint(BOLD, "Not needed"));
        for step in skipped {
            lines.row(&mut text, step.id.as_str(), &step.change.reason);
        }
    }
    text.push('\n');
    if let Some((step, reason)) = plan.point_of_no_return() {
        let warning = format!("Cannot be rolled back after `{}`: {reason}.", step.id);
        let _ = writeln!(text, "{}", paint(WARN, &warning));
        let _ = writeln!(text, "If anything fails from there on, the site is held in maintenance.");
    }
    if let Some(later) = &plan.rollback {
        let _ = writeln!(text, "{}", rollback(later));
    }
    for notice in &plan.notices {
        let _ = writeln!(text, "{} {}", paint(WARN, "Note:"), indented(&with_times(notice)));
    }
    text
}

/// Says whether an update can be rolled back.
pub fn rollback(later: &LaterRollback) -> String {
    let text = match later.way {
        RollbackWay::Possible => {
            return "Once it is finished, `deploykit rollback` can roll it back.".to_owned();
        }
        RollbackWay::FromCopy => {
            "Once it is finished, only `deploykit rollback --from-copy` can roll it back, and what is written until then is lost:"
        }
        RollbackWay::Impossible => "Once it is finished, it cannot be rolled back:",
    };
    format!("{} {}.", paint(WARN, text), later.reason.as_deref().unwrap_or_default())
}

struct Lines {
    /// Of the column of names.
    width: usize,
    verbose: bool,
    clipped: bool,
}

impl Lines {
    fn step(&self, text: &mut String, step: &Step) {
        let what = what(step);
        self.row(text, step.id.as_str(), &what);
        // A single package is its own summary.
        let details: Vec<&String> = step.change.details.iter().filter(|detail| **detail != what).collect();
        let shown = if self.verbose { details.len() } else { details.len().min(DETAILS) };
        for detail in &details[..shown] {
            self.detail(text, detail);
        }
        if shown < details.len() {
            self.detail(text, &format!("and {} (-v)", more_lines(details.len() - shown)));
        }
    }

    fn row(&self, text: &mut String, name: &str, what: &str) {
        let row = format!(
            "  {name:<width$}  {}",
            self.fit(&line(&with_times(what)), self.width + 4),
            width = self.width
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }

    fn detail(&self, text: &mut String, detail: &str) {
        let indent = self.width + 6;
        for part in detail.lines() {
            let _ = writeln!(
                text,
                "{:indent$}{}",
                "",
                paint(DIM, &self.fit(&visible(&with_times(part)), indent))
            );
        }
    }

    fn fit(&self, text: &str, indent: usize) -> String {
        if self.clipped { clip(text, WIDTH - indent) } else { text.to_owned() }
    }
}

fn more_lines(count: usize) -> String {
    if count == 1 { "1 more line".to_owned() } else { format!("{count} more lines") }
}

fn what(step: &Step) -> String {
    let change = &step.change;
    let moved = match (change.before.is_empty(), change.after.is_empty()) {
        (false, false) => format!("{} → {}", change.before, change.after),
        (true, false) => change.after.clone(),
        _ => String::new(),
    };
    match (moved.is_empty(), change.reason.is_empty()) {
        (true, _) => change.reason.clone(),
        (false, true) => moved,
        (false, false) => format!("{moved}: {}", change.reason),
    }
}

fn heading(phase: Phase, plan: &Plan) -> String {
    let needed = |id: StepKind| plan.steps.iter().any(|step| step.id == id && step.is_needed());
    let pauses = plan.steps.iter().any(|step| step.id.is_pause());
    match phase {
        Phase::Announce => match plan.starts {
            Some(starts) if needed(StepKind::Wait) => {
                paint(BOLD, &format!("Before the window, which opens at {}", date_and_time(starts)))
            }
            _ if pauses => {
                paint(BOLD, "Before the window, which opens as soon as the run may go beyond `quiet`")
            }
            _ => paint(BOLD, "Before the window, which opens at once"),
        },
        Phase::Window if needed(StepKind::StopWeb) => {
            let expected = expected(plan.forecast);
            let migrations = match (plan.forecast.unmeasured, plan.forecast.migrations) {
                (false, _) | (true, 0) => String::new(),
                (true, 1) => ", and for as long as the migration takes".to_owned(),
                (true, count) => format!(", and for as long as {count} migrations take"),
            };
            let migrations = if pauses { format!("{migrations}, and while it pauses") } else { migrations };
            let basis = match plan.forecast.runs {
                0 => "a rule of thumb: no comparable update of this site yet".to_owned(),
                1 => "like the last update".to_owned(),
                runs => format!("from the last {runs} updates"),
            };
            let window = if plan.requests_wait() {
                let beforehand = match (&plan.bridge, &plan.rolls_back) {
                    (None, _) => "",
                    (Some(_), None) => "the new version is started beforehand; ",
                    (Some(_), Some(_)) => "the previous version is started beforehand; ",
                };
                format!("Window: {beforehand}requests will wait, about {expected}{migrations}")
            } else {
                format!("Window: the site is down for about {expected}{migrations}")
            };
            format!("{} ({basis})", paint(BOLD, &window))
        }
        Phase::Window => paint(BOLD, "Changes, without a window"),
        Phase::After => paint(BOLD, "After the update; a failure undoes nothing"),
        _ => paint(BOLD, "Afterwards"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_clipped_on_a_terminal_alone_and_what_is_left_out_is_counted() {
        let long = "x".repeat(2 * WIDTH);
        let details = |count: usize| (0..count).map(|number| format!("{number} {long}")).collect();
        let step = |count| {
            let change = deploykit::operations::Change { details: details(count), ..Default::default() };
            Step { id: StepKind::Static, phase: Phase::Window, change }
        };
        let shown = |verbose, clipped, count| {
            let mut text = String::new();
            Lines { width: 6, verbose, clipped }.step(&mut text, &step(count));
            text
        };
        assert!(!shown(false, true, 1).contains(&long));
        for text in [shown(false, false, DETAILS + 1), shown(true, false, DETAILS + 1)] {
            assert!(text.contains(&long) && !text.contains('…'), "{text}");
        }
        assert!(shown(false, false, DETAILS + 1).contains("and 1 more line (-v)"));
        assert!(shown(false, true, DETAILS + 2).contains("and 2 more lines (-v)"));
        assert_eq!(shown(true, false, DETAILS + 2).matches(&long).count(), DETAILS + 2);
    }
}
