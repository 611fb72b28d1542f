//! The mistakes of a configuration, each under its line.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use deploykit::site::Mistakes;

use super::visible::{line, own, visible};

/// Writes all mistakes with the lines that they are in.
pub fn render(mistakes: &Mistakes) -> String {
    let path = line(&mistakes.path.display().to_string()).into_owned();
    let titles: Vec<String> = mistakes
        .problems
        .iter()
        .map(|problem| {
            if problem.key.is_empty() {
                visible(&problem.message).into_owned()
            } else {
                visible(&format!("`{}`: {}", problem.key, problem.message)).into_owned()
            }
        })
        .collect();
    let report: Vec<Group<'_>> = mistakes
        .problems
        .iter()
        .zip(&titles)
        .map(|(problem, title)| {
            let group = Level::ERROR.primary_title(title.as_str());
            let span = problem.span.clone();
            if span.is_empty() && span.start == 0 {
                return group.element(annotate_snippets::Origin::path(path.as_str()));
            }
            let end = span.end.min(mistakes.text.len());
            group.element(
                Snippet::source(&mistakes.text)
                    .path(path.as_str())
                    .annotation(AnnotationKind::Primary.span(span.start.min(end)..end)),
            )
        })
        .collect();
    own(&Renderer::styled().render(&report))
}
