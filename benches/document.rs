//! The figures in `docs/measurements.md`: one table per part, between markers, with what it was measured on.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::demo_site::run;
use crate::table::Row;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/measurements.md");
const END: &str = "<!-- end -->";

/// The machine and the versions, as they were before anything was measured.
pub struct Facts(String);

impl Facts {
    pub fn gather() -> Outcome<Facts> {
        let git = |args: &[&str]| run(Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(args));
        let changed = !git(&["status", "--porcelain", "-uno"])?.trim().is_empty();
        let commit = git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned();
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        Ok(Facts(format!(
            "{}, commit `{commit}`{}; {} cores ({}), load average {load} before; Linux {}, {}, {}",
            jiff::Zoned::now().date(),
            if changed { " with changes" } else { "" },
            std::thread::available_parallelism()?,
            cpu.map_or("unknown", |(_, model)| model.trim()),
            kernel.trim(),
            run(Command::new("git").arg("--version"))?.trim().replace("git version", "Git"),
            run(Command::new(python).arg("--version"))?.trim(),
        )))
    }
}

/// Replaces the tables of the measured parts.
pub fn write(facts: &Facts, arguments: &[String], measured: &[(&str, Vec<Row>)]) -> Outcome<()> {
    let mut document = fs::read_to_string(DOCUMENT)?;
    for (part, rows) in measured {
        let begin = format!("<!-- figures: {part} -->\n");
        let lacks = || format!("{DOCUMENT} has no `{}`", begin.trim_end());
        let (before, rest) = document.split_once(&begin).ok_or_else(lacks)?;
        let (_, after) =
            rest.split_once(END).ok_or_else(|| format!("{DOCUMENT}: `{part}` has no `{END}`"))?;
        let command = format!("./benches/run {}", arguments.join(" "));
        let table = table(rows);
        document =
            format!("{before}{begin}\n{}; `{}`:\n\n{table}\n{END}{after}", facts.0, command.trim_end());
    }
    fs::write(DOCUMENT, document)?;
    eprintln!("wrote {}", Path::new(DOCUMENT).canonicalize()?.display());
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut text = "| measure | min | median | max | limit | runs |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let unit = if ["", "x"].contains(&row.unit) { String::new() } else { format!(" ({})", row.unit) };
        let least = row.values.iter().copied().fold(f64::NAN, f64::min);
        let most = row.values.iter().copied().fold(f64::NAN, f64::max);
        let limit = row.limit.map_or_else(|| "–".to_owned(), |limit| format!("{}{limit}", row.sign()));
        let (least, median, most) = (figure(least), figure(row.median()), figure(most));
        let (what, runs) = (&row.what, row.values.len());
        let _ = writeln!(text, "| {what}{unit} | {least} | {median} | {most} | {limit} | {runs} |");
    }
    text
}

fn figure(value: f64) -> String {
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
