//! The kill matrix: a whole update on a real site is killed, with all its processes, at every entry of its journal, at
//! system calls of every kind that changes something, and at any time; then it is recovered, and half of the recoveries
//! are killed, too. In the end the site is wholly old or wholly new, and until then it never serves a mixture.
//!
//! `DEPLOYKIT_KILLS=500` kills before and after each entry of the journal, and 500 times elsewhere; otherwise, it is before or after,
//! by lot. `DEPLOYKIT_KILLS_SEED` draws those of an earlier run again, `DEPLOYKIT_KILLS_ONLY` is the number of one case.

#[macro_use]
extern crate deploykit_test_collect;

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod killer;
mod odd;
mod place;

use std::sync::Mutex;
use std::time::Instant;

use cases::{Case, Kind, draw};
use place::{Place, Result};

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_is_killed_the_site_is_wholly_old_or_wholly_new() {
    let Some(killer) = killer::build() else { return };
    let build = |kind| {
        let mut place = Place::build(&killer, kind)?;
        let warm = place.measure();
        Some((place, warm))
    };
    let built = std::thread::scope(|scope| {
        let held = scope.spawn(|| build(Kind::Held));
        let first = build(Kind::ByHand);
        Some((first?, held.join().expect("a site")?))
    });
    let Some(((first, warm), (second, held))) = built else { return };
    let cold = first.cold.clone().expect("it was measured");
    let seed = number("DEPLOYKIT_KILLS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs() ^ u64::from(now.subsec_nanos()) << 20)
    });
    eprintln!("seed {seed}; {cold:?}; {warm:?}; {held:?}");
    let only: Option<usize> = number("DEPLOYKIT_KILLS_ONLY");
    let cases: Vec<Case> = draw(seed, &cold, &warm, &held, number("DEPLOYKIT_KILLS"))
        .into_iter()
        .filter(|case| only.is_none_or(|only| only == case.number))
        .collect();

    let results = Mutex::new(Vec::new());
    let work = |mut place: Option<Place>, kind: Kind| {
        for case in cases.iter().filter(|case| case.site == kind).cloned() {
            let begun = Instant::now();
            let Some(mut here) = place.take().or_else(|| Place::build(&killer, kind)) else { return };
            let result = here.kill(&case);
            eprintln!("{:.1} s: {case}: {result}", begun.elapsed().as_secs_f64());
            match result {
                Result::Back | Result::Forward | Result::NotKilled => place = Some(here),
                // Nobody knows what it is like now.
                Result::Mixed(_) | Result::Lost(_) => here.keep(),
            }
            push(&results, (case, result));
        }
    };
    // All sites at once.
    std::thread::scope(|scope| {
        scope.spawn(|| work(Some(first), Kind::ByHand));
        scope.spawn(|| work(Some(second), Kind::Held));
        scope.spawn(|| work(None, Kind::Updated));
    });

    let results = results.into_inner().expect("no thread panicked");
    let count = |wanted: fn(&Result) -> bool| results.iter().filter(|(_, result)| wanted(result)).count();
    let not_killed = count(|result| matches!(result, Result::NotKilled));
    let summary = format!(
        "{} kills: {} back, {} forward, {} mixed, {} lost",
        results.len() - not_killed,
        count(|result| matches!(result, Result::Back)),
        count(|result| matches!(result, Result::Forward)),
        count(|result| matches!(result, Result::Mixed(_))),
        count(|result| matches!(result, Result::Lost(_))),
    );
    println!("{summary}\nseed {seed}; {not_killed} more updates ended before they were to be killed");
    let failed: Vec<String> = results
        .iter()
        .filter(|(_, result)| matches!(result, Result::Mixed(_) | Result::Lost(_)))
        .map(|(case, result)| format!("{case}: {result}"))
        .collect();
    assert!(failed.is_empty(), "{summary}\n\n{}", failed.join("\n\n"));
}

fn push(results: &Mutex<Vec<(Case, Result)>>, result: (Case, Result)) {
    if let Ok(mut results) = results.lock() {
        results.push(result);
    }
}

fn main() -> std::process::ExitCode {
    support::harness::main()
}
