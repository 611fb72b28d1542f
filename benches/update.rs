//! What an update costs, side by side with what people do without deploykit, in one run and as ratios.
//!
//! `cargo bench -p deploykit-cli --bench update` prints a table and ends with 1 when a limit is broken. A word after
//! `--` chooses: `nothing-new`, `window`, `held` or `program`. What it needs is installed by `tests/run`.
#![expect(dead_code, reason = "the demo site is shared with tests and the quickstart, which use more of it")]

#[path = "../examples/demo_site/mod.rs"]
mod demo_site;
mod table;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use demo_site::crowd::{Crowd, Seen};
use demo_site::{DemoSite, HOST, Holder, NEW_SECRET, Options, run, wait_until};
use table::Row;

const DEPLOYKIT: &str = env!("CARGO_BIN_EXE_deploykit");

/// How many pairs of an update with nothing new and a fetch are timed.
const FETCH_PAIRS: usize = 101;

/// How many pairs of an update and one by hand are timed.
const WINDOW_PAIRS: usize = 3;

/// How often `deploykit --version` is timed.
const STARTS: usize = 50;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says so for `cargo bench`, and not for `cargo test --benches`.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing is measured: call it by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let chosen = arguments.iter().find(|argument| !argument.starts_with('-')).map(String::as_str);
    match measure(chosen) {
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

fn measure(chosen: Option<&str>) -> Outcome<Vec<Row>> {
    let wants = |name: &str| chosen.is_none_or(|chosen| chosen == name);
    let mut rows = Vec::new();
    if wants("program") {
        rows.extend(program()?);
    }
    if wants("window") || wants("nothing-new") {
        let mut stage = Stage::build(options()?)?;
        if wants("window") {
            rows.extend(windows(&mut stage)?);
        }
        if wants("nothing-new") {
            rows.push(nothing_new(&mut stage)?);
        }
    }
    if wants("held") {
        let options = Options { holder: Some(Holder::Supervisor), ..options()? };
        rows.push(waiting(&mut Stage::build(options)?)?);
    }
    Ok(rows)
}

/// The binary itself.
fn program() -> Outcome<Vec<Row>> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(seconds(Command::new(DEPLOYKIT).arg("--version"))? * 1000.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
    let size = fs::metadata(DEPLOYKIT)?.len() as f64 / 1e6;
    Ok(vec![
        Row { what: "deploykit --version, whole process", values: starts, limit: 10.0, unit: "ms" },
        Row { what: "the binary", values: vec![size], limit: 8.0, unit: "MB" },
    ])
}

/// A site at release 1 with release 2 waiting, and a copy of all of it to begin from again and again. It is copied back
/// to the same place, since virtualenvs and remotes are named by their paths.
struct Stage {
    site: DemoSite,
    copy: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn build(options: Options) -> Outcome<Stage> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let site = DemoSite::create(&folder.path().join("site"), &options)?;
        site.publish_release_2()?;
        site.add_secret(NEW_SECRET, "a-pinch-of-salt")?;
        let copy = folder.path().join("copy");
        let stage = Stage { site, copy, _folder: folder };
        run(Command::new("cp").arg("-a").args([&stage.site.root, &stage.copy]))?;
        Ok(stage)
    }

    /// Brings everything back to what was copied, and lets it serve.
    fn begin(&mut self) -> Outcome<()> {
        self.site.stop();
        fs::remove_dir_all(&self.site.root)?;
        run(Command::new("cp").arg("-a").args([&self.copy, &self.site.root]))?;
        Ok(self.site.start()?)
    }

    /// Makes a command in the environment of a person of this site.
    fn command(&self, program: &str) -> Command {
        let mut command = self.site.command(program);
        command.current_dir(&self.site.checkout);
        if let Some(folder) = self.site.options.uv.as_deref().and_then(Path::parent) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = [folder.to_owned()].into_iter().chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(folders) {
                command.env("PATH", path);
            }
        }
        command
    }

    fn update(&self) -> Command {
        let mut command = self.command(DEPLOYKIT);
        command.args(["update", "-y"]);
        command
    }

    fn by_hand(&self) -> Command {
        let mut command = self.command("/bin/sh");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/by_hand.sh");
        command.arg(script).envs(self.site.by_hand_environment());
        command
    }
}

/// Finds what `tests/run` installed.
fn options() -> Outcome<Options> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
    let tools = std::env::var_os("DEPLOYKIT_TEST_TOOLS").map_or_else(default, PathBuf::from);
    let tools =
        tools.canonicalize().map_err(|_| format!("there is no {}; run tests/run", tools.display()))?;
    Ok(Options {
        wheels: Some(tools.join("wheels")),
        supervisord: Some(tools.join("venv/bin/supervisord")),
        uv: Some(tools.join("venv/bin/uv")),
        uv_cache: Some(tools.join("uv-cache")),
        ..Options::new(which("python3")?.canonicalize()?)
    })
}

fn which(program: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| format!("`{program}` is not installed").into())
}

/// How long a site was away, in seconds.
struct Absence {
    /// As its visitor saw it.
    unanswered: f64,
    /// From the first service's end to the last one's start.
    down: f64,
    /// The highest memory use of the updating process itself, in megabytes.
    memory: f64,
}

/// The update of the quickstart and the same steps typed by hand, in turn.
fn windows(stage: &mut Stage) -> Outcome<Vec<Row>> {
    let (mut unanswered, mut down, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..WINDOW_PAIRS {
        let mut sides = [true, false];
        if pair % 2 == 1 {
            sides.reverse();
        }
        let mut seen = Vec::new();
        for is_update in sides {
            let absence = absence(stage, if is_update { Stage::update } else { Stage::by_hand })?;
            let side = if is_update { "update" } else { "by hand" };
            println!(
                "{side:>8}: {:.2} s without an answer, {:.2} s from the first stop to the last start",
                absence.unanswered, absence.down
            );
            seen.push((is_update, absence));
        }
        seen.sort_by_key(|(is_update, _)| !is_update);
        let [(_, ours), (_, theirs)] = seen.as_slice() else { return Err("a side is missing".into()) };
        unanswered.push(ours.unanswered / theirs.unanswered);
        down.push(ours.down / theirs.down);
        memory.push(ours.memory);
    }
    Ok(vec![
        Row {
            what: "visitor without an answer, update / by hand",
            values: unanswered,
            limit: 0.5,
            unit: "x",
        },
        Row { what: "first stop to last start, update / by hand", values: down, limit: 0.5, unit: "x" },
        Row { what: "peak memory of the update's own process", values: memory, limit: 40.0, unit: "MB" },
    ])
}

fn absence(stage: &mut Stage, command: fn(&Stage) -> Command) -> Outcome<Absence> {
    stage.begin()?;
    let log = stage.site.root.join("log/supervisord.log");
    let before = fs::read_to_string(&log)?.len();
    let visitor = stage.site.visit().writing().start();
    if !wait_until(Duration::from_secs(30), || visitor.served() > 20) {
        return Err("nobody is served".into());
    }
    let memory = peak(&mut command(stage))?;
    stage.site.wait_until_serving(Duration::from_secs(30))?;
    let experience = visitor.finish();
    if stage.site.release().as_deref() != Some("2") {
        return Err("the site was not updated".into());
    }
    let down = downtime(&fs::read_to_string(&log)?[before..]).ok_or("supervisor's log says nothing")?;
    Ok(Absence { unanswered: experience.without_answer.as_secs_f64(), down, memory })
}

/// Runs a program and returns the highest memory use of its own process, in megabytes. The system only counts up
/// (`VmHWM`), so looking now and then is enough; what `wait4` says afterwards would be that of the largest child.
fn peak(command: &mut Command) -> Outcome<f64> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut highest = 0.0_f64;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        highest = highest.max(kilobytes.unwrap_or_default() * 1024.0 / 1e6);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if ended.success() { Ok(highest) } else { Err(format!("{command:?}: {ended}").into()) }
}

/// Reads from supervisor's log how long not all services ran: from the first end to the last start.
fn downtime(log: &str) -> Option<f64> {
    let time = |line: &str| {
        // 2026-11-22 18:34:00,123 INFO stopped: worker (exit status 0)
        let clock = line.split(' ').nth(1)?.replace(',', ".");
        let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
        Some((parts.next()?? * 60.0 + parts.next()??) * 60.0 + parts.next()??)
    };
    let stopped = log.lines().find(|line| line.contains(" stopped: ") || line.contains(" to stop"))?;
    let started = log.lines().rfind(|line| line.contains(" spawned: "))?;
    let down = time(started)? - time(stopped)?;
    Some(if down < 0.0 { down + 86_400.0 } else { down })
}

/// How long requests wait for an update while supervisor holds the socket, against what no update can do without: the
/// end of the web's processes, the migrations themselves, and the start of the web until its first page.
fn waiting(stage: &mut Stage) -> Outcome<Row> {
    let mut ratios = Vec::new();
    for _ in 0..WINDOW_PAIRS {
        stage.begin()?;
        let site = &stage.site;
        let text = fs::read_to_string(&site.config)?;
        fs::write(&site.config, text.replace("[maintenance]\n", "[maintenance]\nwhen = \"needed\"\n"))?;
        let crowd = || -> Outcome<Crowd> {
            let crowd = Crowd::come(&[&site.gunicorn_address], HOST);
            let served = wait_until(Duration::from_secs(30), || crowd.served() > 100);
            if served { Ok(crowd) } else { Err("nobody is served".into()) }
        };
        let visitors = crowd()?;
        run(&mut stage.update())?;
        let seen = visitors.leave();
        let failed = |one: &&Seen| !one.answer.as_ref().is_ok_and(|answer| answer.status < 400);
        if let Some(failed) = seen.iter().find(failed) {
            return Err(format!("{}: {:?}", failed.request, failed.answer).into());
        }
        let longest = seen.iter().map(|one| one.waited.as_secs_f64()).fold(0.0, f64::max);

        let visitors = crowd()?;
        let started = Instant::now();
        site.stop_gunicorn()?;
        let stop = started.elapsed().as_secs_f64();
        let migrations = migrations(site)?;
        let started = Instant::now();
        let (page, start) = std::thread::scope(|scope| {
            let starts = scope.spawn(|| site.start_gunicorn());
            let page = site.page("/");
            let start = started.elapsed().as_secs_f64();
            starts.join().map_err(|_| "a panic")??;
            Outcome::Ok((page?, start))
        })?;
        drop(visitors.leave());
        if page.status != 200 {
            return Err(format!("the page is {}", page.status).into());
        }
        println!(
            "    held: {longest:.2} s; by itself: {stop:.2} s stop, {migrations:.2} s migrations, {start:.2} s start"
        );
        ratios.push(longest / (stop + migrations + start));
    }
    Ok(Row { what: "longest wait / stop, migrations and start", values: ratios, limit: 1.5, unit: "x" })
}

/// Returns how long the migrations of release 2 take in a Django that is booted, seconds; they are reversed before.
fn migrations(site: &DemoSite) -> Outcome<f64> {
    const SCRIPT: &str = "\
import time
import django
django.setup()
from django.core.management import call_command
call_command('migrate', 'guestbook', '0001', verbosity=0)
begun = time.monotonic()
call_command('migrate', verbosity=0)
print(time.monotonic() - begun)
";
    Ok(run(site.python().args(["-c", SCRIPT]))?.trim().parse()?)
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
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = seconds(&mut stage.update())?;
            (ours, seconds(&mut fetch())?)
        } else {
            let theirs = seconds(&mut fetch())?;
            (seconds(&mut stage.update())?, theirs)
        };
        ratios.push(ours / theirs);
    }
    Ok(Row { what: "update with nothing new / git fetch", values: ratios, limit: 1.5, unit: "x" })
}

/// Runs a program to its end and returns how long that took.
fn seconds(command: &mut Command) -> Outcome<f64> {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = started.elapsed().as_secs_f64();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}
