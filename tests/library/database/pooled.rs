//! PgBouncer between the site and PostgreSQL.

use deploykit::internal::django::{Databases, MigrateByCommand};

use super::*;
use crate::support::pooler::Pooler;

/// A site that reaches its database through a pooler, and past it by the alias `direct`.
fn site_behind(mode: &str) -> Option<(Site, Database, Pooler)> {
    let (mut site, database) = migrated(Engine::PostgreSql)?;
    let pooler = Pooler::before(&database, mode)?;
    let (default, direct) = (pooler.settings(), database.settings());
    site.append("config/settings.py", &format!("DATABASES = {{'default': {default}, 'direct': {direct}}}"));
    let direct = [("default".to_owned(), "direct".to_owned())].into();
    site.project.databases = Databases { direct, ..Databases::default() };
    Some((site, database, pooler))
}

#[test]
fn migrations_and_copies_go_past_a_pooler_that_keeps_no_sessions() {
    let Some((site, database, pooler)) = site_behind("transaction") else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let through = session.on("default").pooling(&host, false).unwrap();
    let past = session.on("default").pooling(&host, true).unwrap();
    assert!(through.shares && !past.shares, "{through:?} {past:?}");
    assert_eq!(through.place, past.place);

    // A lock of the session holds from one statement to the next, for the site's own models too.
    site.write(
        "shop/migrations/0002_locked.py",
        &format!(
            "from django.db import connection, migrations, models\n\n\ndef locked(apps, schema_editor):\n    \
             assert connection.settings_dict[\"HOST\"] == {:?}\n    with connection.cursor() as cursor:\n        \
             cursor.execute(\"SELECT pg_advisory_lock(7)\")\n        held = \"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
             AND pid = pg_backend_pid()\"\n        for _ in range(9):\n            cursor.execute(held)\n            \
             assert cursor.fetchone() == (1,)\n    apps.get_model(\"shop\", \"item\").objects.create(name=\"three\")\n\n\n\
             class Migration(migrations.Migration):\n    atomic = False\n    dependencies = [(\"shop\", \"0001_initial\")]\n    \
             operations = [migrations.RunPython(locked, migrations.RunPython.noop)]\n",
            database.host
        ),
    );
    let facts = database.facts();
    backup(&site).perform(&mut Context::default()).unwrap();
    let (before, result, mut context) = migrate(&site);
    result.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(database.sql("SELECT count(*) FROM shop_item"), "3");
    restore(&site, &before, true).perform(&mut context).unwrap_or_else(|error| panic!("{error:?}"));
    assert_same(&facts, &database.facts());

    // Nothing of it is left in the sessions that the site gets.
    let shown = database.through(pooler.port, &pooler.database.host, "SHOW lock_timeout; SHOW search_path");
    assert_eq!(shown, "0\n\"$user\", public");

    // A command of the site's own reaches each alias past it.
    site.append("config/settings.py", "DATABASES['events'] = dict(DATABASES['default'])");
    site.write(
        "shop/management/commands/migrate_all.py",
        "from django.core.management.base import BaseCommand, CommandError\nfrom django.db import connections\n\n\n\
         class Command(BaseCommand):\n    def handle(self, *args, **options):\n        \
         raise CommandError(' '.join(connections[alias].settings_dict['HOST'] for alias in ('default', 'events')))\n",
    );
    let mut behind = site.project.clone();
    behind.databases.direct.insert("events".to_owned(), "direct".to_owned());
    let argv = vec!["migrate_all".to_owned()];
    let reached = MigrateByCommand { project: behind, argv }.perform(&mut Context::default()).unwrap_err();
    let reached = deploykit::error_chain(&reached);
    assert!(reached.contains(&format!("{0} {0}", database.host)), "{reached}");
    assert!(!reached.contains(&pooler.database.host), "{reached}");

    // The site itself goes through the pooler again.
    assert!(context.django.as_mut().unwrap().on("default").pooling(&host, false).unwrap().shares);
}

#[test]
fn a_pooler_that_keeps_sessions_is_as_good_as_none() {
    let Some((site, _database, _pooler)) = site_behind("session") else { return };
    assert!(!site.boot().on("default").pooling(&Host::new(), false).unwrap().shares);
}
