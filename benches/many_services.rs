//! A site with many workers that need a second to end, stopped and started by deploykit and by `supervisorctl`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use crate::Outcome;
use crate::demo_site::DemoSite;
use crate::program::{DEPLOYKIT, seconds};
use crate::stage::Stage;
use crate::table::Row;

const WORKERS: usize = 40;

/// How many pairs of ours and theirs are timed.
const PAIRS: usize = 2;

/// What has begun takes a second to be finished.
const WORKER: &str = "\
trap 'kill $!; sleep 1; exit' TERM
sleep 86400 &
wait
";

/// Stops and starts all of them, in turn by either, as a person would type it.
pub fn rows() -> Outcome<Vec<Row>> {
    let mut stage = Stage::build()?;
    stage.begin()?;
    stage.site.stop();
    let names = add_workers(&stage.site)?;
    stage.site.start()?;
    let ours = |verb: &str| {
        let mut command = stage.command(DEPLOYKIT);
        command.args(["services", verb]);
        command
    };
    let theirs = |verb: &str| {
        let mut command = stage.site.command(&stage.site.supervisorctl);
        command.arg("-c").arg(&stage.site.supervisor_config).arg(verb);
        command
    };
    // Each leaves them to the other as it found them.
    let round = |command: &dyn Fn(&str) -> Command| -> Outcome<[f64; 2]> {
        let stop = seconds(command("stop").args(&names))?;
        are_all(&stage.site, &names, "STOPPED")?;
        let start = seconds(command("start").args(&names))?;
        are_all(&stage.site, &names, "RUNNING")?;
        Ok([stop, start])
    };
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let before = if pair % 2 == 0 { Some(round(&theirs)?) } else { None };
        let ours = round(&ours)?;
        let theirs = before.map_or_else(|| round(&theirs), Ok)?;
        println!(
            "{WORKERS} workers: stop {:.2} s and start {:.2} s, supervisorctl {:.2} s and {:.2} s",
            ours[0], ours[1], theirs[0], theirs[1]
        );
        stops.push(ours[0] / theirs[0]);
        starts.push(ours[1] / theirs[1]);
    }
    Ok(vec![
        Row::limited("40 workers: services stop / supervisorctl stop", "x", 0.2, stops),
        Row::limited("40 workers: services start / supervisorctl start", "x", 1.0, starts),
    ])
}

/// Adds them to supervisor and to the site, and returns their names.
fn add_workers(site: &DemoSite) -> Outcome<Vec<String>> {
    let script = site.root.join("worker.sh");
    fs::write(&script, WORKER)?;
    let append = |path| OpenOptions::new().append(true).open(path);
    let (mut supervisor, mut config) = (append(&site.supervisor_config)?, append(&site.config)?);
    let names: Vec<String> = (0..WORKERS).map(|number| format!("worker-{number}")).collect();
    for name in &names {
        writeln!(supervisor, "[program:{name}]\ncommand=sh {}", script.display())?;
        writeln!(
            config,
            "[[services]]\nname = \"{name}\"\nmanager = \"supervisor\"\nconfig = {:?}\nrole = \"worker\"",
            site.supervisor_config
        )?;
    }
    Ok(names)
}

fn are_all(site: &DemoSite, names: &[String], state: &str) -> Outcome<()> {
    let programs = site.processes();
    match names.iter().find(|name| programs.get(*name).is_none_or(|program| program.state != state)) {
        Some(name) => Err(format!("`{name}` is not {state}: {:?}", programs.get(name)).into()),
        None => Ok(()),
    }
}
