//! Updates of a site whose socket is held: nobody fails, no answer is of the wrong version, and requests wait for the end of the old
//! web and for the migrations, but for no boot.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use procfs::process::{Process, all_processes};
use serde_json::Value;

use crate::big_site::{self, RELEASE};
use crate::crowd::{Crowd, Experience, answered};
use crate::demo_site::crowd::OFTEN;
use crate::demo_site::{Holder, wait_until};
use crate::floor::{self, Floor};
use crate::program::{self, Cost, DEPLOYKIT};
use crate::stage::{Boot, Stage};
use crate::systemd;
use crate::table::Row;
use crate::{Outcome, SLOW_BOOT};

/// How much longer than the stop of the web and the migrations requests may wait, in seconds.
const ALLOWANCE: f64 = 0.5;

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// One update.
struct Round {
    seen: Experience,
    failed: f64,
    wrong: f64,
    /// The middle answer while the new version's web boots and waits, and while the service's own boots beside it, over the one
    /// before; `NaN` where there is no such time.
    beforehand: f64,
    own: f64,
    /// In megabytes: the web server that was started beforehand, the old version's that waits for an undo, and the helpers of both
    /// with deploykit's own process.
    bridge: f64,
    old: f64,
    beside: f64,
}

/// Returns the name of the figures in the document.
pub fn part(boot: Boot) -> &'static str {
    match boot {
        Boot { computes: true, .. } => "held-computing",
        Boot { seconds, .. } if seconds > SLOW_BOOT => "held-slower",
        _ => "held",
    }
}

/// Updates sites whose Django takes longer to boot, also that of systemd if this runs inside a booted one.
pub fn rows(rounds: usize, boot: Boot) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let holders = [
        ("supervisor", Holder::Supervisor),
        ("hold-socket", Holder::Keeper(DEPLOYKIT)),
        ("systemd", Holder::Systemd),
    ];
    for (name, holder) in holders {
        if holder == Holder::Systemd && !systemd::is_inside() {
            println!("systemd is left out: only root can boot one");
            continue;
        }
        let mut stage = Stage::with(Some(holder), None)?;
        stage.boot_slowly(boot);
        let what = |what: &str| format!("{name}, {boot}: {what}");
        let mut all = Vec::new();
        for _ in 0..rounds {
            begin(&mut stage)?;
            let round = update(&stage, name)?;
            if round.beforehand.is_nan() {
                return Err("the new version was not started beforehand".into());
            }
            let floor = compared(&mut stage, &round)?;
            all.push((round, floor));
        }
        let each = |value: fn(&(Round, Floor)) -> f64| all.iter().map(value).collect::<Vec<f64>>();
        // One in all rounds is one too many.
        let sum = |value: fn(&(Round, Floor)) -> f64| vec![all.iter().map(value).sum::<f64>()];
        rows.extend([
            Row::limited(&what("failed requests, all rounds"), "", 0.0, sum(|(round, _)| round.failed)),
            Row::limited(
                &what("answers of the wrong version, all rounds"),
                "",
                0.0,
                sum(|(round, _)| round.wrong),
            ),
            Row::limited(
                &what("longest wait / stop of the web, SQL and 0.5 s"),
                "x",
                1.0,
                each(|(round, floor)| round.seen.longest_wait() / (floor.stop + floor.migrate + ALLOWANCE)),
            ),
            Row::limited(
                &what("middle answer, while the new version boots beforehand / before"),
                "x",
                1.5,
                each(|(round, _)| round.beforehand),
            ),
            Row::limited(
                &what("middle answer, while the own web boots / before"),
                "x",
                2.0,
                each(|(round, _)| round.own),
            ),
            Row::limited(
                &what("peak memory beside the two webs"),
                "MB",
                60.0,
                each(|(round, _)| round.beside),
            ),
            Row::shown(
                &what("peak memory of the web started beforehand"),
                "MB",
                each(|(round, _)| round.bridge),
            ),
            Row::shown(
                &what("peak memory of the old version's web that waits for an undo"),
                "MB",
                each(|(round, _)| round.old),
            ),
            Row::shown(&what("longest wait"), "s", each(|(round, _)| round.seen.longest_wait())),
            Row::shown(&what("stop of the web"), "s", each(|(_, floor)| floor.stop)),
            Row::shown(&what("SQL"), "s", each(|(_, floor)| floor.migrate)),
            Row::shown(&what("start of the web"), "s", each(|(_, floor)| floor.start)),
        ]);
        if holder == Holder::Supervisor {
            rows.push(without_bridge(&mut stage, boot)?);
        }
    }
    rows.extend(not_held(boot)?);
    Ok(rows)
}

/// Restores the site, whose window is not announced.
fn begin(stage: &mut Stage) -> Outcome<()> {
    stage.begin()?;
    let text = fs::read_to_string(&stage.site.config)?;
    let text = text
        .replace("[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"5m\"\n")
        .replace("deadline = \"20s\"\n", "deadline = \"3m\"\ntimeout = \"2m\"\n");
    Ok(fs::write(&stage.site.config, text)?)
}

/// The same update of a version that cannot be started beforehand.
fn without_bridge(stage: &mut Stage, boot: Boot) -> Outcome<Row> {
    begin(stage)?;
    big_site::publish_thread(&stage.site)?;
    let round = update(stage, "without a boot beforehand")?;
    if !round.beforehand.is_nan() {
        return Err("the new version was started beforehand, although it starts a thread".into());
    }
    let what = format!("supervisor, {boot}, not started beforehand: longest wait");
    Ok(Row::shown(&what, "s", vec![round.seen.longest_wait()]))
}

/// The same update where nobody holds the socket.
fn not_held(boot: Boot) -> Outcome<Vec<Row>> {
    let mut stage = Stage::with(None, None)?;
    stage.boot_slowly(boot);
    begin(&mut stage)?;
    let round = update(&stage, "not held")?;
    let what = |what: &str| format!("{boot}, not held: {what}");
    Ok(vec![
        Row::shown(&what("without service"), "s", vec![round.seen.without_service()]),
        Row::shown(&what("failed requests"), "", vec![round.failed]),
    ])
}

/// Updates while a hundred visitors a second come, of whom a fourth writes.
fn update(stage: &Stage, name: &str) -> Outcome<Round> {
    let (events, output) = (stage.beside("events.jsonl"), stage.beside("output"));
    if events.exists() {
        fs::remove_file(&events)?;
    }
    let before = Instant::now();
    let crowd = Crowd::start(&stage.site.gunicorn_address, OFTEN.beat, OFTEN.pages);
    let come = |count: usize| wait_until(Duration::from_secs(60), || crowd.served() > count);
    if !come(500) {
        return Err(format!("nobody is served:\n{}", stage.site.logs()).into());
    }
    let mut command = stage.update();
    command.arg("--events").arg(&events);
    let over = AtomicBool::new(false);
    let bridges = ["bridge", "old-bridge"].map(|name| stage.site.checkout.join(".deploykit").join(name));
    let (cost, memory) = thread::scope(|scope| {
        let memory = scope.spawn(|| peaks(&bridges, &over));
        let cost = program::run(&mut command, &output);
        over.store(true, Ordering::Relaxed);
        let memory = memory.join().map_err(|_| "a panic")?;
        Outcome::Ok((cost?, memory))
    })?;
    if !come(crowd.served() + 100) {
        return Err(format!("nobody is served any more:\n{}", stage.site.logs()).into());
    }
    let seen = crowd.finish();
    let events = fs::read_to_string(&events)?;
    let events = events.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    judge(name, before, &cost, seen, &events, memory)
}

/// Compares what visitors saw with what happened when.
fn judge(
    name: &str,
    before: Instant,
    cost: &Cost,
    seen: Experience,
    events: &[Value],
    [new, old]: [Peak; 2],
) -> Outcome<Round> {
    let (now, today) = (Instant::now(), Timestamp::now());
    let at = |event: &str, step: &str| {
        let found = events.iter().find(|one| one["event"] == event && one["step"] == step)?;
        let time: Timestamp = found["time"].as_str()?.parse().ok()?;
        now.checked_sub(Duration::try_from(today.duration_since(time)).ok()?)
    };
    let time = |event: &str, step: &str| at(event, step).ok_or_else(|| format!("no `{event}` of `{step}`"));
    let (begun, ended) = (time("step_started", "migrate")?, time("step_finished", "migrate")?);
    // Of each answer its end is known: one of the old code that came before the migrations has its end before them, too.
    let is_wrong = |release: Option<&str>, answered: Instant| match release {
        Some("1") => answered > begun,
        Some("2") => answered < ended,
        _ => true,
    };
    let good = seen.all().iter().filter(|one| one.is_good());
    let wrong = good.filter(|one| {
        let answer = one.answer.as_ref().ok();
        is_wrong(answer.and_then(|answer| answer.headers.get(RELEASE)).map(String::as_str), answered(one))
    });
    let (wrong, failed) = (wrong.count(), seen.failed_reads() + seen.failed_writes());
    let usual = seen.median_wait(before, cost.began);
    let median = |from: Option<Instant>, until: Option<Instant>| match (from, until) {
        (Some(from), Some(until)) => seen.median_wait(from, until),
        _ => f64::NAN,
    };
    let beforehand = median(at("step_started", "boot-bridge"), at("step_finished", "boot-bridge"));
    let own = median(at("step_started", "start-web"), at("step_finished", "hand-over"));
    println!(
        "{name}: {} requests, {failed} failed, {wrong} of the wrong version, {:.2} s the longest wait; middle answers {:.1} ms before, \
         {:.1} ms and {:.1} ms while a web boots; {:.0} MB, its helper {:.1} MB; of the old version {:.0} MB and {:.1} MB; deploykit {:.1} MB",
        seen.all().len(),
        seen.longest_wait(),
        usual * 1e3,
        beforehand * 1e3,
        own * 1e3,
        new.web,
        new.helper,
        old.web,
        old.helper,
        cost.memory
    );
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    Ok(Round {
        failed: count(failed),
        wrong: count(wrong),
        beforehand: beforehand / usual,
        own: own / usual,
        bridge: new.web,
        old: old.web,
        beside: new.helper + old.helper + cost.memory,
        seen,
    })
}

/// Measures what no update can do without, with as many entries as there are now.
fn compared(stage: &mut Stage, round: &Round) -> Outcome<Floor> {
    let written = round.seen.all().iter().filter(|one| one.wrote).count();
    let floor = floor::measure(stage, written)?;
    println!(
        "   {:.2} s the web ends, {:.2} s SQL, {:.2} s the web starts",
        floor.stop, floor.migrate, floor.start
    );
    Ok(floor)
}

/// The highest memory of a web server that was started beforehand, and of its helper, in megabytes; what several processes share is
/// divided among them.
#[derive(Clone, Copy, Default)]
struct Peak {
    web: f64,
    helper: f64,
}

/// Watches web servers that are started beforehand, by their directories.
fn peaks(directories: &[PathBuf; 2], over: &AtomicBool) -> [Peak; 2] {
    let mut peaks = [Peak::default(); 2];
    while !over.load(Ordering::Relaxed) {
        for (peak, directory) in peaks.iter_mut().zip(directories) {
            let sizes = sizes(directory.join("master")).unwrap_or_default();
            // The main process begins with it, and it ends with the view.
            let has_helper = !directory.join("free").exists();
            let helper = sizes.get(1).copied().filter(|_| has_helper).unwrap_or_default();
            peak.helper = peak.helper.max(helper);
            peak.web = peak.web.max(sizes.iter().sum::<f64>() - helper);
        }
        thread::sleep(LOOK);
    }
    peaks
}

/// Returns the memory of each process of the group whose leader a file names, in megabytes, the oldest first.
fn sizes(master: PathBuf) -> Option<Vec<f64>> {
    let master: Value = serde_json::from_slice(&fs::read(master).ok()?).ok()?;
    let leader = i32::try_from(master["pid"].as_i64()?).ok()?;
    let stats = all_processes().ok()?.flatten().filter_map(|process| process.stat().ok());
    let mut group: Vec<_> = stats.filter(|stat| stat.pgrp == leader).collect();
    group.sort_by_key(|stat| (stat.pid != leader, stat.starttime, stat.pid));
    let size = |pid: i32| {
        let all = Process::new(pid).and_then(|process| process.smaps_rollup()).ok()?;
        let share = all.memory_map_rollup.iter().find_map(|map| map.extension.map.get("Pss").copied())?;
        #[expect(clippy::cast_precision_loss, reason = "a process has fewer than 2^52 bytes")]
        Some(share as f64 / 1e6)
    };
    Some(group.iter().filter_map(|stat| size(stat.pid)).collect())
}
