//! What migrations would lose is known beforehand; what is not understood counts as lost.

use deploykit::Host;
use deploykit::internal::django::{DatabaseState, DjangoError, RestoreDatabase, Session};

use crate::support::database::{Database, Engine};
use crate::support::django::Site;

/// A migration, why it cannot be reversed, what is lost, and what is not understood.
type Said = (String, Vec<String>, Vec<String>, Vec<String>);

/// What is said of the pending migrations.
fn said(site: &Site) -> Vec<Said> {
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap_or_else(|error| panic!("{error:?}"));
    let said = plan.pending.into_iter();
    said.map(|one| (one.id.name, one.irreversible, one.losses, one.unknown)).collect()
}

fn apply(site: &Site) -> DatabaseState {
    let (host, mut session) = (Host::new(), site.boot());
    let (before, plan) =
        (session.on("default").state(&host).unwrap(), session.on("default").migrations(&host).unwrap());
    session
        .on("default")
        .migrate(&host, &plan.applied, &plan.ids())
        .unwrap_or_else(|error| panic!("{error:?}"));
    before
}

fn obstacles(session: &mut Session, before: &DatabaseState) -> Vec<String> {
    let reversed = session.on("default").reversal(&Host::new(), &before.applied).unwrap();
    reversed.into_iter().flat_map(|one| one.obstacles).collect()
}

/// Writes migrations, one after the other from `0002_a` on.
fn migrations(site: &Site, operations: &[&str]) {
    let mut after = "0001_initial".to_owned();
    for (number, operation) in operations.iter().enumerate() {
        let name = format!("{:04}_step", number + 2);
        site.migration(&name, &after, "", operation);
        after = name;
    }
}

/// A class is what it does, not what it is called.
#[test]
fn an_operation_counts_for_what_it_does_and_one_of_the_site_s_own_is_unknown() {
    let Some(site) = Site::new() else { return };
    apply(&site);
    let own = "from django.db import migrations, models\n\
        class CarefulDelete(migrations.DeleteModel):\n    pass\n\
        class AddField(migrations.RemoveField):\n    def describe(self):\n        return 'adds'\n\
        class DeleteModel(migrations.CreateModel):\n    pass\n\
        class Quiet(migrations.RemoveField):\n    def database_backwards(self, *args):\n        pass\n\
        class Own(migrations.operations.base.Operation):\n    \
        def state_forwards(self, app, state):\n        pass\n    \
        def database_forwards(self, app, editor, old, new):\n        pass\n    \
        def database_backwards(self, app, editor, old, new):\n        pass\n\
        class Mute(migrations.operations.base.Operation):\n    \
        def state_forwards(self, app, state):\n        pass\n    \
        def database_forwards(self, app, editor, old, new):\n        pass\n\
        class Broken(migrations.RunSQL):\n    \
        def state_forwards(self, app, state):\n        raise KeyError('odd')\n\
        class Patched(migrations.Migration):\n    \
        def apply(self, *args, **kwargs):\n        return super().apply(*args, **kwargs)\n";
    site.write("shop/own.py", own);
    let migration = |name: &str, after: &str, base: &str, operations: &str| {
        let text = format!(
            "from django.db import migrations, models\nfrom shop import own\nclass Migration({base}):\n    \
             dependencies = [('shop', '{after}')]\n    operations = [{operations}]\n"
        );
        site.write(&format!("shop/migrations/{name}.py"), &text);
    };
    let plain = "migrations.Migration";
    let tag = "own.DeleteModel('Tag', [('id', models.BigAutoField(primary_key=True)), ('slug', models.SlugField())])";
    migration("0002", "0001_initial", plain, tag);
    migration("0003", "0002", plain, "own.AddField('item', 'name'), own.AddField('tag', 'slug')");
    migration("0004", "0003", plain, "own.Own()");
    migration("0005", "0004", plain, "own.Mute()");
    migration("0006", "0005", plain, "own.Broken('SELECT 1', '')");
    migration("0007", "0006", "own.Patched", "");
    migration(
        "0008",
        "0007",
        plain,
        "migrations.SeparateDatabaseAndState(database_operations=[own.CarefulDelete('Item')])",
    );
    migration("0009", "0008", plain, "own.CarefulDelete('Item'), own.CarefulDelete('Tag')");
    let said = said(&site);
    let none = Vec::<String>::new;
    let unknown = |name: &str| format!("{name} is no operation of Django's: what it changes is not known");
    let rows = "the rows of `Item`".to_owned();
    let expected = [
        ("0002", none(), none(), none()),
        // What these migrations made themselves was not there to be lost.
        ("0003", none(), vec!["the values of `item.name`".to_owned()], none()),
        ("0004", none(), none(), vec![unknown("Own")]),
        ("0005", vec!["Mute, which cannot be reversed".to_owned()], none(), none()),
        (
            "0006",
            none(),
            none(),
            vec![unknown("Broken"), "Broken: what it does cannot be found out (KeyError)".to_owned()],
        ),
        ("0007", none(), none(), vec!["its `apply` is the site's own: what it does is not known".to_owned()]),
        ("0008", none(), vec![rows.clone()], none()),
        ("0009", none(), vec![rows], none()),
    ];
    let expected = expected.map(|(name, one, two, three)| (name.to_owned(), one, two, three));
    assert_eq!(said, expected);
}

#[test]
fn a_reversal_of_the_site_s_own_is_not_trusted_without_a_copy() {
    let Some(site) = Site::new() else { return };
    apply(&site);
    let (index, back) = ("CREATE INDEX by_name ON shop_item (name)", "DROP INDEX by_name");
    migrations(
        &site,
        &[
            "migrations.RunPython(fill, unfill)",
            "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)",
            "migrations.RunSQL('UPDATE shop_item SET name = 1', migrations.RunSQL.noop)",
            &format!("migrations.RunSQL([('-- quick\\n{index}', None)], '{back}')"),
            &format!("migrations.RunSQL('{index}2; DELETE FROM shop_item', '{back}2')"),
            &format!("migrations.RunSQL('{index}3', migrations.RunSQL.noop)"),
            "migrations.RunSQL('', '')",
        ],
    );
    let sql = ["RunSQL: what its SQL changes is not known".to_owned()];
    let unknown: Vec<_> = said(&site).into_iter().map(|(.., unknown)| unknown).collect();
    let expected: [&[String]; 7] = [&[], &[], &sql, &[], &sql, &sql, &[]];
    assert_eq!(unknown, expected);
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap();
    let by_code: Vec<_> =
        plan.pending.iter().filter(|one| !one.by_code.is_empty()).map(|one| &one.id.name).collect();
    assert_eq!(by_code, ["0002_step"]);
    assert!(plan.wants_backup());
    assert_eq!(
        plan.backup_reasons(),
        [
            "`shop.0002_step`: RunPython: what its code changes is not known",
            "3 migrations (`shop.0004_step`, `shop.0006_step`, `shop.0007_step`): RunSQL: what its SQL changes is not known",
        ]
    );
}

const WIDE: &str = "migrations.AlterField('item', 'id', models.BigAutoField(primary_key=True)), \
    migrations.AlterField('item', 'number', models.BigIntegerField(null=True)), \
    migrations.AlterField('item', 'name', models.CharField(max_length=90)), \
    migrations.AlterField('item', 'code', models.TextField()), \
    migrations.AlterField('item', 'price', models.DecimalField(max_digits=9, decimal_places=3)), \
    migrations.RenameField('item', 'code', 'text'), migrations.RenameModel('Item', 'Thing')";

/// An `Item` with a column of each kind.
fn narrow(site: &Site) {
    let initial = "from django.db import migrations, models\nclass Migration(migrations.Migration):\n    initial = True\n    \
        operations = [migrations.CreateModel('Item', [('id', models.AutoField(primary_key=True)), \
        ('name', models.CharField(max_length=5)), ('number', models.IntegerField()), \
        ('code', models.CharField(max_length=3, unique=True)), \
        ('price', models.DecimalField(max_digits=5, decimal_places=2))])]\n";
    site.write("shop/migrations/0001_initial.py", initial);
    apply(site);
}

/// Widens columns, and asks whether the way back is open, for rows that fit and for those that do not.
fn a_wider_column_loses_nothing_as_long_as_its_values_fit(
    site: &Site,
    sql: &mut dyn FnMut(&str),
    more: &[(&str, &str)],
) {
    narrow(site);
    sql("INSERT INTO shop_item (name, number, code, price) VALUES ('one', 1, 'a', 1.25)");
    site.migration("0002_wide", "0001_initial", "", WIDE);
    let none: Vec<String> = Vec::new();
    assert_eq!(said(site), [("0002_wide".to_owned(), none.clone(), none.clone(), none)]);
    let before = apply(site);
    let mut session = site.boot();
    assert!(obstacles(&mut session, &before).is_empty());
    let row = "INSERT INTO shop_thing (name, number, text, price) VALUES";
    let some = [
        ("('longer', 1, 'b', 1)", "`item.name` has values now that are longer than 5 characters"),
        ("('one', NULL, 'b', 1)", "`item.number` has NULL values now"),
        ("('one', 1, 'long', 1)", "`item.code` has values now that are longer than 3 characters"),
        ("('one', 1, 'a', 1)", "`item.code` has a value more than once now"),
    ];
    for (value, obstacle) in some.iter().chain(more) {
        sql(&format!("{row} {value}"));
        assert_eq!(obstacles(&mut session, &before), [*obstacle], "{value}");
        // Nor is it done all the same.
        let error = session.restore(&Host::new(), &before).unwrap_err();
        assert!(matches!(&error, DjangoError::Irreversible { .. }), "{error:?}");
        sql("DELETE FROM shop_thing WHERE id > 1");
    }
    session.restore(&Host::new(), &before).unwrap();
}

#[test]
fn a_wider_column_of_sqlite() {
    let Some(site) = Site::new() else { return };
    a_wider_column_loses_nothing_as_long_as_its_values_fit(&site, &mut |sql| drop(site.sql(sql)), &[]);
}

/// Here a number may be too large for the column of before, too, which SQLite does not mind.
#[test]
fn a_wider_column_of_a_server() {
    let more = [
        ("('one', 1, 'b', 1000)", "`item.price` has values now that are outside the previous range"),
        ("('one', 1, 'b', 1.125)", "`item.price` has values now that are outside the previous range"),
        ("('one', 3000000000, 'b', 1)", "`item.number` has values now that are outside the previous range"),
    ];
    for engine in [Engine::PostgreSql, Engine::MariaDb] {
        let Some(database) = Database::new(engine) else { continue };
        let Some(site) = Site::on(&database) else { continue };
        a_wider_column_loses_nothing_as_long_as_its_values_fit(
            &site,
            &mut |sql| drop(database.sql(sql)),
            &more,
        );
    }
}

/// Returns what each of these alterations of a column loses.
fn narrowed(site: &Site) -> Vec<String> {
    narrow(site);
    let field = |name: &str, field: &str| format!("migrations.AlterField('item', '{name}', models.{field})");
    let alone = [
        field("name", "CharField(max_length=4)"),
        field("number", "SmallIntegerField()"),
        field("code", "CharField(max_length=3)"),
        field("price", "DecimalField(max_digits=5, decimal_places=1)"),
        field("name", "CharField(max_length=4, verbose_name='a name', help_text='only words')"),
        field("number", "CharField(max_length=20, null=True)"),
        field("number", "CharField(max_length=20)"),
    ];
    migrations(site, &alone.each_ref().map(String::as_str));
    said(site).into_iter().map(|(_, _, losses, _)| losses.join(", ")).collect()
}

#[test]
fn a_narrower_column_loses_what_it_cuts_off() {
    let name = "the values of `item.name`, whose column turns from varchar(5) into varchar(4)";
    let number = "the values of `item.number`, which turn from SmallIntegerField into CharField";
    let null = "the NULL values of `item.number`";
    if let Some(site) = Site::new() {
        // Its integers and decimals are of any size, whatever they are called.
        assert_eq!(narrowed(&site), [name, "", "", "", "", number, null]);
    }
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    let Some(site) = Site::on(&database) else { return };
    let small = "the values of `item.number`, which turn from IntegerField into SmallIntegerField";
    let price = "the values of `item.price`, whose column turns from numeric(5, 2) into numeric(5, 1)";
    assert_eq!(narrowed(&site), [name, small, "", price, "", number, null]);
}

/// The copy that the plan asks for has the rows.
#[test]
fn rows_that_an_operation_of_the_site_s_own_deleted_come_back_with_the_copy() {
    let Some(site) = Site::new() else { return };
    apply(&site);
    site.sql("INSERT INTO shop_item (name) VALUES ('one'), ('two')");
    site.write(
        "shop/own.py",
        "from django.db import migrations\nclass Gone(migrations.DeleteModel):\n    pass\n",
    );
    site.write(
        "shop/migrations/0002_gone.py",
        "from django.db import migrations\nfrom shop.own import Gone\nclass Migration(migrations.Migration):\n    \
         dependencies = [('shop', '0001_initial')]\n    operations = [Gone('Item')]\n",
    );
    let (host, mut session) = (Host::new(), site.boot());
    assert!(session.on("default").migrations(&host).unwrap().wants_backup());
    let backup = site.path("backup.sqlite3");
    session.on("default").backup(&host, &backup).unwrap();
    let before = apply(&site);
    let restore = RestoreDatabase::new(site.project.clone(), before, Some(backup));
    restore.perform(&mut deploykit::action::Context::default()).unwrap();
    assert_eq!(site.sql("SELECT count(*) FROM shop_item"), "[(2,)]");
}

/// Code with a reverse is reversed, so that what was written meanwhile stays; the copy is there for when that fails.
#[test]
fn the_copy_is_put_back_only_when_a_reversal_by_code_fails() {
    let Some(site) = Site::new() else { return };
    apply(&site);
    site.sql("INSERT INTO shop_item (name) VALUES ('one')");
    for (reverse, expected) in [("unfill", "[('empty',), ('empty',)]"), ("fail", "[('one',)]")] {
        site.sql("DELETE FROM shop_item WHERE id > 1");
        site.sql("UPDATE shop_item SET name = 'one'");
        migrations(&site, &[&format!("migrations.RunPython(fill, {reverse})")]);
        let (host, mut session) = (Host::new(), site.boot());
        let plan = session.on("default").migrations(&host).unwrap();
        assert!(plan.wants_backup() && plan.is_reversed_first());
        let backup = site.path(&format!("{reverse}.sqlite3"));
        session.on("default").backup(&host, &backup).unwrap();
        let before = apply(&site);
        site.sql("INSERT INTO shop_item (name) VALUES ('written meanwhile')");
        let restore = RestoreDatabase {
            reverse_first: true,
            ..RestoreDatabase::new(site.project.clone(), before, Some(backup))
        };
        for _ in 0..2 {
            restore.perform(&mut deploykit::action::Context::default()).unwrap();
            assert_eq!(site.sql("SELECT name FROM shop_item"), expected, "{reverse}");
        }
    }
}
