//! What deploykit itself computes and writes: `cargo bench -p deploykit --bench micro`.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use deploykit::action::Action;
use deploykit::journal::{Entry, Journal};
use deploykit::plan::Phase;
use deploykit::site::Config;
use deploykit::{Command, Host};

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
    let folder = tempfile::tempdir().expect("a temporary folder");
    let action = |number: usize| Action::WriteFile {
        path: format!("/srv/www/tmp/{number}.html").into(),
        contents: "<h1>Back soon</h1>\n".repeat(20),
        mode: 0o644,
    };
    let actions: Vec<Action> = (0..20).map(action).collect();
    let time = "2026-11-22T12:00:00Z".parse().expect("a time");
    let entry = Entry::StepStarted {
        step: "static".to_owned(),
        phase: Phase::Window,
        time,
        undo: actions.clone(),
        actions,
    };
    let mut journal = Journal::open(&folder.path().join("journal.jsonl")).expect("a journal");
    criterion.bench_function("write ahead and sync", |bencher| {
        bencher.iter(|| journal.append(black_box(&entry)).expect("it is written"));
    });
}

fn capture(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
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
            let file = File::create(folder.path().join("output.log")).expect("a transcript");
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

criterion_group!(benches, configuration, journal, capture);
criterion_main!(benches);
