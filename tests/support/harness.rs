//! Runs the tests of a binary, and counts those that are skipped as ignored.

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};

/// All tests of this binary; the attribute `#[test]` adds them.
#[linkme::distributed_slice]
pub static TESTS: [Test];

/// One test.
#[derive(Debug)]
pub struct Test {
    pub module: &'static str,
    pub name: &'static str,
    pub run: fn(),
}

/// How long each test took that has ended.
static TOOK: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

thread_local! {
    /// How long the test of this thread has waited for its turn.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What a test unwinds with that cannot be run here.
struct Skipped(String);

/// Ends the test, which counts as ignored, with the reason; under `CI=true` that is a failure.
pub fn skip(reason: &str) -> ! {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "may not be skipped in CI: {reason}");
    leave_out(reason)
}

/// Ends the test, which counts as ignored, with the reason.
pub fn leave_out(reason: &str) -> ! {
    // It is no panic: nothing is printed.
    resume_unwind(Box::new(Skipped(reason.to_owned())))
}

/// Waits until no other test holds this lock. How long it waits does not count as the test's time.
pub fn lock(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    let since = Instant::now();
    let guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
    WAITED.set(WAITED.get() + since.elapsed());
    guard
}

/// The `main` of a test binary. It takes the arguments of Rust's own harness, and `RUST_TEST_THREADS`; it lists as many of the
/// slowest tests as `TEST_DURATIONS` says.
pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|threads| threads.parse().ok());
    arguments.test_threads = arguments.test_threads.or(threads);
    let trials = TESTS.iter().map(|test| {
        // As Rust's own harness names it: without the binary.
        let name = match test.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", test.name),
            None => test.name.to_owned(),
        };
        Trial::ignorable_test(name.clone(), move || {
            WAITED.set(Duration::ZERO);
            let start = Instant::now();
            let end = catch_unwind(test.run);
            let took = start.elapsed().saturating_sub(WAITED.get());
            TOOK.lock().expect("no test panics while it holds this").push((took, name));
            match end {
                Ok(()) => Ok(Completion::Completed),
                Err(payload) => match payload.downcast::<Skipped>() {
                    Ok(skipped) => Ok(Completion::ignored_with(skipped.0)),
                    Err(panic) => resume_unwind(panic),
                },
            }
        })
    });
    let mut trials: Vec<Trial> = trials.collect();
    trials.sort_by(|one, other| one.name().cmp(other.name()));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(count) = std::env::var("TEST_DURATIONS").ok().and_then(|count| count.parse().ok()) {
        print_slowest(count);
    }
    conclusion.exit_code()
}

fn print_slowest(count: usize) {
    let mut took = TOOK.lock().expect("no test panics while it holds this");
    took.sort_by(|one, other| other.cmp(one));
    for (duration, name) in took.iter().take(count) {
        println!("{:8.1} s  {name}", duration.as_secs_f64());
    }
}
