//! Faults of the machine at the worst moment: the site is wholly old, wholly new, or held and said so.

mod disks;
mod others;
mod planted;
mod servers;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use deploykit::event::{Outcome, Record};
use deploykit::report::{Failure, Report};
use deploykit::update::{self, Request, UpdateError};

use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::{Told, add, assert_tidy, load, request};

/// How long a site may take until all of it is up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A site with a step of its own that brings a fault about in the middle of an update.
struct Faulty<'s> {
    site: &'s DemoSite,
    script: PathBuf,
    config: String,
}

impl<'s> Faulty<'s> {
    fn of(site: &'s DemoSite) -> Self {
        let config = fs::read_to_string(&site.config).expect("a configuration");
        Faulty { site, script: site.root.join("run/fault.sh"), config }
    }

    /// Lets a shell script run after a step of the next updates.
    fn inject(&self, anchor: &str, script: &str) {
        fs::write(&self.script, script).expect("a script");
        fs::write(&self.site.config, &self.config).expect("a configuration");
        add(
            self.site,
            &format!(
                "[[steps]]\nname = \"fault\"\nafter = \"{anchor}\"\nrun = [\"/bin/sh\", \"{}\"]\n",
                self.script.display()
            ),
        );
    }

    /// Lets nothing happen any more.
    fn disarm(&self) {
        fs::write(&self.script, "").expect("a script");
    }

    /// Updates with the fault, and returns what it came to.
    #[track_caller]
    fn update(&self, wanted: Outcome) -> (Failure, Report, Told) {
        self.update_to(&[wanted])
    }

    /// Updates with the fault to one of these ends, and returns what it came to.
    #[track_caller]
    fn update_to(&self, wanted: &[Outcome]) -> (Failure, Report, Told) {
        let (result, told) = request(self.site, &Request::default());
        let report = result.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
        assert!(wanted.contains(&report.outcome), "{report:#?}\n{}", self.site.logs());
        let failure = report.failure.clone().expect("a failure");
        eprintln!("--- {}: {}; {:?}", failure.step, failure.error, failure.undo);
        (failure, report, told)
    }

    /// Expects a refusal in the preparation, by a step, and returns its text.
    #[track_caller]
    fn refused(&self, wanted: &str) -> String {
        match request(self.site, &Request::default()).0 {
            Err(UpdateError::Prepare { step, source, .. }) => {
                let text = deploykit::error_chain(source.as_ref());
                eprintln!("--- {step}: {text}");
                assert_eq!(step, wanted, "{text}");
                text
            }
            other => panic!("not refused: {other:#?}"),
        }
    }

    /// Recovers, once the fault is fixed.
    #[track_caller]
    fn recover(&self) {
        self.disarm();
        let report = recover(self.site).expect("an unfinished run");
        assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, self.site.logs());
    }
}

/// Recovers; `None` when there is nothing to recover.
fn recover(site: &DemoSite) -> Option<Report> {
    let report = update::recover(&load(site), None, &mut |_: &Record| ());
    report.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)))
}

/// Fails unless the site is wholly as it was and serves, with nothing of deploykit's beside it and no run unfinished.
#[track_caller]
fn assert_as_before(site: &DemoSite, before: &Snapshot) {
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_same(before, &Snapshot::of(site));
    assert_tidy(site);
    assert!(!is_unfinished(site));
}

fn is_unfinished(site: &DemoSite) -> bool {
    load(site).state().unfinished().expect("a journal").is_some()
}

/// Fails unless nothing serves: whoever comes meets no mixture.
#[track_caller]
fn assert_held(site: &DemoSite) {
    assert!(is_unfinished(site));
    for (name, program) in site.processes() {
        assert_eq!(program.state, "STOPPED", "{name}");
    }
    let error = crate::update::run_update(site).expect_err("the site is held");
    assert!(matches!(error, UpdateError::Unfinished { .. }), "{error}");
}
