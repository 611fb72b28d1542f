//! Copies that are put back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use deploykit::Command;

use super::*;
use crate::support::disk::Disk;

super::on_each_engine! {
    a_copy_brings_back_what_cannot_be_reversed_and_only_once,
    half_of_a_failed_migration_is_seen_and_brought_back,
    a_copy_that_cannot_be_put_back_is_named_and_nothing_is_lost,
    the_site_s_own_commands_copy_and_put_back,
    a_copy_that_finds_no_room_is_none,
}

/// Everything that a site could have beside tables.
fn decorate(database: &Database) {
    match database.engine {
        Engine::PostgreSql => {
            database.sql_as_admin("CREATE EXTENSION hstore; CREATE SCHEMA theirs; CREATE ROLE reader_of_all");
            database.sql(
                "CREATE TYPE mood AS ENUM ('glad', 'sad');
                CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
                CREATE TABLE shop_more (id serial PRIMARY KEY, how mood, twice int DEFAULT twice(2),
                    word varchar(9) CHECK (word IN ('a', 'b')), map hstore);
                INSERT INTO shop_more (how, word, map) VALUES ('sad', 'a', 'x=>1');
                CREATE VIEW shop_view AS SELECT i.name, m.word FROM shop_item i, shop_more m WHERE word IN ('a', 'b');
                GRANT SELECT ON shop_item TO PUBLIC",
            );
        }
        Engine::MariaDb => {
            database.sql(
                "CREATE FUNCTION twice(a int) RETURNS int RETURN a * 2;
                CREATE SEQUENCE numbers;
                CREATE TABLE shop_more (id int AUTO_INCREMENT PRIMARY KEY, word varchar(9) CHECK (word IN ('a', 'b')),
                    bytes blob, item bigint, made int AS (id + 1) VIRTUAL, words json,
                    FOREIGN KEY (item) REFERENCES shop_item (id));
                INSERT INTO shop_more (word, bytes, item) VALUES ('a', x'00ff0a27', 1);
                CREATE TRIGGER shop_trigger BEFORE INSERT ON shop_more FOR EACH ROW SET NEW.word = 'b';
                CREATE VIEW shop_view AS SELECT name FROM shop_item",
            );
        }
    }
}

fn a_copy_brings_back_what_cannot_be_reversed_and_only_once(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    decorate(&database);
    let facts = database.facts();
    site.migration(
        "0002_drop",
        "0001_initial",
        "",
        "migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True)), ('item', models.ForeignKey('shop.Item', models.CASCADE))]), \
         migrations.AddField('item', 'price', models.IntegerField(default=1)), migrations.RunSQL('DROP VIEW shop_view'), \
         migrations.RemoveField('item', 'name')",
    );
    backup(&site).perform(&mut Context::default()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(site.path("backup")), 0o600);
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    // A copy that is there is not overwritten by what the database has become.
    let bytes = fs::read(site.path("backup")).unwrap();
    backup(&site).perform(&mut context).unwrap();
    assert!(fs::read(site.path("backup")).unwrap() == bytes);
    let restore = restore(&site, &before, true);
    restore.perform(&mut context).unwrap();
    assert_same(&facts, &database.facts());
    // The next row gets a number of its own.
    database.sql("INSERT INTO shop_item (name) VALUES ('three')");
    restore.perform(&mut context).unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM shop_item"), "3");
    let left: Vec<_> = fs::read_dir(site.directory.path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("backup"))
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

fn half_of_a_failed_migration_is_seen_and_brought_back(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let facts = database.facts();
    let attributes = if engine == Engine::PostgreSql { "atomic = False" } else { "" };
    site.migration(
        "0002_half",
        "0001_initial",
        attributes,
        "migrations.AddField('item', 'price', models.IntegerField(default=1)), migrations.RunPython(fill, unfill), \
         migrations.RunPython(fail, unfill)",
    );
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap();
    let risk = match engine {
        Engine::PostgreSql => "`shop.0002_half`: `atomic = False`",
        Engine::MariaDb => "`shop.0002_half`: the database commits each change of the schema at once",
    };
    assert_eq!(plan.risks().as_deref(), Some(risk));
    assert!(plan.wants_backup() && plan.irreversible().is_none());
    backup(&site).perform(&mut Context::default()).unwrap();
    let (before, result, mut context) = migrate(&site);
    assert_eq!(result.unwrap_err().to_string(), "migration `shop.0002_half` failed");
    let error = restore(&site, &before, false).perform(&mut context).unwrap_err();
    assert!(matches!(&error, DjangoError::SchemaDiffers { lines } if lines.len() == 1), "{error}");
    assert!(error.to_string().contains("+ table shop_item: column price int"), "{error}");
    restore(&site, &before, true).perform(&mut context).unwrap();
    assert_same(&facts, &database.facts());
}

fn a_copy_that_cannot_be_put_back_is_named_and_nothing_is_lost(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    // More than fits into a pipe: what comes before the damage is put back, and taken back again.
    let numbers = match engine {
        Engine::PostgreSql => "lpad(n::text, 50) FROM generate_series(1, 3000) n",
        Engine::MariaDb => "lpad(seq, 50, ' ') FROM seq_1_to_3000",
    };
    database.sql(&format!("INSERT INTO shop_item (name) SELECT {numbers}"));
    backup(&site).perform(&mut Context::default()).unwrap();
    site.migration("0002_drop", "0001_initial", "", "migrations.RemoveField('item', 'name')");
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    let facts = database.facts();
    let good = fs::read(site.path("backup")).unwrap();
    fs::write(site.path("backup"), &good[..good.len() - 40]).unwrap();
    let error = restore(&site, &before, true).perform(&mut context).unwrap_err();
    let path = site.path("backup").display().to_string();
    assert!(
        error.to_string().ends_with(&format!("its copy from before the migrations is `{path}`")),
        "{error}"
    );
    assert_same(&facts, &database.facts());
    if engine == Engine::MariaDb {
        // Without a transaction half of it is there; the next attempt begins anew.
        let text = String::from_utf8(good.clone()).unwrap();
        let broken = text.replacen("CREATE TABLE `shop_item`", "CREATE TABLE no such thing `shop_item`", 1);
        assert_ne!(text, broken);
        fs::write(site.path("backup"), broken).unwrap();
        let error = restore(&site, &before, true).perform(&mut context).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with("`mariadb` exited with code 1: ERROR 1064"), "{cause}");
    }
    fs::write(site.path("backup"), good).unwrap();
    restore(&site, &before, true).perform(&mut context).unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM shop_item WHERE name = 'one'"), "1");
}

fn the_site_s_own_commands_copy_and_put_back(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let facts = database.facts();
    let own = |script: &str| Command::new("sh").args(["-c", script]).directory(site.directory.path());
    let mut copy = backup(&site);
    copy.command = Some(own("true"));
    let error = copy.perform(&mut Context::default()).unwrap_err();
    assert!(matches!(&error, DjangoError::NoBackup { .. }), "{error}");
    copy.command = Some(own("echo some > \"$DEPLOYKIT_BACKUP\"; exit 3"));
    assert!(matches!(copy.perform(&mut Context::default()), Err(DjangoError::Command(_))));
    assert!(!site.path("backup").exists(), "half a copy is none");
    copy.command = Some(own("echo snapshot-7 > \"$DEPLOYKIT_BACKUP\""));
    copy.perform(&mut Context::default()).unwrap();
    assert_eq!(fs::metadata(site.path("backup")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!site.path("backup.part").exists());

    site.migration("0002_sql", "0001_initial", "", "migrations.RunSQL('UPDATE shop_item SET name = name')");
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    let mut back = restore(&site, &before, true);
    back.put_back = PutBack::ByHand;
    let error = back.perform(&mut context).unwrap_err();
    let DjangoError::NotRestored { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, DjangoError::Irreversible { .. }), "{source}");
    // A command that says that it has done it, and has not.
    back.put_back = PutBack::Command(own("grep -q snapshot-7 \"$DEPLOYKIT_BACKUP\""));
    let error = back.perform(&mut context).unwrap_err();
    let DjangoError::NotRestored { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, DjangoError::SchemaDiffers { .. }), "{source}");
    database.sql("DELETE FROM django_migrations WHERE name = '0002_sql'");
    back.perform(&mut context).unwrap();
    assert_same(&facts, &database.facts());
}

fn a_copy_that_finds_no_room_is_none(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let facts = database.facts();
    let directory = site.path("copies");
    fs::create_dir(&directory).unwrap();
    let Some(disk) = Disk::mount(&directory, "4k") else { return };
    let mut copy = backup(&site);
    copy.path = directory.join("backup");
    let error = copy.perform(&mut Context::default()).unwrap_err();
    let DjangoError::Tool { tail, .. } = &error else { panic!("{error:?}") };
    assert!(tail.iter().any(|line| line.contains("No space left") || line.contains("errno 28")), "{tail:?}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "half a copy is left");
    disk.resize("4m");
    copy.perform(&mut Context::default()).unwrap();
    assert!(copy.path.exists());
    assert_same(&facts, &database.facts());
}
