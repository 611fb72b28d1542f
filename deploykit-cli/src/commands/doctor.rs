//! `doctor`: what keeps the site from being updated, and what would make its windows shorter.

use std::path::Path;

use deploykit::doctor::{self, Examination, Finding, Level, Topic, Windows};
use deploykit_init::{Question, open_questions};
use serde::Serialize;

use crate::args::Global;
use crate::exit_code;
use crate::failure::Failure;
use crate::hints::hints;
use crate::output::Ui;
use crate::output::human::{BAD, GOOD, WARN, paint, with_times};
use crate::output::json::document;

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Answer<'e> {
    ready: bool,
    findings: &'e [Finding],
    windows: &'e Option<Windows>,
}

pub fn run(global: &Global, ui: Ui) -> Result<u8, Failure> {
    let site = super::partial_site(global)?;
    let examined = doctor::examine(&site, Some(super::cancel()?));
    let mut examined = examined.map_err(|error| Failure::refused(&error))?;
    let config = site.config();
    for question in open_questions(&config.text) {
        examined.add(finding(&question, &config.path));
    }
    for finding in &mut examined.findings {
        let hints = finding.source.as_ref().map(|error| hints(error.as_ref())).unwrap_or_default();
        if !hints.is_empty() {
            let way_out = hints.join("; ");
            finding.way_out = Some(site.host(None).redactor().redact(&way_out).into_owned());
        }
    }
    let ready = examined.is_ready();
    let answer = Answer { ready, findings: &examined.findings, windows: &examined.windows };
    ui.answer(&document(answer), &text(&examined))?;
    Ok(if ready { exit_code::DONE } else { exit_code::REFUSED })
}

/// Makes a finding of an open question of `init`.
fn finding(question: &Question, path: &Path) -> Finding {
    let key = if question.key.is_empty() { String::new() } else { format!("`{}`: ", question.key) };
    let way_out = format!("answer it in {}:{}, and remove its comment", path.display(), question.line);
    let text = format!("needs a person: {key}{}", question.why);
    Finding { way_out: Some(way_out), ..Finding::new(Topic::Configuration, Level::Problem, text) }
}

/// Writes the findings for a person: a line each, the way out below it, and the sum at the end.
fn text(examined: &Examination) -> String {
    let width =
        examined.findings.iter().map(|finding| finding.topic.as_str().len()).max().unwrap_or_default();
    // The mark, the topic, and what is between.
    let margin = format!("\n{:1$}", "", 2 + width + 2);
    let mut text = String::new();
    for Finding { topic, level, text: found, way_out, .. } in &examined.findings {
        let mark = match level {
            Level::Good => paint(GOOD, "✓"),
            Level::Advice => paint(WARN, "!"),
            Level::Problem => paint(BAD, "✗"),
        };
        let found = with_times(found).replace('\n', &margin);
        text.push_str(&format!("{mark} {topic:<width$}  {found}"));
        if let Some(way_out) = way_out {
            text.push_str(&format!("{margin}→ {}", way_out.replace('\n', &margin)));
        }
        text.push('\n');
    }
    format!("{text}{}\n", sum(examined))
}

/// Says whether the site is ready.
fn sum(examined: &Examination) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (examined.count(Level::Problem), examined.count(Level::Advice)) {
        (0, 0) => paint(GOOD, "Ready."),
        (0, advice) => paint(GOOD, &format!("Ready, with {}.", counted(advice, "suggestion"))),
        (problems, _) => paint(BAD, &format!("Not ready: {}.", counted(problems, "problem"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_aligned_and_ends_with_the_sum() {
        let mut examined = Examination::default();
        assert_eq!(sum(&examined), paint(GOOD, "Ready."));
        examined.add(Finding::new(Topic::Git, Level::Good, "at main"));
        let way_out = Some("deploykit services hold web".to_owned());
        examined.add(Finding { way_out, ..Finding::new(Topic::Socket, Level::Advice, "nothing holds it") });
        assert_eq!(sum(&examined), paint(GOOD, "Ready, with 1 suggestion."));
        examined.add(Finding::new(Topic::Django, Level::Problem, "2 errors:\none\ntwo"));
        let expected = [
            format!("{} git     at main", paint(GOOD, "✓")),
            format!("{} django  2 errors:", paint(BAD, "✗")),
            "          one".to_owned(),
            "          two".to_owned(),
            format!("{} socket  nothing holds it", paint(WARN, "!")),
            "          → deploykit services hold web".to_owned(),
            paint(BAD, "Not ready: 1 problem."),
            String::new(),
        ];
        assert_eq!(text(&examined), expected.join("\n"));
    }
}
