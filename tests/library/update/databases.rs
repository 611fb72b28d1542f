//! Sites with two databases, and with a command of their own that migrates.

use deploykit::plan::RollbackWay;

use super::goes_back::{PATIENCE, assert_as_before, kill_at, rolled_back, withdraw};
use super::*;
use crate::support::releases::{append, edit, write};
use crate::support::site::TestSite;
use crate::support::site::demo_site::run;
use crate::support::snapshot::{Snapshot, assert_same};

const SETTINGS: &str = "project/config/settings/base.py";
const VIEWS: &str = "project/guestbook/views.py";

const SECOND: &str = "
DATABASES[\"events\"] = {\"ENGINE\": \"django.db.backends.sqlite3\", \"NAME\": DATA / \"events.sqlite3\"}
DATABASES[\"replica\"] = dict(DATABASES[\"default\"], TEST={\"MIRROR\": \"default\"})
DATABASE_ROUTERS = [\"config.routers.Events\"]
";

const ROUTER: &str = "class Events:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        if model_name is not None:
            return db == (\"events\" if model_name == \"visit\" else \"default\")

    def db_for_write(self, model, **hints):
        return \"events\" if model.__name__ == \"Visit\" else None

    db_for_read = db_for_write
";

const VISIT: &str = "

class Visit(models.Model):
    page = models.CharField(max_length=80)
";

fn migration(name: &str, before: &str, operations: &str) -> [String; 2] {
    let text = format!(
        "import os\nimport signal\nfrom django.db import migrations, models\n\n\ndef shout(apps, schema_editor):\n    \
         alias = schema_editor.connection.alias\n    if alias == \"events\" and os.path.exists({KILL:?}):\n        {KILLS}\n    \
         model = apps.get_model(\"guestbook\", \"visit\" if alias == \"events\" else \"entry\")\n    \
         for row in model.objects.using(alias):\n        if alias == \"events\":\n            row.page = row.page.upper()\n        \
         else:\n            row.text = row.text.upper()\n        row.save(using=alias)\n\n\n\
         class Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"{before}\")]\n    operations = [{operations}]\n"
    );
    [format!("project/guestbook/migrations/{name}.py"), text]
}

/// Kills who runs the update: the parent of the Django that waits, which leads the process group of a migration.
const KILLS: &str = "os.kill(int(open(\"/proc/%d/stat\" % os.getpgrp()).read().rpartition(\")\")[2].split()[1]), signal.SIGKILL)";

/// The mark that lets a migration of `events` kill who runs the update.
const KILL: &str = "@KILL@";

/// Returns all of the second database as SQL.
fn events(site: &DemoSite) -> String {
    let mut command = site.python();
    let file = site.root.join("data/events.sqlite3");
    command.args(["-c", "import sqlite3, sys; print('\\n'.join(sqlite3.connect(sys.argv[1]).iterdump()))"]);
    run(command.arg(file)).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(site: &DemoSite, expected: &str) {
    let error = run_update(site).expect_err("not refused");
    let said = deploykit::error_chain(&error);
    assert!(said.contains(expected), "{said}");
}

#[test]
fn two_databases_go_there_and_back_together() {
    let Some(site) = TestSite::builder().start() else { return };
    site.publish(|tree| {
        append(tree, SETTINGS, SECOND);
        write(tree, "project/config/routers.py", ROUTER);
        append(tree, "project/guestbook/models.py", VISIT);
        let id = "(\"id\", models.BigAutoField(primary_key=True))";
        let create =
            format!("migrations.CreateModel(\"Visit\", [{id}, (\"page\", models.CharField(max_length=80))])");
        let [path, text] = migration("0002_visit", "0001_initial", &create);
        write(tree, &path, &text);
    })
    .unwrap();

    // A database that is forgotten is named, and a wrong one refused.
    let loaded = load(&site);
    let mut watch = |_: &Record| ();
    let Ok(Prepared::Ready(update)) = update::prepare(&loaded, &Request::default(), None, &mut watch) else {
        panic!("there is something to do")
    };
    let notices = update.plan().notices.join("\n");
    assert!(notices.contains("alias `events` has 4 pending migrations"), "{notices}");
    assert!(!notices.contains("replica"), "{notices}");
    update.discard();
    configure(&site, "[maintenance]\n", "[database]\nmigrate = [\"default\", \"event\"]\n\n[maintenance]\n");
    refused(
        &site,
        "`database.migrate` names `event`, but `DATABASES` has only `default`, `events`, `replica`",
    );
    configure(&site, "\"event\"", "\"replica\"");
    refused(&site, "`default` and `replica` in `database.migrate` are the same database");
    configure(&site, "\"replica\"", "\"events\"");

    let (_, told) = updated(&site);
    let found = told.outcome("migrations").unwrap();
    assert_eq!(found, "`default`: 1 pending, `events`: 4 pending");
    assert!(events(&site).contains("CREATE TABLE \"guestbook_visit\""), "{}", events(&site));
    let mut add = site.python();
    add.args(["-c", "import django; django.setup(); from guestbook.models import Visit; Visit.objects.create(page='home')"]);
    run(&mut add).unwrap();
    site.write_entry("Ada", "hello").unwrap();

    // What fails afterwards brings both back, each as it needs.
    let shout = |site: &DemoSite, breaks: bool, reverse: &str| {
        site.publish(|tree| {
            let code = format!("migrations.RunPython(shout{reverse})");
            let operations = format!(
                "migrations.AddField(\"visit\", \"seen\", models.BooleanField(default=False)), \
                 migrations.AddField(\"entry\", \"seen\", models.BooleanField(default=False)), {code}"
            );
            let [path, text] = migration("0003_shout", "0002_visit", &operations);
            write(tree, &path, &text.replace(KILL, &site.root.join("kill").display().to_string()));
            if breaks {
                edit(
                    tree,
                    VIEWS,
                    "def home(request):\n",
                    "def home(request):\n    raise RuntimeError(\"no\")\n",
                );
            }
        })
        .unwrap()
    };
    let before = events(&site);
    shout(&site, true, "");
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.done().contains(&"backup") && told.undone().contains(&"migrate"), "{told:?}");
    assert_eq!(events(&site), before);
    let copies = load(&site).state().runs().unwrap().pop().unwrap().path;
    let copied = |name: &str| copies.join(name).exists();
    assert!(copied("backup.sqlite3") && copied("backup.events.sqlite3") && copied("backup.events.json"));
    withdraw(&site);

    // Killed between the two: the first is migrated, the second is being migrated.
    shout(&site, false, "");
    let whole = Snapshot::of(&site);
    fs::write(site.root.join("kill"), "").unwrap();
    kill_at(&site, "never");
    fs::remove_file(site.root.join("kill")).unwrap();
    assert_ne!(Snapshot::of(&site).differences(&whole), Vec::<String>::new());
    let report =
        update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_as_before(&site, &whole);
    assert_eq!(events(&site), before);

    // There, and back from both copies.
    let (report, _) = updated(&site);
    let later = report.rollback.unwrap();
    assert_eq!(later.way, RollbackWay::FromCopy);
    let reason = later.reason.unwrap();
    assert!(
        reason.contains("`default`: `guestbook.0003_shout`") && reason.contains("`events`: "),
        "{reason}"
    );
    assert!(events(&site).contains("'HOME'"), "{}", events(&site));
    let (_, told) = super::rolls_back::from_copy(&site);
    assert!(told.notices().contains("`events`: the copy of the database is of"), "{}", told.notices());
    assert_as_before(&site, &whole);
    assert_eq!(events(&site), before);

    // And back by the migrations themselves.
    withdraw(&site);
    site.publish(|tree| {
        let field = "models.BooleanField(default=False)";
        let operations = format!(
            "migrations.AddField(\"visit\", \"seen\", {field}), migrations.AddField(\"entry\", \"seen\", {field})"
        );
        let [path, text] = migration("0003_seen", "0002_visit", &operations);
        write(tree, &path, &text);
    })
    .unwrap();
    updated(&site);
    assert!(events(&site).contains("\"seen\""));
    super::rolls_back::rolled_back(&site);
    site.wait_until_serving(PATIENCE).unwrap();
    assert!(!events(&site).contains("\"seen\""));
}

const COMMAND: &str = "import os
import signal

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument(\"--tenants\")
        parser.add_argument(\"--plan\", action=\"store_true\")

    def handle(self, *args, **options):
        # Its own `--plan` is not heeded.
        call_command(\"migrate\")
        if (settings.DATA / \"kill\").exists():
            @KILLS@
        if (settings.DATA / \"fail\").exists():
            # As the schema of a tenant stays in a connection.
            connection.introspection = None
            raise CommandError(\"tenant two failed\")
";

#[test]
fn a_command_of_the_site_s_own_migrates_and_the_copy_undoes_it() {
    let Some(site) = TestSite::builder().start() else { return };
    let add = |name: &str, before: &str| {
        site.publish(|tree| {
            let command = COMMAND.replace("@KILLS@", KILLS);
            write(tree, "project/guestbook/management/commands/migrate_all.py", &command);
            let field = name.trim_start_matches(|letter: char| !letter.is_alphabetic());
            let operation =
                format!("migrations.AddField(\"entry\", {field:?}, models.BooleanField(default=False))");
            let [path, text] = migration(name, before, &operation);
            write(tree, &path, &text);
        })
        .unwrap()
    };
    add("0002_seen", "0001_initial");
    let key = |argv: &str| format!("[database]\nmigrate-command = {argv}\n");
    configure(&site, "[maintenance]\n", &format!("{}\n[maintenance]\n", key("[\"migrate_al\"]")));
    refused(&site, "`manage.py` has no command `migrate_al`");
    configure(
        &site,
        &key("[\"migrate_al\"]"),
        &key("[\"migrate_all\", \"--tenant\", \"all\", \"--nothing\"]"),
    );
    refused(&site, "unrecognized arguments: --nothing");
    configure(&site, ", \"--nothing\"", "");

    // Although Django could reverse the migration: what else the command did is not known.
    let before = Snapshot::of(&site);
    let mark = |name: &str| site.root.join("data").join(name);
    fs::write(mark("fail"), "").unwrap();
    let with_mark = Snapshot::of(&site);
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(told.outcome("migrations").unwrap(), "`migrate_all` cannot be asked what is pending");
    assert!(failure.error.contains("`manage.py migrate_all` failed"), "{}", failure.error);
    assert!(failure.tail.concat().contains("tenant two failed"), "{:#?}", failure.tail);
    assert!(told.done().contains(&"backup"), "{told:?}");
    assert_eq!(report.rollback.unwrap().way, RollbackWay::FromCopy);
    assert_same(&with_mark, &Snapshot::of(&site));
    fs::rename(mark("fail"), mark("kill")).unwrap();
    kill_at(&site, "never");
    fs::remove_file(mark("kill")).unwrap();
    let report =
        update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().expect("an unfinished run");
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}", report.failure);
    assert_as_before(&site, &before);

    updated(&site);
    let error = update::rollback(&load(&site), None, &Request::default(), None, &mut |_: &Record| ()).err();
    let said = deploykit::error_chain(&error.expect("only the copy undoes it"));
    assert!(said.contains("`manage.py migrate_all --tenant all`: what it changes is not known"), "{said}");
    super::rolls_back::from_copy(&site);
    assert_as_before(&site, &before);

    // Nothing of the database has changed: it may stay.
    updated(&site);
    crate::support::releases::publish_good(&site, "three");
    let (_, told) = updated(&site);
    assert!(told.done().contains(&"migrate"), "{told:?}");
    let (report, told) = super::rolls_back::rolled_back(&site);
    let left = "`manage.py migrate_all --tenant all` changed neither migrations nor schema";
    assert_eq!(told.skipped("migrate").unwrap(), left);
    assert!(report.notices.concat().contains(&format!("{left}; its other changes stay")), "{report:#?}");

    // Django's own command says what is pending.
    configure(&site, &key("[\"migrate_all\", \"--tenant\", \"all\"]"), &key("[\"migrate\", \"--noinput\"]"));
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("migrations").unwrap(), "none pending, says `migrate --plan`");
    assert_eq!(told.skipped("backup").unwrap(), "no migrations are pending");

    // What the command may change elsewhere, in a database that does not exist yet, and in a file of a commit.
    let plan = || {
        let loaded = load(&site);
        let mut watch = |_: &Record| ();
        let Ok(Prepared::Ready(update)) = update::prepare(&loaded, &Request::default(), None, &mut watch)
        else {
            panic!("there is something to do")
        };
        let notices = update.plan().notices.join("\n");
        update.discard();
        notices
    };
    configure(&site, &key("[\"migrate\", \"--noinput\"]"), &key("[\"migrate_all\"]"));
    let file = "Path(__file__).resolve().parent / \"events.sqlite3\"";
    let second = format!(
        "\nfrom pathlib import Path\nDATABASES[\"events\"] = {{\"ENGINE\": \"django.db.backends.sqlite3\", \"NAME\": {file}}}\n"
    );
    site.publish(|tree| append(tree, SETTINGS, &second)).unwrap();
    let notices = plan();
    assert!(notices.contains("what `migrate_all` changes there is neither copied nor restored"), "{notices}");
    configure(&site, "[database]\n", "[database]\nmigrate = [\"default\", \"events\"]\n");
    let notices = plan();
    assert!(!notices.contains("neither copied nor restored"), "{notices}");
    assert!(notices.contains("events.sqlite3` does not exist yet and starts empty"), "{notices}");
    let tracked = "project/config/settings/events.sqlite3";
    site.publish(|tree| write(tree, tracked, "")).unwrap();
    refused(&site, &format!("`{tracked}`"));
}
