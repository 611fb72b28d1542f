//! Updates a site from an asynchronous program: the update runs on a thread of its own, and its events arrive in a channel.
//!
//! ```sh
//! cargo run -p deploykit --example async_tokio -- /srv/site/deploykit.toml
//! ```

use std::error::Error;
use std::path::PathBuf;

use deploykit::Site;
use deploykit::event::{Event, Outcome, Record};
use deploykit::update::{self, Prepared, Request, Start};
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::spawn_blocking;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args_os().nth(1).map(PathBuf::from).ok_or("expected a configuration")?;
    let site = Site::load(&config, None)?;
    let outcome = Builder::new_current_thread().build()?.block_on(update(site))?;
    println!("{outcome:?}");
    Ok(())
}

pub(crate) async fn update(site: Site) -> Result<Outcome, Box<dyn Error>> {
    let (sender, mut events) = unbounded_channel();
    let request = Request { start: Start::Now, ..Request::default() };
    let prepare = move || {
        // Whoever listens no longer is no reason to stop.
        update::prepare(&site, &request, None, move |record: &Record| _ = sender.send(record.clone()))
    };
    let prepared = spawn_blocking(prepare).await??;
    let Prepared::Ready(update) = prepared else { return Ok(Outcome::Unchanged) };
    println!("{} steps", update.plan().steps.len());
    let run = spawn_blocking(move || update.run());
    // The channel closes when the update is over.
    while let Some(record) = events.recv().await {
        if let Event::StepFinished { step, duration_ms, .. } = record.event {
            println!("{step}: {duration_ms} ms");
        }
    }
    Ok(run.await??.outcome)
}
