//! Says whether an update is available, and what it would do. The live site stays untouched.
//!
//! ```sh
//! cargo run -p deploykit --example plan_only -- /srv/site/deploykit.toml
//! ```

use std::error::Error;
use std::path::PathBuf;

use deploykit::Site;
use deploykit::event::Record;
use deploykit::update::{self, Prepared, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("deploykit.toml"), PathBuf::from);
    let site = Site::load(&config, None)?;
    let request = Request { only_plan: true, ..Request::default() };
    let mut nobody = |_: &Record| {};
    match update::prepare(&site, &request, None, &mut nobody)? {
        Prepared::Unchanged(report) => println!("{}", report.notices.join("\n")),
        Prepared::Ready(update) => {
            let plan = update.plan();
            println!(
                "{} to {}, {:.1} s of downtime expected",
                plan.from,
                plan.to,
                plan.forecast.window().as_secs_f64()
            );
            for step in plan.steps.iter().filter(|step| step.is_needed()) {
                println!("  {:<9} {:<16} {}", step.phase.as_str(), step.id, step.change.reason);
            }
            if let Some((step, reason)) = plan.point_of_no_return() {
                println!("cannot be rolled back after `{}`: {reason}", step.id);
            }
        }
    }
    Ok(())
}
