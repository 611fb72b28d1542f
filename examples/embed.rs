//! A deployment tool in fifty lines: it updates a site only when the update can be rolled back, and keeps the
//! events as JSON.
//!
//! ```sh
//! cargo run -p deploykit --example embed -- /srv/site/deploykit.toml events.jsonl
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use deploykit::Site;
use deploykit::event::{Observer, Outcome, Record};
use deploykit::update::{self, Prepared, Request, Start};

/// Keeps every event. An observer cannot fail an update, so it remembers what went wrong.
struct Keep {
    file: File,
    error: Option<std::io::Error>,
}

impl Observer for Keep {
    fn observe(&mut self, record: &Record) {
        let written = serde_json::to_string(record)
            .map_err(std::io::Error::from)
            .and_then(|line| writeln!(self.file, "{line}"));
        self.error = written.err().or(self.error.take());
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (config, events) =
        args.next().zip(args.next()).ok_or("expected a configuration and a file for events")?;
    let mut keep = Keep { file: File::create(events)?, error: None };
    let site = Site::load(&config, None)?;
    let request = Request { start: Start::Now, ..Request::default() };
    let report = match update::prepare(&site, &request, None, |record: &Record| keep.observe(record))? {
        Prepared::Unchanged(report) => *report,
        Prepared::Ready(update) => {
            if let Some((step, reason)) = update.plan().point_of_no_return() {
                println!("left alone: it cannot be rolled back after `{}`: {reason}", step.id);
                return Ok(ExitCode::FAILURE);
            }
            update.run()?
        }
    };
    if let Some(error) = keep.error {
        eprintln!("not all events were kept: {error}");
    }
    println!("{:?} at {} after {} ms", report.outcome, report.to, report.duration_ms);
    let is_good = matches!(report.outcome, Outcome::Updated | Outcome::Unchanged);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
