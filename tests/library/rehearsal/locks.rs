//! The locks that a rehearsal records.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use deploykit::Host;
use deploykit::internal::django::{Sandbox, Session};

use crate::database::migrated;
use crate::support::database::{Database, Engine};
use crate::support::django::Site;
use crate::support::site::demo_site::wait_until;

/// Migrates; returns the tables that each migration locked, with the modes.
fn locks_of(session: &mut Session) -> BTreeMap<String, BTreeMap<String, String>> {
    let host = Host::new();
    let plan = session.on("default").migrations(&host).expect("a plan");
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).expect("the migrations");
    let finished = session.progress().iter().filter(|one| one.seconds.is_some());
    let seen = finished.map(|one| {
        let locks = one.locks.iter().map(|lock| {
            let whole = one.seconds.expect("it has finished") * 1000.0 + 1.0;
            assert!(u64::from(u32::MAX) > lock.duration_ms && lock.duration_ms as f64 <= whole, "{one:?}");
            (lock.table.clone(), lock.mode.clone())
        });
        (one.migration.name.clone(), locks.collect())
    });
    seen.collect()
}

/// Boots the site on copies of its databases.
fn boot_on_copies(site: &Site) -> Session {
    let host = Host::new();
    let scratch = site.path("scratch");
    fs::create_dir(&scratch).expect("a directory");
    let databases = [("default".to_owned(), 1 << 30)];
    let copies = site.boot().copy_databases(&host, &scratch.join("databases"), &databases, None);
    let sandbox = Sandbox { scratch, copies: copies.expect("copies"), ..Sandbox::default() };
    let booting = Session::begin_in(&host, &site.project, &sandbox).expect("a process");
    booting.booted(&host).expect("a sandbox")
}

/// Returns the locks of a paused migration, as another session sees them.
fn seen_by_another(database: &Database) -> BTreeMap<String, String> {
    let pauses = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    let up =
        wait_until(Duration::from_secs(60), || database.sql(&format!("SELECT count(*) {pauses}")) == "1");
    assert!(up, "it does not pause");
    let rows = database.sql(&format!(
        "SELECT relation::regclass, mode FROM pg_locks JOIN pg_class c ON c.oid = relation WHERE relkind = 'r' AND granted \
         AND pid = (SELECT pid {pauses}) AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
    ));
    let words = |mode: &str| match mode {
        "ShareLock" => "SHARE",
        "ShareRowExclusiveLock" => "SHARE ROW EXCLUSIVE",
        "AccessExclusiveLock" => "ACCESS EXCLUSIVE",
        other => panic!("{other}"),
    };
    let rows = rows.lines().map(|line| line.split_once('|').expect("two columns"));
    let strongest =
        |mode: &str| ["SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"].iter().position(|one| *one == mode);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (table, mode) in rows {
        let mode = words(mode).to_owned();
        let known = found.get(table).and_then(|known| strongest(known));
        if known < strongest(&mode) {
            found.insert(table.to_owned(), mode);
        }
    }
    found
}

#[test]
fn are_those_that_another_session_sees_in_the_real_migration() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    database.sql("CREATE TABLE \"Odd Name\" (id int)");
    let pause = "migrations.RunSQL('SELECT pg_sleep(2)', '')";
    site.migration(
        "0002_index",
        "0001_initial",
        "",
        &format!("migrations.AddIndex('item', models.Index(fields=['name'], name='by_name')), {pause}"),
    );
    let reply = "migrations.CreateModel('Reply', [('id', models.BigAutoField(primary_key=True)), \
                 ('item', models.ForeignKey('shop.item', models.CASCADE))])";
    let odd = "migrations.RunSQL('LOCK TABLE \"Odd Name\" IN SHARE ROW EXCLUSIVE MODE', '')";
    let column = "migrations.AddField('item', 'price', models.IntegerField(default=1))";
    let index = "migrations.RunSQL('CREATE INDEX again ON shop_item (name)', '')";
    site.migration("0003_column", "0002_index", "", &format!("{odd}, {reply}, {index}, {column}, {pause}"));
    site.migration(
        "0004_rows",
        "0003_column",
        "",
        &format!("migrations.RunSQL('UPDATE shop_item SET price = 2', ''), {pause}"),
    );
    // Without a transaction: the lock ends with the statement.
    site.migration(
        "0005_alone",
        "0004_rows",
        "atomic = False",
        "migrations.RunSQL(\"ALTER TABLE shop_item ALTER price TYPE text USING price || pg_sleep(1)::text\", '')",
    );
    let rehearsed = locks_of(&mut boot_on_copies(&site));
    let locked = |table: &str, mode: &str| (table.to_owned(), mode.to_owned());
    let expected = [
        ("0002_index", vec![locked("shop_item", "SHARE")]),
        (
            "0003_column",
            vec![locked("\"Odd Name\"", "SHARE ROW EXCLUSIVE"), locked("shop_item", "ACCESS EXCLUSIVE")],
        ),
        ("0004_rows", vec![]),
        ("0005_alone", vec![locked("shop_item", "ACCESS EXCLUSIVE")]),
    ];
    let expected = expected.map(|(name, locks)| (name.to_owned(), locks.into_iter().collect()));
    assert_eq!(rehearsed, BTreeMap::from(expected));

    let mut live = site.boot();
    let names: Vec<&String> = rehearsed.keys().collect();
    std::thread::scope(|scope| {
        let real = scope.spawn(|| locks_of(&mut live));
        for name in &names[..3] {
            assert_eq!(seen_by_another(&database), rehearsed[*name], "{name}");
            let over = "SELECT count(*) FROM django_migrations WHERE name = ";
            assert!(wait_until(Duration::from_secs(60), || database.sql(&format!("{over}'{name}'")) == "1"));
        }
        let real = real.join().expect("it migrates");
        // Live migrations are not recorded.
        assert!(real.values().all(BTreeMap::is_empty), "{real:?}");
    });
}
