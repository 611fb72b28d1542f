//! Updates of a site whose database is PostgreSQL or MariaDB.

use std::os::unix::fs::PermissionsExt;

use super::goes_back::{PATIENCE, assert_as_before, publish_release_2, rolled_back, site_state};
use super::*;
use crate::database::on_each_engine;
use crate::support::database::{CANARY, Database, Engine};
use crate::support::pooler::Pooler;
use crate::support::program;
use crate::support::releases::{publish_column, publish_irreversible_migration_and_broken_page, write};
use crate::support::site::TestSite;
use crate::support::snapshot::Snapshot;

on_each_engine! {
    an_update_succeeds_with_a_copy_on_the_way,
    a_migration_that_raises_after_others_were_applied,
    a_migration_that_cannot_be_reversed_is_taken_back_by_the_copy,
    a_copy_that_cannot_be_put_back_holds_the_site,
}

/// What is found out in the preparation, and the way out of it.
#[test]
fn a_pooler_is_named_in_the_plan_and_gone_past() {
    let Some(site) = site_on(Engine::PostgreSql) else { return };
    let file = site.root.join("data/database.json");
    let straight = fs::read_to_string(&file).unwrap();
    let Some(pooler) = Pooler::before(&Database::of(&straight), "transaction") else { return };
    fs::write(&file, pooler.settings()).unwrap();
    let local = format!("from .base import DATABASES\n\nDATABASES[\"direct\"] = {straight}\n");
    fs::write(site.checkout.join("project/config/settings/local.py"), local).unwrap();
    publish_column(&site);

    let loaded = load(&site);
    let mut unheard = |_: &Record| ();
    let Ok(Prepared::Ready(update)) = update::prepare(&loaded, &Request::default(), None, &mut unheard)
    else {
        panic!("there is something to do")
    };
    let notices = update.plan().notices.join("\n");
    assert!(notices.contains("alias `default` reaches its server through a connection pooler"), "{notices}");
    update.discard();

    configure(&site, "[maintenance]\n", "[database]\nbackup = \"always\"\n\n[maintenance]\n");
    let error = run_update(&site).expect_err("it cannot be copied");
    assert!(deploykit::error_chain(&error).contains("cannot be copied"), "{error:?}");
    configure(&site, "[database]\n", "[database]\ndirect = { default = \"direct\" }\n");
    let (report, told) = updated(&site);
    assert!(!report.notices.concat().contains("pooler") && told.done().contains(&"backup"), "{report:#?}");

    // What is reversed through it, too.
    let keys = "direct = { default = \"direct\" }\nbackup = \"always\"\n";
    configure(&site, keys, "backup = \"never\"\n");
    let loaded = load(&site);
    let mut unheard = |_: &Record| ();
    let rollback = update::rollback(&loaded, None, &Request::default(), None, &mut unheard);
    let rollback = rollback.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
    let notices = rollback.plan().notices.join("\n");
    assert!(notices.contains("alias `default` reaches its server through a connection pooler"), "{notices}");
    rollback.discard();
    configure(&site, "backup = \"never\"\n", keys);
    let (_, told) = super::rolls_back::from_copy(&site);
    assert!(told.done().contains(&"migrate"));
}

/// A site that serves, on a server, whose programs are seen at their work.
fn site_on(engine: Engine) -> Option<TestSite> {
    let database = Database::new(engine)?;
    let site = TestSite::builder().database(&database).start()?;
    let directory = site.root.join("bin");
    fs::create_dir(&directory).expect("a directory");
    let seen = site.root.join("log/programs.log");
    for name in ["pg_dump", "pg_restore", "psql", "mariadb-dump", "mariadb"] {
        let Some(real) = program(name) else { continue };
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >> {}\nexec {} \"$@\"\n",
            seen.display(),
            real.display()
        );
        let file = directory.join(name);
        fs::write(&file, script).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a file");
    }
    Some(site)
}

/// Fails unless these programs ran, and the password is in no argument, file or event.
#[track_caller]
fn assert_silent(site: &DemoSite, programs: &[&str], report: &Report, told: &Told) {
    let seen = fs::read_to_string(site.root.join("log/programs.log")).expect("programs ran");
    for program in programs {
        assert!(seen.lines().any(|line| line.starts_with(&format!("{program} "))), "no {program}:\n{seen}");
    }
    assert!(!format!("{report:?}{told:?}").contains(CANARY));
    let mut directories = vec![site.root.clone()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() && !["venv", "environments", "objects"].iter().any(|name| path.ends_with(name)) {
                directories.push(path);
            } else if kind.is_file() && !path.ends_with("data/database.json") {
                files += 1;
                let bytes = fs::read(&path).expect("a file");
                let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
                assert!(!found, "the password is in {}", path.display());
            }
        }
    }
    assert!(files > 50, "only {files} files were looked at");
}

fn backup_of(site: &DemoSite) -> PathBuf {
    let run = site_state(site).runs().expect("runs").pop().expect("a run");
    let name = if site.options.server.as_ref().is_some_and(|server| server.driver == "PyMySQL") {
        "backup.sql"
    } else {
        "backup.dump"
    };
    run.path.join(name)
}

fn dump(engine: Engine) -> &'static str {
    if engine == Engine::PostgreSql { "pg_dump" } else { "mariadb-dump" }
}

fn an_update_succeeds_with_a_copy_on_the_way(engine: Engine) {
    let Some(site) = site_on(engine) else { return };
    configure(&site, "[maintenance]\n", "[database]\nbackup = \"always\"\n\n[maintenance]\n");
    let before = Snapshot::of(&site);
    publish_release_2(&site);
    let (report, told) = updated(&site);
    assert_eq!(site.release().as_deref(), Some("2"));
    assert!(told.done().contains(&"backup") && told.done().contains(&"migrate"), "{told:?}");
    let after = Snapshot::of(&site).facts;
    assert!(after.contains_key("migration guestbook.0004_sign_entries"), "{after:?}");
    let backup = backup_of(&site);
    let mode = |path: &Path| fs::metadata(path).expect("a copy").permissions().mode() & 0o777;
    assert_eq!((mode(&backup), mode(backup.parent().unwrap())), (0o600, 0o700));
    assert_silent(&site, &[dump(engine)], &report, &told);

    // And back from the copy, with what was written since named and gone.
    site.write_entry("Ada", "written since").unwrap();
    let (report, told) = super::rolls_back::from_copy(&site);
    assert!(told.notices().contains("`guestbook_entry` has 1 row more"), "{}", told.notices());
    let back = if engine == Engine::PostgreSql { "psql" } else { "mariadb" };
    assert_silent(&site, &[dump(engine), back], &report, &told);
    let same = |snapshot: Snapshot| snapshot.without("file secrets.json");
    crate::support::snapshot::assert_same(&same(before), &same(Snapshot::of(&site)));
}

fn a_migration_that_raises_after_others_were_applied(engine: Engine) {
    let Some(site) = site_on(engine) else { return };
    publish_release_2(&site);
    site.publish(|tree| {
        write(
            tree,
            "project/guestbook/migrations/0005_move.py",
            "from django.db import migrations, models\n\n\ndef move(apps, schema_editor):\n    \
             raise RuntimeError(\"this row cannot be moved\")\n\n\nclass Migration(migrations.Migration):\n    \
             dependencies = [(\"guestbook\", \"0004_sign_entries\")]\n    operations = [\n        \
             migrations.AddField(\"entry\", \"moved\", models.BooleanField(default=False)),\n        \
             migrations.RunPython(move, migrations.RunPython.noop),\n    ]\n",
        );
    })
    .unwrap();
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "migrate");
    assert!(failure.error.contains("guestbook.0005_move"), "{}", failure.error);
    // There was a copy: what the code of a migration changes is not known.
    assert!(told.done().contains(&"backup"), "{told:?}");
}

fn a_migration_that_cannot_be_reversed_is_taken_back_by_the_copy(engine: Engine) {
    let Some(site) = site_on(engine) else { return };
    publish_irreversible_migration_and_broken_page(&site);
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.done().contains(&"backup") && told.undone().contains(&"migrate"), "{told:?}");
    let back = if engine == Engine::PostgreSql { "psql" } else { "mariadb" };
    assert_silent(&site, &[dump(engine), back], &report, &told);
}

fn a_copy_that_cannot_be_put_back_holds_the_site(engine: Engine) {
    let Some(site) = site_on(engine) else { return };
    // What is put back first is whole.
    let damage = match engine {
        Engine::PostgreSql => "truncate --size=-40",
        Engine::MariaDb => "sed -i 's/CREATE TABLE `guestbook_entry`/CREATE TABLE no such thing/'",
    };
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"damage\"\nafter = \"migrate\"\nrun = [\"sh\", \"-c\", \"for file in \
             .deploykit/runs/*/backup.[ds]*; do cp $file $file.good; {damage} $file; done\"]\n"
        ),
    );
    let before = Snapshot::of(&site);
    publish_irreversible_migration_and_broken_page(&site);
    let (result, told) = request(&site, &Request::default());
    let report = result.expect("a report");
    assert_eq!(report.outcome, Outcome::Held, "{:#?}", report.failure);
    let backup = backup_of(&site);
    let (step, error) = report.failure.clone().unwrap().undo.expect("the undo that failed");
    assert_eq!(step, "migrate");
    let place = format!("its copy from before the migrations is `{}`", backup.display());
    assert!(error.contains(&place), "{error}");
    let program = if engine == Engine::PostgreSql { "`pg_restore` exited" } else { "`mariadb` exited" };
    assert!(error.contains(program), "{error}");
    assert!(site.page("/").is_err(), "it is held");
    assert_silent(&site, &[dump(engine)], &report, &told);

    let mut good = backup.clone().into_os_string();
    good.push(".good");
    fs::rename(good, &backup).unwrap();
    let last = update::recover(&load(&site), None, &mut |_: &Record| ()).expect("a recovery").unwrap();
    assert_eq!(last.outcome, Outcome::RolledBack, "{:#?}", last.failure);
    site.wait_until_serving(PATIENCE).unwrap();
    assert_as_before(&site, &before);
}
