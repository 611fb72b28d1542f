//! A plan that a person reads in ten seconds: what, why, for how long.

use std::fmt::Write;

use deploykit::plan::{Phase, Plan, Step};
use jiff::tz::TimeZone;

use super::human::{BOLD, DIM, WARN, duration, paint, short, table};

/// Writes a plan; `verbose` adds the details of every step.
pub fn render(plan: &Plan, verbose: bool) -> String {
    let mut text = String::new();
    let move_ = if plan.from == plan.to {
        format!("stays at {}", short(&plan.from))
    } else {
        format!("{} → {}", short(&plan.from), short(&plan.to))
    };
    let _ = writeln!(text, "{} ({})", paint(BOLD, &move_), plan.environment);
    for phase in [Phase::Announce, Phase::Window, Phase::Finish] {
        let steps: Vec<&Step> =
            plan.steps.iter().filter(|step| step.phase == phase && step.is_needed()).collect();
        if steps.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}", heading(phase, plan));
        for step in steps {
            text.push_str(&table(&[vec![format!("{:<14}", step.id), line(step)]], "  "));
            let details = &step.change.details;
            let shown = if verbose { details.len() } else { details.len().min(8) };
            for detail in &details[..shown] {
                let _ = writeln!(text, "  {:<14}    {}", "", paint(DIM, detail));
            }
            if shown < details.len() {
                let _ = writeln!(
                    text,
                    "  {:<14}    {}",
                    "",
                    paint(DIM, &format!("and {} more (-v)", details.len() - shown))
                );
            }
        }
    }
    let skipped: Vec<Vec<String>> = plan
        .steps
        .iter()
        .filter(|step| !step.is_needed())
        .map(|step| vec![step.id.clone(), step.change.reason.clone()])
        .collect();
    if !skipped.is_empty() {
        let _ = write!(text, "\n{}\n{}", paint(BOLD, "Not needed"), table(&skipped, "  "));
    }
    text.push('\n');
    if let Some((step, reason)) = plan.point_of_no_return() {
        let warning = format!(
            "No way back after `{}`: {reason}. If anything fails after it, the site is held in maintenance.",
            step.id
        );
        let _ = writeln!(text, "{}", paint(WARN, &warning));
    }
    for notice in &plan.notices {
        let _ = writeln!(text, "{} {notice}", paint(WARN, "Note:"));
    }
    text
}

fn line(step: &Step) -> String {
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
    match phase {
        Phase::Announce => match plan.starts {
            Some(starts) => {
                let at = starts.to_zoned(TimeZone::system()).strftime("%H:%M");
                paint(BOLD, &format!("Before the window, which opens at {at}"))
            }
            None => paint(BOLD, "Before the window"),
        },
        Phase::Window => {
            let expected = duration(plan.forecast.window());
            let basis = match plan.forecast.runs {
                0 => "a rule of thumb: this site has no earlier update to go by".to_owned(),
                1 => "as the last update".to_owned(),
                runs => format!("from the last {runs} updates"),
            };
            let down = if plan.steps.iter().any(|step| step.id == "stop-web" && step.is_needed()) {
                format!("Window: the site is down for about {expected}")
            } else {
                return paint(BOLD, "Changes");
            };
            format!("{} ({basis})", paint(BOLD, &down))
        }
        _ => paint(BOLD, "Afterwards"),
    }
}
