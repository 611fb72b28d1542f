//! Copies of PostgreSQL and MariaDB databases in private servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deploykit::Host;
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::{Value, json};

use super::copies::{confirm, copy};
use crate::database::{assert_same, migrated, on_each_engine, proxy};
use crate::support::database::{Database, Engine, is_root};
use crate::support::django::Site;
use crate::support::probe::{Probe, SYSTEM, User};
use crate::support::site::demo_site::{run, wait_until};

/// Changes both databases past Django, and tries to kill a process.
const HARM: &str = "
import os, signal, sys
sys.path.insert(0, '.')
from config import settings
for one in settings.DATABASES.values():
    path, options = one['HOST'], {'user': one['USER'], 'password': one['PASSWORD'], 'host': one['HOST']}
    if one['ENGINE'].endswith('mysql'):
        import pymysql
        options['database'] = one['NAME']
        options.update({'unix_socket': options.pop('host')} if path.startswith('/') else {'port': int(one['PORT'])})
        connection = pymysql.connect(**options)
    else:
        import psycopg
        connection = psycopg.connect(dbname=one['NAME'], port=one.get('PORT') or 5432, **options)
    cursor = connection.cursor()
    cursor.execute('CREATE TABLE canary_%d (id int)' % len(path))
    cursor.execute('DELETE FROM shop_item')
    connection.commit()
try:
    os.kill(int(sys.argv[1]), signal.SIGTERM)
except ProcessLookupError:
    sys.exit(0)
sys.exit('it was sent a signal')
";

/// A private server, started as in a rehearsal but with its sockets in their private directory.
struct Private {
    server: Child,
    log: PathBuf,
}

impl Private {
    fn start(site: &Site, copies: &Value, database: &Database) -> (Private, Database) {
        // The server's user has to reach the private directory.
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
        assert_eq!(server["listen"], json!([]), "{server:#}");
        let log = site.path("private.log");
        let mut command = match server["user"].as_str() {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
                command.arg(&argv[0]);
                command
            }
            None => Command::new(&argv[0]),
        };
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

/// Returns the processes with their working directory below a directory.
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
    // The aliases still connect to the live server.
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
    // The site's role has the same rights as on the live server, and no more.
    private.sql(
        "ALTER TABLE shop_item ADD COLUMN more int; DROP EXTENSION IF EXISTS hstore; CREATE EXTENSION hstore",
    );
    assert!(database.sql("SELECT * FROM shop_item LIMIT 1").matches('|').count() == 1);
    assert_eq!(private.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'admin'"), "f");
}

#[test]
fn mariadb_is_copied_with_its_accounts_and_settings() {
    let Some((site, database)) = migrated(Engine::MariaDb) else { return };
    let name = &database.name;
    database.sql_as_admin(&format!(
        "CREATE ROLE all_of_{name}; GRANT SELECT ON mysql.time_zone TO all_of_{name}; \
        GRANT all_of_{name} TO {name}@localhost; SET DEFAULT ROLE all_of_{name} FOR {name}@localhost; \
        CREATE USER '{name} else'@'10.0.0.%'"
    ));
    database.sql(
        "CREATE FUNCTION twice(a int) RETURNS int RETURN a * 2; CREATE SEQUENCE numbers;
        CREATE TABLE shop_more (id int AUTO_INCREMENT PRIMARY KEY, word varchar(9) CHECK (word IN ('a', 'b')), bytes blob,
            item bigint, made int AS (id + 1) VIRTUAL, words json, FOREIGN KEY (item) REFERENCES shop_item (id));
        INSERT INTO shop_more (word, bytes, item) VALUES ('a', x'00ff0a27', 1);
        CREATE TRIGGER shop_trigger BEFORE INSERT ON shop_more FOR EACH ROW SET NEW.word = 'b'",
    );
    database.sql_as_admin(&format!(
        "CREATE DEFINER = '{name} else'@'10.0.0.%' VIEW shop_view AS SELECT name FROM shop_item"
    ));
    let asked = "SELECT @@sql_mode, @@time_zone, @@collation_database, @@lower_case_table_names, twice(2), CURRENT_USER()";
    let (facts, before) = (database.facts(), database.sql(asked));
    let grants = database.sql("SHOW GRANTS");

    // If its own user can reach the copy, the server does not run as root.
    fs::set_permissions(site.directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::create_dir(site.path("copies")).expect("a directory");
    let mut probe = Probe::boot(&site);
    let copies = probe.ok(&copy(&site, &["default"], 1 << 30));
    assert_eq!((&copies["skipped"], &copies["schema_only"]), (&json!({}), &json!([])), "{copies:#}");
    assert_eq!(
        copies["servers"][0]["user"],
        if is_root() { json!("mysql") } else { Value::Null },
        "{copies:#}"
    );
    assert_eq!(processes(&site.path("copies")), [""; 0]);
    let error = probe.ask(&confirm(&copies))["error"].clone();
    assert_eq!(error["kind"], "not_the_copy", "{error:#}");

    let (_server, private) = Private::start(&site, &copies, &database);
    assert_same(&facts, &private.facts());
    assert_eq!(private.sql(asked), before);
    assert_eq!(private.sql("SHOW GRANTS"), grants);
    assert_eq!(private.sql("SELECT name FROM shop_view"), "one\ntwo");
    site.append("config/settings.py", &format!("DATABASES['default']['HOST'] = {:?}", private.host));
    let live = site.boot().on("default").state(&Host::new()).expect("a state");
    Probe::boot(&site).ok(&confirm(&copies));
    assert_eq!(site.boot().on("default").state(&Host::new()).expect("a state").differences(&live), [""; 0]);
    private.sql("DROP TABLE shop_more");
    assert_same(&facts, &database.facts());
}

on_each_engine! {
    migrations_run_on_the_copy_at_the_live_addresses,
    a_large_database_is_copied_without_its_rows,
    a_private_server_ends_with_the_probe_that_is_killed,
}

fn migrations_run_on_the_copy_at_the_live_addresses(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let socket = PathBuf::from(&database.host);
    let port = proxy(if engine == Engine::PostgreSql { socket.join(".s.PGSQL.5432") } else { socket });
    let options =
        if engine == Engine::PostgreSql { "{'sslmode': 'disable'}" } else { "{'ssl_disabled': True}" };
    site.append(
        "config/settings.py",
        &format!("DATABASES['tcp'] = dict(DATABASES['default'], HOST='127.0.0.1', PORT='{port}', OPTIONS={options})"),
    );
    site.migration(
        "0002_price",
        "0001_initial",
        "",
        "migrations.AddField('item', 'price', models.IntegerField(default=1))",
    );
    let plan = site.boot().on("default").migrations(&Host::new()).expect("a plan");
    let facts = database.facts();
    let ordinary = User::ordinary();
    for user in std::iter::once(None).chain(ordinary.as_ref().map(Some)) {
        let id = user.map_or_else(|| getuid().as_raw(), |user| user.id);
        let mut give = Command::new("chown");
        run(give.args(["-R", &id.to_string()]).arg(site.directory.path())).expect("it is ours");
        let scratch = site.path(&format!("scratch-{id}"));
        let request = json!({
            "do": "copy_databases", "directory": scratch.join("databases"), "limits": {"default": 1 << 30, "tcp": 1 << 30}, "nice": 1,
            "databases": ["default", "tcp"]
        });
        let copies = Probe::boot_as(user, &site, json!({})).ok(&request);
        assert_eq!(copies["skipped"], json!({}), "{copies:#}");
        // PostgreSQL's second address has another port than its socket: its connections are forwarded.
        let servers = if engine == Engine::PostgreSql { 2 } else { 1 };
        assert_eq!(copies["servers"].as_array().map(Vec::len), Some(servers), "{copies:#}");
        let sandbox = json!({ "scratch": scratch, "servers": copies["servers"], "show": copies["show"] });
        let mut probe = Probe::boot_as(user, &site, json!({ "sandbox": sandbox }));
        probe.ok(&confirm(&copies));
        for alias in ["default", "tcp"] {
            let request =
                json!({ "do": "migrate", "database": alias, "applied": plan.applied, "plan": plan.ids() });
            probe.ok(&request);
        }
        let mut live = Command::new("sleep").arg("600").uid(id).spawn().expect("it starts");
        let python = if user.is_some() { Path::new(SYSTEM) } else { &site.project.python };
        probe.ok(&json!({
            "do": "run_program", "directory": site.project.directory, "environment": {},
            "argv": [python, Path::new("-c"), Path::new(HARM), Path::new(&live.id().to_string())]
        }));
        assert!(live.try_wait().expect("it is ours").is_none(), "it was killed");
        live.kill().expect("it runs");
        live.wait().expect("it is ours");
        assert_same(&facts, &database.facts());
        // Its server, too, runs in the directory of its data, and ends with it.
        let scratch = scratch.canonicalize().expect("a directory");
        assert!(processes(&scratch).len() >= servers, "no server runs");
        drop(probe);
        let ended = wait_until(Duration::from_secs(60), || processes(&scratch).is_empty());
        assert!(ended, "{:?}", processes(&scratch));
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a list");
        assert!(!mounts.contains(scratch.to_str().expect("text")), "{mounts}");
    }
}

fn a_large_database_is_copied_without_its_rows(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let kept = database.sql("SELECT app, name FROM django_migrations ORDER BY id");
    let copies = Probe::boot(&site).ok(&copy(&site, &["default"], 1000));
    assert_eq!(copies["schema_only"], json!(["default"]), "{copies:#}");
    let (_server, private) = Private::start(&site, &copies, &database);
    assert_eq!(private.sql("SELECT count(*) FROM shop_item"), "0");
    assert_eq!(private.sql("SELECT app, name FROM django_migrations ORDER BY id"), kept);
    private.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())");
}

fn a_private_server_ends_with_the_probe_that_is_killed(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    // The copy waits for this lock.
    let (lock, held, waits) = match engine {
        Engine::PostgreSql => (
            "BEGIN; LOCK TABLE shop_item; SELECT pg_sleep(300)",
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'shop_item'::regclass",
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop_item'::regclass",
        ),
        Engine::MariaDb => (
            "LOCK TABLES shop_item WRITE; SELECT SLEEP(300)",
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'",
            "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for%lock'",
        ),
    };
    let _holder = database.session(lock);
    assert!(wait_until(Duration::from_secs(60), || database.sql(held) == "1"));
    let mut probe = Probe::boot(&site);
    probe.send(&copy(&site, &["default"], 1 << 30));
    assert!(wait_until(Duration::from_secs(120), || database.sql(waits) == "1"), "it does not wait");
    let copies = site.path("copies").canonicalize().expect("a directory");
    assert!(!processes(&copies).is_empty(), "no server runs");
    drop(probe);
    assert!(
        wait_until(Duration::from_secs(60), || processes(&copies).is_empty()),
        "{:?}",
        processes(&copies)
    );
    assert!(wait_until(Duration::from_secs(60), || database.sql(waits) == "0"), "a program is left");
}
