//! Migrations applied, reversed, refused.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deploykit::Host;
use deploykit::action::{Action, Context};
use deploykit::internal::django::{
    BackupDatabase, DatabaseState, DjangoError, Migrate, MigrationId, Phase, RestoreDatabase,
};
use deploykit::operations::django_manage::{DjangoManage, Task};
use deploykit::operations::{self, Check, Operation};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::support::django::Site;

const PRICE: &str = "migrations.AddField('item', 'price', models.IntegerField(default=1))";

fn shop(name: &str) -> MigrationId {
    MigrationId { app: "shop".into(), name: name.into() }
}

/// A site whose first migrations are applied, with two rows.
fn migrated() -> Option<Site> {
    let site = Site::new()?;
    apply(&site).expect("the first migrations");
    site.sql("INSERT INTO shop_item (name) VALUES ('one'), ('two')");
    Some(site)
}

fn apply(site: &Site) -> Result<(), DjangoError> {
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host)?;
    session.on("default").migrate(&host, &plan.applied, &plan.ids())
}

/// Plans and migrates; returns the state of before, the result, and what the actions need.
fn migrate(site: &Site) -> (DatabaseState, Result<(), DjangoError>, Context) {
    let host = Host::new();
    let mut session = site.boot();
    let (before, plan) =
        (session.on("default").state(&host).unwrap(), session.on("default").migrations(&host).unwrap());
    let mut context = Context { host, django: Some(session) };
    let action = Migrate { project: site.project.clone(), before: before.clone(), plan: plan.ids() };
    let result = action.perform(&mut context);
    (before, result, context)
}

fn restore(site: &Site, before: &DatabaseState, context: &mut Context) -> Result<(), DjangoError> {
    RestoreDatabase::new(site.project.clone(), before.clone(), None).perform(context)
}

/// What a session said of a table before is only said again while that is as it was.
#[test]
fn a_session_sees_what_changes_in_the_schema() {
    let Some(site) = migrated() else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let mut last = session.on("default").state(&host).unwrap();
    for sql in [
        "ALTER TABLE shop_item ADD COLUMN price integer NOT NULL DEFAULT 1",
        "CREATE INDEX by_price ON shop_item (price)",
        "DROP INDEX by_price",
        "CREATE UNIQUE INDEX by_price ON shop_item (price, id)",
        "CREATE TABLE other (item integer NOT NULL REFERENCES shop_item (id), CHECK (item > 0))",
        "ALTER TABLE shop_item RENAME TO shop_thing",
        "DROP TABLE other",
    ] {
        site.sql(sql);
        let now = session.on("default").state(&host).unwrap();
        assert_ne!(now.schema, last.schema, "{sql}");
        assert_eq!(now, site.boot().on("default").state(&host).unwrap(), "{sql}");
        last = now;
    }
}

#[test]
fn the_plan_says_what_would_happen_and_what_could_not_be_taken_back() {
    let Some(site) = migrated() else { return };
    site.migration("0002_price", "0001_initial", "", PRICE);
    site.migration("0003_sql", "0002_price", "atomic = False", "migrations.RunSQL('SELECT 1')");
    site.migration("0004_fill", "0003_sql", "", "migrations.RunPython(fill)");
    site.migration("0005_drop", "0004_fill", "", "migrations.RemoveField('item', 'price')");
    site.migration(
        "0006_kind",
        "0005_drop",
        "",
        "migrations.AlterField('item', 'name', models.IntegerField()), migrations.SeparateDatabaseAndState(database_operations=[migrations.RunSQL('SELECT 1')])",
    );
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap();
    let ids: Vec<String> = plan.pending.iter().map(|migration| migration.id.to_string()).collect();
    assert_eq!(
        ids,
        ["shop.0002_price", "shop.0003_sql", "shop.0004_fill", "shop.0005_drop", "shop.0006_kind"]
    );
    let [price, sql, fill, drop, kind] = &plan.pending[..] else { panic!() };
    assert!(price.is_reversible() && !price.is_risky());
    assert_eq!(price.operations, ["Add field price to item"]);
    assert_eq!(sql.irreversible, ["RunSQL without `reverse_sql`"]);
    assert!(sql.is_risky() && !sql.atomic);
    assert_eq!(fill.irreversible, ["RunPython without `reverse_code`"]);
    // What goes is what an earlier one of them brings.
    assert!(drop.is_reversible(), "{drop:?}");
    assert_eq!(kind.losses, ["the values of `item.name`, which turn from CharField into IntegerField"]);
    assert_eq!(kind.irreversible, ["RunSQL without `reverse_sql`"]);
    assert!(plan.wants_backup());
    assert!(plan.applied.contains(&shop("0001_initial")));
}

#[test]
fn what_a_reversal_takes_along_and_what_stands_in_its_way_is_known_beforehand() {
    let Some(site) = migrated() else { return };
    let host = Host::new();
    let before = site.boot().on("default").state(&host).unwrap();
    let table = "migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True))]), \
                 migrations.CreateModel('Seen', [('id', models.BigAutoField(primary_key=True))], options={'managed': False})";
    site.migration("0002_tag", "0001_initial", "atomic = False", table);
    let split = format!(
        "migrations.SeparateDatabaseAndState(database_operations=[{PRICE}], state_operations=[{PRICE}])"
    );
    site.migration("0003_price", "0002_tag", "", &split);
    apply(&site).unwrap();
    let after = site.boot().on("default").state(&host).unwrap();
    let reversed = site.boot().on("default").reversal(&host, &before.applied).unwrap();
    let found: Vec<_> =
        reversed.iter().map(|one| (one.id.name.as_str(), one.transactional, one.drops.join(", "))).collect();
    let (price, tag) = ("the values of `item.price`".to_owned(), "the rows of `Tag`".to_owned());
    assert_eq!(found, [("0003_price", true, price), ("0002_tag", false, tag)]);
    assert!(reversed.iter().all(|one| one.obstacles.is_empty()), "{reversed:#?}");
    assert!(site.boot().on("default").reversal(&host, &after.applied).unwrap().is_empty());

    site.migration("0004_fill", "0003_price", "", "migrations.RunPython(fill)");
    site.migration("0005_drop", "0004_fill", "", "migrations.RemoveField('item', 'price')");
    apply(&site).unwrap();
    let reversed = site.boot().on("default").reversal(&host, &after.applied).unwrap();
    let obstacles: Vec<&String> = reversed.iter().flat_map(|one| &one.obstacles).collect();
    let lost = "reversing it would not restore the values of `item.price`";
    assert_eq!(obstacles, [lost, "RunPython without `reverse_code`"]);
    // Nothing was done by asking.
    assert_eq!(site.boot().on("default").reversal(&host, &before.applied).unwrap().len(), 4);
    let missing = site.boot().on("default").reversal(&host, &[shop("0009_gone")]).unwrap_err();
    assert!(matches!(missing, DjangoError::StateMoved { .. }), "{missing}");
}

#[test]
fn looking_at_a_database_that_is_not_there_makes_none() {
    let Some(site) = Site::new() else { return };
    let mut session = site.boot();
    assert!(session.on("default").migrations(&Host::new()).unwrap().applied.is_empty());
    assert!(session.on("default").state(&Host::new()).unwrap().schema.is_empty());
    assert!(!site.path("db.sqlite3").exists());
}

#[test]
fn what_was_applied_can_be_taken_back_wholly() {
    let Some(site) = migrated() else { return };
    site.migration(
        "0002_more",
        "0001_initial",
        "",
        &format!(
            "{PRICE}, migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True)), ('slug', models.SlugField(unique=True)), ('item', models.ForeignKey('shop.Item', models.CASCADE))]), migrations.AddIndex('item', models.Index(fields=['name'], name='by_name'))"
        ),
    );
    site.migration("0003_fill", "0002_more", "", "migrations.RunPython(fill, unfill)");
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    assert_eq!(site.sql("SELECT name FROM shop_item"), "[('filled',), ('filled',)]");
    let session = context.django.as_mut().unwrap();
    let heard: Vec<_> = session.progress().iter().map(|it| (it.migration.name.as_str(), it.phase)).collect();
    assert_eq!(
        heard,
        [
            ("0002_more", Phase::Started),
            ("0002_more", Phase::Finished),
            ("0003_fill", Phase::Started),
            ("0003_fill", Phase::Finished)
        ]
    );
    assert!(session.progress()[1].seconds.is_some());
    let after = session.on("default").state(&Host::new()).unwrap();
    let differences = before.differences(&after);
    assert!(
        differences.contains(&"+ table shop_item: column price integer not null".to_owned()),
        "{differences:?}"
    );
    assert!(differences.contains(&"+ table shop_tag: unique (slug)".to_owned()), "{differences:?}");
    assert!(differences.contains(&"+ migration shop.0003_fill".to_owned()), "{differences:?}");
    for _ in 0..2 {
        restore(&site, &before, &mut context).unwrap();
        assert_eq!(context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap(), before);
    }
    assert_eq!(site.sql("SELECT name FROM shop_item"), "[('empty',), ('empty',)]");
}

#[test]
fn the_third_of_three_fails_and_all_is_as_before() {
    let Some(site) = migrated() else { return };
    site.migration("0002_price", "0001_initial", "", PRICE);
    site.migration("0003_fill", "0002_price", "", "migrations.RunPython(fill, unfill)");
    site.migration(
        "0004_fail",
        "0003_fill",
        "",
        &format!("{}, migrations.RunPython(fail)", PRICE.replace("price", "tax")),
    );
    let (before, result, mut context) = migrate(&site);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "migration `shop.0004_fail` failed");
    assert_eq!(error.raised().unwrap().to_string(), "ValueError: the data is odd");
    assert!(error.tail().iter().any(|line| line.contains("0004_fail.py")), "{:?}", error.tail());
    let now = context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap();
    assert!(now.applied.contains(&shop("0003_fill")) && !now.applied.contains(&shop("0004_fail")));
    restore(&site, &before, &mut context).unwrap();
    assert_eq!(context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap(), before);
}

#[test]
fn half_of_a_migration_without_a_transaction_is_seen() {
    let Some(site) = migrated() else { return };
    site.migration(
        "0002_half",
        "0001_initial",
        "atomic = False",
        &format!("{PRICE}, migrations.RunPython(fail)"),
    );
    let (before, result, mut context) = migrate(&site);
    assert!(result.is_err());
    let error = restore(&site, &before, &mut context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the schema of the database is not what it was: + table shop_item: column price integer not null"
    );
}

#[test]
fn what_would_be_lost_is_not_reversed() {
    let Some(site) = migrated() else { return };
    site.migration("0002_sql", "0001_initial", "", "migrations.RunSQL('SELECT 1')");
    site.migration("0003_drop", "0002_sql", "", "migrations.RemoveField('item', 'name')");
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    let error = restore(&site, &before, &mut context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the migrations cannot be reversed: `shop.0002_sql`: RunSQL without `reverse_sql`; `shop.0003_drop`: reversing it would not restore the values of `item.name`"
    );
    let now = context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap();
    assert!(now.applied.contains(&shop("0003_drop")), "nothing was done");
}

#[test]
fn a_backup_brings_back_what_cannot_be_reversed_and_only_once() {
    let Some(site) = migrated() else { return };
    site.migration("0002_drop", "0001_initial", "", "migrations.RemoveField('item', 'name')");
    let backup = site.path("backup.sqlite3");
    let mut context = Context::default();
    let action = BackupDatabase::new(site.project.clone(), backup.clone());
    action.perform(&mut context).unwrap();
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    // A backup that is there is not overwritten by what the database has become.
    action.perform(&mut context).unwrap();
    let restore = Action::RestoreDatabase(RestoreDatabase::new(
        site.project.clone(),
        before.clone(),
        Some(backup.clone()),
    ));
    restore.perform(&mut context).unwrap();
    assert_eq!(context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap(), before);
    assert_eq!(site.sql("SELECT name FROM shop_item"), "[('one',), ('two',)]");
    site.sql("INSERT INTO shop_item (name) VALUES ('three')");
    restore.perform(&mut context).unwrap();
    assert_eq!(site.sql("SELECT count(*) FROM shop_item"), "[(3,)]");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&backup).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_database_that_moved_on_is_not_migrated() {
    let Some(site) = migrated() else { return };
    site.migration("0002_price", "0001_initial", "", PRICE);
    let host = Host::new();
    let mut session = site.boot();
    let (before, plan) =
        (session.on("default").state(&host).unwrap(), session.on("default").migrations(&host).unwrap());
    site.sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '0009_theirs', '2026-01-01')",
    );
    let error = session.on("default").migrate(&host, &before.applied, &plan.ids()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the migrations of the database are not those that were planned with: `shop.0009_theirs` was not expected"
    );
    site.sql("DELETE FROM django_migrations WHERE name = '0009_theirs'");
    let error = session.on("default").migrate(&host, &before.applied, &[]).unwrap_err();
    assert!(
        matches!(&error, DjangoError::StateMoved { unexpected, .. } if unexpected == &[shop("0002_price")])
    );
    session.on("default").migrate(&host, &before.applied, &plan.ids()).unwrap();
    session.on("default").migrate(&host, &before.applied, &plan.ids()).unwrap();
}

#[test]
fn conflicts_odd_histories_and_unreadable_databases_are_told() {
    let Some(site) = migrated() else { return };
    site.migration("0002_one", "0001_initial", "", "");
    site.migration("0002_two", "0001_initial", "", "");
    let error = site.boot().on("default").migrations(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "conflicting migrations: 0002_one and 0002_two in `shop`");
    std::fs::remove_file(site.path("shop/migrations/0002_two.py")).unwrap();
    site.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '0002_one', '2026-01-01')");
    site.sql("DELETE FROM django_migrations WHERE app = 'shop' AND name = '0001_initial'");
    let error = site.boot().on("default").migrations(&Host::new()).unwrap_err();
    assert!(matches!(&error, DjangoError::Inconsistent { .. }), "{error:?}");
    site.write("db.sqlite3", "this is not a database, however long it is looked at, and never was one");
    let error = site.boot().on("default").state(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the database `default`");
    assert!(error.raised().unwrap().message.contains("not a database"), "{error:?}");
}

#[test]
fn a_squashed_migration_is_applied_and_taken_back() {
    let Some(site) = migrated() else { return };
    site.migration("0002_price", "0001_initial", "", PRICE);
    site.migration("0003_tax", "0002_price", "", &PRICE.replace("price", "tax"));
    site.migration(
        "0002_squashed",
        "0001_initial",
        "replaces = [('shop', '0002_price'), ('shop', '0003_tax')]",
        &format!("{PRICE}, {}", PRICE.replace("price", "tax")),
    );
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    restore(&site, &before, &mut context).unwrap();
    assert_eq!(context.django.as_mut().unwrap().on("default").state(&Host::new()).unwrap(), before);
}

#[test]
fn a_waiting_process_holds_no_lock() {
    let Some(site) = migrated() else { return };
    let mut session = site.boot();
    session.on("default").state(&Host::new()).unwrap();
    session.on("default").migrations(&Host::new()).unwrap();
    let pid = session.id().unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path()).unwrap_or_default();
        target.to_string_lossy().contains("db.sqlite3")
    });
    assert_eq!(open.count(), 0);
    assert_eq!(site.sql("BEGIN EXCLUSIVE"), "[]");
}

#[test]
fn the_operation_migrates_alone_and_takes_back_what_it_did() {
    let Some(site) = migrated() else { return };
    let manage = DjangoManage { project: site.project.clone(), task: Task::Migrate };
    let unchanged = Check::Unchanged { reason: "no migrations are pending in the database".into() };
    assert_eq!(manage.check(&Host::new()).unwrap(), unchanged);
    site.migration("0002_price", "0001_initial", "", PRICE);
    let mut context = Context::default();
    let Check::Change(change) = operations::apply(&manage, &mut context).unwrap() else { panic!() };
    assert_eq!(change.details, ["shop.0002_price: Add field price to item"]);
    assert_eq!(manage.check(&Host::new()).unwrap(), unchanged);
    // A journal's actions work in a process that knows nothing of the first one.
    let text = serde_json::to_string(&change.undo).unwrap();
    let undo: Vec<Action> = serde_json::from_str(&text).unwrap();
    for action in undo {
        action.perform(&mut Context::default()).unwrap();
    }
    assert!(matches!(manage.check(&Host::new()).unwrap(), Check::Change(_)));
}

/// The probe alone, as it is left when deploykit is killed: its input ends, and nobody reads what it says.
#[test]
fn a_migration_goes_on_when_deploykit_is_gone() {
    let Some(site) = migrated() else { return };
    let text = "from django.db import migrations, models\nimport os, time\n\
        def wait(apps, schema_editor):\n    print('begun', flush=True)\n    end = time.monotonic() + 60\n    \
        while not os.path.exists('go') and time.monotonic() < end:\n        time.sleep(0.01)\n    \
        print('going on', flush=True)\n    time.sleep(0.1)\n    print('x' * 200000, flush=True)\n\
        class Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n    \
        operations = [migrations.RunPython(wait), migrations.AddField('item', 'price', models.IntegerField(default=1))]\n";
    site.write("shop/migrations/0002_slow.py", text);
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap();

    let directory = crate::support::root().join("deploykit/src/django");
    let source = std::fs::read_to_string(directory.join("probe.rs")).unwrap();
    let loader = source.split("const LOADER: &str = \"").nth(1).unwrap().split("\";").next().unwrap();
    let loader = loader.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut modules = serde_json::Map::new();
    for entry in std::fs::read_dir(directory.join("probe/deploykit_probe")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "py") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        modules.insert(name, std::fs::read_to_string(&path).unwrap().into());
    }
    let start = modules.remove("loader").unwrap();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&serde_json::to_vec(&modules).unwrap()).unwrap();
    let modules = STANDARD.encode(packed.finish().unwrap());
    let probe = format!("{}\n\nstart(\"{modules}\", requests)\n", start.as_str().unwrap());
    let mut child = Command::new(&site.project.python)
        .args(["-c", &loader])
        .current_dir(&site.project.directory)
        .env("DJANGO_SETTINGS_MODULE", "config.settings")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let request = serde_json::json!({
        "do": "migrate", "database": "default", "applied": plan.applied, "plan": plan.ids(),
    });
    let configuration = serde_json::json!({ "directory": site.project.directory, "limit": 60 });
    for line in [serde_json::Value::from(probe), configuration, request] {
        writeln!(input, "{line}").unwrap();
    }
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("begun") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    drop((input, log, child.stdout.take()));
    site.write("go", "");
    assert!(child.wait().unwrap().success());
    assert_eq!(site.sql("SELECT DISTINCT price FROM shop_item"), "[(1,)]");
    assert_eq!(site.sql("SELECT count(*) FROM django_migrations WHERE name = '0002_slow'"), "[(1,)]");
}

/// Whoever is killed between the two leaves a schema that nothing knows of; here the record fails.
#[test]
fn a_migration_and_its_record_are_one() {
    let Some(site) = migrated() else { return };
    // Its index is made at the end, so Django records it later than others.
    let part = "migrations.CreateModel('Part', [('id', models.BigAutoField(primary_key=True)), \
        ('item', models.ForeignKey('shop.Item', models.CASCADE))])";
    site.migration("0002_part", "0001_initial", "", part);
    let refuse = |what: &str| {
        site.sql(&format!(
            "CREATE TRIGGER refuse BEFORE {what} ON django_migrations BEGIN SELECT RAISE(ABORT, 'no record'); END"
        ));
    };
    refuse("INSERT");
    let (before, result, _) = migrate(&site);
    assert!(format!("{:?}", result.unwrap_err()).contains("no record"));
    let now = site.boot().on("default").state(&Host::new()).unwrap();
    assert!(now == before, "{:?}", before.differences(&now));
    site.sql("DROP TRIGGER refuse");
    let (before, result, mut context) = migrate(&site);
    result.unwrap();
    let after = site.boot().on("default").state(&Host::new()).unwrap();
    refuse("DELETE");
    let error = restore(&site, &before, &mut context).unwrap_err();
    assert!(format!("{error:?}").contains("no record"));
    site.sql("DROP TRIGGER refuse");
    let now = site.boot().on("default").state(&Host::new()).unwrap();
    assert!(now == after, "{:?}", after.differences(&now));
    restore(&site, &before, &mut context).unwrap();
}
