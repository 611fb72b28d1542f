//! What an update costs, side by side with what people do without deploykit, in one run and as ratios.
//!
//! `benches/run` installs what it needs, prints a table and ends with 1 when a limit is broken. Words choose parts:
//! `window`, `slow`, `held`, `nothing-new`, `program`, and the large sites `repository`, `static`, `migrations`, `packages`,
//! `runs`, `services`; `--boot SECONDS` says how slowly Django boots in `slow`, `--rounds N` how often each side runs.
#![expect(dead_code, reason = "the demo site is shared with tests and the quickstart, which use more of it")]

mod big_site;
mod crowd;
#[path = "../examples/demo_site/mod.rs"]
mod demo_site;
mod floor;
mod held;
mod index;
mod many_services;
mod program;
mod scale;
mod stage;
mod table;
mod window;

use std::error::Error;
use std::process::ExitCode;

use demo_site::run;
use stage::Stage;
use table::Row;

/// How many rounds of update, floor and by hand.
const ROUNDS: usize = 5;

/// The same where Django takes long to boot.
const SLOW_ROUNDS: usize = 3;

/// How many pairs of an update with nothing new and a fetch are timed.
const FETCH_PAIRS: usize = 101;

/// How many seconds longer Django takes to boot in `slow`.
const SLOW_BOOT: f64 = 6.0;

const PARTS: [&str; 11] = [
    "window",
    "slow",
    "held",
    "nothing-new",
    "program",
    "repository",
    "static",
    "migrations",
    "packages",
    "runs",
    "services",
];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says so for `cargo bench`, and not for `cargo test --benches`.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing is measured: call benches/run");
        return ExitCode::SUCCESS;
    }
    match choice(&arguments).and_then(|choice| measure(&choice)) {
        Ok(rows) => {
            let (text, holds) = table::render(&rows);
            print!("\n{text}");
            if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::from(2)
        }
    }
}

/// What is to be measured.
struct Choice {
    parts: Vec<String>,
    boot: f64,
    rounds: Option<usize>,
}

fn choice(arguments: &[String]) -> Outcome<Choice> {
    let mut choice = Choice { parts: Vec::new(), boot: SLOW_BOOT, rounds: None };
    let mut words = arguments.iter().filter(|word| *word != "--bench");
    while let Some(word) = words.next() {
        if word == "--boot" {
            choice.boot = words.next().ok_or("`--boot` wants seconds")?.parse()?;
        } else if word == "--rounds" {
            choice.rounds = Some(words.next().ok_or("`--rounds` wants a number")?.parse()?);
        } else if PARTS.contains(&word.as_str()) {
            choice.parts.push(word.clone());
        } else {
            return Err(format!("`{word}` is none of {}", PARTS.join(", ")).into());
        }
    }
    Ok(choice)
}

/// Measures one large site.
type Measure = fn() -> Outcome<Vec<Row>>;

fn measure(choice: &Choice) -> Outcome<Vec<Row>> {
    let wants = |name: &str| choice.parts.is_empty() || choice.parts.iter().any(|part| part == name);
    let mut rows = Vec::new();
    if wants("program") {
        rows.extend(program::rows()?);
    }
    let large: [(&str, Measure); 6] = [
        ("repository", scale::repository),
        ("static", scale::static_files),
        ("migrations", scale::migrations),
        ("packages", scale::packages),
        ("runs", scale::runs),
        ("services", many_services::rows),
    ];
    if wants("held") {
        rows.push(held::row(choice.rounds.unwrap_or(SLOW_ROUNDS))?);
    }
    for (name, measure) in large {
        if wants(name) {
            rows.extend(measure()?);
        }
    }
    if !["window", "slow", "nothing-new"].into_iter().any(wants) {
        return Ok(rows);
    }
    let mut stage = Stage::build(None)?;
    if wants("window") {
        rows.extend(window::rows(&mut stage, choice.rounds.unwrap_or(ROUNDS))?);
    }
    if wants("nothing-new") {
        rows.push(nothing_new(&mut stage)?);
    }
    if wants("slow") {
        rows.extend(window::slow_rows(&mut stage, choice.rounds.unwrap_or(SLOW_ROUNDS), choice.boot)?);
    }
    Ok(rows)
}

/// An update with nothing new against the fetch that it cannot do without, in turn.
fn nothing_new(stage: &mut Stage) -> Outcome<Row> {
    stage.begin()?;
    run(&mut stage.update())?;
    let fetch = || {
        let mut command = stage.command("git");
        command.args(["fetch", "origin", "main"]);
        command
    };
    let mut ratios = Vec::new();
    for pair in 0..FETCH_PAIRS {
        let (ours, theirs) = if pair.is_multiple_of(2) {
            let ours = program::seconds(&mut stage.update())?;
            (ours, program::seconds(&mut fetch())?)
        } else {
            let theirs = program::seconds(&mut fetch())?;
            (program::seconds(&mut stage.update())?, theirs)
        };
        ratios.push(ours / theirs);
    }
    Ok(Row::limited("update with nothing new / git fetch", "x", 1.2, ratios))
}
