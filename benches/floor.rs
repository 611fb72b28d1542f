//! What no update can do without, each part alone: the stop of the web, the SQL of the migrations in a Django that is
//! booted already, and the start of the web until its first page.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::demo_site::supervisor::call;
use crate::demo_site::{DemoSite, Holder, run};
use crate::program;
use crate::stage::Stage;
use crate::systemd;

/// How often a state is asked for.
const STEP: Duration = Duration::from_millis(5);

const DEADLINE: Duration = Duration::from_secs(120);

/// Boots Django, then times `migrate` and says how many seconds it took.
const MIGRATE: &str = r#"
import time
import django
django.setup()
from django.core.management import call_command
from django.db import connection
connection.ensure_connection()
began = time.perf_counter()
call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
print(time.perf_counter() - began)
"#;

/// Boots Django, then runs each command of the first argument as `manage.py` does, and says how many seconds all took.
const COMMANDS: &str = r#"
import contextlib, io, json, sys, time
import django
django.setup()
from django.core.management import execute_from_command_line
took = 0
for command in json.loads(sys.argv[1]):
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        execute_from_command_line(["manage.py", *command])
    took += time.perf_counter() - began
print(took)
"#;

/// Returns how many seconds commands take in a Django that is booted already, on the site as it is.
pub fn commands(site: &DemoSite, commands: &[&[&str]]) -> Outcome<f64> {
    let text = serde_json::to_string(commands)?;
    Ok(run(site.python().args(["-c", COMMANDS, &text]))?.trim().parse()?)
}

/// Seconds of each part.
pub struct Floor {
    pub stop: f64,
    pub migrate: f64,
    pub start: f64,
    /// One start of `manage.py`, which is not part of it.
    pub boot: f64,
}

impl Floor {
    pub fn sum(&self) -> f64 {
        self.stop + self.migrate + self.start
    }
}

/// Measures it on the site as it was copied, with as many more entries as visitors wrote into the one that is compared.
pub fn measure(stage: &mut Stage, entries: usize) -> Outcome<Floor> {
    stage.begin()?;
    for number in 0..entries {
        stage.site.write_entry("Visitor", &format!("Line {number}"))?;
    }
    let site = &stage.site;
    order(site, "stopProcess", "worker")?;
    until("the worker ends", || pid(site, "worker").is_none())?;
    let pids = tree(web(site).ok_or("the web does not run")?)?;
    let began = Instant::now();
    order_web(site, "stop")?;
    until("the web ends", || web(site).is_none() && !pids.iter().any(|pid| lives(*pid)))?;
    let stop = began.elapsed().as_secs_f64();
    bring_over(stage)?;
    let site = &stage.site;
    let migrate = run(site.python().args(["-c", MIGRATE]))?.trim().parse()?;
    let began = Instant::now();
    order_web(site, "start")?;
    until("the web answers", || site.page("/").is_ok_and(|answer| answer.status == 200))?;
    let start = began.elapsed().as_secs_f64();
    if site.release().as_deref() != Some("2") {
        return Err("the floor was measured with the wrong release".into());
    }
    let boot = program::seconds(site.python().args(["manage.py", "check"]))?;
    Ok(Floor { stop, migrate, start, boot })
}

/// Brings code, packages and static files to the new version, with their bytecode.
fn bring_over(stage: &Stage) -> Outcome<()> {
    let site = &stage.site;
    site.git(&site.checkout, &["pull", "-q", "--ff-only"])?;
    let mut install = stage.command("uv");
    install
        .args(["pip", "install", "-q", "--compile-bytecode", "--python"])
        .arg(site.virtualenv.join("bin/python"));
    run(install.args(["-r", "requirements/production.txt"]))?;
    site.manage(&["collectstatic", "--noinput", "--clear", "-v", "0"])?;
    run(site.python().args(["-m", "compileall", "-q", "."]).stdout(Stdio::null()))?;
    Ok(())
}

/// Asks supervisor for something without waiting for it: an empty text is a "no" to that.
fn order(site: &DemoSite, method: &str, program: &str) -> Outcome<()> {
    Ok(call(&site.supervisor_socket, &format!("supervisor.{method}"), &[program, ""]).map(|_| ())?)
}

/// Starts or stops the web without waiting for it.
fn order_web(site: &DemoSite, verb: &str) -> Outcome<()> {
    match site.options.holder {
        Some(Holder::Systemd) => systemd::order_web(verb),
        _ => order(site, &format!("{verb}Process"), &site.gunicorn_service),
    }
}

/// Returns the main process of the web.
fn web(site: &DemoSite) -> Option<u32> {
    match site.options.holder {
        Some(Holder::Systemd) => systemd::web(),
        _ => pid(site, &site.gunicorn_service),
    }
}

fn pid(site: &DemoSite, program: &str) -> Option<u32> {
    site.processes().get(program).map(|program| program.pid).filter(|pid| *pid != 0)
}

/// Returns a process with its children.
fn tree(pid: u32) -> Outcome<Vec<u32>> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    Ok([pid].into_iter().chain(children).collect())
}

fn lives(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome<()> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > DEADLINE {
            return Err(format!("not within {} s: {what}", DEADLINE.as_secs()).into());
        }
        thread::sleep(STEP);
    }
    Ok(())
}
