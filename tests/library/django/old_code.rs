//! What the code of the old version could fail at once migrations are applied; what is not understood counts as a failure.

use deploykit::Host;

use crate::support::database::{Database, Engine};
use crate::support::django::Site;

/// What the old code does with its model, which the migrations do not tell it about.
const OLD_CODE: &str = "from shop.models import Item\n\
    item = Item.objects.create(name='x' * 50)\n\
    Item.objects.filter(pk=item.pk).update(name='y')\n\
    assert [one.name for one in Item.objects.filter(pk=item.pk)] == ['y']\n\
    Item.objects.all().delete()\n";

/// Applies everything, then writes migrations, each with one of these lists of operations.
fn write(site: &Site, migrations: &[&str]) {
    apply(site);
    let mut after = "0001_initial".to_owned();
    for (number, operations) in migrations.iter().enumerate() {
        let name = format!("{:04}_step", number + 2);
        site.migration(&name, &after, "", operations);
        after = name;
    }
}

fn apply(site: &Site) {
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).unwrap();
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).unwrap();
}

/// What is said of each pending migration.
fn risks(site: &Site) -> Vec<String> {
    let plan = site.boot().on("default").migrations(&Host::new()).unwrap();
    plan.pending.iter().map(|one| one.old_code.join("; ")).collect()
}

/// Runs Python with the models of the old code; returns its exception.
fn fails(site: &Site, python: &str) -> Option<String> {
    let error = Host::new().run(&site.project.manage(["shell", "-c", python])).err()?;
    Some(error.tail().last().cloned().unwrap_or_default())
}

/// What old code works with, and rows of the new code.
const SAFE: [&str; 7] = [
    "migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True)), ('slug', models.SlugField())])",
    // What the update made itself, the old code does not know.
    "migrations.AddField('tag', 'size', models.IntegerField(default=1)), migrations.RenameField('tag', 'slug', 'name'), \
     migrations.AlterField('tag', 'name', models.IntegerField()), migrations.RemoveField('tag', 'size')",
    "migrations.CreateModel('Note', [('id', models.BigAutoField(primary_key=True)), \
     ('tag', models.ForeignKey('shop.Tag', models.CASCADE)), \
     ('item', models.ForeignKey('shop.Item', models.CASCADE, db_constraint=False))])",
    "migrations.AddField('item', 'price', models.IntegerField(null=True)), \
     migrations.AddField('item', 'code', models.CharField(max_length=9, db_default='-')), \
     migrations.AddField('item', 'serial', models.CharField(max_length=9, null=True, unique=True))",
    "migrations.AlterField('item', 'name', models.CharField(max_length=80, help_text='Its name')), \
     migrations.AlterField('item', 'name', models.TextField())",
    "migrations.AddIndex('item', models.Index(fields=['price'], name='by_price')), migrations.RemoveIndex('item', 'by_price'), \
     migrations.AlterModelOptions('item', {'ordering': ['name']}), migrations.RunPython(migrations.RunPython.noop)",
    "migrations.RunSQL('CREATE INDEX by_code ON shop_item (code)', migrations.RunSQL.noop), \
     migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField('item', 'serial')])",
];

fn old_code_works_on(site: &Site) {
    write(site, &SAFE);
    assert_eq!(risks(site), [""; SAFE.len()]);
    apply(site);
    let rows = "from django.db import connection\n\
        with connection.cursor() as cursor:\n    \
        cursor.execute(\"INSERT INTO shop_item (id, name, price, code) VALUES (99, 'new', 5, 'c')\")\n    \
        cursor.execute('INSERT INTO shop_tag (id, name) VALUES (1, 2)')\n    \
        cursor.execute('INSERT INTO shop_note (id, tag_id, item_id) VALUES (1, 1, 99)')\n";
    assert_eq!(fails(site, rows), None);
    assert_eq!(fails(site, OLD_CODE), None);
}

#[test]
fn old_code_works_after_what_only_adds() {
    let Some(site) = Site::new() else { return };
    old_code_works_on(&site);
}

#[test]
fn old_code_works_after_what_only_adds_on_postgresql() {
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    let Some(site) = Site::on(&database) else { return };
    old_code_works_on(&site);
}

#[test]
fn what_old_code_would_fail_at_is_named() {
    let Some(site) = Site::new() else { return };
    let cases = [
        (
            "migrations.AddField('item', 'price', models.IntegerField(default=1))",
            "`item.price` has neither `null` nor `db_default`: the old code cannot insert rows",
        ),
        (
            "migrations.AddField('item', 'key', models.CharField(max_length=9, db_default='-', unique=True))",
            "`item.key` is unique: the old code can insert only one row with its `db_default`",
        ),
        (
            "migrations.CreateModel('Note', [('id', models.BigAutoField(primary_key=True)), \
             ('item', models.ForeignKey('shop.Item', models.CASCADE)), ('users', models.ManyToManyField('auth.User'))])",
            "rows of `note.item` keep the old code from deleting rows of `shop.item`; \
             rows of `note.users` keep the old code from deleting rows of `auth.user`",
        ),
        (
            "migrations.AddField('item', 'owner', models.ForeignKey('auth.User', models.SET_NULL, null=True))",
            "rows of `item.owner` keep the old code from deleting rows of `auth.user`",
        ),
        (
            "migrations.AddField('item', 'like', models.ManyToManyField('self'))",
            "rows of `item.like` keep the old code from deleting rows of `shop.item`",
        ),
        (
            "migrations.AlterField('item', 'name', models.CharField(max_length=50, unique_for_date='day')), \
             migrations.AlterField('item', 'name', models.CharField(max_length=50))",
            "`item.name`: its option `unique_for_date` changes; `item.name`: its option `unique_for_date` changes",
        ),
        (
            "migrations.AlterField('item', 'name', models.CharField(max_length=20, null=True, unique=True, db_column='label'))",
            "`item.name`: its column is renamed; `item.name`: its column turns from varchar(50) into varchar(20); \
             `item.name`: NULL is new to the old code; `item.name`: it becomes unique, or is unique no more",
        ),
        (
            "migrations.AlterField('item', 'name', models.IntegerField())",
            "`item.name`: its column is renamed; `item.name`: it turns from CharField into IntegerField; \
             `item.name`: NULL is refused; `item.name`: it becomes unique, or is unique no more",
        ),
        (
            "migrations.AlterUniqueTogether('item', {('name', 'price')})",
            "Alter unique_together for item (1 constraint(s))",
        ),
        (
            "migrations.AddConstraint('item', models.UniqueConstraint(fields=['name'], name='one')), \
             migrations.RemoveConstraint('item', 'one')",
            "Create constraint one on model item; Remove constraint one from model item",
        ),
        ("migrations.RunPython(fill, unfill)", "RunPython: what its code changes is not known"),
        (
            "migrations.RunSQL('CREATE UNIQUE INDEX one_code ON shop_item (key)', migrations.RunSQL.noop)",
            "RunSQL: what its SQL changes is not known",
        ),
        ("migrations.RenameField('item', 'price', 'cost')", ""),
        ("migrations.RemoveField('item', 'name')", "Remove field name from item"),
        ("migrations.RenameModel('Item', 'Thing')", "Rename model Item to Thing"),
        (
            "migrations.SeparateDatabaseAndState(database_operations=[migrations.DeleteModel('Thing')])",
            "Delete model Thing",
        ),
    ];
    write(&site, &cases.map(|(operations, _)| operations));
    assert_eq!(risks(&site), cases.map(|(_, risk)| risk));
}

/// The reasons are real: the old code does fail.
#[test]
fn old_code_fails_where_it_is_said_to() {
    let cases = [
        (
            "migrations.AddField('item', 'price', models.IntegerField(default=1))",
            "",
            "NOT NULL constraint failed: shop_item.price",
        ),
        (
            "migrations.CreateModel('Note', [('id', models.BigAutoField(primary_key=True)), \
             ('item', models.ForeignKey('shop.Item', models.CASCADE))])",
            "INSERT INTO shop_item (id, name) VALUES (99, 'new'); INSERT INTO shop_note (id, item_id) VALUES (1, 99)",
            "FOREIGN KEY constraint failed",
        ),
        ("migrations.RemoveField('item', 'name')", "", "table shop_item has no column named name"),
    ];
    for (operations, rows, error) in cases {
        let Some(site) = Site::new() else { return };
        write(&site, &[operations]);
        assert_ne!(risks(&site), [""], "{operations}");
        apply(&site);
        for row in rows.split("; ").filter(|row| !row.is_empty()) {
            site.sql(row);
        }
        let raised = fails(&site, OLD_CODE).unwrap_or_default();
        assert!(raised.contains(error), "{operations}: {raised}");
    }
}
