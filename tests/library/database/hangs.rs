//! Servers that stop in the midst of something, and locks that somebody else holds: nothing waits without end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use deploykit::Variables;
use deploykit::internal::django::MigrationProgress;
use rustix::process::Signal;

use super::*;
use crate::support::database::Client;
use crate::support::program;
use crate::support::site::demo_site::wait_until;

super::on_each_engine! {
    a_server_that_stops_is_given_up_and_named,
    a_lock_that_somebody_holds_ends_a_migration_and_a_copy,
    what_a_killed_migration_left_in_the_server_is_ended_before_anything_else,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the site's database have this long.
fn patient(site: &mut Site, seconds: u64) {
    site.project.database_deadline = Duration::from_secs(seconds);
}

/// Fails unless it is the database that is said not to answer.
#[track_caller]
fn assert_mute<T: std::fmt::Debug>(result: Result<T, DjangoError>, wanted: &str) {
    let text = deploykit::error_chain(&result.expect_err("it does not answer"));
    let named = text == format!("the database `default` does not answer: {wanted}");
    // PostgreSQL's own client knows a limit for the connection.
    let by_client =
        text.starts_with("cannot read the database `default`: ") && text.contains("timeout expired");
    assert!(named || by_client, "{text}");
}

fn a_server_that_stops_is_given_up_and_named(engine: Engine) {
    let Some(database) = Database::alone(engine) else { return };
    let Some(mut site) = migrated_on(&database) else { return };
    patient(&mut site, 1);
    let host = Host::new();
    let mut session = site.boot();
    let before = session.on("default").state(&host).unwrap();
    let facts = database.facts();

    // Before anything.
    database.signal(Signal::STOP);
    assert_mute(session.on("default").state(&host), "database state");
    assert_mute(site.boot().on("default").migrations(&host), "migration plan");
    database.signal(Signal::CONT);

    // While it copies: what there is of a copy goes.
    let dump = if engine == Engine::PostgreSql { "pg_dump" } else { "mariadb-dump" };
    let real = program(dump).expect("a client beside the server");
    let stop: Vec<String> = database.processes().iter().map(ToString::to_string).collect();
    site.write(
        &format!("bin/{dump}"),
        &format!(
            "#!/bin/sh\n[ \"$1\" = --version ] || kill -STOP {}\nexec {} \"$@\"\n",
            stop.join(" "),
            real.display()
        ),
    );
    fs::set_permissions(site.path(&format!("bin/{dump}")), fs::Permissions::from_mode(0o755)).unwrap();
    let mut variables = Variables::new();
    let path = format!("{}:{}", site.path("bin").display(), std::env::var("PATH").unwrap());
    variables.set("PATH", path);
    let mut context = Context::from(Host::new().with_variables(variables));
    assert_mute(backup(&site).perform(&mut context), "backup");
    assert!(!site.path("backup").exists() && !site.path("backup.part").exists());
    database.signal(Signal::CONT);

    // In the midst of a migration, and then on the way back.
    let sleep = if engine == Engine::PostgreSql { "SELECT pg_sleep(600)" } else { "SELECT SLEEP(600)" };
    let operations = format!(
        "migrations.AddField('item', 'price', models.IntegerField(default=1)), migrations.RunSQL('{sleep}', '')"
    );
    site.migration("0002_slow", "0001_initial", "", &operations);
    backup(&site).perform(&mut Context::default()).unwrap();
    let mut session = site.boot();
    let stopped = database.clone();
    session.on_progress(move |_: &MigrationProgress| {
        let asleep = wait_until(PATIENCE, || sessions(&stopped, "%sleep(600)%") > 0);
        assert!(asleep, "the migration does not begin");
        stopped.signal(Signal::STOP);
    });
    let plan = session.on("default").migrations(&host).unwrap().ids();
    assert_mute(session.on("default").migrate(&host, &before.applied, &plan), "migrate");
    let mut context = Context::default();
    let error = restore(&site, &before, true).perform(&mut context).expect_err("it does not answer");
    let place = format!("its copy from before the migrations is `{}`", site.path("backup").display());
    assert!(error.to_string().contains(&place), "{error}");
    database.signal(Signal::CONT);
    restore(&site, &before, true).perform(&mut Context::default()).unwrap();
    assert_same(&facts, &database.facts());
    assert_eq!(sessions(&database, "%sleep(600)%"), 0);
}

/// Returns how many sessions of the database are at such a statement.
fn sessions(database: &Database, like: &str) -> usize {
    let sql = if database.engine == Engine::PostgreSql {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE '{like}' AND pid <> pg_backend_pid() AND state = 'active'"
        )
    } else {
        format!(
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '{like}' AND id <> connection_id()"
        )
    };
    database.sql(&sql).parse().expect("a number")
}

/// Somebody who locks a table, until this is dropped.
struct Locker<'d>(&'d Database, #[expect(dead_code, reason = "it holds the lock")] Client);

impl<'d> Locker<'d> {
    fn new(database: &'d Database) -> Self {
        let client = database.session(match database.engine {
            Engine::PostgreSql => "BEGIN; LOCK TABLE shop_item; SELECT pg_sleep(601)",
            Engine::MariaDb => "LOCK TABLES shop_item WRITE; SELECT SLEEP(601)",
        });
        assert!(wait_until(PATIENCE, || sessions(database, "%sleep(601)%") > 0), "no lock");
        Locker(database, client)
    }
}

impl Drop for Locker<'_> {
    /// A server does not notice that a client is gone that it has nothing to say to.
    fn drop(&mut self) {
        let (id, table, column, end) = match self.0.engine {
            Engine::PostgreSql => ("pid", "pg_stat_activity", "query", "SELECT pg_terminate_backend"),
            Engine::MariaDb => ("id", "information_schema.processlist", "info", "KILL "),
        };
        let sql =
            format!("SELECT {id} FROM {table} WHERE {column} LIKE '%(601)' AND {column} NOT LIKE '%WHERE%'");
        for session in self.0.sql(&sql).lines() {
            self.0.sql(&format!("{end}({session})"));
        }
        assert!(wait_until(PATIENCE, || sessions(self.0, "%sleep(601)%") == 0), "the lock stays");
    }
}

fn a_lock_that_somebody_holds_ends_a_migration_and_a_copy(engine: Engine) {
    let Some((mut site, database)) = migrated(engine) else { return };
    patient(&mut site, 2);
    site.migration(
        "0002_price",
        "0001_initial",
        "",
        "migrations.AddField('item', 'price', models.IntegerField(default=1))",
    );
    let facts = database.facts();
    let locker = Locker::new(&database);
    let (before, result, mut context) = migrate(&site);
    let error = result.expect_err("it is locked");
    let text = deploykit::error_chain(&error);
    let wanted = if engine == Engine::PostgreSql { "lock timeout" } else { "Lock wait timeout exceeded" };
    assert!(text.starts_with("migration `shop.0002_price` failed") && text.contains(wanted), "{text}");
    let holder = format!("({}, ", database.name);
    assert!(text.contains("sessions that may hold the lock: ") && text.contains(&holder), "{text}");
    restore(&site, &before, false).perform(&mut context).unwrap();
    let error = backup(&site).perform(&mut context).expect_err("it is locked");
    let text = deploykit::error_chain(&error);
    assert!(text.contains(wanted) && text.contains(&holder), "{text}");
    assert!(!site.path("backup").exists() && !site.path("backup.part").exists());
    drop(locker);
    assert_same(&facts, &database.facts());
}

fn what_a_killed_migration_left_in_the_server_is_ended_before_anything_else(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    // Nothing takes this back but what is done by hand.
    site.migration(
        "0002_price",
        "0001_initial",
        "atomic = False",
        "migrations.RunSQL('ALTER TABLE shop_item ADD price int', '')",
    );
    let facts = database.facts();
    let host = Host::new();
    let mut session = site.boot();
    let before = session.on("default").state(&host).unwrap();
    let plan = session.on("default").migrations(&host).unwrap().ids();
    let locker = Locker::new(&database);
    let number = i32::try_from(session.id().unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waits = wait_until(PATIENCE, || sessions(&database, "ALTER TABLE shop_item%") > 0);
            rustix::process::kill_process(rustix::process::Pid::from_raw(number).unwrap(), Signal::KILL)
                .unwrap();
            assert!(waits, "the migration does not begin");
        });
        session.on("default").migrate(&host, &before.applied, &plan).expect_err("it was killed");
    });
    restore(&site, &before, false).perform(&mut Context::default()).unwrap();
    assert_eq!(sessions(&database, "ALTER TABLE shop_item%"), 0);
    drop(locker);
    assert_same(&facts, &database.facts());
}
