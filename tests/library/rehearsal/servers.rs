//! Copies of databases on servers, in private servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deploykit::Host;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::copies::{confirm, copy};
use crate::database::{assert_same, migrated};
use crate::support::database::{Database, Engine};
use crate::support::django::Site;
use crate::support::probe::Probe;
use crate::support::site::demo_site::wait_until;

/// A private server that was started as the copy says, only that its sockets are not where the live ones are.
struct Private {
    server: Child,
    log: PathBuf,
}

impl Private {
    fn start(site: &Site, copies: &Value, database: &Database) -> (Private, Database) {
        // The server's user has to reach the sockets where they are.
        for directory in [site.path(""), site.path("copies")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        let server = &copies["servers"][0];
        let show = copies["show"].as_array().expect("a list");
        let (private, live) = (text(&show[1][0]), text(&show[1][1]));
        assert_eq!(show[1][2], true, "{show:?}");
        let argv: Vec<String> = server["argv"].as_array().expect("a list").iter().map(text).collect();
        let argv: Vec<String> = argv.iter().map(|one| one.replace(&live, &private)).collect();
        assert!(text(&server["ready"]["unix"]).starts_with(&live), "{server:#}");
        let log = site.path("private.log");
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().current_dir("/").stdin(Stdio::null());
        for (name, value) in server["environment"].as_object().expect("an object") {
            command.env(name, text(value));
        }
        let file = fs::File::create(&log).expect("a log");
        let server =
            command.stdout(file.try_clone().expect("a log")).stderr(file).spawn().expect("it starts");
        let server = Private { server, log };
        let host = database.host.replace(&live, &private);
        let copy = Database { host, ..database.clone() };
        let up = wait_until(Duration::from_secs(60), || copy.session("SELECT 1").ended());
        assert!(up, "{}", fs::read_to_string(&server.log).unwrap_or_default());
        (server, copy)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let number = Pid::from_raw(i32::try_from(self.server.id()).expect("a number")).expect("a number");
        let _ = kill_process(number, Signal::QUIT);
        let _ = self.server.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}

/// Returns the processes that are at home below a directory.
fn processes(directory: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("a list").flatten();
    let at_home = all.filter(|entry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|home| home.starts_with(directory))
    });
    at_home.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn postgresql_is_copied_with_its_roles_and_settings() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    let (name, other) = (&database.name, format!("{}_latin", database.name));
    database.sql_as_admin(&format!(
        "CREATE EXTENSION pg_trgm; CREATE ROLE \"Group of {name}\" CREATEDB NOINHERIT; CREATE SCHEMA theirs;
        GRANT \"Group of {name}\" TO {name} WITH ADMIN OPTION; ALTER SCHEMA theirs OWNER TO \"Group of {name}\";
        GRANT CREATE ON SCHEMA public TO \"Group of {name}\"; ALTER EXTENSION pg_trgm SET SCHEMA public;
        ALTER ROLE {name} IN DATABASE {name} SET search_path = public, \"$user\", \"odd, name\";
        ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'; ALTER ROLE {name} SET \"my.own\" = 'it''s \\ so'"
    ));
    database.sql(&format!(
        "CREATE INDEX shop_words ON shop_item USING gin (name gin_trgm_ops);
        CREATE TABLE shop_more (id serial PRIMARY KEY, word text); ALTER TABLE shop_more OWNER TO \"Group of {name}\";
        GRANT SELECT ON shop_more TO {name}; CREATE VIEW shop_view AS SELECT name FROM shop_item"
    ));
    database.sql_as_admin(&format!(
        "CREATE DATABASE {other} OWNER {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    site.append(
        "config/settings.py",
        &format!(
            "DATABASES['again'] = dict(DATABASES['default'])\n\
            DATABASES['latin'] = dict(DATABASES['default'], NAME='{other}')\n\
            DATABASES['gone'] = dict(DATABASES['default'], NAME='no_such_database')"
        ),
    );
    let asked = "SELECT current_setting('search_path'), current_setting('timezone'), current_setting('my.own'), rolsuper, \
        rolcreatedb, (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()), \
        (SELECT rolinherit::text || rolcreatedb FROM pg_roles WHERE rolname LIKE 'Group of%' || current_user) \
        FROM pg_roles WHERE rolname = current_user";
    let (facts, before) = (database.facts(), database.sql(asked));

    let mut probe = Probe::boot(&site);
    let copies = probe.ok(&copy(&site, &["default", "again", "latin", "gone"], 1 << 30));
    assert_eq!(copies["servers"].as_array().map(Vec::len), Some(1), "{copies:#}");
    assert_eq!(copies["schema_only"], json!([]));
    let reason = text(&copies["skipped"]["gone"]["reason"]);
    assert!(reason.contains("database \"no_such_database\" does not exist"), "{reason}");
    assert_eq!(copies["expected"].as_object().map(|all| all.len()), Some(3), "{copies:#}");
    assert_eq!(processes(&site.path("copies")), [""; 0]);
    // Before anything stands in its place, it is the live one.
    let error = probe.ask(&confirm(&copies))["error"].clone();
    assert_eq!(error["kind"], "not_the_copy", "{error:#}");

    let (_server, private) = Private::start(&site, &copies, &database);
    assert_same(&facts, &private.facts());
    assert_eq!(private.sql(asked), before);
    let encoding = format!("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = '{other}'");
    assert_eq!(private.sql(&encoding), "LATIN1");
    let (host, live) = (Host::new(), site.boot().on("default").state(&Host::new()).expect("a state"));
    site.append(
        "config/settings.py",
        &format!("for d in DATABASES.values():\n    d['HOST'] = {:?}", private.host),
    );
    Probe::boot(&site).ok(&confirm(&copies));
    assert_eq!(site.boot().on("default").state(&host).expect("a state").differences(&live), [""; 0]);
    // What the site's role may do there it may do here, and no more.
    private.sql(
        "ALTER TABLE shop_item ADD COLUMN more int; DROP EXTENSION IF EXISTS hstore; CREATE EXTENSION hstore",
    );
    assert!(database.sql("SELECT * FROM shop_item LIMIT 1").matches('|').count() == 1);
    assert_eq!(private.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'admin'"), "f");
}

#[test]
fn a_large_postgresql_database_is_copied_without_its_rows() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    let kept = database.sql("SELECT app, name FROM django_migrations ORDER BY id");
    let copies = Probe::boot(&site).ok(&copy(&site, &["default"], 1000));
    assert_eq!(copies["schema_only"], json!(["default"]), "{copies:#}");
    let (_server, private) = Private::start(&site, &copies, &database);
    assert_eq!(private.sql("SELECT count(*) FROM shop_item"), "0");
    assert_eq!(private.sql("SELECT app, name FROM django_migrations ORDER BY id"), kept);
    private.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())");
}

#[test]
fn a_private_server_ends_with_the_probe_that_is_killed() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    // The copy waits for this lock.
    let _holder = database.session("BEGIN; LOCK TABLE shop_item; SELECT pg_sleep(300)");
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'shop_item'::regclass";
    assert!(wait_until(Duration::from_secs(60), || database.sql(locked) == "1"));
    let mut probe = Probe::boot(&site);
    probe.send(&copy(&site, &["default"], 1 << 30));
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop_item'::regclass";
    assert!(wait_until(Duration::from_secs(120), || database.sql(waits) == "1"), "it does not wait");
    let copies = site.path("copies").canonicalize().expect("a directory");
    assert!(processes(&copies).len() > 3, "{:?}", processes(&copies));
    drop(probe);
    assert!(
        wait_until(Duration::from_secs(60), || processes(&copies).is_empty()),
        "{:?}",
        processes(&copies)
    );
    assert!(wait_until(Duration::from_secs(60), || database.sql(waits) == "0"), "a program is left");
}
