//! Programs that are run to be measured, and the deploykit binary itself.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::table::Row;

pub const DEPLOYKIT: &str = env!("CARGO_BIN_EXE_deploykit");

/// How often `deploykit --version` is timed.
const STARTS: usize = 50;

/// What a program cost.
pub struct Cost {
    pub began: Instant,
    pub seconds: f64,
    /// Seconds of CPU, its own and those of the programs that it waited for.
    pub cpu: f64,
    /// The highest memory use of its own process, in megabytes.
    pub memory: f64,
    /// Read from and written to disks, by itself and by the programs that it waited for, in megabytes.
    pub read: f64,
    pub written: f64,
}

/// Runs a program to its end; its output goes to a file.
///
/// The system only counts `VmHWM` up, so looking now and then is enough; what `wait4` says afterwards would be that of the
/// largest child.
pub fn run(command: &mut Command, output: &Path) -> Outcome<Cost> {
    let errors = output.with_extension("err");
    let (before, (read, written)) = (cpu_of_children()?, disk()?);
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(File::create(output)?).stderr(File::create(&errors)?);
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0_f64;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        memory = memory.max(kilobytes.unwrap_or_default() * 1024.0 / 1e6);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let seconds = began.elapsed().as_secs_f64();
    if !ended.success() {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        return Err(format!("{command:?}: {ended}\n{said}").into());
    }
    let after = disk()?;
    let (read, written) = (after.0 - read, after.1 - written);
    Ok(Cost { began, seconds, cpu: cpu_of_children()? - before, memory, read, written })
}

/// Returns what this process and all children that it has waited for read from disks and wrote to them, in megabytes.
fn disk() -> Outcome<(f64, f64)> {
    let io = procfs::process::Process::myself()?.io()?;
    #[expect(clippy::cast_precision_loss, reason = "a benchmark ends before 2^52 bytes")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    Ok((megabytes(io.read_bytes), megabytes(io.write_bytes)))
}

/// Returns the CPU time of all children that this process has waited for, and of those that they have.
fn cpu_of_children() -> Outcome<f64> {
    let stat = procfs::process::Process::myself()?.stat()?;
    let ticks = stat.cutime.saturating_add(stat.cstime);
    let second = i64::try_from(procfs::ticks_per_second())?;
    #[expect(clippy::cast_precision_loss, reason = "a benchmark ends before 2^52 ticks")]
    Ok(ticks as f64 / second as f64)
}

/// Runs a program to its end and returns how long that took.
pub fn seconds(command: &mut Command) -> Outcome<f64> {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = started.elapsed().as_secs_f64();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}

/// The binary itself.
pub fn rows() -> Outcome<Vec<Row>> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(seconds(Command::new(DEPLOYKIT).arg("--version"))? * 1000.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
    let size = fs::metadata(DEPLOYKIT)?.len() as f64 / 1e6;
    Ok(vec![
        Row::limited("deploykit --version, whole process", "ms", 10.0, starts),
        Row::limited("the binary", "MB", 10.0, vec![size]),
    ])
}
