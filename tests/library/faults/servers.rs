//! A PostgreSQL or MariaDB that is killed in the window: it comes back by itself, or somebody has to start it.

use std::fs;

use deploykit::event::Outcome;

use super::{Faulty, PATIENCE, assert_as_before, assert_held};
use crate::database::on_each_engine;
use crate::support::database::{Database, Engine};
use crate::support::releases::publish_irreversible_migration;
use crate::support::site::TestSite;
use crate::support::site::demo_site::wait_until;
use crate::support::snapshot::Snapshot;
use crate::update::configure;

on_each_engine! { a_server_that_is_killed_in_the_window }

fn a_server_that_is_killed_in_the_window(engine: Engine) {
    let Some(database) = Database::alone(engine) else { return };
    let Some(site) = TestSite::builder().database(&database).start() else { return };
    let site = &site;
    configure(site, "[maintenance]\n", "[database]\ndeadline = \"3s\"\n\n[maintenance]\n");
    let faulty = Faulty::of(site);
    let gone = site.root.join("run/gone");
    let kill = || {
        let all: Vec<String> = database.processes().iter().map(ToString::to_string).collect();
        format!("kill -KILL {}; touch {}", all.join(" "), gone.display())
    };

    // Before the copy, and nobody starts it: nothing was changed, but the old version does not serve without it.
    publish_irreversible_migration(site);
    faulty.inject("stop-web", &kill());
    let before = Snapshot::of(site);
    let (failure, ..) = faulty.update(Outcome::Held);
    assert_eq!(failure.step, "backup");
    assert!(failure.error.contains("database"), "{}", failure.error);
    database.start_again();
    faulty.recover();
    assert_as_before(site, &before);

    // After the migrations, and nobody starts it in time.
    faulty.inject("migrate", &kill());
    let before = Snapshot::of(site);
    let (failure, ..) = faulty.update(Outcome::Held);
    let (step, error) = failure.undo.expect("an undo that failed");
    assert_eq!(step, "migrate");
    assert!(error.contains("its copy from before the migrations is `"), "{error}");
    assert!(error.contains("cannot read the database `default`"), "{error}");
    assert_held(site);
    database.start_again();
    faulty.recover();
    assert_as_before(site, &before);

    // The same, and it comes back while it is waited for.
    faulty.inject("migrate", &format!("{}; false", kill()));
    let before = Snapshot::of(site);
    fs::remove_file(&gone).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(wait_until(PATIENCE, || gone.exists()), "nobody kills it");
            database.start_again();
        });
        faulty.update(Outcome::RolledBack);
    });
    assert_as_before(site, &before);
}
