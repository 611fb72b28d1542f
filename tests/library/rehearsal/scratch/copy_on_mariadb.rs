//! The copy of a MariaDB database in the scratch database that the configuration names.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use deploykit::Host;
use serde_json::json;

use super::{encoded, scratch, skipped, text};
use crate::database::{assert_same, migrated_on, proxy};
use crate::rehearsal::copies::{confirm, copy};
use crate::support::database::{Database, Engine};
use crate::support::probe::Probe;
use crate::support::site::demo_site::wait_until;

#[test]
fn holds_the_copy_where_no_private_server_can() {
    let Some(database) = Database::with_tls() else { return };
    let Some(site) = migrated_on(&database) else { return };
    let (scratch, url) = scratch(&database);
    let (live, own) = (&database.name, &scratch.name);
    let port = proxy(PathBuf::from(&database.host));
    site.append(
        "config/settings.py",
        &format!("DATABASES['tcp'] = dict(DATABASES['default'], HOST='127.0.0.1', PORT='{port}')"),
    );
    site.migration(
        "0002_price",
        "0001_initial",
        "",
        "migrations.AddField('item', 'price', models.IntegerField(default=1))",
    );
    let plan = site.boot().on("default").migrations(&Host::new()).expect("a plan");
    // They do not belong to the role of the site.
    for statement in [
        "CREATE VIEW shop_view AS SELECT name FROM shop_item",
        "CREATE TRIGGER shop_trigger BEFORE INSERT ON shop_item FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
        "CREATE EVENT shop_event ON SCHEDULE EVERY 1 SECOND DO DELETE FROM shop_item WHERE name = 'never'",
        "CREATE SEQUENCE shop_numbers",
        &format!("ALTER DATABASE {live} COLLATE utf8mb4_swedish_ci"),
    ] {
        database.sql_as_admin(statement);
    }
    database.sql("CREATE FUNCTION twice(a int) RETURNS int RETURN a * 2");
    let facts = database.facts();
    let mut request = copy(&site, &["default", "tcp"], 1 << 30);
    let key = "`rehearsal.database-url`";
    let refused = |url: &str, expected: &str| skipped(&site, &request, url, expected);
    refused("", "its clients verify the server's certificate | ");
    refused(
        &url.replace("?socket", "?sokcet"),
        &format!("{key} cannot be read: it has the unknown parameter `sokcet`"),
    );
    refused(
        &url.replace("mysql", "postgresql"),
        &format!("{key} cannot be read: it does not start with `mysql://`"),
    );
    let wrong = format!("{key} cannot be reached: Access denied for user '{own}'@'localhost'");
    refused(&url.replace(":canary", ":wrong"), &wrong);
    let place = encoded(&database.host);
    let same = format!("mysql://{live}:{}@/{live}?socket={place}", encoded(&database.password));
    refused(&same, &format!("{key} names the live database itself"));
    let with_rights = same.replace(&format!("/{live}?"), "/mysql?");
    refused(&with_rights, &format!("{key} cannot be reached: Access denied for user '{live}'@'localhost'"));

    // A role with rights elsewhere, with the line that takes them away.
    let role = format!("`{own}`@`localhost`");
    for (rights, place) in [
        ("SELECT", format!("`{live}`.*")),
        ("SELECT (`name`)", format!("`{live}`.`shop_item`")),
        ("EXECUTE", format!("FUNCTION `{live}`.`twice`")),
        ("FILE", "*.*".to_owned()),
        ("SUPER", "*.*".to_owned()),
        ("ALL PRIVILEGES", "*.*".to_owned()),
        ("SET USER", "*.*".to_owned()),
    ] {
        database.sql_as_admin(&format!("GRANT {rights} ON {place} TO {role}"));
        let help = format!("REVOKE {rights} ON {place} FROM {role}");
        let reason = format!("the role `{own}@localhost` of {key} has rights on {place} ({rights}) | {help}");
        refused(&url, &reason);
        database.sql_as_admin(&help);
    }
    database.sql_as_admin(&format!("CREATE ROLE of_{own}; GRANT of_{own} TO {role}"));
    let help = format!("REVOKE `of_{own}` FROM {role}");
    refused(
        &url,
        &format!("the role `{own}@localhost` of {key} may act as another one (`of_{own}`) | {help}"),
    );
    database.sql_as_admin(&help);
    database.sql_as_admin(&format!("GRANT SELECT ON `{live}`.* TO PUBLIC"));
    refused(&url, &format!("the role `{own}@localhost` of {key} has rights on `{live}`.* (SELECT) | REVOKE"));
    database.sql_as_admin(&format!("REVOKE SELECT ON `{live}`.* FROM PUBLIC"));
    let pattern = own.replace('_', "\\_");
    database.sql_as_admin(&format!("REVOKE DROP ON `{pattern}`.* FROM {role}"));
    let help = format!("GRANT ALL ON `{pattern}`.* TO {role}");
    refused(
        &url,
        &format!("the role `{own}@localhost` of {key} lacks rights on the database `{own}` | {help}"),
    );
    database.sql_as_admin(&help);

    // A role with another kind of password.
    database.sql_as_admin("INSTALL SONAME 'auth_ed25519'");
    database.sql_as_admin(&format!("ALTER USER {role} IDENTIFIED VIA ed25519 USING PASSWORD('x')"));
    refused(
        &url,
        &format!(
            "{key} cannot be used: the role logs in by the plugin `client_ed25519`, which deploykit lacks | ALTER USER `{own}`@'…'"
        ),
    );
    let quoted = super::PASSWORD.replace('\\', "\\\\").replace('\'', "''");
    database.sql_as_admin(&format!(
        "ALTER USER {role} IDENTIFIED VIA mysql_native_password USING PASSWORD('{quoted}')"
    ));

    // A database that is not empty is not emptied.
    scratch.sql("CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)");
    let copies = refused(&url, &format!("the database `{own}` of {key} is not empty"));
    assert_eq!(scratch.sql("SELECT count(*) FROM mine"), "1");
    let help = text(&copies["skipped"]["default"]["help"]).to_owned();
    scratch.sql(&format!("ALTER{}", help.split_once("ALTER").expect("a statement").1));

    let scratch_directory = site.path("copies").with_file_name("sandbox");
    let directory = scratch_directory.join("databases");
    request["directory"] = json!(directory);
    request["scratch_url"] = json!(url);
    // The comment allows that for another directory only.
    let copies = Probe::boot(&site).ok(&request);
    assert!(text(&copies["skipped"]["default"]["reason"]).contains("is not empty"), "{copies:#}");
    scratch.sql("DROP TABLE mine");
    let mut probe = Probe::boot(&site);
    // Through TLS, too.
    let certificate = database.certificate().expect("a certificate");
    let tls = format!(
        "mysql://{own}:{}@localhost:{port}/{own}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
        encoded(super::PASSWORD),
        encoded(certificate.to_str().expect("text"))
    );
    request["scratch_url"] = json!(tls);
    let copies = probe.ok(&request);
    assert_eq!((&copies["skipped"], &copies["schema_only"]), (&json!({}), &json!([])), "{copies:#}");
    assert_eq!(scratch.sql("SELECT name, twice(1) FROM shop_view ORDER BY 1"), "one\t2\ntwo\t2");
    assert_eq!(scratch.sql("SELECT @@collation_database, NEXTVAL(shop_numbers)"), "utf8mb4_swedish_ci\t1");
    assert_eq!(scratch.sql("SELECT status FROM information_schema.events"), "DISABLED");
    assert!(!copies.to_string().contains("canary"), "{copies:#}");
    let error = probe.ask(&confirm(&copies))["error"].clone();
    assert_eq!(error["kind"], "not_the_copy", "{error:#}");

    let mut spec = json!({ "scratch": scratch_directory, "scratch_url": tls });
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
    assert_eq!(scratch.sql("SELECT name, price FROM shop_item ORDER BY 1"), "one\t1\nRAW\t5\ntwo\t1");
    assert_same(&facts, &database.facts());
    // Above the limit, without its rows; what an earlier rehearsal left is removed.
    request["limits"] = json!({ "default": 1000, "tcp": 1000 });
    request["scratch_url"] = json!(url);
    let copies = probe.ok(&request);
    assert_eq!(copies["schema_only"], json!(["default", "tcp"]), "{copies:#}");
    assert_eq!(scratch.sql("SELECT count(*) FROM shop_item"), "0");
    let kept = "SELECT count(*) FROM django_migrations";
    assert_eq!(scratch.sql(kept), database.sql(kept));
    probe.ok(&json!({ "do": "clear_scratch", "scratch_url": url, "directory": directory }));
    let left = "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()";
    assert_eq!(scratch.sql(left), "0");
    assert_same(&facts, &database.facts());
}

#[test]
fn sessions_in_another_server_have_the_settings_of_the_live_one() {
    let (Some(database), Some(other)) = (Database::with_tls(), Database::new(Engine::MariaDb)) else {
        return;
    };
    let Some(site) = migrated_on(&database) else { return };
    let (_, url) = scratch(&other);
    database.sql_as_admin("SET GLOBAL div_precision_increment = 7, GLOBAL old_mode = 'NO_PROGRESS_INFO'");
    let mut request = copy(&site, &["default"], 1 << 30);
    let directory = site.path("copies").with_file_name("sandbox");
    request["directory"] = json!(directory.join("databases"));
    request["scratch_url"] = json!(url);
    let copies = Probe::boot(&site).ok(&request);
    let settings = &copies["proxies"][0]["settings"];
    assert_eq!(settings["div_precision_increment"], "7", "{copies:#}");
    assert_eq!(settings["old_mode"], "'NO_PROGRESS_INFO'", "{copies:#}");
    let mut spec = json!({ "scratch": directory, "scratch_url": url });
    for name in ["servers", "show", "proxies", "plain"] {
        spec[name] = copies[name].clone();
    }
    let mut sandbox = Probe::boot_with(&site, json!({ "sandbox": spec }));
    sandbox.ok(&confirm(&copies));
    let script = site.path("raw.py");
    let (host, name) = (&database.host, &database.name);
    let text = format!(
        "import pymysql\n\
         with pymysql.connect(unix_socket={host:?}, user='x', password='', database={name:?}).cursor() as cursor:\n    \
             cursor.execute('SELECT 1 / 3, @@old_mode, (SELECT COUNT(*) FROM shop_item)')\n    \
             assert list(map(str, cursor.fetchone())) == ['0.3333333', 'NO_PROGRESS_INFO', '2']\n"
    );
    fs::write(&script, text).expect("a file");
    sandbox.ok(&json!({
        "do": "run_program", "argv": [site.project.python, script], "directory": site.project.directory, "environment": {}
    }));
}

/// A program that connects with the live password, as code of the site may do beside Django.
fn raw(live: &Database) -> String {
    let (host, name) = (&live.host, &live.name);
    let password = json!(live.password).to_string();
    format!(
        "import pymysql\n\
         live = dict(unix_socket={host:?}, user={name:?}, password={password}, autocommit=True)\n\
         connection = pymysql.connect(database={name:?}, **live)\n\
         def one(sql, *values):\n    \
             with connection.cursor() as cursor:\n        cursor.execute(sql, values)\n        return cursor.fetchone()\n\
         assert one('SELECT DATABASE()') == ({name:?} + '_scratch',)\n\
         assert one(\"SHOW STATUS LIKE 'Ssl_cipher'\")[1], 'no TLS'\n\
         one(\"INSERT INTO shop_item (name, price) VALUES ('raw', 5)\")\n\
         assert one('SELECT LENGTH(%s)', 'y' * 9000000) == (9000000,)\n\
         assert len(one('SELECT SPACE(9000000)')[0]) == 9000000\n\
         connection.select_db({name:?})\n\
         assert one('SELECT DATABASE()') == ({name:?} + '_scratch',)\n\
         for sql in ('SELECT * FROM `%s`.shop_item', 'DROP TABLE `%s`.shop_item', 'USE `%s`', 'DROP DATABASE `%s`'):\n    \
             try:\n        one(sql % {name:?})\n    \
             except pymysql.err.OperationalError as error:\n        assert 'denied' in str(error), error\n    \
             else:\n        raise SystemExit('it reaches the live database')\n\
         for other in ('mysql', {name:?} + '_scratch'):\n    \
             try:\n        pymysql.connect(database=other, **live)\n    \
             except pymysql.err.OperationalError as error:\n        assert 'has no copy in the rehearsal' in str(error), error\n    \
             else:\n        raise SystemExit('it reaches another database')\n"
    )
}
