//! Follows the run that has the lock, from another process.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::time::{Duration, SystemTime};

use deploykit::event::{Event, Record};
use deploykit::internal::lock::{Holder, Lock};
use deploykit::internal::state::{RunDirectory, State};
use deploykit::jiff::Timestamp;

use crate::failure::Failure;

/// Polling interval for new events.
const LOOK: Duration = Duration::from_millis(100);

/// Passes the events of a run on to `observe`, from this time on, until the run ends or `is_over` says so at an instant at which
/// all events before are passed on. Returns the run if it has ended.
pub fn follow(
    state: &State,
    holder: &Holder,
    since: Timestamp,
    mut observe: impl FnMut(&Record) -> Result<(), Failure>,
    mut is_over: impl FnMut() -> bool,
) -> Result<Option<RunDirectory>, Failure> {
    let mut events = None;
    let mut line = String::new();
    loop {
        // Asked first: what a run wrote before it ended is read after that.
        let alive = Lock::holder(&state.lock()).is_some_and(|now| now.pid == holder.pid);
        let over = is_over();
        if events.is_none() {
            events = open_newest(state, holder).map_err(|error| Failure::refused(&error))?;
        }
        let read = match &mut events {
            Some((_, reader)) => reader.read_line(&mut line).map_err(|error| Failure::refused(&error))?,
            None => 0,
        };
        if !line.ends_with('\n') {
            if read == 0 && over {
                return Ok(None);
            }
            if read == 0 && !alive {
                break;
            }
            std::thread::sleep(LOOK);
            continue;
        }
        // A recovery continues the events of the interrupted run.
        if let Ok(record) = serde_json::from_str::<Record>(&line)
            && record.time >= since
        {
            observe(&record)?;
            if matches!(record.event, Event::RunFinished { .. }) {
                break;
            }
        }
        line.clear();
    }
    Ok(events.map(|(run, _)| run))
}

/// Opens the events of the newest run, unless it was over before the lock was taken.
fn open_newest(state: &State, holder: &Holder) -> std::io::Result<Option<(RunDirectory, BufReader<File>)>> {
    let Some(run) = state.runs().ok().and_then(|mut runs| runs.pop()) else { return Ok(None) };
    let file = match File::open(run.events()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let written = file.metadata()?.modified()?;
    let taken = SystemTime::from(holder.since);
    Ok((written >= taken).then(|| (run, BufReader::new(file))))
}
