//! Builds a throwaway Django site, lets it serve, and updates it while a visitor reads and writes all the time.
//!
//! It uses the library as another tool would: a site from its configuration, a preparation that answers with a plan, the
//! update, and a report; events arrive in a closure.
#![expect(dead_code, reason = "the demo site is shared with tests and benches, which use more of it")]

#[path = "demo_site/mod.rs"]
mod demo_site;

use std::error::Error;
use std::path::PathBuf;

use demo_site::{DemoSite, NEW_SECRET, Options};
use deploykit::event::{Event, Record};
use deploykit::plan::Phase;
use deploykit::update::{self, Prepared, Request};
use deploykit::{Site, secrets};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(throwaway, |folder| Ok(PathBuf::from(folder)))?;
    println!("A Django site with gunicorn and a worker is being made in {}", folder.display());
    println!("(its packages come from PyPI, which takes a minute the first time)\n");
    let python = std::env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let uv = which::which("uv").ok();
    let mut demo = DemoSite::create(&folder, &Options { uv, ..Options::new(python) })?;
    demo.start()?;
    let old = demo.page("/")?.body;

    println!("Release 2 is published: a new package, static files, three migrations and a secret.\n");
    demo.publish_release_2()?;
    secrets::set(&demo.secrets, NEW_SECRET, "a-pinch-of-salt")?;
    let visitor = demo.visit().writing().start();

    let site = Site::load(&demo.config, None)?;
    let mut watch = |record: &Record| show(&record.event);
    let report = match update::prepare(&site, &Request::default(), None, &mut watch)? {
        Prepared::Unchanged(report) => *report,
        Prepared::Ready(update) => update.run()?,
    };
    let visits = visitor.finish();
    let new = demo.page("/")?.body;

    println!("\nThe update: {:?}; the visitor: {visits}", report.outcome);
    println!("\nThe page before:\n{}\n\nThe page now:\n{}\n", text(&old), text(&new));
    demo.stop();
    next_steps(&demo);
    Ok(())
}

/// Makes a folder that stays, so that the site can be played with afterwards.
fn throwaway() -> Result<PathBuf, std::io::Error> {
    Ok(tempfile::Builder::new().prefix("deploykit-").tempdir()?.keep())
}

/// Shows what happens, a line a step.
fn show(event: &Event) {
    match event {
        Event::PhaseStarted { phase: Phase::Prepare } => println!("Preparing, while the site serves:"),
        Event::PhaseStarted { phase: Phase::Window } => println!("The window:"),
        Event::PhaseStarted { phase } => {
            println!("{}:", if *phase == Phase::Announce { "Before the window" } else { "Afterwards" })
        }
        Event::StepFinished { step, outcome, duration_ms, .. } => {
            println!("  {duration_ms:>6} ms  {step:<18} {outcome}")
        }
        Event::StepFailed { step, error, .. } => println!("  failed: {step}: {error}"),
        Event::Notice { text } => println!("  note: {text}"),
        _ => {}
    }
}

/// Returns what a page says, without its markup.
fn text(html: &str) -> String {
    let (mut text, mut inside) = (String::new(), false);
    let body = html.split_once("<body").map_or(html, |(_, body)| body);
    for character in body.chars() {
        match character {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if inside => {}
            character => text.push(character),
        }
    }
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn next_steps(demo: &DemoSite) {
    println!("The site stays, with its servers stopped. To go on playing:");
    println!("  cd {}", demo.checkout.display());
    println!("  {}             # start it", demo.start_command());
    println!("  deploykit status                # cargo install --path deploykit-cli");
    println!("  deploykit plan");
    println!("  {}             # stop it", demo.stop_command());
    println!("  rm -r {}", demo.root.display());
}
