//! What deploykit itself computes and writes: `cargo bench -p deploykit --bench micro`.
//!
//! `benches/run baseline` saves what it takes, and `benches/run compare` ends with 1 when something takes markedly longer.

use std::error::Error;
use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use deploykit::action::Action;
use deploykit::internal::django::{
    DatabaseState, MigrationId, MigrationPlan, PendingMigration, Project, RestoreDatabase,
};
use deploykit::internal::journal::{Entry, Journal};
use deploykit::operations::Operation;
use deploykit::operations::django_manage::{DjangoManage, Migrations, Prepared, Task};
use deploykit::plan::{Forecast, Phase, Plan, Step, StepKind};
use deploykit::site::Config;
use deploykit::{Command, Host};

/// Where criterion keeps what it measured.
const KEPT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/criterion");

/// By how much longer something takes that takes markedly longer: at least, with the confidence of 95 %.
const MARKEDLY: f64 = 0.25;

const MEGABYTE: u64 = 1_000_000;

/// How much a program says in the benches of captures.
const OUTPUT: u64 = 100 * MEGABYTE;

/// What reading so much may cost in memory: the kept text once, or next to nothing.
const MEMORY_KEPT: u64 = OUTPUT + OUTPUT / 2;
const MEMORY_UNREAD: u64 = 20 * MEGABYTE;

const CONFIG: &str = r#"
environment = "production"
[site]
repository = "."
project = "project"
settings = "config.settings.production"
env = { LANG = "C.UTF-8" }
[git]
branch = "main"
[python]
virtualenv = "../venv"
requirements = ["requirements/production.txt"]
[secrets]
file = "secrets.json"
[[services]]
name = "gunicorn"
manager = "supervisor"
config = "config/supervisor.conf"
role = "web"
[[services]]
name = "worker"
manager = "supervisor"
config = "config/supervisor.conf"
role = "worker"
[[steps]]
name = "compress"
after = "static"
manage = ["compress"]
[maintenance]
page = "/srv/www/tmp/maintenance.html"
notice = "20m"
[smoke]
base = "https://site.example/"
connect = "127.0.0.1:8000"
pages = ["/", { path = "/about/", contains = "About", status = 200 }]
[logs]
gunicorn = "/srv/www/log/gunicorn.log"
"#;

fn configuration(criterion: &mut Criterion) {
    let path = Path::new("/srv/site/deploykit.toml");
    criterion.bench_function("read a configuration", |bencher| {
        bencher.iter(|| Config::parse(black_box(CONFIG), path, None).expect("a good configuration"));
    });
}

/// An entry as large as the largest of an update: a step with the undo of its actions.
fn journal(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let action = |number: usize| Action::WriteFile {
        path: format!("/srv/www/tmp/{number}.html").into(),
        contents: "<h1>Back soon</h1>\n".repeat(20),
        mode: 0o644,
    };
    let actions: Vec<Action> = (0..20).map(action).collect();
    let time = "2026-11-22T12:00:00Z".parse().expect("a time");
    let entry = Entry::StepStarted {
        step: "static".into(),
        phase: Phase::Window,
        time,
        undo: actions.clone(),
        actions,
    };
    let mut journal = Journal::open(&directory.path().join("journal.jsonl")).expect("a journal");
    criterion.bench_function("write ahead and sync", |bencher| {
        bencher.iter(|| journal.append(black_box(&entry)).expect("it is written"));
    });
}

/// A release after a long while: 300 migrations wait, for a database of as many and a schema of 3,000 lines.
fn plan(criterion: &mut Criterion) {
    let id = |number: usize| MigrationId { app: "shop".to_owned(), name: format!("{number:04}_change") };
    let pending = (300..600).map(|number| PendingMigration {
        operations: vec![format!("Add field field_{number} to item"), "Raw Python operation".to_owned()],
        ..PendingMigration::new(id(number), "default")
    });
    let applied: Vec<MigrationId> = (0..300).map(id).collect();
    let before = DatabaseState {
        database: "default".to_owned(),
        applied: applied.clone(),
        schema: (0..3000)
            .map(|number| format!("column shop_item.field_{number} varchar(80) NOT NULL"))
            .collect(),
        digest: "0".repeat(64),
    };
    let migrations = MigrationPlan { pending: pending.collect(), applied, ..MigrationPlan::default() };
    let project = Project::new("/srv/venv/bin/python", "/srv/site/project", "config.settings.production");
    let backup = Some("/srv/site/.deploykit/runs/1/backup.sqlite3".into());
    let restore = RestoreDatabase::new(project.clone(), before.clone(), backup);
    let migrations = Migrations { restore, ..Migrations::new(migrations, before, project.clone()) };
    let prepared = Prepared::Migrations(vec![migrations]);
    let operation = DjangoManage::new(project, Task::Migrate);
    let make = || {
        let check = operation.change(black_box(&prepared));
        Plan {
            environment: "production".to_owned(),
            from: "0".repeat(40),
            to: "1".repeat(40),
            digest: None,
            old_code_risk: None,
            rolls_back: None,
            rollback: None,
            rehearsal: None,
            bridge: None,
            old_bridge: None,
            starts: None,
            steps: vec![Step::new(StepKind::Migrate, check)],
            notices: Vec::new(),
            forecast: Forecast { window_ms: 60_000, ..Forecast::default() },
            hold: Vec::new(),
        }
    };
    let text = serde_json::to_string(&make()).expect("it is written");
    let mut group = criterion.benchmark_group("a plan of 300 migrations");
    group.bench_function("make", |bencher| bencher.iter(make));
    group.bench_function("write", |bencher| {
        let plan = make();
        bencher.iter(|| serde_json::to_string(black_box(&plan)).expect("it is written"));
    });
    group.bench_function("read", |bencher| {
        bencher.iter(|| serde_json::from_str::<Plan>(black_box(&text)).expect("it was written"));
    });
    group.finish();
}

fn capture(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lines =
        Command::new("sh").args(["-c", &format!("yes 'a line as a program writes it' | head -c {OUTPUT}")]);
    // What is not kept comes first: the highest memory use is counted up only.
    let unread = |host: &Host| host.run_unread(&lines).expect("it says much");
    unread(&Host::new());
    assert_memory("unread", MEMORY_UNREAD);
    let kept = |host: &Host| host.run(&lines).expect("it says much").stdout.len();
    assert_eq!(kept(&Host::new()) as u64, OUTPUT);
    assert_memory("kept", MEMORY_KEPT);

    let mut group = criterion.benchmark_group("100 MB of a program's output");
    group.sample_size(10).throughput(Throughput::Bytes(OUTPUT));
    group.bench_function("kept", |bencher| bencher.iter(|| kept(&Host::new())));
    group.bench_function("unread", |bencher| bencher.iter(|| unread(&Host::new())));
    group.bench_function("unread, with a transcript", |bencher| {
        let host = || {
            let file = File::create(directory.path().join("output.log")).expect("a transcript");
            Host::new().with_transcript(file)
        };
        bencher.iter_batched_ref(host, |host| unread(host), BatchSize::PerIteration);
    });
    group.finish();
}

/// Fails when this process ever used more.
fn assert_memory(what: &str, limit: u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let used = kilobytes * 1024;
    println!("100 MB of a program's output, {what}: at most {} MB of memory", used / MEGABYTE);
    assert!(used <= limit, "{what}: {used} bytes of memory, allowed are {limit}");
}

criterion_group! {
    name = benches;
    config = kept();
    targets = configuration, journal, plan, capture
}

fn kept() -> Criterion {
    Criterion::default().output_directory(Path::new(KEPT))
}

fn main() -> ExitCode {
    let begun = SystemTime::now();
    benches();
    kept().configure_from_args().final_summary();
    if !std::env::args().any(|argument| argument.starts_with("--baseline")) {
        return ExitCode::SUCCESS;
    }
    match slower(Path::new(KEPT), begun) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// Counts what takes markedly longer than the baseline, of what was compared since then, and names it.
fn slower(directory: &Path, since: SystemTime) -> Result<usize, Box<dyn Error>> {
    let (mut compared, mut slower) = (0, 0);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let estimates = path.join("estimates.json");
            if !path.ends_with("change") {
                directories.extend(path.is_dir().then_some(path));
            } else if fs::metadata(&estimates)?.modified()? >= since {
                let change: serde_json::Value = serde_json::from_str(&fs::read_to_string(&estimates)?)?;
                let least = change.pointer("/median/confidence_interval/lower_bound");
                let least = least
                    .and_then(serde_json::Value::as_f64)
                    .ok_or("criterion says nothing of the median")?;
                compared += 1;
                if least > MARKEDLY {
                    slower += 1;
                    let what = directory.strip_prefix(KEPT).unwrap_or(&directory);
                    println!("SLOWER by {:.0} % or more: {}", least * 100.0, what.display());
                }
            }
        }
    }
    if compared == 0 {
        Err("there is no baseline; `benches/run baseline` saves one".into())
    } else {
        Ok(slower)
    }
}
