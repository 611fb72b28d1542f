//! What an update costs, side by side with what people do without deploykit, in one run and as ratios.
//!
//! `benches/run` installs what it needs, prints a table and ends with 1 when a limit is broken. Words choose parts:
//! `window`, `slow`, `commands`, `held`, `nothing-new`, `program`, and the large sites `repository`, `static`, `migrations`, `packages`,
//! `runs`, `services`, and `rehearsal`, whose database on a server has `--megabytes N`; `--boot SECONDS` says how slowly Django boots in `slow`, `commands` and `held`, `--computing` that it computes meanwhile in `held`, `--rounds N` how often each side runs.
//! `--markdown` writes the figures of these parts into `docs/measurements.md` too.
#![expect(dead_code, reason = "the demo site is shared with tests and the quickstart, which use more of it")]

mod big_site;
mod crowd;
#[path = "../examples/demo_site/mod.rs"]
mod demo_site;
mod document;
mod floor;
mod held;
mod index;
mod many_services;
mod postgresql;
mod program;
mod rehearsal;
mod scale;
mod stage;
mod systemd;
mod table;
mod window;

use std::error::Error;
use std::process::ExitCode;

use demo_site::run;
use stage::{Boot, Stage};
use table::Row;

/// How many rounds of update, floor and by hand.
const ROUNDS: usize = 5;

/// The same where Django takes long to boot.
const SLOW_ROUNDS: usize = 3;

/// How many pairs of an update with nothing new and a fetch are timed.
const FETCH_PAIRS: usize = 101;

/// The size of the server's database in `rehearsal`.
const MEGABYTES: usize = 200;

/// How many seconds longer Django takes to boot in `slow`.
const SLOW_BOOT: f64 = 6.0;

const PARTS: [&str; 13] = [
    "window",
    "rehearsal",
    "slow",
    "commands",
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
    match report(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures and shows the figures; tells whether every limit holds.
fn report(arguments: &[String]) -> Outcome<bool> {
    let arguments: Vec<String> =
        arguments.iter().filter(|argument| *argument != "--bench").cloned().collect();
    let mut choice = choice(&arguments)?;
    let has_systemd = choice.wants("held") && systemd::may_be_booted();
    if has_systemd {
        choice.parts.retain(|part| part != "held");
    }
    let held = || {
        let options = arguments.iter().filter(|argument| !PARTS.contains(&argument.as_str()));
        systemd::again(&[&"held".to_owned()].into_iter().chain(options).collect::<Vec<_>>())
    };
    let held_holds = if has_systemd { held()? } else { true };
    if choice.parts.is_empty() {
        return Ok(held_holds);
    }
    let facts = choice.markdown.then(document::Facts::gather).transpose()?;
    let measured = measure(&choice)?;
    let rows: Vec<Row> = measured.iter().flat_map(|(_, rows)| rows.clone()).collect();
    let (text, holds) = table::render(&rows);
    print!("\n{text}");
    if let Some(facts) = facts {
        document::write(&facts, &arguments, &measured)?;
    }
    Ok(holds && held_holds)
}

/// What is to be measured.
struct Choice {
    parts: Vec<String>,
    boot: Boot,
    rounds: Option<usize>,
    megabytes: usize,
    markdown: bool,
}

impl Choice {
    fn wants(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part == name)
    }
}

fn choice(arguments: &[String]) -> Outcome<Choice> {
    let mut choice = Choice {
        parts: Vec::new(),
        boot: Boot { seconds: SLOW_BOOT, computes: false },
        rounds: None,
        megabytes: MEGABYTES,
        markdown: false,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--boot" {
            choice.boot.seconds = words.next().ok_or("`--boot` wants seconds")?.parse()?;
        } else if word == "--computing" {
            choice.boot.computes = true;
        } else if word == "--rounds" {
            choice.rounds = Some(words.next().ok_or("`--rounds` wants a number")?.parse()?);
        } else if word == "--megabytes" {
            choice.megabytes = words.next().ok_or("`--megabytes` wants a number")?.parse()?;
        } else if word == "--markdown" {
            choice.markdown = true;
        } else if PARTS.contains(&word.as_str()) {
            choice.parts.push(word.clone());
        } else {
            return Err(format!("`{word}` is none of {}", PARTS.join(", ")).into());
        }
    }
    if choice.parts.is_empty() {
        choice.parts = PARTS.map(ToOwned::to_owned).to_vec();
    }
    Ok(choice)
}

/// Measures one large site.
type Measure = fn() -> Outcome<Vec<Row>>;

fn measure(choice: &Choice) -> Outcome<Vec<(&'static str, Vec<Row>)>> {
    let wants = |name: &str| choice.wants(name);
    let mut measured = Vec::new();
    if wants("program") {
        measured.push(("program", program::rows()?));
    }
    let large: [(&'static str, Measure); 6] = [
        ("repository", scale::repository),
        ("static", scale::static_files),
        ("migrations", scale::migrations),
        ("packages", scale::packages),
        ("runs", scale::runs),
        ("services", many_services::rows),
    ];
    if wants("held") {
        measured
            .push((held::part(choice.boot), held::rows(choice.rounds.unwrap_or(SLOW_ROUNDS), choice.boot)?));
    }
    if wants("rehearsal") {
        measured
            .push(("rehearsal", rehearsal::rows(choice.rounds.unwrap_or(SLOW_ROUNDS), choice.megabytes)?));
    }
    for (name, measure) in large {
        if wants(name) {
            measured.push((name, measure()?));
        }
    }
    if !["window", "slow", "commands", "nothing-new"].into_iter().any(wants) {
        return Ok(measured);
    }
    let mut stage = Stage::build()?;
    if wants("window") {
        measured.push(("window", window::rows(&mut stage, choice.rounds.unwrap_or(ROUNDS))?));
    }
    if wants("nothing-new") {
        measured.push(("nothing-new", vec![nothing_new(&mut stage)?]));
    }
    if wants("slow") {
        let rounds = choice.rounds.unwrap_or(SLOW_ROUNDS);
        measured.push(("slow", window::slow_rows(&mut stage, rounds, choice.boot.seconds)?));
    }
    if wants("commands") {
        let rounds = choice.rounds.unwrap_or(SLOW_ROUNDS);
        measured.push(("commands", window::command_rows(&mut stage, rounds, choice.boot.seconds)?));
    }
    Ok(measured)
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
