//! Maintenance commands like CoralNet's.

use std::path::Path;
use std::time::Duration;

use deploykit::Host;
use deploykit::action::Context;
use deploykit::internal::django::{Announce, DjangoError, Expected, Places};
use deploykit::operations::maintenance::{Announcement, Goal, Maintenance, Page, announced_time};
use deploykit::operations::{self, Check, Operation};
use jiff::Timestamp;

use crate::support::django::Site;

fn soon(minutes: u64) -> Timestamp {
    announced_time(Timestamp::now() + Duration::from_secs(minutes * 60))
}

fn maintenance(site: &Site, goal: Goal) -> Maintenance {
    let facts = site.boot().facts(&Host::new()).unwrap();
    let announcement = Announcement::found_in(&site.project, &facts);
    assert!(announcement.is_some(), "{:?}", facts.commands);
    let page = Some(Page { path: site.path("maintenance.html"), html: None });
    Maintenance { goal, announcement, page }
}

#[test]
fn it_is_announced_in_los_angeles_and_withdrawn() {
    let Some(site) = Site::with_maintenance("America/Los_Angeles") else { return };
    let start = soon(60);
    let goal =
        Goal::On { start, message: Some("It's <b>soon</b>".into()), notice: Duration::from_secs(1200) };
    let maintenance = maintenance(&site, goal);
    let mut context = Context::default();
    let Check::Change(change) = operations::apply(&maintenance, &mut context).unwrap() else { panic!() };
    let status = maintenance.status().unwrap();
    let announced = status.announced.unwrap();
    assert_eq!(announced.at, Some(start));
    assert_eq!(announced.message.as_deref(), Some("It's <b>soon</b>"));
    assert!(status.page.unwrap().contains("It&#39;s &lt;b&gt;soon&lt;/b&gt;"));
    let again = maintenance.check(&Host::new()).unwrap();
    assert_eq!(again, Check::Unchanged { reason: "maintenance is on already".into() });
    for _ in 0..2 {
        operations::undo(&change, &mut context).unwrap();
        assert_eq!(maintenance.status().unwrap(), Default::default());
    }
}

#[test]
fn somebody_elses_announcement_comes_back_as_it_was() {
    let Some(site) = Site::with_maintenance("UTC") else { return };
    let theirs = format!("{{\"timestamp\":  {}, \"message\": \"x\"}}\n", soon(600).as_second());
    site.write("maintenance.json", &theirs);
    let goal = Goal::On { start: soon(30), message: None, notice: Duration::ZERO };
    let maintenance = maintenance(&site, goal);
    let mut context = Context::default();
    let Check::Change(change) = operations::apply(&maintenance, &mut context).unwrap() else { panic!() };
    assert_ne!(site.read("maintenance.json"), theirs);
    operations::undo(&change, &mut context).unwrap();
    assert_eq!(site.read("maintenance.json"), theirs);
}

#[test]
fn an_exit_code_of_zero_is_not_believed() {
    let Some(site) = Site::with_maintenance("America/Los_Angeles") else { return };
    let at = soon(60);
    let mut announce = Announce {
        project: site.project.clone(),
        argv: ["maintenanceon", "18:30", "--date", "2030-01-01"].map(str::to_owned).to_vec(),
        answer: Some("n\n".into()),
        expected: Expected::On { at },
        status_file: Some(site.path("maintenance.json")),
    };
    let error = announce.perform(&Host::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`manage.py maintenanceon 18:30 --date 2030-01-01` did not turn maintenance on: it is not announced"
    );
    announce.status_file = None;
    let error = announce.perform(&Host::new()).unwrap_err();
    assert!(error.to_string().ends_with("it aborted"), "{error}");
    announce.status_file = Some(site.path("maintenance.json"));
    announce.answer = Some("y\n".into());
    // The time of another zone: the file says so.
    announce.expected = Expected::On { at: "2030-01-01T18:30:00Z".parse().unwrap() };
    let error = announce.perform(&Host::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it is announced for 2030-01-02T02:30:00Z instead of 2030-01-01T18:30:00Z"),
        "{error}"
    );
    announce.expected = Expected::Off;
    announce.argv = vec!["check".into()];
    let error = announce.perform(&Host::new()).unwrap_err();
    assert!(error.to_string().ends_with("did not turn maintenance off: it is still announced"), "{error}");
    announce.argv = vec!["no-such-command".into()];
    assert!(matches!(announce.perform(&Host::new()).unwrap_err(), DjangoError::Command(_)));
}

#[test]
fn a_django_that_is_forked_ends_an_announcement_and_a_fresh_one_where_it_cannot() {
    let Some(site) = Site::with_maintenance("UTC") else { return };
    let announce = |argv: &str| Announce {
        project: site.project.clone(),
        argv: vec![argv.to_owned()],
        answer: None,
        expected: Expected::Off,
        status_file: Some(site.path("maintenance.json")),
    };
    let command = "shop/management/commands/maintenanceoff.py";
    let anywhere = site.read(command);
    let only_there = "import sys\nassert 'deploykit_probe' in sys.modules, 'a process of its own'\n";
    site.write(command, &format!("{only_there}{anywhere}"));
    let (host, mut session) = (Host::new(), site.boot());
    site.write("maintenance.json", "{}");
    let mut apart = Context::default();
    assert!(announce("maintenanceoff").perform_within(&mut apart).is_err());
    assert!(site.path("maintenance.json").exists());
    let (top, virtualenv) = (&*site.project.directory, site.project.python.parent().unwrap());
    let places = Places {
        live: &site.project,
        tree: [top; 2],
        virtualenv: [virtualenv; 2],
        changes: [Path::new(""); 2],
    };
    assert_eq!(session.begin_twin(&host, &places, false, || true).unwrap(), None);
    assert_eq!(session.end_twin(&host).unwrap(), None);
    let mut context = Context { django: Some(session), ..Context::default() };
    announce("maintenanceoff").perform_within(&mut context).unwrap();
    assert!(!site.path("maintenance.json").exists());
    site.write("maintenance.json", "{}");
    let error = announce("no-such-command").perform_within(&mut context).unwrap_err();
    assert!(matches!(error, DjangoError::Command(_)), "{error}");
    let error = announce("check").perform_within(&mut context).unwrap_err();
    assert!(error.to_string().ends_with("it is still announced"), "{error}");
}

#[test]
fn it_is_turned_off_and_on_again() {
    let Some(site) = Site::with_maintenance("UTC") else { return };
    let theirs = "{\"timestamp\": 1700000000}";
    site.write("maintenance.json", theirs);
    site.write("maintenance.html", "<p>theirs</p>");
    let maintenance = maintenance(&site, Goal::Off);
    let mut context = Context::default();
    let Check::Change(change) = operations::apply(&maintenance, &mut context).unwrap() else { panic!() };
    assert!(!site.path("maintenance.json").exists() && !site.path("maintenance.html").exists());
    operations::undo(&change, &mut context).unwrap();
    assert_eq!(site.read("maintenance.json"), theirs);
    assert_eq!(site.read("maintenance.html"), "<p>theirs</p>");
}

#[test]
fn the_status_file_is_found_under_whatever_setting_the_commands_use() {
    let Some(site) = Site::with_maintenance("UTC") else { return };
    let found = || {
        let facts = site.boot().facts(&Host::new()).unwrap();
        Announcement::found_in(&site.project, &facts).unwrap().status_file
    };
    let rename = |file: &str, from: &str, to: &str| site.write(file, &site.read(file).replace(from, to));
    let (on, off) =
        ("shop/management/commands/maintenanceon.py", "shop/management/commands/maintenanceoff.py");
    let settings = "config/settings.py";
    for file in [settings, on, off] {
        rename(file, "MAINTENANCE_STATUS_FILE_PATH", "MAINTENANCE_DETAILS_FILE_PATH");
    }
    assert_eq!(found(), Some(site.path("maintenance.json")));
    // Another setting that is named alike is not what the commands use.
    site.append(settings, "MAINTENANCE_LOG_FILE = '/var/log/maintenance.log'\n");
    assert_eq!(found(), Some(site.path("maintenance.json")));
    // When the commands get it from elsewhere, two of a kind are one too many.
    for file in [on, off] {
        rename(file, "settings.MAINTENANCE_DETAILS_FILE_PATH", "'elsewhere.json'");
    }
    assert_eq!(found(), None);
    rename(settings, "MAINTENANCE_LOG_FILE", "LOG_FILE");
    assert_eq!(found(), Some(site.path("maintenance.json")));
}
