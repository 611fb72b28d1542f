//! The whole update through the library, on a site that serves: compared before and after, whole.

mod beside;
mod databases;
mod early;
mod environments;
pub mod goes_back;
mod held;
mod held_servers;
mod inserted;
mod locks;
mod other_servers;
mod own_steps;
mod paths;
mod refuses;
mod rolls_back;
mod servers;
mod succeeds;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deploykit::Site;
use deploykit::event::{Event, Outcome, Record};
use deploykit::report::Report;
use deploykit::site::Config;
use deploykit::update::{self, Prepared, Request, UpdateError};

use crate::support::site::demo_site::DemoSite;
use crate::support::tools;

/// Reads the site's configuration; uv is the test tools' own, as is its cache.
#[track_caller]
pub fn load(site: &DemoSite) -> Site {
    let mut config = Config::load(&site.config, None).unwrap_or_else(|error| panic!("{error}"));
    if let Some(cache) = &site.options.uv_cache {
        config.site.env.push(("UV_CACHE_DIR".to_owned(), cache.display().to_string()));
        let own = [site.root.join("bin"), tools().join("venv/bin")];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
        config.site.env.push(("PATH".to_owned(), path.expect("directories").to_string_lossy().into_owned()));
    }
    Site::new(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Changes a text of `deploykit.toml`, which must be there once at least.
#[track_caller]
pub fn configure(site: &DemoSite, from: &str, to: &str) {
    let text = fs::read_to_string(&site.config).expect("a configuration");
    assert!(text.contains(from), "no `{from}` in the configuration:\n{text}");
    fs::write(&site.config, text.replacen(from, to, 1)).expect("a configuration");
}

/// Adds to the end of `deploykit.toml`.
pub fn add(site: &DemoSite, text: &str) {
    let before = fs::read_to_string(&site.config).expect("a configuration");
    fs::write(&site.config, format!("{before}\n{text}")).expect("a configuration");
}

/// Prepares an update and runs it.
pub fn run_update(site: &DemoSite) -> Result<Report, UpdateError> {
    request(site, &Request::default()).0
}

/// Prepares what is asked for and runs it; also returns what was told on the way.
pub fn request(site: &DemoSite, request: &Request) -> (Result<Report, UpdateError>, Told) {
    let loaded = load(site);
    let mut records: Vec<Record> = Vec::new();
    let mut watch = |record: &Record| records.push(record.clone());
    let result = match update::prepare(&loaded, request, None, &mut watch) {
        Ok(Prepared::Unchanged(report)) => Ok(*report),
        Ok(Prepared::Ready(update)) => update.run(),
        Err(error) => Err(error),
    };
    (result, Told(records))
}

/// Updates, and fails the test unless that ends well.
#[track_caller]
pub fn updated(site: &DemoSite) -> (Report, Told) {
    let (result, told) = request(site, &Request::default());
    match result {
        Ok(report) if report.outcome == Outcome::Updated => (report, told),
        Ok(report) => panic!("{:?}: {:#?}\n{}", report.outcome, report.failure, site.logs()),
        Err(error) => panic!("{}\n{}", deploykit::error_chain(&error), site.logs()),
    }
}

/// What was told during an update.
#[derive(Clone, Debug, Default)]
pub struct Told(pub Vec<Record>);

impl Told {
    /// Returns why a step was skipped; `None` when it was not.
    pub fn skipped(&self, wanted: &str) -> Option<String> {
        self.0.iter().find_map(|record| match &record.event {
            Event::StepSkipped { step, reason, .. } if step == wanted => Some(reason.clone()),
            _ => None,
        })
    }

    /// Returns what a step came to; `None` when it was not done.
    pub fn outcome(&self, wanted: &str) -> Option<String> {
        self.0.iter().find_map(|record| match &record.event {
            Event::StepFinished { step, outcome, .. } if step == wanted => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Returns when a step was begun.
    pub fn begun(&self, wanted: &str) -> Instant {
        self.at(|event| matches!(event, Event::StepStarted { step, .. } if step == wanted))
    }

    /// Returns when something was told first.
    pub fn at(&self, is_it: impl Fn(&Event) -> bool) -> Instant {
        let record = self.0.iter().find(|record| is_it(&record.event)).expect("it was told");
        let ago = jiff::Timestamp::now().duration_since(record.time);
        Instant::now() - Duration::try_from(ago).expect("it is over")
    }

    /// Returns the steps that were done, in order.
    pub fn done(&self) -> Vec<&str> {
        self.steps(|event| match event {
            Event::StepFinished { step, .. } => Some(step.as_str()),
            _ => None,
        })
    }

    /// Returns the steps that were undone, in order.
    pub fn undone(&self) -> Vec<&str> {
        self.steps(|event| match event {
            Event::StepUndone { step, .. } => Some(step.as_str()),
            _ => None,
        })
    }

    /// Returns the notices, a line each.
    pub fn notices(&self) -> String {
        let texts = self.0.iter().filter_map(|record| match &record.event {
            Event::Notice { text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    fn steps<'t>(&'t self, choose: impl Fn(&'t Event) -> Option<&'t str>) -> Vec<&'t str> {
        self.0.iter().filter_map(|record| choose(&record.event)).collect()
    }
}

/// Fails unless nothing of deploykit's own is left beside the site: no staged tree, no work tree that git knows of, no
/// directory of static files, no maintenance; but for what finished updates keep for their rollback.
#[track_caller]
pub fn assert_tidy(site: &DemoSite) {
    let left: Vec<PathBuf> = [&site.root, &site.root.join("data"), &site.root.join("www")]
        .into_iter()
        .flat_map(|directory| names(directory))
        .filter(|path| path.to_string_lossy().contains(".deploykit"))
        .filter(|path| !path.ends_with(".venv.deploykit-original") && !is_kept(path))
        // It names the site that the page or the virtualenv belongs to, and stays.
        .filter(|path| !path.to_string_lossy().ends_with(".deploykit-site"))
        .collect();
    assert!(left.is_empty(), "left beside the site: {left:?}");
    let trees = site.git(&site.checkout, &["worktree", "list", "--porcelain"]).expect("a list of work trees");
    assert_eq!(trees.matches("worktree ").count(), 1, "{trees}");
    for file in [&site.maintenance_status, &site.maintenance_page] {
        assert!(!file.exists(), "the maintenance is not over: {} is there", file.display());
    }
}

/// Tells static files that an update keeps: `.static.deploykit-20261122-1`.
fn is_kept(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split_once(".deploykit-").is_some_and(|(_, run)| run.starts_with("20"))
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
