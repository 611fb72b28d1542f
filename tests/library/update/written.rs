//! What the new version's code writes while it is prepared and migrated ends where the live site would have written it.

use super::goes_back::{rolled_back, withdraw};
use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::run;
use crate::support::snapshot::{Snapshot, assert_same};

const SETTINGS: &str = "project/config/settings/base.py";
const VIEWS: &str = "project/guestbook/views.py";

/// Settings that make a key when there is none, and with a directory of uploads that nobody has yet.
const KEY: &str = "
KEY_FILE = REPOSITORY / \"keys\" / \"site.key\"
if not KEY_FILE.exists():
    KEY_FILE.parent.mkdir(exist_ok=True)
    KEY_FILE.write_text(os.urandom(8).hex())
KEY = KEY_FILE.read_text()
MEDIA_ROOT = REPOSITORY / \"summaries\"
";

/// A data migration that writes a file with that key.
const MIGRATION: &str = "
from django.conf import settings
from django.db import migrations


def write(apps, schema_editor):
    (settings.REPOSITORY / \"summaries\").mkdir()
    (settings.REPOSITORY / \"summaries\" / \"first.txt\").write_text(settings.KEY)


class Migration(migrations.Migration):
    dependencies = [(\"guestbook\", \"0001_initial\")]
    operations = [migrations.RunPython(write, migrations.RunPython.noop)]
";

fn write_files(tree: &Path) {
    append(tree, SETTINGS, KEY);
    write(tree, "project/guestbook/migrations/0002_summary.py", MIGRATION);
    append(tree, ".gitignore", "/keys/\n");
}

/// The database is a file of the checkout that nobody has yet.
fn move_database(tree: &Path) {
    append(tree, SETTINGS, "\nDATABASES[\"default\"][\"NAME\"] = REPOSITORY / \"rows\" / \"site.sqlite3\"\n");
    write(tree, "rows/.gitkeep", "");
    append(tree, ".gitignore", "/rows/*\n!/rows/.gitkeep\n");
}

pub(super) fn start_thread(tree: &Path) {
    let thread = "\nimport threading\nimport time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n";
    append(tree, MODELS, thread);
}

fn break_home(tree: &Path) {
    let broken = "    raise RuntimeError(\"the home page is broken\")\n";
    edit(tree, VIEWS, "    entries = Entry.objects.all()\n", broken);
}

#[test]
fn files_and_a_new_database() {
    let Some(site) = TestSite::builder().start() else { return };
    let read = |path: &str| fs::read_to_string(site.checkout.join(path)).unwrap_or_default();
    let before = Snapshot::of(&site);
    let publish = |edits: &[fn(&Path)]| {
        let all = |tree: &Path| edits.iter().for_each(|edit| edit(tree));
        site.publish(all).unwrap_or_else(|error| panic!("{error}"))
    };

    publish(&[write_files, break_home]);
    let (failure, ..) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    withdraw(&site);

    publish(&[write_files]);
    let (report, _) = updated(&site);
    assert!(!report.notices.join("\n").contains("boots in the window"), "{:?}", report.notices);
    assert_eq!(read("keys/site.key").len(), 16);
    assert_eq!(read("summaries/first.txt"), read("keys/site.key"), "the site goes on with that key");
    assert_tidy(&site);

    let loaded = load(&site);
    let mut watch = |_: &Record| ();
    let rollback = update::rollback(&loaded, None, &Request::default(), None, &mut watch).unwrap();
    let notices = rollback.plan().notices.join("\n");
    assert!(notices.contains("`keys`") && notices.contains("`summaries`"), "{notices}");
    assert_eq!(rollback.run().unwrap().outcome, Outcome::Updated);
    assert_same(&before, &Snapshot::of(&site));
    withdraw(&site);

    publish(&[move_database, break_home]);
    let failed = request(&site, &Request::default()).0.unwrap();
    assert_eq!(failed.outcome, Outcome::RolledBack, "{:#?}", failed.failure);
    assert_same(&before, &Snapshot::of(&site));
    withdraw(&site);

    publish(&[write_files, move_database]);
    let (report, _) = updated(&site);
    let notices = report.notices.join("\n");
    assert!(notices.contains("`rows/site.sqlite3`") && !notices.contains("boots in the window"), "{notices}");
    let ask = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT name FROM django_migrations WHERE app = \"guestbook\"'))";
    let rows = site.checkout.join("rows/site.sqlite3");
    let applied = run(site.python().args(["-c", ask]).arg(&rows)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(applied.trim(), "('0001_initial',) ('0002_summary',)");
    assert_eq!(read("summaries/first.txt"), read("keys/site.key"));
    assert_tidy(&site);
}

/// A thread keeps Django from being forked.
#[test]
fn a_new_database_where_django_cannot_be_forked() {
    let Some(site) = TestSite::builder().start() else { return };
    let before = Snapshot::of(&site);
    let publish = |edits: &[fn(&Path)]| {
        let all = |tree: &Path| edits.iter().for_each(|edit| edit(tree));
        site.publish(all).unwrap_or_else(|error| panic!("{error}"))
    };
    publish(&[move_database, start_thread, break_home]);
    let failed = request(&site, &Request::default()).0.unwrap();
    assert_eq!(failed.outcome, Outcome::RolledBack, "{:#?}", failed.failure);
    assert_same(&before, &Snapshot::of(&site));
    withdraw(&site);

    publish(&[move_database, start_thread]);
    let (report, _) = updated(&site);
    let notices = report.notices.join("\n");
    assert!(notices.contains("`rows/site.sqlite3`") && notices.contains("boots in the window"), "{notices}");
    assert!(site.checkout.join("rows/site.sqlite3").exists());
    assert_tidy(&site);
}
