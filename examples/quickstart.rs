//! Builds a throwaway Django site, lets it serve, and updates it while a visitor reads and writes all the time.
//!
//! It uses the library as another tool would: a site from its configuration, a preparation that answers with a plan, the
//! update, and a report; events arrive in a closure.
#![expect(dead_code, reason = "the demo site is shared with tests and benches, which use more of it")]

#[path = "demo_site/mod.rs"]
mod demo_site;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use demo_site::visitor::Experience;
use demo_site::{DemoSite, NEW_SECRET, Options};
use deploykit::Site;
use deploykit::event::{Event, Outcome, Record};
use deploykit::plan::Phase;
use deploykit::report::Report;
use deploykit::update::{self, Prepared, Request};

/// The Python that the demo site's Django asks for.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

fn main() -> ExitCode {
    let python = std::env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let uv = which::which("uv").ok();
    if let Some(missing) = missing(&python, uv.is_some()) {
        eprintln!("quickstart: {missing}");
        return ExitCode::FAILURE;
    }
    match play(Options { uv, ..Options::new(python) }) {
        Ok(Outcome::Updated) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {}", deploykit::error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn play(options: Options) -> Result<Outcome, Box<dyn Error>> {
    let directory =
        std::env::args_os().nth(1).map_or_else(throwaway, |directory| Ok(PathBuf::from(directory)))?;
    println!("Making a Django site in {}", directory.display());
    println!(
        "  a Git remote and a checkout, a virtualenv, SQLite, static files, gunicorn and a worker under supervisor"
    );
    println!("  (Django and the other packages come from PyPI: a minute or so)");
    let mut demo = DemoSite::create(&directory, &options)?;
    demo.start()?;
    let old = demo.page("/")?.body;
    println!("It serves release 1 at http://{}/\n", demo.front_address.replace("127.0.0.1", "localhost"));

    println!(
        "Release 2 is pushed to the remote: one more package, three migrations, new, changed and removed static"
    );
    println!("files, and a setting that wants a new secret, which is put into secrets.json.");
    demo.publish_release_2()?;
    demo.add_secret(NEW_SECRET, "a-pinch-of-salt")?;
    println!("A visitor reads pages and writes entries from now on, a request every 10 ms or so.\n");
    let visitor = demo.visit().writing().start();

    let site = Site::load(&demo.config, None)?;
    let mut watch = |record: &Record| show(&record.event);
    let report = match update::prepare(&site, &Request::default(), None, &mut watch)? {
        Prepared::Unchanged(report) => *report,
        Prepared::Ready(update) => update.run()?,
    };
    let visit = visitor.finish();
    let new = demo.page("/")?.body;

    println!("\n{}", ending(&report));
    println!("\nWhat the visitor saw:\n{}", seen(&visit));
    println!("\nThe page before:\n{}\n\nThe page now:\n{}\n", text(&old), text(&new));
    demo.stop();
    next_steps(&demo);
    Ok(report.outcome)
}

/// Returns what has to be installed first, if anything.
fn missing(python: &Path, has_uv: bool) -> Option<String> {
    if which::which("git").is_err() {
        return Some("git is missing; on Debian and Ubuntu: apt install git".to_owned());
    }
    let (major, minor) = OLDEST_PYTHON;
    let ask = |code: &str| Command::new(python).args(["-c", code]).output();
    let name = python.display();
    let version = match ask("import sys; print('%d %d' % sys.version_info[:2])") {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            return Some(format!(
                "cannot start `{name}` ({error}); install Python {major}.{minor} or newer, or name one with PYTHON=/path/to/python"
            ));
        }
    };
    let mut numbers = version.split(' ').filter_map(|number| number.parse::<u32>().ok());
    if numbers.next().zip(numbers.next()).is_none_or(|found| found < OLDEST_PYTHON) {
        let version = version.replace(' ', ".");
        return Some(format!(
            "`{name}` is Python {version}, and Django asks for {major}.{minor} or newer; name another with PYTHON=/path/to/python"
        ));
    }
    // Debian's Python has `venv` without what it needs to make one.
    let has_venv = ask("import venv, ensurepip").is_ok_and(|output| output.status.success());
    if has_uv || has_venv {
        return None;
    }
    Some(format!("`{name}` cannot make virtualenvs; on Debian and Ubuntu: apt install python3-venv"))
}

/// Makes a directory that stays, so that the site can be played with afterwards.
fn throwaway() -> Result<PathBuf, std::io::Error> {
    Ok(tempfile::Builder::new().prefix("deploykit-").tempdir()?.keep())
}

/// Shows what happens, a line a step.
fn show(event: &Event) {
    match event {
        Event::PhaseStarted { phase } => println!("{}", heading(*phase)),
        Event::StepFinished { step, outcome, duration_ms, .. } => {
            println!("{}", format!("  {duration_ms:>6} ms  {step:<17} {outcome}").trim_end());
        }
        Event::StepFailed { step, error, .. } => println!("  failed: {step}: {error}"),
        Event::Notice { text } => println!("  note: {text}"),
        _ => {}
    }
}

fn heading(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "Preparing: release 1 serves, and nothing that it uses is touched",
        Phase::Announce => "Before the window: users are told, the worker finishes what it has",
        Phase::Window => "The window: the site is down from stop-web to smoke-check",
        Phase::Finish => "Afterwards: release 2 serves",
        Phase::After => "After the end: the site's own steps that follow `finish`",
    }
}

fn ending(report: &Report) -> String {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    match (report.outcome, report.window_ms) {
        (Outcome::Updated, Some(window)) => format!(
            "Updated in {:.1} s. The window was {:.1} s long.",
            seconds(report.duration_ms),
            seconds(window)
        ),
        (outcome, _) => format!("The update ended: {outcome:?}."),
    }
}

fn seen(visit: &Experience) -> String {
    let mut text = format!(
        "  {} requests, {} of them entries that were written\n  {} failed; {:.2} s without an answer",
        visit.requests,
        visit.writes,
        visit.failures,
        visit.without_answer.as_secs_f64()
    );
    for (what, count) in &visit.failed {
        text.push_str(&format!("\n  {count:>4} x {what}"));
    }
    text
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
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(|line| format!("  {line}")).collect();
    match lines.as_slice() {
        // The visitor wrote a lot.
        [first @ .., last] if first.len() > 5 => format!("{}\n  …\n{last}", first[..5].join("\n")),
        all => all.join("\n"),
    }
}

fn next_steps(demo: &DemoSite) {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploykit-cli");
    let cli = cli.canonicalize().unwrap_or(cli);
    let root = demo.root.display();
    let commit = "git -c user.name=You -c user.email=you@example.org commit -qam";
    println!("The site stays, its servers are stopped. To go on playing:\n");
    println!("  cargo install --locked --path {}", cli.display());
    println!("  {}", demo.start_command());
    println!("  cd {}", demo.checkout.display());
    println!("  deploykit status\n");
    println!("Publish a release with a broken home page, and see it refused while the site serves:\n");
    println!("  cd {root}/scratch");
    println!("  echo '{{% broken %}}' > project/guestbook/templates/guestbook/home.html");
    println!("  {commit} 'Release 3' && git push -q origin HEAD:main");
    println!("  cd {}", demo.checkout.display());
    println!("  deploykit plan");
    println!("  deploykit update\n");
    println!("When you have seen enough:\n");
    println!("  {}", demo.stop_command());
    println!("  rm -r {root}");
}
