//! Migrations run in a Django that booted from the staged tree: nothing that they write gets that path.

use super::written::start_thread;
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

on_each_engine! { without_a_fork_the_database_gets_the_path_of_the_checkout }

#[test]
fn migrations_write_the_path_of_the_checkout() {
    let Some(site) = TestSite::builder().start() else { return };
    let other = site.checkout.with_file_name("site-2");
    writes_the_path_of_the_checkout(&site, |_| (), &other);
}

#[test]
fn without_a_fork_sqlite_gets_the_path_of_the_checkout() {
    writes_it_without_a_fork(TestSite::builder().start());
}

fn without_a_fork_the_database_gets_the_path_of_the_checkout(engine: Engine) {
    let database = Database::new(engine);
    writes_it_without_a_fork(
        database.as_ref().and_then(|database| TestSite::builder().database(database).start()),
    );
}

fn writes_it_without_a_fork(site: Option<TestSite>) {
    let Some(site) = site else { return };
    let other = site.checkout.with_file_name(".site.deploykit-next-2");
    writes_the_path_of_the_checkout(&site, start_thread, &other);
}

/// `other` is another directory, whose name is longer than that of the tree that Django was booted from.
fn writes_the_path_of_the_checkout(site: &TestSite, edit: fn(&Path), other: &Path) {
    site.publish(|tree| {
        edit(tree);
        append(tree, "project/guestbook/models.py", MODEL);
        append(
            tree,
            "project/guestbook/models.py",
            "    top = models.CharField(max_length=200, default=\"\")\n",
        );
        write(tree, "project/guestbook/migrations/0002_place.py", MIGRATION);
    })
    .unwrap();
    updated(site);
    let top = site.checkout.display();
    let rows = site.manage(&["shell", "-c", ROWS]).unwrap();
    let rows: Vec<&str> = rows.lines().filter(|row| row.contains(" {")).collect();
    let expected = [
        format!("{}/three {{}}  {top}", other.display()),
        format!("{top}/found {{}}  {top}"),
        format!("{top}/sql {{'of': ['{top}']}} {top} {top}"),
    ];
    assert_eq!(rows, expected);
    assert_tidy(site);
}

const SETTINGS: &str = "
MEDIA_ROOT = REPOSITORY / \"files\"
CACHES = {\"default\": {
    \"BACKEND\": \"django.core.cache.backends.filebased.FileBasedCache\", \"LOCATION\": str(REPOSITORY / \"cache\"),
}}
";

/// It writes where it is, and so does a receiver.
const WRITES: &str = "
import os

from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import migrations


def here():
    return \"%s %s %s\" % (settings.REPOSITORY, os.getcwd(), __file__)


def fill(apps, schema_editor):
    default_storage.save(\"here.txt\", ContentFile(here()))
    cache.set(\"here\", here())
    apps.get_model(\"guestbook\", \"Entry\").objects.create(author=\"here\", text=here())


class Migration(migrations.Migration):
    dependencies = [(\"guestbook\", \"0001_initial\")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
";

const RECEIVER: &str = "

def tell(sender, **kwargs):
    from django.conf import settings
    settings.MEDIA_ROOT.mkdir(exist_ok=True)
    (settings.MEDIA_ROOT / \"receiver.txt\").write_text(str(settings.REPOSITORY))


models.signals.post_migrate.connect(tell, weak=False)
";

/// Returns what was written to a file, by a receiver, to a cache and to the database.
fn written(site: &TestSite, edit: fn(&Path)) -> [String; 4] {
    site.publish(|tree| {
        append(tree, "project/config/settings/base.py", SETTINGS);
        append(tree, "project/guestbook/models.py", RECEIVER);
        write(tree, "project/guestbook/migrations/0002_here.py", WRITES);
        append(tree, ".gitignore", "/files/\n/cache/\n");
        edit(tree);
    })
    .unwrap();
    updated(site);
    let read = |name: &str| fs::read_to_string(site.checkout.join("files").join(name)).unwrap_or_default();
    let ask = |code: &str| site.manage(&["shell", "-c", code]).unwrap();
    let cached = ask("from django.core.cache import cache; print(cache.get('here'))");
    let stored = ask("from guestbook.models import Entry; print(Entry.objects.get(author='here').text)");
    let last = |said: String| said.trim().lines().last().unwrap_or_default().to_owned();
    assert_tidy(site);
    [read("here.txt"), read("receiver.txt"), last(cached), last(stored)]
}

fn here(top: &Path) -> String {
    let top = top.display();
    format!("{top} {top}/project {top}/project/guestbook/migrations/0002_here.py")
}

#[test]
fn migrations_name_the_checkout_whatever_they_write_to() {
    let Some(site) = TestSite::builder().start() else { return };
    let here = here(&site.checkout);
    let found = written(&site, |_| ());
    assert_eq!(found, [here.clone(), site.checkout.display().to_string(), here.clone(), here]);
}

#[test]
fn without_a_fork_only_the_database_names_the_checkout() {
    let Some(site) = TestSite::builder().start() else { return };
    let staged = site.checkout.with_file_name(".site.deploykit-next");
    let there = here(&staged);
    let found = written(&site, start_thread);
    assert_eq!(found, [there.clone(), staged.display().to_string(), there, here(&site.checkout)]);
}
