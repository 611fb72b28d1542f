//! Histories of migrations that are not what the code says.

use deploykit::Host;
use deploykit::internal::django::{DatabaseState, DjangoError, MigrationId, MigrationPlan};

use crate::support::django::Site;

const PRICE: &str = "migrations.AddField('item', 'price', models.IntegerField(default=1))";

fn id(name: &str) -> MigrationId {
    MigrationId { app: "shop".into(), name: name.into() }
}

fn plan(site: &Site) -> MigrationPlan {
    site.boot().on("default").migrations(&Host::new()).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Plans and migrates; returns the state of before.
fn apply(site: &Site) -> (DatabaseState, Result<(), DjangoError>) {
    let (host, mut session) = (Host::new(), site.boot());
    let (before, plan) =
        (session.on("default").state(&host).unwrap(), session.on("default").migrations(&host).unwrap());
    (before, session.on("default").migrate(&host, &plan.applied, &plan.ids()))
}

/// A site whose first migrations are applied, with a row, `0002_price` and `0003_tax` on the disk.
fn site() -> Option<Site> {
    let site = Site::new()?;
    apply(&site).1.unwrap();
    site.sql("INSERT INTO shop_item (name) VALUES ('one')");
    site.migration("0002_price", "0001_initial", "", PRICE);
    site.migration("0003_tax", "0002_price", "", &PRICE.replace("price", "tax"));
    Some(site)
}

/// A squashed migration for these, with the operations of `0002_price` and `0003_tax`.
fn squash(site: &Site, after: &str, replaces: &[&str], more: &str) {
    let replaces: Vec<String> = replaces.iter().map(|name| format!("('shop', '{name}')")).collect();
    let operations = format!("{more}{PRICE}, {}", PRICE.replace("price", "tax"));
    site.migration("0002_squashed", after, &format!("replaces = [{}]", replaces.join(", ")), &operations);
}

/// Fails unless the way back ends with the database of before, its row in it.
#[track_caller]
fn assert_back(site: &Site, before: &DatabaseState) {
    let (host, mut session) = (Host::new(), site.boot());
    for _ in 0..2 {
        session.restore(&host, before).unwrap_or_else(|error| panic!("{error:?}"));
    }
    assert_eq!(session.on("default").state(&host).unwrap(), *before);
    assert_eq!(site.sql("SELECT name FROM shop_item"), "[('one',)]");
}

#[test]
fn a_squashed_migration_is_recorded_though_nothing_is_pending() {
    let Some(site) = site() else { return };
    apply(&site).1.unwrap();
    assert!(!plan(&site).is_due());
    squash(&site, "0001_initial", &["0002_price", "0003_tax"], "");
    let found = plan(&site);
    assert!(found.is_due() && found.pending.is_empty() && !found.wants_backup());
    assert_eq!(found.unrecorded, [id("0002_squashed")]);
    let (before, result) = apply(&site);
    result.unwrap();
    let after = plan(&site);
    assert!(!after.is_due() && after.applied.contains(&id("0002_squashed")), "{after:#?}");
    // The next release removes the originals, which is what a record is for.
    assert_back(&site, &before);
    apply(&site).1.unwrap();
    for name in ["0002_price", "0003_tax"] {
        std::fs::remove_file(site.path(&format!("shop/migrations/{name}.py"))).unwrap();
    }
    let text = site.read("shop/migrations/0002_squashed.py");
    let finished: Vec<&str> = text.lines().filter(|line| !line.contains("replaces")).collect();
    site.write("shop/migrations/0002_squashed.py", &finished.join("\n"));
    let last = plan(&site);
    assert!(!last.is_due(), "{last:#?}");
    let lacking: Vec<_> = last.lacking.iter().map(|one| one.id.name.as_str()).collect();
    assert_eq!(lacking, ["0002_price", "0003_tax"]);
    assert!(last.required.is_empty(), "{last:#?}");
}

/// Some of the originals were applied before: only what came with the update is reversed.
#[test]
fn a_squashed_migration_of_which_a_part_was_applied_goes_back_by_its_originals() {
    let Some(site) = site() else { return };
    let tax = site.read("shop/migrations/0003_tax.py");
    std::fs::remove_file(site.path("shop/migrations/0003_tax.py")).unwrap();
    apply(&site).1.unwrap();
    site.sql("UPDATE shop_item SET price = 7");
    site.write("shop/migrations/0003_tax.py", &tax);
    squash(&site, "0001_initial", &["0002_price", "0003_tax"], "");
    assert_eq!(plan(&site).ids(), [id("0003_tax")]);
    let (before, result) = apply(&site);
    result.unwrap();
    assert!(plan(&site).applied.contains(&id("0002_squashed")));
    assert_back(&site, &before);
    assert_eq!(site.sql("SELECT price FROM shop_item"), "[(7,)]");
}

/// Django records a squashed migration at the very end, and for a failure that comes before there is none.
#[test]
fn a_failure_before_a_squashed_migration_is_recorded_goes_back() {
    let Some(site) = site() else { return };
    squash(&site, "0001_initial", &["0002_price", "0003_tax"], "");
    site.migration("0004_fail", "0002_squashed", "", "migrations.RunPython(fail)");
    let (before, result) = apply(&site);
    result.unwrap_err();
    assert_back(&site, &before);
    // The other way round: the originals are there already, and the way back must not record it either.
    for name in ["0002_squashed", "0004_fail"] {
        std::fs::remove_file(site.path(&format!("shop/migrations/{name}.py"))).unwrap();
    }
    apply(&site).1.unwrap();
    squash(&site, "0001_initial", &["0002_price", "0003_tax"], "");
    site.migration("0004_more", "0002_squashed", "", &PRICE.replace("price", "more"));
    site.migration("0005_fail", "0004_more", "", "migrations.RunPython(fail)");
    let (before, result) = apply(&site);
    result.unwrap_err();
    assert_back(&site, &before);
}

#[test]
fn an_applied_migration_that_the_code_lacks_is_named_with_what_it_left() {
    let Some(site) = site() else { return };
    let code = "migrations.AddField('item', 'code', models.CharField(max_length=9, default='x'))";
    site.migration("0004_code", "0003_tax", "", code);
    site.migration(
        "0005_note",
        "0004_code",
        "",
        &code.replace("'code'", "'note'").replace("default='x'", "null=True"),
    );
    apply(&site).1.unwrap();
    for name in ["0004_code", "0005_note"] {
        std::fs::remove_file(site.path(&format!("shop/migrations/{name}.py"))).unwrap();
    }
    site.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001', '2026-01-01')");
    let found = plan(&site);
    let lacking: Vec<_> = found.lacking.iter().map(|one| (one.id.to_string(), one.installed)).collect();
    let expected = [("gone.0001", false), ("shop.0004_code", true), ("shop.0005_note", true)];
    assert_eq!(lacking, expected.map(|(name, installed)| (name.to_owned(), installed)));
    assert_eq!(found.required, ["shop_item.code"]);
}

#[test]
fn a_table_or_column_that_is_there_already_is_refused_beforehand() {
    let Some(site) = site() else { return };
    let refused = |expected: &[&str]| {
        let error = site.boot().on("default").migrations(&Host::new()).unwrap_err();
        let DjangoError::Existing { things } = &error else { panic!("{error:?}") };
        assert_eq!(things, expected);
    };
    let tag = "migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True)), \
               ('items', models.ManyToManyField('shop.Item'))])";
    site.migration("0004_tag", "0003_tax", "", tag);
    assert_eq!(plan(&site).ids().len(), 3);
    site.sql("CREATE TABLE shop_tag (id integer)");
    site.sql("ALTER TABLE shop_item ADD tax integer");
    refused(&[
        "`shop.0003_tax` creates the column `shop_item.tax`",
        "`shop.0004_tag` creates the table `shop_tag`",
    ]);
    site.sql("DROP TABLE shop_tag");
    site.sql("CREATE VIEW shop_tag_items AS SELECT 1");
    site.sql("ALTER TABLE shop_item DROP tax");
    refused(&["`shop.0004_tag` creates the table `shop_tag_items`"]);
    site.sql("DROP VIEW shop_tag_items");
    // Each name is free again once an earlier migration has moved what had it.
    let moves = "migrations.RenameModel('Item', 'Thing'), migrations.CreateModel('Item', [('id', \
        models.BigAutoField(primary_key=True))]), migrations.RenameField('thing', 'tax', 'duty'), \
        migrations.AddField('thing', 'tax', models.IntegerField(null=True)), \
        migrations.AlterModelTable('item', 'other'), migrations.RemoveField('thing', 'price'), \
        migrations.AddField('thing', 'price', models.IntegerField(null=True))";
    site.migration("0005_moves", "0004_tag", "", moves);
    assert_eq!(plan(&site).ids().len(), 4);
    // After code of the site's own nobody knows what will be there.
    site.migration("0006_own", "0005_moves", "", "migrations.RunSQL('DROP TABLE IF EXISTS free', '')");
    site.migration("0007_free", "0006_own", "", "migrations.CreateModel('Free', [('id', models.BigAutoField(primary_key=True))], options={'db_table': 'free'})");
    site.sql("CREATE TABLE free (id integer)");
    assert_eq!(plan(&site).doubtful, ["`shop.0007_free` creates the table `free`"]);
    apply(&site).1.unwrap();
}

/// `{}` is no database, and others may be there all the same.
#[test]
fn a_site_without_a_default_database_has_nothing_to_migrate() {
    for settings in [
        "DATABASES = {}",
        "DATABASES = {'default': {}, 'users': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'users.sqlite3'}}",
    ] {
        let Some(site) = Site::new() else { return };
        site.append("config/settings.py", settings);
        let (host, mut session) = (Host::new(), site.boot());
        session.facts(&host).unwrap();
        assert!(session.check(&host, None).unwrap().errors().next().is_none());
        let found = session.on("default").migrations(&host).unwrap();
        assert!(!found.is_due() && found.others.is_empty(), "{found:#?}");
        let state = session.on("default").state(&host).unwrap();
        assert!(state.applied.is_empty() && state.schema.is_empty());
        session.on("default").settle(&host).unwrap();
        assert!(session.on("default").reversal(&host, &[]).unwrap().is_empty());
        session.restore(&host, &state).unwrap();
        assert!(!site.path("users.sqlite3").exists() && !site.path("db.sqlite3").exists());
        if settings.contains("users") {
            let sql = "CREATE TABLE django_migrations (id integer, app text, name text, applied datetime)";
            let made =
                std::process::Command::new("sqlite3").arg(site.path("users.sqlite3")).arg(sql).status();
            assert!(made.unwrap().success());
            let others = session.on("default").migrations(&host).unwrap().others;
            assert_eq!((others.len(), others[0].database.as_str()), (1, "users"));
            assert!(!others[0].pending.is_empty() && others[0].unknown.is_none(), "{others:#?}");
        }
    }
}

/// A file that is not there yet is an empty database, on the way back too.
#[test]
fn a_sqlite_file_that_is_not_there_yet_can_be_copied_and_put_back() {
    let Some(site) = Site::new() else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let before = session.on("default").state(&host).unwrap();
    assert_eq!(session.on("default").backup_facts(&host).unwrap().size_bytes, 0);
    let backup = site.path("backup.sqlite3");
    session.on("default").backup(&host, &backup).unwrap();
    assert!(!site.path("db.sqlite3").exists());
    apply(&site).1.unwrap();
    session.restore_backup(&host, &before, &backup).unwrap();
    assert_eq!(session.on("default").state(&host).unwrap(), before);
    assert!(site.sql("SELECT name FROM sqlite_master").starts_with("[]"));
}
