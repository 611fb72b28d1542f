//! The copy of a PostgreSQL database in the scratch database that the configuration names.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use deploykit::Host;
use serde_json::json;

use super::{encoded, scratch, skipped, text};
use crate::database::{assert_same, migrated, proxy};
use crate::rehearsal::copies::{confirm, copy};
use crate::support::database::{Database, Engine};
use crate::support::probe::Probe;
use crate::support::site::demo_site::wait_until;

#[test]
fn holds_the_copy_where_no_private_server_can() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    let (scratch, url) = scratch(&database);
    let (live, own) = (&database.name, &scratch.name);
    let port = proxy(std::path::Path::new(&database.host).join(".s.PGSQL.5432"));
    site.append(
        "config/settings.py",
        &format!(
            "DATABASES['default']['OPTIONS'] = {{'sslmode': 'verify-ca'}}\n\
             DATABASES['tcp'] = dict(DATABASES['default'], HOST='localhost', PORT='{port}', OPTIONS={{}})"
        ),
    );
    site.migration(
        "0002_price",
        "0001_initial",
        "",
        "migrations.AddField('item', 'price', models.IntegerField(default=1))",
    );
    let plan = site.boot().on("default").migrations(&Host::new()).expect("a plan");
    database
        .sql_as_admin(&format!("ALTER ROLE {live} SET timezone = 'Asia/Tokyo'; CREATE EXTENSION pg_trgm"));
    database.sql("CREATE INDEX shop_words ON shop_item USING gin (name gin_trgm_ops); SELECT lo_create(0)");
    let facts = database.facts();
    let mut request = copy(&site, &["default", "tcp"], 1 << 30);
    let skipped = |url: &str, expected: &str| skipped(&site, &request, url, expected);
    skipped("", "its clients verify the server's certificate");
    skipped(
        &url.replace("?host", "?hots"),
        "`rehearsal.database-url` cannot be read: it has the unknown parameter `hots`",
    );
    skipped(&url.replace(":canary", ":wrong"), "`rehearsal.database-url` cannot be reached: ");
    let of_live = encoded(&database.password);
    let same = format!("postgresql://{live}:{of_live}@/{live}?host={}", database.host);
    skipped(&same, "`rehearsal.database-url` names the live database itself");

    // A role with rights on the live database, with the line that takes them away.
    for (gives, expected, takes) in [
        (
            format!("GRANT CONNECT ON DATABASE {live} TO PUBLIC"),
            format!(
                "may connect to the live database `{live}` | REVOKE CONNECT ON DATABASE \"{live}\" FROM PUBLIC, \"{own}\"; GRANT CONNECT ON DATABASE \"{live}\" TO \"{live}\""
            ),
            format!("REVOKE CONNECT ON DATABASE {live} FROM PUBLIC"),
        ),
        (
            format!("GRANT {live} TO {own}"),
            format!("may act as the role {live} | REVOKE {live} FROM \"{own}\""),
            String::new(),
        ),
        (
            format!("GRANT pg_read_all_data TO {own}"),
            format!("may act as the role pg_read_all_data | REVOKE pg_read_all_data FROM \"{own}\""),
            String::new(),
        ),
        (
            format!("ALTER ROLE {own} SUPERUSER"),
            format!("may do everything on the live server | ALTER ROLE \"{own}\" NOSUPERUSER"),
            String::new(),
        ),
        (
            format!("ALTER ROLE {own} CREATEROLE"),
            format!("may create roles on the live server | ALTER ROLE \"{own}\" NOCREATEROLE"),
            String::new(),
        ),
    ] {
        database.sql_as_admin(&gives);
        let reason = format!("the role `{own}` of `rehearsal.database-url` {expected}");
        skipped(&url, &reason);
        let help = reason.split_once(" | ").expect("help").1;
        database.sql_as_admin(if takes.is_empty() { help } else { &takes });
    }
    database.sql_as_admin(&format!("ALTER DATABASE {own} OWNER TO admin"));
    let owner = format!("does not own the database `{own}` | ALTER DATABASE \"{own}\" OWNER TO \"{own}\"");
    skipped(&url, &format!("the role `{own}` of `rehearsal.database-url` {owner}"));
    database.sql_as_admin(&format!("ALTER DATABASE {own} OWNER TO {own}"));

    // A database that is not empty is not emptied.
    scratch.sql("CREATE SCHEMA mine; CREATE TABLE mine.rows (id int); INSERT INTO mine.rows VALUES (1)");
    let copies = skipped(&url, &format!("the database `{own}` of `rehearsal.database-url` is not empty"));
    assert_eq!(scratch.sql("SELECT count(*) FROM mine.rows"), "1");
    let help = text(&copies["skipped"]["default"]["help"]).to_owned();
    scratch.sql(&format!("COMMENT{}", help.split_once("COMMENT").expect("a statement").1));

    let scratch_directory = site.path("copies").with_file_name("sandbox");
    let directory = scratch_directory.join("databases");
    request["directory"] = json!(directory);
    request["scratch_url"] = json!(url);
    // The comment allows that for another directory only.
    let copies = Probe::boot(&site).ok(&request);
    assert!(text(&copies["skipped"]["default"]["reason"]).contains("is not empty"), "{copies:#}");
    scratch.sql("DROP SCHEMA mine CASCADE");
    let mut probe = Probe::boot(&site);
    let copies = probe.ok(&request);
    assert_eq!((&copies["skipped"], &copies["schema_only"]), (&json!({}), &json!([])), "{copies:#}");
    assert_eq!(scratch.sql("SELECT name FROM shop_item ORDER BY 1"), "one\ntwo");
    assert!(!copies.to_string().contains("canary"), "{copies:#}");
    let error = probe.ask(&confirm(&copies))["error"].clone();
    assert_eq!(error["kind"], "not_the_copy", "{error:#}");

    let mut spec = json!({ "scratch": scratch_directory, "scratch_url": url });
    for name in ["servers", "show", "proxies", "plain"] {
        spec[name] = copies[name].clone();
    }
    let script = site.path("raw.py");
    fs::write(&script, raw(&database)).expect("a file");
    let mut sandbox = Probe::boot_with(&site, json!({ "sandbox": spec }));
    sandbox.ok(&confirm(&copies));
    sandbox.ok(&json!({ "do": "migrate", "database": "tcp", "applied": plan.applied, "plan": plan.ids() }));
    let raw = json!({
        "do": "run_program", "argv": [site.project.python, script], "directory": site.project.directory, "environment": {}
    });
    sandbox.ok(&raw);
    let proxy = directory.join("scratch/proxy.sock");
    UnixStream::connect(&proxy).expect("it listens");
    drop(sandbox);
    let is_gone = || UnixStream::connect(&proxy).is_err();
    assert!(wait_until(Duration::from_secs(60), is_gone), "the proxy outlives the sandbox");
    assert_eq!(scratch.sql("SELECT name, price FROM shop_item ORDER BY 1"), "one|1\nraw|5\ntwo|1");
    assert_same(&facts, &database.facts());
    probe.ok(&json!({ "do": "clear_scratch", "scratch_url": url, "directory": directory }));
    assert_eq!(scratch.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");
    assert_eq!(scratch.sql("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    assert_eq!(database.sql("SELECT count(*) FROM pg_largeobject_metadata"), "1");

    // Above the limit, without its rows.
    request["limits"] = json!({ "default": 1000, "tcp": 1000 });
    let copies = probe.ok(&request);
    assert_eq!(copies["schema_only"], json!(["default", "tcp"]), "{copies:#}");
    assert_eq!(scratch.sql("SELECT count(*) FROM shop_item"), "0");
    let kept = "SELECT count(*) FROM django_migrations";
    assert_eq!(scratch.sql(kept), database.sql(kept));
    assert_same(&facts, &database.facts());
}

/// A program that connects with the live password, as code of the site may do beside Django.
fn raw(live: &Database) -> String {
    let (host, name) = (&live.host, &live.name);
    let password = json!(live.password).to_string();
    format!(
        "import psycopg\n\
         live = dict(host={host:?}, user={name:?}, password={password})\n\
         with psycopg.connect(dbname={name:?}, **live) as connection:\n    \
             row = connection.execute(\"SELECT current_database(), current_setting('timezone')\").fetchone()\n    \
             assert row == ({name:?} + '_scratch', 'Asia/Tokyo'), row\n    \
             connection.execute(\"INSERT INTO shop_item (name, price) VALUES ('raw', 5)\")\n    \
             big = connection.execute(\"SELECT repeat('x', 30000000)\").fetchone()[0]\n    \
             assert len(big) == 30000000\n    \
             connection.execute('SELECT %s::text', ['y' * 30000000])\n\
         for other in ('postgres', {name:?} + '_scratch'):\n    \
             try:\n        psycopg.connect(dbname=other, **live)\n    \
             except psycopg.OperationalError as error:\n        assert 'has no copy in the rehearsal' in str(error), error\n    \
             else:\n        raise SystemExit('it reaches another database')\n\
         with psycopg.connect(dbname={name:?}, **live) as connection:\n    \
             cancelled = connection.cancel_safe() if hasattr(connection, 'cancel_safe') else connection.cancel()\n"
    )
}
