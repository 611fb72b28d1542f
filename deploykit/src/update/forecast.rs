//! How long the window is expected to be: what its steps took in earlier runs, and rules of thumb for the others.

use std::time::Duration;

use crate::event::Outcome;
use crate::plan::{Forecast, Phase, Step, StepKind};
use crate::report::Report;
use crate::site::Site;
use crate::state::State;

/// How many earlier runs are looked at.
pub(crate) const RUNS: usize = 5;

/// A web whose requests are short ends within this.
const STOP: Duration = Duration::from_millis(300);

/// What a gunicorn needs beside the boot of its application.
const START: Duration = Duration::from_millis(200);

/// A checkout, a link, an exchange of two directories.
const MOVE: Duration = Duration::from_millis(50);

/// One migration of small tables.
const MIGRATION: Duration = Duration::from_millis(50);

/// What a forecast is made of beside the past.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// How long Django took to boot in the preparation: the web does the same in the window.
    pub boot: Duration,
    /// The web server was started beforehand.
    pub bridged: bool,
    /// The web boots while the migrations run.
    pub early: bool,
    /// How many migrations there are.
    pub migrations: usize,
    /// The migrations run in a Django that boots for it in the window.
    pub boots: bool,
    /// How long the migrations took on copies; `None`: not rehearsed.
    pub rehearsed: Option<Duration>,
    /// How long the copy of the database will take.
    pub copy: Duration,
    /// Migrations are reversed, which takes its own time.
    pub is_rollback: bool,
    /// How long it takes to restore a copy in their place; zero: no copy is restored.
    pub put_back: Duration,
}

impl Known {
    /// Tells whether an earlier run started the web in the way of this one: in others, the steps of the window take other times.
    fn is_like(self, report: &Report) -> bool {
        let then = report.forecast.unwrap_or_default();
        (then.bridged, then.early) == (self.bridged, self.early)
    }
}

/// Expects of these steps what they took in the last runs of the site.
pub(super) fn forecast(site: &Site, steps: &[Step], known: Known) -> Forecast {
    let state = site.state();
    let past = measured_runs(&state).filter(|report| known.is_like(report));
    expect(steps, known, &past.take(RUNS).collect::<Vec<_>>())
}

/// Returns the reports of the runs whose window was measured, newest first.
pub(crate) fn measured_runs(state: &State) -> impl Iterator<Item = Report> {
    let reports = state.runs().unwrap_or_default().into_iter().rev().filter_map(|run| run.report());
    reports.filter(|report| report.outcome == Outcome::Updated && report.window_ms.is_some())
}

fn expect(steps: &[Step], known: Known, past: &[Report]) -> Forecast {
    let opens = steps.iter().position(|step| step.id.opens_window()).unwrap_or_default();
    let closes = |step: &Step| step.phase == Phase::Window && step.id.closes_window() && step.is_needed();
    let closes = steps.iter().rposition(closes);
    let window = closes.and_then(|closes| steps.get(opens..=closes)).unwrap_or_default();
    let window_ms =
        window.iter().filter(|step| step.is_needed()).map(|step| duration(&step.id, known, past)).sum();
    let migrates = window.iter().any(|step| step.id == StepKind::Migrate && step.is_needed());
    Forecast {
        window_ms,
        runs: past.len(),
        boot_ms: crate::millis::of(known.boot),
        bridged: known.bridged,
        early: known.early,
        boots_to_migrate: known.boots,
        migrations: if migrates { known.migrations } else { 0 },
        unmeasured: migrates
            && known.rehearsed.is_none()
            && measured(&StepKind::Migrate, known, past).is_none(),
    }
}

/// Returns how long a step is expected to take, in milliseconds.
fn duration(step: &StepKind, known: Known, past: &[Report]) -> u64 {
    if *step == StepKind::Backup && !known.copy.is_zero() {
        // It is known from the last copy and the size of today.
        return crate::millis::of(known.copy);
    }
    if *step == StepKind::Migrate && !known.put_back.is_zero() {
        return crate::millis::of(known.put_back);
    }
    let boot = if *step == StepKind::Migrate && known.boots { known.boot } else { Duration::ZERO };
    let rehearsed = known.rehearsed.filter(|_| *step == StepKind::Migrate).map(crate::millis::of);
    let other = rehearsed.or_else(|| measured(step, known, past)).unwrap_or_else(|| {
        crate::millis::of(match step {
            StepKind::StopWeb => STOP,
            StepKind::SmokeCheck if known.bridged => MOVE,
            StepKind::SmokeCheck if known.early => {
                let migrate = duration(&StepKind::Migrate, known, past);
                (known.boot + START).saturating_sub(Duration::from_millis(migrate)).max(MOVE)
            }
            StepKind::SmokeCheck => known.boot + START,
            StepKind::Migrate => {
                MIGRATION.saturating_mul(u32::try_from(known.migrations).unwrap_or(u32::MAX))
            }
            // Of a step of the site's own nothing is known.
            _ => MOVE,
        })
    });
    other.saturating_add(crate::millis::of(boot))
}

/// Returns the middle one of what a step took in earlier runs, brought to the boots and the migrations of this one, in milliseconds.
fn measured(step: &StepKind, known: Known, past: &[Report]) -> Option<u64> {
    let alike = past
        .iter()
        .filter(|report| *step != StepKind::Migrate || report.rolls_back.is_some() == known.is_rollback);
    let scaled = |report: &Report, took: u64| {
        let then = report.forecast.unwrap_or_default();
        match step {
            StepKind::SmokeCheck if !known.bridged && !known.early && then.boot_ms > 0 => {
                took.saturating_sub(then.boot_ms).saturating_add(crate::millis::of(known.boot))
            }
            StepKind::Migrate if then.migrations > 0 => {
                let boot = if then.boots_to_migrate { then.boot_ms } else { 0 };
                let (now, then) = (known.migrations as u64, then.migrations as u64);
                took.saturating_sub(boot).saturating_mul(now) / then
            }
            _ => took,
        }
    };
    let mut took: Vec<u64> = alike
        .flat_map(|report| report.steps.iter().map(move |done| (report, done)))
        .filter(|(_, done)| done.step == *step)
        .map(|(report, done)| scaled(report, done.duration_ms))
        .collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::action::Action;
    use crate::operations::{Change, Check};
    use crate::report::StepReport;

    const KNOWN: Known = Known {
        boot: Duration::from_millis(400),
        bridged: false,
        early: false,
        migrations: 3,
        boots: false,
        rehearsed: None,
        copy: Duration::from_millis(7000),
        is_rollback: false,
        put_back: Duration::ZERO,
    };

    fn steps(ids: &[&str]) -> Vec<Step> {
        let all = [
            "stop-workers",
            "stop-web",
            "backup",
            "code",
            "migrate",
            "start-web",
            "smoke-check",
            "page-down",
        ];
        let step = |id: &&str| {
            let actions =
                if ids.contains(id) { vec![Action::RemoveFile { path: "x".into() }] } else { Vec::new() };
            Step::new(StepKind::from(*id), Check::Change(Change { actions, ..Change::default() }))
        };
        all.iter().map(step).collect()
    }

    fn report(took: &[(&str, u64)], rolls_back: bool) -> Report {
        let step = |(step, duration_ms): &(&str, u64)| StepReport {
            step: StepKind::from(*step),
            phase: Phase::Window,
            duration_ms: *duration_ms,
            undone: false,
            leaves_nothing: false,
        };
        Report {
            rolls_back: rolls_back.then(|| "20261122-1".to_owned()),
            outcome: Outcome::Updated,
            window_ms: Some(1),
            steps: took.iter().map(step).collect(),
            ..Report::begun(None, "production".to_owned(), Timestamp::UNIX_EPOCH)
        }
    }

    const WHOLE: [&str; 5] = ["stop-web", "code", "migrate", "start-web", "smoke-check"];

    #[test]
    fn without_a_past_it_is_what_this_site_s_django_takes_to_boot() {
        let forecast = expect(&steps(&WHOLE), KNOWN, &[]);
        let window_ms = 300 + 50 + 150 + 50 + 600;
        let expected =
            Forecast { window_ms, boot_ms: 400, migrations: 3, unmeasured: true, ..Forecast::default() };
        assert_eq!(forecast, expected);
        let slow = Known { boot: Duration::from_secs(6), ..KNOWN };
        assert_eq!(expect(&steps(&WHOLE), slow, &[]).window_ms, forecast.window_ms + 5600);
        let twice = Known { boots: true, ..KNOWN };
        assert_eq!(expect(&steps(&WHOLE), twice, &[]).window_ms, forecast.window_ms + 400);
    }

    #[test]
    fn each_step_counts_for_itself_and_only_when_it_is_needed() {
        let past = [report(
            &[("stop-web", 200), ("code", 40), ("migrate", 900), ("start-web", 30), ("smoke-check", 400)],
            false,
        )];
        let forecast = expect(&steps(&WHOLE), KNOWN, &past);
        assert_eq!((forecast.window_ms, forecast.runs, forecast.unmeasured), (1570, 1, false));
        let without = steps(&["stop-workers", "stop-web", "code", "start-web", "smoke-check", "page-down"]);
        assert_eq!(expect(&without, KNOWN, &past).window_ms, 670);
        let with_copy = steps(&["stop-web", "backup", "code", "migrate", "start-web", "smoke-check"]);
        assert_eq!(expect(&with_copy, KNOWN, &past).window_ms, 8570);
        assert_eq!(expect(&steps(&["stop-web", "start-web"]), KNOWN, &past).window_ms, 230);
    }

    #[test]
    fn one_slow_run_does_not_frighten_and_a_reversal_is_no_migration() {
        let past = [900, 200, 210].map(|took| report(&[("stop-web", took)], false));
        let forecast = expect(&steps(&["stop-web", "start-web"]), KNOWN, &past);
        assert_eq!((forecast.window_ms, forecast.runs, forecast.migrations), (260, 3, 0));
        let past = [report(&[("migrate", 5000)], true)];
        let migrate = steps(&["migrate", "start-web"]);
        assert_eq!(expect(&migrate, KNOWN, &past).window_ms, 200);
        assert_eq!(expect(&migrate, Known { is_rollback: true, ..KNOWN }, &past).window_ms, 5050);
    }

    #[test]
    fn a_web_that_did_not_run_is_not_missed() {
        assert_eq!(expect(&steps(&["code", "migrate"]), KNOWN, &[]).window_ms, 0);
    }

    #[test]
    fn the_past_is_brought_to_the_boots_and_the_migrations_of_this_release() {
        let then = Forecast { boot_ms: 1000, boots_to_migrate: true, migrations: 10, ..Forecast::default() };
        let past = [Report {
            forecast: Some(then),
            ..report(&[("migrate", 21_000), ("smoke-check", 1500), ("stop-web", 300)], false)
        }];
        let migrate = steps(&["migrate", "start-web"]);
        assert_eq!(expect(&migrate, KNOWN, &past).window_ms, 6000 + 50, "three of ten, and no boot");
        let boots = Known { boots: true, ..KNOWN };
        assert_eq!(expect(&migrate, boots, &past).window_ms, 6400 + 50);
        assert!(!expect(&migrate, KNOWN, &past).unmeasured);
        let check = steps(&["stop-web", "smoke-check"]);
        assert_eq!(expect(&check, KNOWN, &past).window_ms, 300 + 500 + 400);
        let slow = Known { boot: Duration::from_secs(6), ..KNOWN };
        assert_eq!(expect(&check, slow, &past).window_ms, 300 + 500 + 6000);
        // Behind a bridge, the pages wait for no boot, then as now.
        assert_eq!(expect(&check, Known { bridged: true, ..slow }, &past).window_ms, 300 + 1500);
    }

    #[test]
    fn only_runs_whose_web_was_started_likewise_count() {
        let run = |bridged| Report {
            forecast: Some(Forecast { bridged, ..Forecast::default() }),
            ..report(&[], false)
        };
        let bridged = Known { bridged: true, ..KNOWN };
        assert!(bridged.is_like(&run(true)) && !bridged.is_like(&run(false)));
        assert!(KNOWN.is_like(&run(false)) && !KNOWN.is_like(&run(true)));
        assert!(KNOWN.is_like(&report(&[], false)), "there was no bridge yet");
    }
}
