//! How long the windows of the last updates were.

use serde::{Deserialize, Serialize};

use crate::plan::{Phase, StepKind};
use crate::report::{Report, StepReport};

/// The windows of the last updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// How many updates were looked at; 5 at most.
    pub runs: usize,
    /// The median of their windows, in milliseconds: from the web's stop to its first good page.
    pub median_ms: u64,
    /// The step that took longest, by the median; `None`: no step was recorded.
    pub longest_step: Option<StepKind>,
    /// The median of its durations, in milliseconds.
    pub longest_step_ms: u64,
}

/// Measures windows; `None`: there are none.
pub(super) fn windows(past: &[Report]) -> Option<Windows> {
    let median_ms = median(past.iter().filter_map(|report| report.window_ms).collect())?;
    let steps: Vec<&StepReport> = past.iter().flat_map(of_window).collect();
    let took = |step: &StepReport| {
        let same = steps.iter().filter(|other| other.step == step.step);
        Some((median(same.map(|other| other.duration_ms).collect())?, step.step.clone()))
    };
    let (longest_step_ms, longest_step) = match steps.iter().filter_map(|step| took(step)).max() {
        Some((took, step)) => (took, Some(step)),
        None => (0, None),
    };
    Some(Windows { runs: past.len(), median_ms, longest_step, longest_step_ms })
}

/// Returns the steps from the stop of the web to the first good page. A pause is the caller's.
fn of_window(report: &Report) -> &[StepReport] {
    let opens = report.steps.iter().position(|step| step.step.opens_window()).unwrap_or_default();
    let closes = |step: &StepReport| step.phase == Phase::Window && step.step.closes_window();
    let closes = report.steps.iter().rposition(closes);
    closes.and_then(|closes| report.steps.get(opens..=closes)).unwrap_or_default()
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Writes milliseconds as seconds.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(window_ms: u64, steps: &[(&str, u64)]) -> Report {
        let step = |(step, duration_ms): &(&str, u64)| StepReport {
            step: StepKind::from(*step),
            phase: StepKind::from(*step).phase().unwrap_or(Phase::Window),
            duration_ms: *duration_ms,
            undone: false,
            leaves_nothing: false,
        };
        Report { window_ms: Some(window_ms), steps: steps.iter().map(step).collect(), ..Report::default() }
    }

    #[test]
    fn one_slow_run_decides_nothing() {
        let past =
            [900, 9000, 1000].map(|stop| report(stop + 500, &[("stop-web", stop), ("smoke-check", 500)]));
        let found = windows(&past).unwrap();
        let expected = Windows {
            runs: 3,
            median_ms: 1500,
            longest_step: Some(StepKind::StopWeb),
            longest_step_ms: 1000,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn only_steps_inside_the_window_count() {
        let steps = [
            ("stop-workers", 60_000),
            ("stop-web", 20),
            ("compress", 3000),
            ("smoke-check", 10),
            ("stay-up", 9000),
        ];
        let found = windows(&[report(3100, &steps)]).unwrap();
        assert_eq!(
            (found.longest_step, found.longest_step_ms),
            (Some(StepKind::Own("compress".into())), 3000)
        );
    }

    #[test]
    fn without_a_past_there_are_no_figures() {
        assert_eq!(windows(&[]), None);
        let nothing = windows(&[report(5, &[])]).unwrap();
        assert_eq!((nothing.runs, nothing.longest_step), (1, None));
    }

    #[test]
    fn milliseconds_are_shown_as_seconds() {
        assert_eq!([40, 1500, 61_990].map(seconds), ["0.0 s", "1.5 s", "61.9 s"]);
    }
}
