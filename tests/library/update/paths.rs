//! Migrations run in a Django that booted from the staged tree: no database gets that path.

use super::*;
use crate::database::on_each_engine;
use crate::support::database::{Database, Engine};
use crate::support::releases::{append, write};
use crate::support::site::TestSite;

/// What a migration writes a path into.
const MODEL: &str = "

class Place(models.Model):
    path = models.CharField(max_length=200)
    data = models.JSONField(default=dict)
    raw = models.BinaryField(default=b\"\")
";

/// Paths in values and statements, in the default of a column, and in a search.
const MIGRATION: &str = "
from django.conf import settings
from django.db import migrations, models

TOP = str(settings.REPOSITORY)


def fill(apps, schema_editor):
    place = apps.get_model(\"guestbook\", \"Place\")
    place.objects.create(path=TOP + \"/one\", data={\"of\": [TOP]}, raw=TOP.encode())
    place.objects.bulk_create([place(path=TOP + \"/two\"), place(path=TOP + \"-2/three\")])
    place.objects.filter(path=TOP + \"/two\").update(path=TOP + \"/found\")


class Migration(migrations.Migration):
    dependencies = [(\"guestbook\", \"0001_initial\")]
    operations = [
        migrations.CreateModel(\"Place\", [
            (\"id\", models.BigAutoField(primary_key=True)),
            (\"path\", models.CharField(max_length=200)),
            (\"data\", models.JSONField(default=dict)),
            (\"raw\", models.BinaryField(default=b\"\")),
        ]),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunSQL(
            [\"UPDATE guestbook_place SET path = '%s/sql' WHERE path = '%s/one'\" % (TOP, TOP)], migrations.RunSQL.noop
        ),
        migrations.AddField(\"Place\", \"top\", models.CharField(max_length=200, default=TOP)),
    ]
";

const ROWS: &str = "from guestbook.models import Place
for row in sorted(Place.objects.all(), key=lambda row: row.path): print(row.path, row.data, bytes(row.raw).decode(), row.top)";

on_each_engine! { migrations_write_the_path_of_the_checkout }

#[test]
fn migrations_write_the_path_of_the_checkout_to_sqlite() {
    writes_the_path_of_the_checkout(TestSite::builder().start());
}

fn migrations_write_the_path_of_the_checkout(engine: Engine) {
    let database = Database::new(engine);
    writes_the_path_of_the_checkout(
        database.as_ref().and_then(|database| TestSite::builder().database(database).start()),
    );
}

fn writes_the_path_of_the_checkout(site: Option<TestSite>) {
    let Some(site) = site else { return };
    site.publish(|tree| {
        append(tree, "project/guestbook/models.py", MODEL);
        append(
            tree,
            "project/guestbook/models.py",
            "    top = models.CharField(max_length=200, default=\"\")\n",
        );
        write(tree, "project/guestbook/migrations/0002_place.py", MIGRATION);
    })
    .unwrap();
    updated(&site);
    let top = site.checkout.display();
    let staged = site.checkout.with_file_name(".site.deploykit-next");
    let rows = site.manage(&["shell", "-c", ROWS]).unwrap();
    let rows: Vec<&str> = rows.lines().filter(|row| row.contains(" {")).collect();
    let expected = [
        // Another directory, whose name is longer.
        format!("{}-2/three {{}}  {top}", staged.display()),
        format!("{top}/found {{}}  {top}"),
        format!("{top}/sql {{'of': ['{top}']}} {top} {top}"),
    ];
    assert_eq!(rows, expected);
    assert_tidy(&site);
}
