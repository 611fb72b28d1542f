//! The window: the update, the same typed by hand, and the floor under both, in turn.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::big_site;
use crate::floor::{self, Floor};
use crate::program::{self, Cost};
use crate::stage::{Boot, Stage};
use crate::table::Row;

/// What became of one side.
struct Side {
    cost: Cost,
    /// As visitors saw it.
    without_service: f64,
    failed_reads: usize,
    failed_writes: usize,
    longest_wait: f64,
    /// The middle answer while the update prepared, over the one before; by hand nothing is prepared.
    slower: f64,
    report: Value,
    events: Vec<Value>,
}

impl Side {
    fn line(&self) -> String {
        format!(
            "{:6.2} s without service, {} reads and {} writes failed, {:.2} s the longest answer; {:.1} s in all, {:.1} s of CPU",
            self.without_service,
            self.failed_reads,
            self.failed_writes,
            self.longest_wait,
            self.cost.seconds,
            self.cost.cpu
        )
    }

    fn window(&self) -> f64 {
        milliseconds(&self.report["window_ms"])
    }

    /// Seconds of the rehearsal, which has no counterpart by hand.
    fn rehearsal(&self) -> f64 {
        let is_rehearsal = |event: &&Value| {
            let step = event["step"].as_str().unwrap_or_default();
            event["event"] == "step_finished" && (step == "live-check" || step.starts_with("rehearse-"))
        };
        self.events.iter().filter(is_rehearsal).map(|event| milliseconds(&event["duration_ms"])).sum()
    }

    /// Says how long each step of a phase took, in milliseconds.
    fn steps(&self, phase: &str) -> String {
        let steps =
            self.events.iter().filter(|event| event["event"] == "step_finished" && event["phase"] == phase);
        let steps =
            steps.map(|step| format!("{} {}", step["step"].as_str().unwrap_or("?"), step["duration_ms"]));
        steps.collect::<Vec<_>>().join(", ")
    }
}

/// One round.
struct Round {
    ours: Side,
    floor: Floor,
    theirs: Side,
    /// By what factor the forecast of the next update was wrong.
    forecast: f64,
}

/// The window of a site of middling size.
pub fn rows(stage: &mut Stage, rounds: usize) -> Outcome<Vec<Row>> {
    let rounds = (0..rounds).map(|number| round(stage, number)).collect::<Outcome<Vec<Round>>>()?;
    let each = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<f64>>();
    let ours = |value: fn(&Side) -> f64| rounds.iter().map(|round| value(&round.ours)).collect::<Vec<f64>>();
    let theirs =
        |value: fn(&Side) -> f64| rounds.iter().map(|round| value(&round.theirs)).collect::<Vec<f64>>();
    let mut rows = vec![
        Row::limited("without service, update / floor", "x", 1.2, each(over_floor)),
        Row::limited(
            "without service, update / by hand",
            "x",
            0.16,
            each(|round| round.ours.without_service / round.theirs.without_service),
        ),
        Row::limited(
            "whole time without the rehearsal, update / by hand",
            "x",
            0.7,
            each(|round| (round.ours.cost.seconds - round.ours.rehearsal()) / round.theirs.cost.seconds),
        ),
        Row::limited(
            "whole time, update / by hand",
            "x",
            0.9,
            each(|round| round.ours.cost.seconds / round.theirs.cost.seconds),
        ),
        Row::limited("middle answer, in the preparation / before", "x", 1.5, ours(|side| side.slower)),
        Row::limited("forecast after one run, off by", "x", 1.5, each(|round| round.forecast)),
        Row::limited("peak memory of the update's own process", "MB", 40.0, ours(|side| side.cost.memory)),
        Row::shown("floor", "s", each(|round| round.floor.sum())),
        Row::shown("floor: the web ends", "s", each(|round| round.floor.stop)),
        Row::shown("floor: migrations, Django booted", "s", each(|round| round.floor.migrate)),
        Row::shown("floor: the web starts, first page", "s", each(|round| round.floor.start)),
    ];
    for (side, values) in [("update", &ours as &dyn Fn(fn(&Side) -> f64) -> Vec<f64>), ("by hand", &theirs)] {
        let row = |what: &str, unit, value| Row::shown(&format!("{side}: {what}"), unit, values(value));
        rows.push(row("without service", "s", |side| side.without_service));
        rows.push(row("failed reads", "", |side| {
            f64::from(u32::try_from(side.failed_reads).unwrap_or(u32::MAX))
        }));
        rows.push(row("failed writes", "", |side| {
            f64::from(u32::try_from(side.failed_writes).unwrap_or(u32::MAX))
        }));
        rows.push(row("longest wait of an answer", "s", |side| side.longest_wait));
        rows.push(row("whole time", "s", |side| side.cost.seconds));
        rows.push(row("CPU", "s", |side| side.cost.cpu));
    }
    Ok(rows)
}

/// The window of a site whose Django takes so many seconds longer to boot.
pub fn slow_rows(stage: &mut Stage, rounds: usize, seconds: f64) -> Outcome<Vec<Row>> {
    stage.boot_slowly(Boot { seconds, computes: false });
    let (mut over_boot, mut over_end, mut over_floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let ours = update(stage)?;
        let floor = compared(stage, &ours)?;
        let boot = floor.boot + floor.migrate;
        over_boot.push(ours.without_service / boot);
        over_end.push(ours.without_service / (boot + floor.stop));
        over_floor.push(ours.without_service / floor.sum());
    }
    let what = |what: &str| format!("boot + {seconds} s: without service, update / {what}");
    Ok(vec![
        // Two boots would be 1.9 times as much.
        Row::limited(&what("one boot, the SQL and the end of the web"), "x", 1.1, over_end),
        Row::shown(&what("one boot and the SQL"), "x", over_boot),
        Row::limited(&what("floor"), "x", 1.2, over_floor),
    ])
}

/// What the site of the next part runs after its migrations.
const COMMANDS: [&[&str]; 4] =
    [&["check"], &["clearsessions"], &["showmigrations", "--plan"], &["dumpdata", "guestbook"]];

/// The window of such a site with four commands of its own, against the window without them and what they take themselves.
pub fn command_rows(stage: &mut Stage, rounds: usize, seconds: f64) -> Outcome<Vec<Row>> {
    stage.boot_slowly(Boot { seconds, computes: false });
    let mut steps = String::new();
    for (number, command) in COMMANDS.iter().enumerate() {
        let _ = writeln!(
            steps,
            "[[steps]]\nname = \"own-{number}\"\nafter = \"migrate\"\nmanage = {}",
            serde_json::to_string(command)?
        );
    }
    let (mut ratios, mut own) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        stage.configure("");
        let without = update(stage)?;
        let themselves = floor::commands(&stage.site, &COMMANDS)?;
        stage.configure(&steps);
        let with = update(stage)?;
        let ran = with.steps("window").matches("own-").count();
        if ran != COMMANDS.len() {
            return Err(format!("{ran} of the commands ran: {}", with.steps("window")).into());
        }
        println!("commands: {themselves:.2} s by themselves");
        ratios.push(with.without_service / (without.without_service + themselves));
        own.push(themselves);
    }
    stage.configure("");
    let what = |what: &str| format!("boot + {seconds} s, four own commands: {what}");
    Ok(vec![
        // Four boots more would be 3.5 times as much.
        Row::limited(
            &what("time without service, with them / without them plus their own time"),
            "x",
            1.1,
            ratios,
        ),
        Row::shown(&what("their own time in a booted Django"), "s", own),
    ])
}

fn over_floor(round: &Round) -> f64 {
    round.ours.without_service / round.floor.sum()
}

/// The sides in turn. The floor follows the update, since it is compared with what that found in the database.
fn round(stage: &mut Stage, number: usize) -> Outcome<Round> {
    println!("round {}", number + 1);
    let first = if number % 2 == 1 { Some(by_hand(stage)?) } else { None };
    let ours = update(stage)?;
    let forecast = next(stage, number.is_multiple_of(2))?;
    let floor = compared(stage, &ours)?;
    let theirs = match first {
        Some(theirs) => theirs,
        None => by_hand(stage)?,
    };
    Ok(Round { ours, floor, theirs, forecast })
}

fn update(stage: &mut Stage) -> Outcome<Side> {
    stage.begin()?;
    let side = deploykit(stage, "2")?;
    println!(" update: {}", side.line());
    for phase in ["prepare", "announce", "window", "finish"] {
        println!("         {phase}: {}", side.steps(phase));
    }
    Ok(side)
}

fn compared(stage: &mut Stage, side: &Side) -> Outcome<Floor> {
    // A fifth of the requests before the window writes.
    let entries = ((side.cost.seconds - side.without_service) * 10.0).max(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some dozens")]
    let floor = floor::measure(stage, entries as usize + 20)?;
    println!(
        "  floor: {:6.2} s = {:.2} the web ends + {:.2} migrations + {:.2} the web starts; one boot {:.2} s",
        floor.sum(),
        floor.stop,
        floor.migrate,
        floor.start,
        floor.boot
    );
    Ok(floor)
}

fn by_hand(stage: &mut Stage) -> Outcome<Side> {
    stage.begin()?;
    let side = watched(stage, &mut stage.by_hand(), "2", |_| Ok((Value::Null, Vec::new(), None)))?;
    println!("by hand: {}", side.line());
    Ok(side)
}

/// Updates the site once more, and returns by what factor the forecast was wrong.
fn next(stage: &mut Stage, migrates: bool) -> Outcome<f64> {
    big_site::publish_third(&stage.site, migrates)?;
    let side = deploykit(stage, "3")?;
    let (expected, actual) = (milliseconds(&side.report["forecast"]["window_ms"]), side.window());
    let has_migrated = side.steps("window").contains("migrate");
    if has_migrated != migrates {
        return Err(
            format!("migrations were due: {migrates}; the steps were {}", side.steps("window")).into()
        );
    }
    let kind = if migrates { "three migrations" } else { "no migration" };
    println!(
        "   next: {actual:.2} s of window with {kind}, forecast {expected:.2} s: {}",
        side.steps("window")
    );
    Ok((expected / actual).max(actual / expected))
}

/// Updates with deploykit.
fn deploykit(stage: &Stage, release: &str) -> Outcome<Side> {
    let (events, output) = (stage.beside("events.jsonl"), stage.beside("output"));
    if events.exists() {
        fs::remove_file(&events)?;
    }
    let mut command = stage.update();
    command.arg("--json").arg("--events").arg(&events);
    watched(stage, &mut command, release, |began| {
        let report = serde_json::from_str(&fs::read_to_string(&output)?)?;
        let events = fs::read_to_string(&events)?;
        let events = events.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let after =
            events.iter().find(|event| event["event"] == "phase_started" && event["phase"] != "prepare");
        let prepared = milliseconds(&after.ok_or("the update has no phases")?["elapsed_ms"]);
        Ok((report, events, Some(began + Duration::from_secs_f64(prepared))))
    })
}

/// Runs a program while visitors come, and looks that the site is at the release afterwards.
fn watched(
    stage: &Stage,
    command: &mut std::process::Command,
    release: &str,
    read: impl FnOnce(Instant) -> Outcome<(Value, Vec<Value>, Option<Instant>)>,
) -> Outcome<Side> {
    let before = Instant::now();
    let crowd = stage.visit()?;
    let cost = program::run(command, &stage.beside("output"))?;
    stage.site.wait_until_serving(Duration::from_secs(60))?;
    let seen = crowd.finish();
    if stage.site.release().as_deref() != Some(release) {
        return Err(format!("release {release} does not serve").into());
    }
    let (report, events, prepared) = read(cost.began)?;
    let usual = seen.median_wait(before, cost.began);
    let slower = prepared.map_or(f64::NAN, |until| seen.median_wait(cost.began, until) / usual);
    Ok(Side {
        without_service: seen.without_service(),
        failed_reads: seen.failed_reads(),
        failed_writes: seen.failed_writes(),
        longest_wait: seen.longest_wait(),
        slower,
        cost,
        report,
        events,
    })
}

/// Reads milliseconds as seconds.
fn milliseconds(value: &Value) -> f64 {
    value.as_f64().map_or(f64::NAN, |milliseconds| milliseconds / 1000.0)
}
